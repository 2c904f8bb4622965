//! Texts as a kube-apiserver 1.36 says them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::format;
use crate::types::Schema;
use crate::{default, prune, structural};

fn schema() -> Schema {
    let written = json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "required": ["r"],
        "properties": {
            "r": {"type": "string"},
            "i": {"type": "integer", "minimum": 1, "maximum": 100},
            "i32": {"type": "integer", "format": "int32"},
            "num": {"type": "number", "multipleOf": 0.5, "minimum": 0, "exclusiveMinimum": true,
                "maximum": 99.5, "exclusiveMaximum": true},
            "s": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]*$"},
            "e": {"type": "string", "enum": ["b", "a"]},
            "ei": {"type": "integer", "enum": [1, 2]},
            "b": {"type": "boolean"},
            "dt": {"type": "string", "format": "date-time"},
            "l": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "mm": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name", "port"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "port": {"type": "integer", "default": 80}}}},
            "map": {"type": "object", "minProperties": 1, "maxProperties": 2,
                "additionalProperties": {"type": "string", "maxLength": 3}},
            "o": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "an": {"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
                "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            "al": {"type": "string", "allOf": [{"pattern": "^a"}, {"maxLength": 2}]},
            "no": {"type": "string", "not": {"enum": ["x"]}},
            "ios": {"x-kubernetes-int-or-string": true},
            "emb": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true},
            "dd": {"type": "object", "default": {}, "properties": {
                "x": {"type": "integer", "default": 3},
                "y": {"type": "string", "nullable": true, "default": "q"}}},
            "any": {"x-kubernetes-preserve-unknown-fields": true},
            "loose": {"type": "object", "additionalProperties": true},
        },
    }}});
    structural::compile("schema", &written).expect("the schema is structural")
}

#[track_caller]
fn check(field: &str, value: Value, expected: &[&str]) {
    let mut object = json!({"spec": {"r": "a"}});
    object["spec"][field] = value;
    let schema = schema();
    default::fill(schema.node(), &mut object);
    let found = super::validate(schema.node(), &object);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn types_are_told_by_their_openapi_names() {
    check(
        "r",
        json!(1),
        &[r#"spec.r: Invalid value: "integer": spec.r in body must be of type string: "integer""#],
    );
    check(
        "i",
        json!("x"),
        &[r#"spec.i: Invalid value: "string": spec.i in body must be of type integer: "string""#],
    );
    check(
        "i",
        json!(1.5),
        &[
            r#"spec.i: Invalid value: "number": spec.i in body must be of type integer: "number""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.i"#,
        ],
    );
    check("i", json!(2.0), &[]);
    check("ei", json!(1.0), &[]);
    check(
        "ei",
        json!(1e30),
        &[
            r#"spec.ei: Invalid value: "number": spec.ei in body must be of type integer: "number""#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.ei"#,
            r#"spec.ei: Unsupported value: 1e+30: supported values: "1", "2""#,
        ],
    );
    check(
        "b",
        json!("true"),
        &[r#"spec.b: Invalid value: "string": spec.b in body must be of type boolean: "string""#],
    );
    check(
        "l",
        json!({"a": 1}),
        &[r#"spec.l: Invalid value: "object": spec.l in body must be of type array: "object""#],
    );
    check(
        "l",
        json!([1, null]),
        &[
            r#"spec.l[0]: Invalid value: "integer": spec.l[0] in body must be of type string: "integer""#,
            r#"spec.l[1]: Invalid value: "null": spec.l[1] in body must be of type string: "null""#,
        ],
    );
    check(
        "ios",
        json!(true),
        &[
            r#"spec.ios: Invalid value: "boolean": spec.ios in body must be of type integer,string: "boolean""#,
        ],
    );
    check("ios", json!("50%"), &[]);
    check(
        "dt",
        json!(5),
        &[r#"spec.dt: Invalid value: "int64": spec.dt in body must be of type date-time: "int64""#],
    );
    check(
        "dt",
        json!("x"),
        &[r#"spec.dt: Invalid value: "x": spec.dt in body must be of type date-time: "x""#],
    );
}

#[test]
fn numbers_stay_within_bounds() {
    check(
        "i",
        json!(0),
        &["spec.i: Invalid value: 0: spec.i in body should be greater than or equal to 1"],
    );
    check(
        "i",
        json!(101),
        &["spec.i: Invalid value: 101: spec.i in body should be less than or equal to 100"],
    );
    check(
        "i32",
        json!(3_000_000_000_u64),
        &[
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.i32"#,
        ],
    );
    check(
        "num",
        json!(0.3),
        &["spec.num: Invalid value: 0.3: spec.num in body should be a multiple of 0.5"],
    );
    check(
        "num",
        json!(0),
        &["spec.num: Invalid value: 0: spec.num in body should be greater than 0"],
    );
    check(
        "num",
        json!(99.5),
        &["spec.num: Invalid value: 99.5: spec.num in body should be less than 99.5"],
    );
    check("num", json!(3), &[]);
}

#[test]
fn texts_are_told_of_one_thing_at_a_time() {
    check(
        "s",
        json!("A"),
        &[r#"spec.s: Invalid value: "A": spec.s in body should be at least 2 chars long"#],
    );
    check(
        "s",
        json!("abcdef"),
        &["spec.s: Too long: may not be more than 5 bytes"],
    );
    check(
        "s",
        json!("aB"),
        &[r#"spec.s: Invalid value: "aB": spec.s in body should match '^[a-z]*$'"#],
    );
    check("s", json!(null), &[]);
    check(
        "e",
        json!("c"),
        &[r#"spec.e: Unsupported value: "c": supported values: "b", "a""#],
    );
    check(
        "ei",
        json!(3),
        &[r#"spec.ei: Unsupported value: 3: supported values: "1", "2""#],
    );
    check(
        "e",
        json!(3),
        &[
            r#"spec.e: Invalid value: "integer": spec.e in body must be of type string: "integer""#,
            r#"spec.e: Unsupported value: 3: supported values: "b", "a""#,
        ],
    );
}

#[test]
fn collections_have_sizes_and_keys() {
    check(
        "mm",
        json!([{"name": "a", "port": 1}, {"name": "a", "port": 1.0}]),
        &[r#"spec.mm[1]: Duplicate value: {"name":"a","port":1.0}"#],
    );
    check(
        "l",
        json!([]),
        &["spec.l: Invalid value: 0: spec.l in body should have at least 1 items"],
    );
    check(
        "l",
        json!(["a", "b", "c", "d"]),
        &["spec.l: Too many: 4: must have at most 3 items"],
    );
    check(
        "set",
        json!(["a", "b", "a", "a"]),
        &[r#"spec.set[2]: Duplicate value: "a""#],
    );
    check(
        "mm",
        json!([{"name": "a"}, {"name": "a", "port": 80}]),
        &[r#"spec.mm[1]: Duplicate value: {"name":"a","port":80}"#],
    );
    check(
        "mm",
        json!([{"port": 1}]),
        &["spec.mm[0].name: Required value"],
    );
    check(
        "map",
        json!({}),
        &["spec.map: Invalid value: 0: spec.map in body should have at least 1 properties"],
    );
    check(
        "map",
        json!({"a": "b", "c": "d", "e": "f"}),
        &["spec.map: Too many: 3: must have at most 2 items"],
    );
    check(
        "map",
        json!({"a.b": "toolong"}),
        &["spec.map.a.b: Too long: may not be more than 3 bytes"],
    );
}

#[test]
fn combinations_tell_what_fits_best() {
    check(
        "o",
        json!({}),
        &[
            r#"<nil>: Invalid value: "": "spec.o" must validate one and only one schema (oneOf). Found none valid"#,
            "spec.o.a: Required value",
        ],
    );
    check(
        "o",
        json!({"a": "1", "b": "2"}),
        &[
            r#"<nil>: Invalid value: "": "spec.o" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        ],
    );
    check(
        "an",
        json!({}),
        &[
            r#"<nil>: Invalid value: "": "spec.an" must validate at least one schema (anyOf)"#,
            "spec.an.a: Required value",
        ],
    );
    check(
        "al",
        json!("bcd"),
        &[
            r#"spec.al: Invalid value: "bcd": spec.al in body should match '^a'"#,
            "spec.al: Too long: may not be more than 2 bytes",
            r#"<nil>: Invalid value: "": "spec.al" must validate all the schemas (allOf). None validated"#,
        ],
    );
    check(
        "no",
        json!("x"),
        &[r#"<nil>: Invalid value: "": "spec.no" must not validate the schema (not)"#],
    );
}

#[test]
fn embedded_resources_say_what_they_are() {
    check(
        "emb",
        json!({}),
        &[
            "spec.emb.apiVersion: Required value",
            "spec.emb.kind: Required value",
        ],
    );
    check(
        "emb",
        json!({"apiVersion": "v1", "kind": "Foo", "more": {"x": 1}}),
        &[],
    );
    check(
        "emb",
        json!({"apiVersion": "v1", "kind": "Foo", "metadata": {"labels": {"a": 1}}}),
        &[
            r#"spec.emb.metadata: Invalid value: {"labels":{"a":1}}: json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"#,
        ],
    );
    check(
        "emb",
        json!({"apiVersion": "", "kind": 3}),
        &[
            r#"spec.emb.apiVersion: Invalid value: "": must not be empty"#,
            "spec.emb.kind: Invalid value: 3: must be a string",
        ],
    );
}

#[test]
fn errors_are_bounded() {
    let schema = schema();
    let object = json!({"spec": {"r": "a", "set": vec![json!(1); 5_000]}});
    assert!(super::values(schema.node(), &object).len() <= super::MAX_ERRORS);
}

#[test]
fn formats_are_what_the_api_server_takes() {
    for (name, good, bad) in [
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-01-01T00:00:00.5Z", "2024-01-01"),
        (
            "date-time",
            "2024-01-01T23:59:59+02:00",
            "2024-01-01T24:00:00Z",
        ),
        ("duration", "1h30m", "a"),
        ("duration", "3 days", "days"),
        ("ipv4", "010.0.0.1", "1.2.3"),
        ("ipv6", "::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810"),
        ("byte", "YWJj", "%%"),
        ("email", "a@b", "nope"),
        ("uri", "https://a/b", ""),
        ("hostname", "a.example", "-a"),
        ("mac", "00:00:5e:00:53:01", "00:00"),
        ("isbn10", "0321751043", "0321751044"),
        ("isbn13", "978-0321751041", "978-0321751042"),
        ("hexcolor", "#fff", "#ff"),
        ("rgbcolor", "rgb(1,2,3)", "rgb(1,2,300)"),
        ("ssn", "111-22-3333", "1"),
        ("creditcard", "4111111111111111", "1"),
        ("bsonobjectid", "507f1f77bcf86cd799439011", "5"),
        ("k8s-short-name", "a-b", "a.b"),
        ("k8s-long-name", "a.b", "A"),
    ] {
        assert!(format::is_known(name), "{name} is known");
        assert!(format::is_valid(name, good), "{name}: {good}");
        assert!(!format::is_valid(name, bad), "{name}: {bad}");
    }
    assert!(format::is_valid("made-up", "anything"));
}

/// JSON that often has the names that the schema knows.
fn arbitrary() -> impl Strategy<Value = Value> {
    let names = "spec|r|i|i32|num|s|e|l|set|mm|map|o|an|al|no|ios|emb|dd|any|loose|metadata|labels|name|x|y|[a-c]";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pruning_and_defaulting_settle_and_nothing_panics(spec in arbitrary(), root in arbitrary()) {
        let schema = schema();
        let node = schema.node();
        for mut object in [json!({"spec": spec}), root] {
            drop(super::validate(node, &object));
            prune::prune(node, &mut object);
            let once = object.clone();
            prop_assert_eq!(prune::prune(node, &mut object), Vec::<String>::new());
            prop_assert_eq!(&object, &once);
            default::fill(node, &mut object);
            let once = object.clone();
            default::fill(node, &mut object);
            prop_assert_eq!(&object, &once);
            prop_assert_eq!(prune::prune(node, &mut object), Vec::<String>::new());
            drop(super::validate(node, &object));
        }
    }
}
