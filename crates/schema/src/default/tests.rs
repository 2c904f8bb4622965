//! What absent fields become.

use serde_json::{Value, json};

use crate::structural;

#[track_caller]
fn check(spec: Value, expected: Value) {
    let written = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "dd": {"type": "object", "default": {}, "properties": {
            "x": {"type": "integer", "default": 3},
            "y": {"type": "string", "nullable": true, "default": "q"},
            "z": {"type": "string"}}},
        "l": {"type": "array", "items": {"type": "object", "default": {"p": 1},
            "properties": {"p": {"type": "integer", "default": 80}}}},
        "m": {"type": "object", "additionalProperties": {"type": "object",
            "properties": {"p": {"type": "integer", "default": 80}}}},
    }}}});
    let schema = structural::compile("schema", &written).expect("the schema is structural");
    let mut object = json!({"spec": spec});
    super::fill(schema.node(), &mut object);
    assert_eq!(object["spec"], expected);
}

#[test]
fn defaults_reach_into_what_defaults_made() {
    check(json!({}), json!({"dd": {"x": 3, "y": "q"}}));
    check(json!({"dd": {"x": 4}}), json!({"dd": {"x": 4, "y": "q"}}));
}

#[test]
fn a_null_counts_as_absent_unless_it_is_a_value() {
    check(
        json!({"dd": {"x": null, "y": null, "z": null}}),
        json!({"dd": {"x": 3, "y": null}}),
    );
    check(json!({"dd": null}), json!({"dd": {"x": 3, "y": "q"}}));
}

#[test]
fn items_and_values_are_filled_in() {
    let dd = json!({"x": 3, "y": "q"});
    check(
        json!({"l": [{}, null, {"p": 2}]}),
        json!({"dd": dd, "l": [{"p": 80}, {"p": 1}, {"p": 2}]}),
    );
    check(
        json!({"m": {"a": {}, "b": null}}),
        json!({"dd": dd, "m": {"a": {"p": 80}}}),
    );
}
