//! Paths and where they lead.

use serde_json::{Value, json};

use super::{JsonPath, MAX_MATCHES};

fn object() -> Value {
    json!({
        "metadata": {"name": "n", "labels": {"a.b/c": "dotted", "plain": "p"}},
        "spec": {"list": [1, 2, 3, 4], "items": [{"n": "a", "v": 1}, {"n": "b", "v": 2.5}, {"n": "c"}]},
        "status": {"conditions": [
            {"type": "Ready", "status": "True"},
            {"type": "Available", "status": "False", "ok": true},
        ]},
    })
}

#[track_caller]
fn check(path: &str, expected: Value) {
    let object = object();
    let found = JsonPath::compile(path).expect("the path is well formed");
    let found: Vec<Value> = found.find(&object).into_iter().cloned().collect();
    assert_eq!(Value::Array(found), expected, "{path}");
}

#[track_caller]
fn refuse(path: &str, why: &str) {
    let error = JsonPath::compile(path).expect_err("the path is malformed");
    assert_eq!(error.why, why);
}

#[test]
fn fields_by_dots_and_brackets() {
    for path in [
        ".metadata.name",
        "metadata.name",
        "$.metadata.name",
        "{.metadata.name}",
        "{$.metadata['name']}",
        "{ .metadata[\"name\"] }",
    ] {
        check(path, json!(["n"]));
    }
    check(r".metadata.labels.a\.b/c", json!(["dotted"]));
    check(".metadata.labels['a.b/c']", json!(["dotted"]));
    check(r".metadata.labels['a\.b/c']", json!(["dotted"]));
    check(".metadata.missing.more", json!([]));
    check(".spec.list.name", json!([]));
}

#[test]
fn indexes_slices_and_unions() {
    check(".spec.list[0]", json!([1]));
    check(".spec.list[-1]", json!([4]));
    check(".spec.list[9]", json!([]));
    check(".spec.list[-9]", json!([]));
    check(".spec.list[1:3]", json!([2, 3]));
    check(".spec.list[:-1]", json!([1, 2, 3]));
    check(".spec.list[::2]", json!([1, 3]));
    check(".spec.list[0,2]", json!([1, 3]));
    check(".spec.list[3:1]", json!([]));
    check(".metadata['name','missing']", json!(["n"]));
    check(".spec.items[*].n", json!(["a", "b", "c"]));
    check(".spec.items.*.n", json!(["a", "b", "c"]));
    check("..n", json!(["a", "b", "c"]));
    check(".status..type", json!(["Ready", "Available"]));
}

#[test]
fn filters_compare() {
    check(
        r#".status.conditions[?(@.type=="Ready")].status"#,
        json!(["True"]),
    );
    check(
        r"{.status.conditions[?(@.type == 'Available')].status}",
        json!(["False"]),
    );
    check(
        r#".status.conditions[?(@.type!="Ready")].type"#,
        json!(["Available"]),
    );
    check(
        ".status.conditions[?(@.ok==true)].type",
        json!(["Available"]),
    );
    check(".status.conditions[?(@.ok)].type", json!(["Available"]));
    check(".spec.items[?(@.v>1)].n", json!(["b"]));
    check(".spec.items[?(@.v>=1)].n", json!(["a", "b"]));
    check(".spec.items[?(@.v<2)].n", json!(["a"]));
    check(".spec.items[?(@.v<=2.5)].n", json!(["a", "b"]));
    check(".spec.list[?(@>2)]", json!([3, 4]));
}

#[test]
fn malformed_paths_say_why() {
    refuse("{.a", "unclosed action");
    refuse(".a[", "unclosed bracket");
    refuse(".a['x]", "unclosed quote");
    refuse(".a.", "ends with a dot");
    refuse(
        ".a[?(@.b==x)]",
        "\"x\" is neither quoted, a number, true nor false",
    );
    refuse(".a[1:2:0]", "the step of a slice must be positive, not 0");
    refuse(".a b", "unexpected ' ' at 2");
    refuse(&".a".repeat(4_000), "longer than 4096 bytes");
}

#[test]
fn what_is_found_is_bounded() {
    let many = json!({"a": vec![vec![0; 200]; 200]});
    let path = JsonPath::compile("..*").expect("the path is well formed");
    assert_eq!(path.find(&many).len(), MAX_MATCHES);
}
