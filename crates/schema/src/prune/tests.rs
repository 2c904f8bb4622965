//! What is dropped, and by which name.

use serde_json::{Value, json};

use crate::structural;

#[track_caller]
fn check(spec: Value, expected: Value, dropped: &[&str]) {
    let written = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "string"}}}},
        "m": {"type": "object", "additionalProperties": {"type": "object",
            "properties": {"b": {"type": "string"}}}},
        "keep": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"known": {"type": "object", "properties": {"b": {"type": "string"}}}}},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
        "text": {"type": "string"},
        "loose": {"type": "object", "additionalProperties": true},
    }}}});
    let schema = structural::compile("schema", &written).expect("the schema is structural");
    let mut object = json!({"metadata": {"name": "n", "bogus": 1}, "spec": spec});
    let found = super::prune(schema.node(), &mut object);
    let mut all = vec!["metadata.bogus"];
    all.extend(dropped);
    assert_eq!(found, all);
    assert_eq!(object["spec"], expected);
    assert_eq!(object["metadata"], json!({"name": "n"}));
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    check(
        json!({"x": 1, "text": "t"}),
        json!({"text": "t"}),
        &["spec.x"],
    );
    check(
        json!({"a": [{"b": "1"}, {"c": 1}]}),
        json!({"a": [{"b": "1"}, {}]}),
        &["spec.a[1].c"],
    );
    check(
        json!({"m": {"k": {"b": "", "z": 1}}}),
        json!({"m": {"k": {"b": ""}}}),
        &["spec.m.k.z"],
    );
    check(
        json!({"text": {"z": [1]}}),
        json!({"text": {}}),
        &["spec.text.z"],
    );
    check(
        json!({"loose": {"n": 1, "o": {"p": 1}}}),
        json!({"loose": {"n": 1, "o": {}}}),
        &["spec.loose.o.p"],
    );
}

#[test]
fn preserved_fields_are_kept_but_known_ones_are_pruned() {
    let any = json!({"any": {"x": [{"y": 1}]}});
    check(any.clone(), any, &[]);
    check(
        json!({"keep": {"x": {"y": 1}, "known": {"b": "", "c": 1}}}),
        json!({"keep": {"x": {"y": 1}, "known": {"b": ""}}}),
        &["spec.keep.known.c"],
    );
}
