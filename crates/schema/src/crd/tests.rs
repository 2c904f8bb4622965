//! Definitions as a kube-apiserver 1.36 takes and refuses them.

use serde_json::{Value, json};

use super::{CustomKind, fill_defaults, validate_update};

fn definition() -> Value {
    let mut definition = json!({
        "metadata": {"name": "bads.s2.example.io"},
        "spec": {
            "group": "s2.example.io",
            "scope": "Namespaced",
            "names": {"plural": "bads", "kind": "Bad", "shortNames": ["b"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.i", "statusReplicasPath": ".status.i"}},
                "additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".spec.a"}],
                "selectableFields": [{"jsonPath": ".spec.a"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object",
                    "required": ["a"],
                    "properties": {"a": {"type": "string"}, "i": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.a != 'x'"}],
                }}}},
            }],
        },
    });
    fill_defaults(&mut definition);
    definition
}

#[track_caller]
fn check(pointer: &str, value: Value, expected: &[&str]) {
    let mut definition = definition();
    *definition.pointer_mut(pointer).expect("the field is there") = value;
    let found = match CustomKind::compile(&definition) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected);
}

const LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn a_good_definition_is_compiled() {
    let kind = CustomKind::compile(&definition()).expect("the definition is good");
    assert_eq!(
        (kind.list_kind.as_str(), kind.singular.as_str()),
        ("BadList", "bad")
    );
    let version = kind.storage().expect("a version is stored");
    assert!(version.status && version.scale.is_some() && !version.rules.is_empty());
    assert_eq!(version.columns.len(), 1);
    assert_eq!(version.selectable, [".spec.a"]);
    assert!(kind.version("v2").is_none());
}

#[test]
fn names_are_checked() {
    check(
        "/metadata/name",
        json!("x"),
        &[r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#],
    );
    check(
        "/spec/scope",
        json!("X"),
        &[r#"spec.scope: Unsupported value: "X": supported values: "Cluster", "Namespaced""#],
    );
    check(
        "/spec/names/kind",
        json!("bad thing"),
        &[&format!(
            r#"spec.names.kind: Invalid value: "bad thing": may have mixed case, but should otherwise match: {LABEL}"#
        )],
    );
    check(
        "/spec/names/listKind",
        json!("Bad"),
        &[r#"spec.names.listKind: Invalid value: "Bad": kind and listKind may not be the same"#],
    );
    check(
        "/spec/names/shortNames",
        json!(["B_"]),
        &[&format!(
            r#"spec.names.shortNames[0]: Invalid value: "B_": {LABEL}"#
        )],
    );
}

#[test]
fn versions_are_checked() {
    check(
        "/spec/versions/0/schema",
        Value::Null,
        &[
            "spec.versions[0].schema.openAPIV3Schema: Required value",
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.a\": is an invalid path: does not refer to a valid field",
        ],
    );
    check(
        "/spec/versions/0/subresources/scale",
        json!({"specReplicasPath": "spec.x", "statusReplicasPath": ".spec.x"}),
        &[
            r#"spec.subresources.scale.specReplicasPath: Invalid value: "spec.x": must be a simple json path starting with ."#,
            r#"spec.subresources.scale.statusReplicasPath: Invalid value: ".spec.x": should be a json path under .status"#,
        ],
    );
    check(
        "/spec/versions/0/additionalPrinterColumns",
        json!([{"name": "", "type": "foo", "jsonPath": "x"}]),
        &[
            "spec.additionalPrinterColumns[0].name: Required value",
            r#"spec.additionalPrinterColumns[0].type: Invalid value: "foo": must be one of boolean,date,integer,number,string"#,
            r#"spec.additionalPrinterColumns[0].JSONPath: Invalid value: "x": must be a simple json path starting with ."#,
        ],
    );
    check(
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a",
        json!({}),
        &[
            "spec.validation.openAPIV3Schema.properties[spec].properties[a].type: Required value: must not be empty for specified object fields",
            r#"spec.selectableFields[0].jsonPath: Invalid value: ".spec.a": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
        ],
    );
    check(
        "/spec/conversion",
        json!({"strategy": "Foo"}),
        &[
            r#"spec.conversion.strategy: Unsupported value: "Foo": supported values: "None", "Webhook""#,
        ],
    );
    check(
        "/spec/conversion",
        json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://x"}, "conversionReviewVersions": ["v1"]}}),
        &[],
    );
    check(
        "/status/storedVersions",
        json!([]),
        &["status.storedVersions: Invalid value: null: must have at least one stored version"],
    );
}

#[test]
fn versions_that_differ_are_told_apart() {
    let mut definition = definition();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["c"] = json!({});
    definition["spec"]["versions"]
        .as_array_mut()
        .expect("a list")
        .push(second);
    let errors = CustomKind::compile(&definition).expect_err("the second version is wrong");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "spec.versions[1].schema.openAPIV3Schema.properties[spec].properties[c].type: Required value: must not be empty for specified object fields"
        ]
    );
}

#[test]
fn objects_are_checked_in_upstreams_order() {
    let kind = CustomKind::compile(&definition()).expect("the definition is good");
    let version = kind.storage().expect("a version is stored");
    let told = |spec: Value| -> Vec<String> {
        let errors = version.validate(&json!({"spec": spec}), None);
        errors.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        told(json!({"a": "x"})),
        ["spec: Invalid value: failed rule: self.a != 'x'"]
    );
    assert_eq!(
        told(json!({"a": "b", "i": "x"})),
        [
            r#"spec.i: Invalid value: "string": spec.i in body must be of type integer: "string""#,
            ".spec.i: Invalid value: 0: .spec.i accessor error: x is of the type string, expected int64",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
    assert_eq!(
        told(json!({"a": "b", "i": -1})),
        [".spec.i: Invalid value: -1: should be a non-negative integer"]
    );
}

#[test]
fn what_an_update_leaves_alone_stays() {
    let kind = CustomKind::compile(&definition()).expect("the definition is good");
    let version = kind.storage().expect("a version is stored");
    let object = |i: Value, a: &str| json!({"spec": {"a": a, "i": i}});
    let told = |new: &Value, old: &Value| version.validate(new, Some(old)).len();
    assert_eq!(told(&object(json!(1), "x"), &object(json!(1), "x")), 0);
    assert_eq!(told(&object(json!(2), "x"), &object(json!(1), "x")), 1);
    assert_eq!(
        told(&object(json!(null), "y"), &object(json!(null), "b")),
        1
    );
}

#[test]
fn some_things_never_change() {
    let mut old = definition();
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let told = |pointer: &str, value: Value| -> Vec<String> {
        let mut new = old.clone();
        *new.pointer_mut(pointer).expect("the field is there") = value;
        validate_update(&new, &old)
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        told("/spec/scope", json!("Cluster")),
        [r#"spec.scope: Invalid value: "Cluster": field is immutable"#]
    );
    assert_eq!(
        told("/spec/names/kind", json!("Good")),
        [r#"spec.names.kind: Invalid value: "Good": field is immutable"#]
    );
    assert_eq!(
        told("/spec/names/plural", json!("goods")),
        [r#"spec.names.plural: Invalid value: "goods": field is immutable"#]
    );
    assert_eq!(
        told("/status/storedVersions", json!(["v0", "v1"])),
        [
            r#"status.storedVersions[0]: Invalid value: "v0": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions"#
        ]
    );
    assert_eq!(told("/spec/names/shortNames", json!(["g"])), [""; 0]);
}

#[test]
fn protected_groups_need_approval() {
    let mut definition = definition();
    definition["spec"]["group"] = json!("x.k8s.io");
    definition["metadata"]["name"] = json!("bads.x.k8s.io");
    let errors = CustomKind::compile(&definition).expect_err("the group is protected");
    assert_eq!(
        errors[0].to_string(),
        r#"metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111"#
    );
    definition["metadata"]["annotations"] =
        json!({"api-approved.kubernetes.io": "unapproved, experimental"});
    assert!(CustomKind::compile(&definition).is_ok());
}
