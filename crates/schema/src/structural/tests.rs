//! Refusals as a kube-apiserver 1.36 words them.

use serde_json::{Value, json};

use super::compile_pattern;
use crate::types::{ListKind, Shape};

#[track_caller]
fn check(field: Value, expected: &[&str]) {
    check_root(
        json!({"type": "object", "properties": {"a": field}}),
        expected,
    );
}

#[track_caller]
fn check_root(schema: Value, expected: &[&str]) {
    let found = match super::compile("s", &schema) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected);
}

#[test]
fn types_must_be_said() {
    check(json!({"type": "string"}), &[]);
    check(
        json!({}),
        &["s.properties[a].type: Required value: must not be empty for specified object fields"],
    );
    check(
        json!({"type": "array", "items": {}}),
        &[
            "s.properties[a].items.type: Required value: must not be empty for specified array items",
        ],
    );
    check(
        json!({"type": "array"}),
        &["s.properties[a].items: Required value: must be specified"],
    );
    check(
        json!({"type": "strin"}),
        &[
            r#"s.properties[a].type: Unsupported value: "strin": supported values: "array", "boolean", "integer", "number", "object", "string""#,
        ],
    );
    check_root(
        json!({}),
        &["s.type: Required value: must not be empty at the root"],
    );
    check_root(
        json!({"type": "object", "nullable": true}),
        &["s.nullable: Forbidden: nullable cannot be true at the root"],
    );
    check_root(
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        &["s.additionalProperties: Forbidden: must not be used at the root"],
    );
}

#[test]
fn alternatives_only_validate() {
    check(
        json!({"type": "string", "anyOf": [{"type": "string"}]}),
        &["s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"],
    );
    check(
        json!({"type": "string", "oneOf": [{"description": "x", "default": "y", "nullable": true}]}),
        &[
            "s.properties[a].oneOf[0].default: Forbidden: must be undefined to be structural",
            "s.properties[a].oneOf[0].description: Forbidden: must be empty to be structural",
            "s.properties[a].oneOf[0].nullable: Forbidden: must be false to be structural",
        ],
    );
    check(
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": "^a$"}),
        &[],
    );
}

#[test]
fn defaults_are_valid_and_complete() {
    check(
        json!({"type": "string", "default": 3}),
        &[
            r#"s.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#,
        ],
    );
    check(
        json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}}),
        &[r#"s.properties[a].default: Invalid value: {"c":1}: must not have unknown fields"#],
    );
    check(
        json!({"type": "object", "required": ["b"], "properties": {"b": {"type": "string", "default": "x"}}, "default": {}}),
        &["s.properties[a].default.b: Required value"],
    );
}

#[test]
fn lists_and_maps_say_what_they_are() {
    check(
        json!({"type": "array", "x-kubernetes-list-type": "map", "items": {"type": "string"}}),
        &[
            "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            r#"s.properties[a].items.type: Invalid value: "string": must be object if parent array's x-kubernetes-list-type is map"#,
        ],
    );
    check(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
        &[
            "s.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
    check(
        json!({"type": "string", "x-kubernetes-list-type": "set"}),
        &[
            r#"s.properties[a].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
        ],
    );
    check(
        json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}}),
        &[
            "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
    check(
        json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"b": {"type": "string"}}}),
        &[
            "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ],
    );
}

#[test]
fn metadata_is_implied() {
    check_root(
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        &[
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
    let written = json!({"type": "object", "properties": {"metadata": {"type": "object",
        "properties": {"name": {"type": "string", "maxLength": 3}}}}});
    let schema = super::compile("s", &written).expect("the schema is structural");
    let meta = schema.node().field("metadata").expect("metadata is known");
    let owners = meta.field("ownerReferences").expect("owners are known");
    assert!(
        matches!(owners.shape(), Shape::List { kind: ListKind::Map(keys), .. } if **keys == ["uid".into()])
    );
    let object = json!({"metadata": {"name": "long"}});
    let errors = crate::validate::validate(schema.node(), &object);
    assert_eq!(errors.len(), 1);
    assert_eq!(
        errors[0].to_string(),
        "metadata.name: Too long: may not be more than 3 bytes"
    );
}

#[test]
fn keywords_have_types_too() {
    check(
        json!({"type": "string", "minLength": "x"}),
        &[r#"s.properties[a].minLength: Invalid value: "x": must be an integer"#],
    );
    check(
        json!({"$ref": "#/x", "type": "string"}),
        &["s.properties[a].$ref: Forbidden: $ref is not supported"],
    );
}

#[test]
fn patterns_mean_what_they_mean_in_go() {
    for (pattern, text, expected) in [
        (r"^\d+$", "1२", false),
        (r"^[\d.]+$", "1.2", true),
        (r"^[[a-]+$", "[a-", true),
        (r"^[]a]+$", "]a", true),
        (r"^[^]a]+$", "b", true),
        (r"^[[:alpha:]&&]+$", "a&", true),
        (r"^\w+\s\S$", "a_1 x", true),
        (r"\bfoo\b", "a foo b", true),
        (r"^\W$", "ä", true),
        (r"^a\/b$", "a/b", true),
    ] {
        let regex = compile_pattern(pattern).expect("the pattern compiles");
        assert_eq!(regex.is_match(text), expected, "{pattern} on {text}");
    }
    assert!(compile_pattern("[").is_err());
    assert!(compile_pattern("(a{1000}){1000}{1000}").is_err());
}
