use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::types::{Field, ListKind, PatchStrategy, Schema, Shape, Type, Types};

/// A struct `{items: merged by name, names: merged as a set, plain: replaced, map: {…}}`, whose items
/// are of the same type.
fn schema() -> Schema {
    let mut types = Types::default();
    let any = types.push(Type::default());
    let root = types.push(Type::default());
    let mut list = |item| {
        types.push(Type {
            shape: Shape::List {
                item,
                kind: ListKind::Atomic,
            },
            ..Type::default()
        })
    };
    let (items, plain) = (list(root), list(any));
    let field = |ty, merge: bool, key: Option<&str>| Field {
        ty,
        number: None,
        patch: PatchStrategy {
            merge,
            retain_keys: false,
            merge_key: key.map(Into::into),
        },
    };
    let fields = BTreeMap::from([
        ("items".into(), field(items, true, Some("name"))),
        ("names".into(), field(plain, true, None)),
        ("plain".into(), field(plain, false, None)),
        ("map".into(), field(root, false, None)),
    ]);
    types.set(
        root,
        Type {
            shape: Shape::Struct {
                fields,
                required: vec![],
                preserve_unknown: true,
                atomic: false,
                embedded: false,
            },
            ..Type::default()
        },
    );
    Schema::new(Arc::new(types), root)
}

#[track_caller]
fn check(object: Value, patch: Value, expected: Value) {
    assert_eq!(strategic(schema().node(), &object, &patch), Ok(expected));
}

#[test]
fn lists_merge_as_the_schema_says() {
    check(
        json!({"plain": [1, 2]}),
        json!({"plain": [3]}),
        json!({"plain": [3]}),
    );
    check(
        json!({"names": ["a", "b"]}),
        json!({"names": ["c", "a"]}),
        json!({"names": ["c", "a", "b"]}),
    );
    check(
        json!({"items": [{"name": "a", "v": 1}, {"name": "b"}]}),
        json!({"items": [{"name": "b", "v": 2}, {"name": "c"}]}),
        json!({"items": [{"name": "a", "v": 1}, {"name": "b", "v": 2}, {"name": "c"}]}),
    );
}

#[test]
fn directives_are_followed() {
    check(
        json!({"items": [{"name": "a"}, {"name": "b"}]}),
        json!({"items": [{"name": "a", "$patch": "delete"}]}),
        json!({"items": [{"name": "b"}]}),
    );
    check(
        json!({"items": [{"name": "a"}]}),
        json!({"items": [{"$patch": "replace"}, {"name": "z"}]}),
        json!({"items": [{"name": "z"}]}),
    );
    check(
        json!({"map": {"x": 1}}),
        json!({"map": {"$patch": "replace", "y": 2}}),
        json!({"map": {"y": 2}}),
    );
    check(
        json!({"map": {"x": 1}}),
        json!({"map": {"$patch": "delete"}}),
        json!({"map": {}}),
    );
    check(
        json!({"map": {"x": 1, "y": 1, "z": 1}}),
        json!({"map": {"$retainKeys": ["x", "y"], "y": 2}}),
        json!({"map": {"x": 1, "y": 2}}),
    );
    check(
        json!({"names": ["a", "b", "c"]}),
        json!({"$deleteFromPrimitiveList/names": ["b"]}),
        json!({"names": ["a", "c"]}),
    );
    check(
        json!({"items": [{"name": "a"}, {"name": "b"}, {"name": "s"}]}),
        json!({"$setElementOrder/items": [{"name": "b"}, {"name": "a"}], "items": [{"name": "a", "v": 1}]}),
        json!({"items": [{"name": "b"}, {"name": "a", "v": 1}, {"name": "s"}]}),
    );
}

#[test]
fn nulls_delete() {
    check(
        json!({"x": 1, "y": 1}),
        json!({"x": null, "z": null}),
        json!({"y": 1}),
    );
    assert_eq!(
        merge(
            &json!({"a": {"b": 1}}),
            &json!({"a": {"b": null, "c": {"d": null}}})
        ),
        Ok(json!({"a": {"c": {}}}))
    );
}

#[test]
fn bad_patches_are_refused_with_the_right_code() {
    let schema = schema();
    let refused =
        |object: Value, patch: Value| strategic(schema.node(), &object, &patch).unwrap_err();
    assert_eq!(
        refused(
            json!({"items": [{"name": "a"}]}),
            json!({"items": [{"x": 1}]})
        ),
        PatchError::CannotMerge(
            "map: map[x:1] does not contain declared merge key: name".to_owned()
        )
    );
    assert_eq!(
        refused(json!({"names": ["a"]}), json!({"names": [["b"]]})),
        PatchError::DoesNotFit("lists of lists are not supported".to_owned())
    );
    assert_eq!(
        refused(
            json!({"map": {}}),
            json!({"map": {"$retainKeys": ["x"], "y": 1}})
        ),
        PatchError::Malformed("invalid patch format of retainKeys".to_owned())
    );
    assert!(matches!(
        merge(&json!({}), &json!([])),
        Err(PatchError::Malformed(_))
    ));
    assert!(matches!(
        json(&json!({}), &json!({})),
        Err(PatchError::Malformed(_))
    ));
    assert!(matches!(
        json(&json!({}), &Value::from(vec![json!({}); 10_001])),
        Err(PatchError::TooLarge(_))
    ));
}

#[test]
fn json_patches_cannot_blow_an_object_up() {
    let wide = Value::from("x".repeat(1_000_000));
    let copies: Vec<Value> = (0..4)
        .map(|n| json!({"op": "copy", "from": "/a", "path": format!("/b{n}")}))
        .collect();
    assert!(matches!(
        json(&json!({"a": wide}), &Value::from(copies)),
        Err(PatchError::DoesNotFit(_))
    ));

    let nest = json!({"op": "copy", "from": "/a", "path": "/b"});
    let back = json!({"op": "move", "from": "/b", "path": "/a/a"});
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": {}})];
    for depth in 0..600 {
        let path = "/a".repeat(depth + 1);
        operations.push(json!({"op": "add", "path": format!("{path}/a"), "value": {}}));
    }
    assert!(matches!(
        json(&json!({}), &Value::from(operations)),
        Err(PatchError::DoesNotFit(_))
    ));
    assert!(json(&json!({"a": {}}), &json!([nest, back])).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        (-2_i64..3).prop_map(Value::from),
        Just(Value::from(1.5)),
        proptest::sample::select(vec!["a", "b", "delete", "replace", "merge", "/map/x", "-"])
            .prop_map(Value::from),
    ];
    let names = || {
        proptest::sample::select(vec![
            "items",
            "names",
            "plain",
            "map",
            "name",
            "x",
            "$patch",
            "$retainKeys",
            "$setElementOrder/items",
            "$setElementOrder/names",
            "$deleteFromPrimitiveList/names",
            "$deleteFromPrimitiveList/items",
            "op",
            "path",
            "from",
            "value",
        ])
    };
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names(), inner, 0..5).prop_map(|map| {
                map.into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

/// Without maps in lists: whether their nulls stay depends on what the list replaces.
fn flat(value: Value, in_list: bool) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| flat(item, true)).collect(),
        Value::Object(_) if in_list => Value::from("map"),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, flat(value, false)))
            .collect(),
        other => other,
    }
}

fn operation() -> impl Strategy<Value = Value> {
    let path = || "(/(a|b|0|1|-1|-)){0,3}";
    (
        proptest::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]),
        path(),
        path(),
        any_json(),
    )
        .prop_map(
            |(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}),
        )
}

proptest! {
    #[test]
    fn nothing_panics(object in any_json(), patch in any_json()) {
        let schema = schema();
        drop(strategic(schema.node(), &object, &patch));
        drop(strategic(Schema::any().node(), &object, &patch));
        drop(merge(&object, &patch));
        drop(json(&object, &patch));
    }

    #[test]
    fn no_operation_panics(a in any_json(), operations in proptest::collection::vec(operation(), 0..6)) {
        drop(json(&json!({"a": a, "b": [1, 2]}), &Value::from(operations)));
    }

    #[test]
    fn a_full_order_is_the_order(names in proptest::collection::btree_set("[a-f]", 0..6).prop_map(Vec::from_iter),
                                 seed in any::<u64>()) {
        let object = json!({"names": names});
        let mut order = names.clone();
        let turns = usize::try_from(seed % 7).unwrap();
        let len = order.len().max(1);
        order.rotate_left(turns % len);
        let patch = json!({"$setElementOrder/names": order});
        let found = strategic(schema().node(), &object, &patch).unwrap();
        prop_assert_eq!(found, json!({"names": order}));
    }

    #[test]
    fn merging_twice_is_merging_once(object in any_json(), patch in any_json()) {
        let (object, patch) = (json!({"map": object}), json!({"map": flat(patch, false)}));
        let once = merge(&object, &patch).unwrap();
        prop_assert_eq!(merge(&once, &patch).unwrap(), once);
    }
}
