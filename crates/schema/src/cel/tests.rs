//! Rules and what they say, as a kube-apiserver 1.36 says it.

use serde_json::{Value, json};

use super::Rules;
use crate::structural;

fn schema(field: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"f": field}}}})
}

fn compile(field: &Value) -> Result<Rules, String> {
    let schema = structural::compile("s", &schema(field)).expect("the schema is structural");
    Rules::compile("s", &schema).map_err(|errors| {
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    })
}

/// A field with one rule, its new value and, unless null, its old one.
#[track_caller]
fn check(field: Value, new: Value, old: Value, expected: &[&str]) {
    let rules = compile(&field).expect("the rules compile");
    let object = |value: Value| json!({"spec": {"f": value, "other": 1}});
    let old = (!old.is_null()).then(|| object(old));
    let found = rules.check(&object(new), old.as_ref());
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

fn typed(ty: Value, rule: Value) -> Value {
    let mut field = ty;
    field["x-kubernetes-validations"] = json!([rule]);
    field
}

fn text(format: &str) -> Value {
    json!({"type": "string", "format": format})
}

const NONE: Value = Value::Null;

#[test]
fn a_rule_that_fails_is_told() {
    let int = || json!({"type": "integer"});
    check(
        typed(int(), json!({"rule": " self < 3 "})),
        json!(2),
        NONE,
        &[],
    );
    check(
        typed(int(), json!({"rule": " self < 3 "})),
        json!(3),
        NONE,
        &["spec.f: Invalid value: 3: failed rule: self < 3"],
    );
    check(
        typed(int(), json!({"rule": "self < 3", "message": " small "})),
        json!(3),
        NONE,
        &["spec.f: Invalid value: 3: small"],
    );
    check(
        typed(
            int(),
            json!({"rule": "self < 3", "message": "m", "messageExpression": "'got %d'.format([self])"}),
        ),
        json!(3),
        NONE,
        &["spec.f: Invalid value: 3: got 3"],
    );
    check(
        typed(
            int(),
            json!({"rule": "self < 3", "message": "m", "messageExpression": "''"}),
        ),
        json!(3),
        NONE,
        &["spec.f: Invalid value: 3: m"],
    );
    check(
        typed(
            int(),
            json!({"rule": "self < 3", "message": "m", "reason": "FieldValueForbidden"}),
        ),
        json!(3),
        NONE,
        &["spec.f: Forbidden: m"],
    );
    check(
        typed(
            int(),
            json!({"rule": "self < 3", "message": "m", "reason": "FieldValueRequired"}),
        ),
        json!(3),
        NONE,
        &["spec.f: Required value: m"],
    );
    check(
        typed(
            int(),
            json!({"rule": "self < 3", "message": "m", "reason": "FieldValueDuplicate"}),
        ),
        json!(3),
        NONE,
        &["spec.f: Duplicate value: 3"],
    );
    let object = json!({"type": "object", "properties": {"a-b": {"type": "integer"}}});
    check(
        typed(
            object.clone(),
            json!({"rule": "self.a__dash__b > 1", "fieldPath": ".a-b"}),
        ),
        json!({"a-b": 1}),
        NONE,
        &["spec.f.a-b: Invalid value: failed rule: self.a__dash__b > 1"],
    );
    check(
        typed(object, json!({"rule": "self.a__dash__b > 1"})),
        json!({}),
        NONE,
        &[
            r#"spec.f: Invalid value: "object": no such key: a__dash__b evaluating rule: self.a__dash__b > 1"#,
        ],
    );
    let list = json!({"type": "array", "items": {"type": "integer"}});
    check(
        typed(list, json!({"rule": "self[1] > 0"})),
        json!([1]),
        NONE,
        &[r#"spec.f: Invalid value: "array": index out of bounds: 1 evaluating rule: self[1] > 0"#],
    );
}

#[test]
fn values_have_the_types_of_their_schema() {
    let time = || {
        typed(
            text("date-time"),
            json!({"rule": "self > timestamp('2020-01-01T00:00:00Z')"}),
        )
    };
    check(time(), json!("2021-01-01T00:00:00+01:00"), NONE, &[]);
    assert!(
        !compile(&time())
            .expect("compiles")
            .check(&json!({"spec": {"f": "2019-01-01T00:00:00Z"}}), None)
            .is_empty()
    );
    check(
        typed(text("duration"), json!({"rule": "self == duration('90m')"})),
        json!("1h30m"),
        NONE,
        &[],
    );
    check(
        typed(text("byte"), json!({"rule": "size(self) == 3"})),
        json!("YWJj"),
        NONE,
        &[],
    );
    check(
        typed(
            json!({"type": "number"}),
            json!({"rule": "self / 2.0 < 5.0"}),
        ),
        json!(4),
        NONE,
        &[],
    );
    let either = || json!({"x-kubernetes-int-or-string": true});
    let rule = json!({"rule": "type(self) == int ? self < 5 : self == '50%'"});
    check(typed(either(), rule.clone()), json!("50%"), NONE, &[]);
    check(
        typed(either(), rule),
        json!(7),
        NONE,
        &["spec.f: Invalid value: 7: failed rule: type(self) == int ? self < 5 : self == '50%'"],
    );
    check(
        typed(
            text(""),
            json!({"rule": "quantity(self).isLessThan(quantity('1Gi')) && isURL('https://x')"}),
        ),
        json!("5Mi"),
        NONE,
        &[],
    );
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    check(
        typed(map, json!({"rule": "self.all(k, k.startsWith('x.'))"})),
        json!({"x.a": ""}),
        NONE,
        &[],
    );
}

#[test]
fn transition_rules_compare_with_what_was_there() {
    let grows = json!({"rule": "self >= oldSelf", "message": "shrinks"});
    let int = json!({"type": "integer"});
    check(typed(int.clone(), grows.clone()), json!(1), NONE, &[]);
    check(
        typed(int.clone(), grows.clone()),
        json!(1),
        json!(2),
        &["spec.f: Invalid value: 1: shrinks"],
    );
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "v": typed(int.clone(), grows.clone())}}});
    check(
        list,
        json!([{"name": "a", "v": 1}, {"name": "b", "v": 3}, {"name": "new", "v": 0}]),
        json!([{"name": "b", "v": 4}, {"name": "a", "v": 1}]),
        &["spec.f[1].v: Invalid value: 3: shrinks"],
    );
    let map = json!({"type": "object", "additionalProperties": typed(int, grows)});
    check(
        map,
        json!({"a": 1}),
        json!({"a": 2}),
        &["spec.f[a]: Invalid value: 1: shrinks"],
    );
    let optional =
        json!({"rule": "!oldSelf.hasValue() || oldSelf.value() == self", "optionalOldSelf": true});
    check(typed(text(""), optional.clone()), json!("b"), NONE, &[]);
    check(
        typed(text(""), optional),
        json!("b"),
        json!("a"),
        &[
            r#"spec.f: Invalid value: "b": failed rule: !oldSelf.hasValue() || oldSelf.value() == self"#,
        ],
    );
}

#[test]
fn what_an_update_leaves_alone_is_not_held_against_it() {
    let rule = json!({"rule": "self != 'bad'"});
    check(
        typed(text(""), rule.clone()),
        json!("bad"),
        json!("bad"),
        &[],
    );
    check(
        typed(text(""), rule.clone()),
        json!("bad"),
        json!("good"),
        &[r#"spec.f: Invalid value: "bad": failed rule: self != 'bad'"#],
    );
    let list = json!({"type": "array", "items": typed(text(""), rule)});
    check(list, json!(["bad"]), json!(["bad"]), &[]);
}

#[track_caller]
fn refuse(field: Value, expected: &str) {
    assert_eq!(compile(&field).expect_err("the rule is refused"), expected);
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let at = "s.properties[spec].properties[f].x-kubernetes-validations[0]";
    let written = |rule: &str| {
        format!(
            r#"{{"FieldPath":"","Message":"","MessageExpression":"","OptionalOldSelf":null,"Reason":null,"Rule":"{rule}"}}"#
        )
    };
    refuse(
        typed(text(""), json!({"rule": "foo == self"})),
        &format!(
            "{at}.rule: Invalid value: {}: compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo == self\n | ^",
            written("foo == self")
        ),
    );
    refuse(
        typed(text(""), json!({"rule": "self.foo"})),
        &format!(
            "{at}.rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: type 'string' does not support field selection\n | self.foo\n | ....^",
            written("self.foo")
        ),
    );
    let list = json!({"type": "array", "items": typed(json!({"type": "integer"}), json!({"rule": "self == oldSelf"}))});
    refuse(
        list,
        r#"s.properties[spec].properties[f].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[f]"#,
    );
    refuse(
        typed(
            text(""),
            json!({"rule": "self == 'a'", "optionalOldSelf": true}),
        ),
        &format!(
            "{at}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
        ),
    );
    assert!(compile(&typed(text(""), json!({"rule": "(".repeat(500) + "self"}))).is_err());
    assert!(compile(&typed(text(""), json!({"rule": "self =="}))).is_err());
    // The parser panics over this one; the process lives on.
    drop(compile(&typed(
        text(""),
        json!({"rule": format!("{}true", "true ? true : ".repeat(100))}),
    )));
    assert!(
        compile(&typed(
            text(""),
            json!({"rule": format!("1{} > 0", "+1".repeat(5_000))})
        ))
        .is_err()
    );
}

#[test]
fn a_rule_that_would_take_too_long_does_not_run() {
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let rule = json!({"rule": "self.all(a, self.all(b, self.all(c, a + b + c > 0)))"});
    check(
        typed(list.clone(), rule.clone()),
        json!([1, 2, 3]),
        NONE,
        &[],
    );
    check(
        typed(list, rule),
        Value::from(vec![1; 1_000]),
        NONE,
        &[
            r#"spec.f: Invalid value: "array": validation failed due to running out of cost budget, no further validation rules will be run"#,
        ],
    );
}

#[test]
fn deep_rules_have_room() {
    let deep = json!({"rule": format!("1{} > 0", "+1".repeat(200))});
    check(typed(text(""), deep), json!("a"), NONE, &[]);
    let deep = json!({"rule": format!("self{} == 'a'", ".trim()".repeat(200))});
    check(typed(text(""), deep), json!("a"), NONE, &[]);
}

#[test]
fn paths_of_fields_follow_the_schema() {
    let schema =
        json!({"properties": {"a": {"properties": {"b.c": {"additionalProperties": {}}}}}});
    let follow = |path: &str| super::field_path(&schema, path).map(|(shown, _)| shown);
    assert_eq!(follow(".a"), Ok("a".to_owned()));
    assert_eq!(follow(".a['b.c']['k']"), Ok("a.b.c[k]".to_owned()));
    assert_eq!(
        follow(".x"),
        Err("does not refer to a valid field".to_owned())
    );
    assert_eq!(follow("a"), Err("expected [ or . but got: a".to_owned()));
}
