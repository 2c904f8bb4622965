use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::fieldset::{Element, FieldSet};
use super::literal::Literal;
use super::*;
use crate::types::{Field, ListKind, PatchStrategy, Schema, Shape, Type, TypeId, Types};

/// `"s"` text, `"n"` number, `"any"` anything; `{…}` a struct; `["set", x]`, `["list", x]`,
/// `["map", x]`, `["keyed", [keys…], x]`; `["atomic", x]` makes a struct or map atomic;
/// `["default", value, x]`.
fn ty(types: &mut Types, written: &Value) -> TypeId {
    let mut default = None;
    let shape = match written {
        Value::String(name) if name == "s" => Shape::String { format: "".into() },
        Value::String(name) if name == "n" => Shape::Integer { format: "".into() },
        Value::Object(fields) => structure(types, fields, false),
        Value::Array(parts) => match (parts[0].as_str().unwrap(), &parts[1]) {
            ("set", item) => Shape::List {
                item: ty(types, item),
                kind: ListKind::Set,
            },
            ("list", item) => Shape::List {
                item: ty(types, item),
                kind: ListKind::Atomic,
            },
            ("map", value) => Shape::Map {
                value: ty(types, value),
                atomic: false,
            },
            ("atomic", Value::Object(fields)) => structure(types, fields, true),
            ("keyed", keys) => {
                let keys = keys
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|key| key.as_str().unwrap().into());
                let kind = ListKind::Map(keys.collect());
                Shape::List {
                    item: ty(types, &parts[2]),
                    kind,
                }
            }
            ("default", value) => {
                default = Some(value.clone());
                Shape::String { format: "".into() }
            }
            other => panic!("what is {other:?}?"),
        },
        _ => Shape::Any,
    };
    types.push(Type {
        shape,
        default,
        ..Type::default()
    })
}

fn structure(types: &mut Types, fields: &Map<String, Value>, atomic: bool) -> Shape {
    let fields = fields
        .iter()
        .map(|(name, written)| {
            let patch = PatchStrategy::default();
            (
                name.as_str().into(),
                Field {
                    ty: ty(types, written),
                    number: None,
                    patch,
                },
            )
        })
        .collect();
    let required = Vec::new();
    Shape::Struct {
        fields,
        required,
        preserve_unknown: false,
        atomic,
        embedded: false,
    }
}

fn schema() -> Schema {
    let written = json!({
        "status": {"phase": "s"},
        "spec": {
            "a": "s", "n": "n", "any": "any",
            "set": ["set", "s"], "list": ["list", "s"], "map": ["map", "s"],
            "atom": ["atomic", {"x": "s", "y": "s"}],
            "deep": {"p": {"q": "s"}},
            "items": ["keyed", ["name"], {"name": "s", "v": "s", "sub": {"x": "s"}}],
            "ports": ["keyed", ["port", "protocol"],
                      {"port": "n", "protocol": ["default", "TCP", ""], "t": "s"}],
        },
    });
    let mut types = Types::default();
    let root = ty(&mut types, &written);
    Schema::new(Arc::new(types), root)
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec})
}

fn writer(manager: &str) -> Writer<'_> {
    Writer {
        manager,
        api_version: "example.io/v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: RESET_STATUS,
    }
}

/// Applies specs one after the other, as (manager, force, spec); the last answer counts.
#[track_caller]
fn check(steps: &[(&str, bool, Value)], expected_spec: Value, expected_owners: &[(&str, Value)]) {
    let schema = schema();
    let mut live = None;
    for (manager, force, spec) in steps {
        let config = thing(spec.clone());
        live = Some(
            apply(
                schema.node(),
                live.as_ref(),
                &config,
                writer(manager),
                *force,
            )
            .unwrap(),
        );
    }
    let live = live.unwrap();
    assert_eq!(live["spec"], expected_spec);
    let owners: Vec<(&str, Value)> = live["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (
                e["manager"].as_str().unwrap(),
                e["fieldsV1"]["f:spec"].clone(),
            )
        })
        .collect();
    assert_eq!(owners, expected_owners);
}

#[test]
fn what_is_no_longer_applied_goes_unless_somebody_else_owns_it() {
    check(
        &[
            ("a", false, json!({"a": "1", "n": 1})),
            ("a", false, json!({"n": 1})),
        ],
        json!({"n": 1}),
        &[("a", json!({"f:n": {}}))],
    );
    check(
        &[
            ("a", false, json!({"a": "1", "n": 1})),
            ("b", false, json!({"a": "1"})),
            ("a", false, json!({"n": 1})),
        ],
        json!({"a": "1", "n": 1}),
        // Who changed nothing has no time, and comes first.
        &[("b", json!({"f:a": {}})), ("a", json!({"f:n": {}}))],
    );
    check(
        &[
            ("a", false, json!({"set": ["r", "g"]})),
            ("a", false, json!({"set": ["g"]})),
        ],
        json!({"set": ["g"]}),
        &[("a", json!({"f:set": {"v:\"g\"": {}}}))],
    );
    check(
        &[
            (
                "a",
                false,
                json!({"items": [{"name": "m", "v": "1"}, {"name": "n"}]}),
            ),
            ("b", false, json!({"items": [{"name": "n", "v": "2"}]})),
            ("a", false, json!({"items": [{"name": "m", "v": "1"}]})),
        ],
        json!({"items": [{"name": "m", "v": "1"}, {"name": "n", "v": "2"}]}),
        &[
            (
                "a",
                json!({"f:items": {"k:{\"name\":\"m\"}": {".": {}, "f:name": {}, "f:v": {}}}}),
            ),
            (
                "b",
                json!({"f:items": {"k:{\"name\":\"n\"}": {".": {}, "f:name": {}, "f:v": {}}}}),
            ),
        ],
    );
}

#[test]
fn force_takes_what_has_another_value_and_shares_what_has_the_same() {
    check(
        &[
            ("a", false, json!({"a": "1", "n": 1})),
            ("b", true, json!({"a": "2", "n": 1})),
        ],
        json!({"a": "2", "n": 1}),
        &[
            ("a", json!({"f:n": {}})),
            ("b", json!({"f:a": {}, "f:n": {}})),
        ],
    );
}

#[test]
fn lists_keep_the_order_of_the_configuration_and_the_place_of_others() {
    check(
        &[
            ("a", false, json!({"set": ["a", "b", "c"]})),
            ("b", false, json!({"set": ["x", "c", "a"]})),
        ],
        json!({"set": ["b", "x", "c", "a"]}),
        &[
            (
                "a",
                json!({"f:set": {"v:\"a\"": {}, "v:\"b\"": {}, "v:\"c\"": {}}}),
            ),
            (
                "b",
                json!({"f:set": {"v:\"a\"": {}, "v:\"c\"": {}, "v:\"x\"": {}}}),
            ),
        ],
    );
}

#[test]
fn keys_have_their_defaults() {
    check(
        &[
            (
                "a",
                false,
                json!({"ports": [{"port": 80, "protocol": "TCP"}]}),
            ),
            ("b", false, json!({"ports": [{"port": 80, "t": "1"}]})),
        ],
        json!({"ports": [{"port": 80, "protocol": "TCP", "t": "1"}]}),
        &[
            (
                "a",
                json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}":
                {".": {}, "f:port": {}, "f:protocol": {}}}}),
            ),
            (
                "b",
                json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}":
                {".": {}, "f:port": {}, "f:t": {}}}}),
            ),
        ],
    );
}

#[test]
fn what_is_atomic_has_one_owner() {
    check(
        &[
            ("a", false, json!({"atom": {"x": "1"}, "list": ["1"]})),
            ("b", true, json!({"atom": {"y": "2"}, "list": ["2"]})),
        ],
        json!({"atom": {"y": "2"}, "list": ["2"]}),
        &[("b", json!({"f:atom": {}, "f:list": {}}))],
    );
}

#[test]
fn conflicts_name_everybody() {
    let schema = schema();
    let node = schema.node();
    let mut live = thing(json!({"a": "1", "items": [{"name": "x", "v": "1"}]}));
    track_update(node, None, &mut live, writer("up"));
    let config = thing(json!({"n": 1, "set": ["r"]}));
    let live = apply(node, Some(&live), &config, writer("me"), false).unwrap();
    let message = |spec: Value| match apply(node, Some(&live), &thing(spec), writer("b"), false) {
        Err(ApplyError::Conflicts(conflicts)) => ApplyError::conflict_message(&conflicts).0,
        other => panic!("no conflict: {other:?}"),
    };
    assert_eq!(
        message(json!({"n": 2})),
        "Apply failed with 1 conflict: conflict with \"me\": .spec.n"
    );
    assert_eq!(
        message(json!({"a": "2", "n": 2, "items": [{"name": "x", "v": "2"}]})),
        "Apply failed with 3 conflicts: conflicts with \"me\":\n- .spec.n\nconflicts with \"up\" \
         using example.io/v1:\n- .spec.a\n- .spec.items[name=\"x\"].v"
    );
}

#[test]
fn a_configuration_must_fit() {
    let schema = schema();
    let refused = |spec: Value| match apply(schema.node(), None, &thing(spec), writer("a"), false)
        .unwrap_err()
    {
        ApplyError::Untyped(text) => text.split_once("Kind=Thing): ").unwrap().1.to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(json!({"bogus": 1})),
        ".spec.bogus: field not declared in schema"
    );
    assert_eq!(
        refused(json!({"set": ["a", "a"]})),
        ".spec.set: duplicate entries for key [=\"a\"]"
    );
    assert_eq!(
        refused(json!({"n": "x"})),
        ".spec.n: expected numeric (int or float), got string"
    );
    let mut config = thing(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    assert_eq!(
        apply(schema.node(), None, &config, writer("a"), false),
        Err(ApplyError::Malformed(
            "metadata.managedFields must be nil".to_owned()
        ))
    );
}

#[test]
fn an_apply_that_changes_nothing_keeps_its_time() {
    let schema = schema();
    let config = thing(json!({"a": "1", "set": ["x"]}));
    let live = apply(schema.node(), None, &config, writer("a"), false).unwrap();
    let later = Writer {
        now: "2027-01-01T00:00:00Z",
        ..writer("a")
    };
    let again = apply(schema.node(), Some(&live), &config, later, false).unwrap();
    assert_eq!(again, live);
    let mut stamped = live.clone();
    stamped["metadata"]["managedFields"][0]["time"] = json!("2028-01-01T00:00:00Z");
    assert!(same_but_bookkeeping(&stamped, &live));
    keep_times(&live, &mut stamped);
    assert_eq!(stamped, live);
    stamped["spec"]["a"] = json!("2");
    assert!(!same_but_bookkeeping(&stamped, &live));
}

#[test]
fn a_granular_value_that_became_atomic_is_owned_as_a_whole() {
    let schema = schema();
    let fields = json!({"f:spec": {"f:atom": {"f:x": {}}, "f:list": {"v:\"1\"": {}}}});
    let mut live = thing(json!({"atom": {"x": "1"}, "list": ["1"]}));
    live["metadata"]["managedFields"] = json!([{
        "manager": "a", "operation": "Update", "apiVersion": "example.io/v1",
        "fieldsType": "FieldsV1", "fieldsV1": fields,
    }]);
    let mut after = live.clone();
    after["spec"]["a"] = json!("1");
    track_update(schema.node(), Some(&live), &mut after, writer("b"));
    assert_eq!(
        after["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:atom": {}, "f:list": {}}})
    );
}

#[test]
fn items_that_are_stored_twice_are_owned_as_one() {
    let schema = schema();
    let node = schema.node();
    let mut live = thing(json!({"set": ["a", "a", "b"]}));
    track_update(node, None, &mut live, writer("up"));
    let spec = &live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(
        spec["f:set"],
        json!({".": {}, "v:\"a\"": {}, "v:\"b\"": {}})
    );
    let config = thing(json!({"set": ["b"]}));
    let after = apply(node, Some(&live), &config, writer("me"), false).unwrap();
    assert_eq!(after["spec"]["set"], json!(["a", "a", "b"]));
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client() {
    let schema = schema();
    let node = schema.node();
    let mut live = thing(json!({"a": "1"}));
    let last = live.to_string();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    track_update(node, None, &mut live, writer("kubectl-client-side-apply"));
    let config = thing(json!({"a": "<2>"}));
    assert!(apply(node, Some(&live), &config, writer("other"), false).is_err());
    let after = apply(node, Some(&live), &config, writer(KUBECTL), false).unwrap();
    assert_eq!(
        after["metadata"]["annotations"][LAST_APPLIED],
        "{\"apiVersion\":\"example.io/v1\",\"kind\":\"Thing\",\"metadata\":{\"name\":\"t\"},\
         \"spec\":{\"a\":\"\\u003c2\\u003e\"}}\n"
    );
}

#[test]
fn tracking_ends_when_the_list_is_emptied_and_starts_again_with_an_apply() {
    let schema = schema();
    let node = schema.node();
    let mut live = thing(json!({"a": "1"}));
    track_update(node, None, &mut live, writer("up"));
    let mut after = live.clone();
    after["metadata"]["managedFields"] = json!([{}]);
    track_update(node, Some(&live), &mut after, writer("up"));
    assert_eq!(after["metadata"].get("managedFields"), None);
    let applied = apply(
        node,
        Some(&after),
        &thing(json!({"n": 1})),
        writer("me"),
        false,
    )
    .unwrap();
    let managers: Vec<&Value> = applied["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["manager"])
        .collect();
    assert_eq!(managers, ["me", "before-first-apply"]);
}

#[test]
fn malformed_fields_are_refused() {
    for bad in [
        json!([]),
        json!({"f": {}}),
        json!({"k:[]": {}}),
        json!({"v:": {}}),
        json!({"i:x": {}}),
    ] {
        assert!(FieldSet::decode(&bad).is_err(), "{bad}");
    }
    let unknown = FieldSet::decode(&json!({"z:new": {}, "f:a": {}})).unwrap();
    assert_eq!(unknown.encode(), json!({"f:a": {}}));
    let deep = (0..1000).fold(json!({}), |inner, _| json!({"f:a": inner}));
    assert!(FieldSet::decode(&deep).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        prop_oneof![Just(1.0), Just(1.5)].prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    let names = || {
        proptest::sample::select(vec![
            "apiVersion",
            "kind",
            "metadata",
            "managedFields",
            "labels",
            "finalizers",
            "spec",
            "status",
            "a",
            "n",
            "any",
            "set",
            "list",
            "map",
            "atom",
            "deep",
            "p",
            "q",
            "items",
            "name",
            "v",
            "sub",
            "x",
            "ports",
            "port",
            "manager",
            "operation",
            "fieldsV1",
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

/// A spec that fits the schema.
fn spec() -> impl Strategy<Value = Value> {
    let text = || "[a-c]";
    let texts = move || proptest::collection::btree_set(text(), 0..4);
    let item = move |name: String| {
        (proptest::option::of(text()), proptest::option::of(text())).prop_map(move |(v, x)| {
            let mut item = json!({"name": name});
            item["v"] = v.map_or(json!("d"), Value::from);
            if let Some(x) = x {
                item["sub"] = json!({"x": x});
            }
            item
        })
    };
    let items = texts().prop_flat_map(move |names| names.into_iter().map(item).collect::<Vec<_>>());
    let map = proptest::collection::btree_map(text(), text(), 0..3);
    (
        proptest::option::of(text()),
        proptest::option::of(texts()),
        proptest::option::of(items),
        proptest::option::of(map),
        proptest::option::of(any_json()),
    )
        .prop_map(|(a, set, items, map, any)| {
            let fields = [
                ("a", a.map(Value::from)),
                ("set", set.map(|set| set.into_iter().collect())),
                ("items", items.map(Value::from)),
                ("map", map.map(|map| json!(map))),
                ("any", any),
            ];
            fields
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect()
        })
}

fn element() -> impl Strategy<Value = Element> {
    prop_oneof![
        "[a-c:.]{0,2}".prop_map(|name| Element::field(&name)),
        any_json().prop_map(|value| Element::Value(Literal(value))),
        any_json().prop_map(|value| Element::Key(vec![("k".into(), Literal(value))])),
        any::<i64>().prop_map(Element::Index),
    ]
}

fn field_set() -> impl Strategy<Value = FieldSet> {
    proptest::collection::vec(proptest::collection::vec(element(), 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::default();
        for path in &paths {
            set.insert(path);
        }
        set
    })
}

proptest! {
    #[test]
    fn sets_survive_encoding(set in field_set()) {
        prop_assert_eq!(FieldSet::decode(&set.encode()).unwrap(), set);
    }

    #[test]
    fn sets_obey_the_laws(a in field_set(), b in field_set()) {
        let union = a.union(&b);
        prop_assert_eq!(&union, &b.union(&a));
        prop_assert_eq!(&a.difference(&b).union(&a.intersection(&b)), &a);
        prop_assert_eq!(&union.difference(&b), &a.difference(&b));
        prop_assert!(a.difference(&a).is_empty());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.paths().iter().all(|path| union.contains(path)), true);
    }

    #[test]
    fn applying_twice_is_applying_once(first in spec(), second in spec()) {
        let schema = schema();
        let node = schema.node();
        let live = apply(node, None, &thing(first), writer("a"), false).unwrap();
        let config = thing(second);
        let once = apply(node, Some(&live), &config, writer("b"), true).unwrap();
        let later = Writer { now: "2027-01-01T00:00:00Z", ..writer("b") };
        let twice = apply(node, Some(&once), &config, later, false).unwrap();
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn an_applier_gets_what_it_asks_for(first in spec(), second in spec()) {
        let schema = schema();
        let node = schema.node();
        let live = apply(node, None, &thing(first), writer("a"), false).unwrap();
        let config = thing(second);
        let after = apply(node, Some(&live), &config, writer("b"), true).unwrap();
        for name in ["a", "set"] {
            let wanted = &config["spec"][name];
            match wanted.as_array() {
                Some(items) => {
                    let got = after["spec"][name].as_array().cloned().unwrap_or_default();
                    prop_assert!(items.iter().all(|item| got.contains(item)));
                }
                None if !wanted.is_null() => prop_assert_eq!(wanted, &after["spec"][name]),
                None => {}
            }
        }
    }

    #[test]
    fn nothing_panics(live in any_json(), config in any_json(), force in any::<bool>()) {
        let schema = schema();
        for schema in [&schema, &Schema::any()] {
            let node = schema.node();
            drop(apply(node, Some(&live), &config, writer(KUBECTL), force));
            let mut after = config.clone();
            track_update(node, Some(&live), &mut after, writer("a"));
            keep_times(&live, &mut after);
            let mut created = config.clone();
            track_update(node, None, &mut created, writer("a"));
            drop(apply(node, Some(&created), &live, writer("b"), force));
        }
    }
}
