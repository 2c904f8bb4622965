//! What may be written to a FedoraMessage: what [`super::check`] lets through, and no other message once its sending began.

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_protocol::fedora::{HEADER_PRIORITY, HEADER_SCHEMA, HEADER_SENT_AT, HEADER_SEVERITY};
use serde_json::{Value, json};

use super::{Place, check};

/// What may change at any time.
const FREE: [&str; 6] = [
    "suspend",
    "ttl_seconds_after_finished",
    "ttlSecondsAfterFinished",
    "deadline_seconds",
    "max_attempts",
    "maxAttempts",
];

/// Judges a write of the main resource; the text of the error is for people.
pub fn admit(old: Option<&Value>, new: &Value) -> Result<(), String> {
    if let Some(old) = old {
        if !begun(old) {
            return judge(new);
        }
        let kept = |object: &Value| {
            let mut spec = object["spec"].as_object().cloned().unwrap_or_default();
            spec.retain(|field, _| !FREE.contains(&field.as_str()) && field != "deadlineSeconds");
            spec
        };
        let (before, after) = (kept(old), kept(new));
        let changed = |field: &&String| before.get(*field) != after.get(*field);
        if let Some(field) = before.keys().chain(after.keys()).find(changed) {
            return Err(format!(
                "spec.{field} cannot change any more: the sending of the message began; make a new FedoraMessage for another one"
            ));
        }
        // What was let in once may be written again, so that its status and metadata can change.
        return Ok(());
    }
    judge(new)
}

fn begun(object: &Value) -> bool {
    object["status"]["messageId"].is_string()
}

fn judge(new: &Value) -> Result<(), String> {
    let message: FedoraMessage = serde_json::from_value(new.clone())
        .map_err(|error| format!("this is no FedoraMessage: {error}"))?;
    // The prefix is the operator's: what is too long with it shows in the status.
    let place = Place {
        topic_prefix: String::new(),
    };
    check(&message, &place).map_err(|fault| fault.text)
}

/// What the definition's own rules cannot see, bodies and headers, as ValidatingAdmissionPolicies with their bindings.
pub fn policies() -> Vec<Value> {
    let same = |field: &str| {
        json!({
            "expression": format!(
                "has(object.spec.{field}) == has(oldObject.spec.{field}) && (!has(object.spec.{field}) || object.spec.{field} == oldObject.spec.{field})"
            ),
            "message": format!("spec.{field} cannot change any more: the sending of the message began; make a new FedoraMessage for another one"),
            "reason": "Invalid",
        })
    };
    let begun = json!([{
        "name": "begun",
        "expression": "has(oldObject.status) && has(oldObject.status.messageId)",
    }]);
    let names = [HEADER_SENT_AT, HEADER_PRIORITY].map(|name| format!("name == '{name}'"));
    let starts =
        [HEADER_SCHEMA, HEADER_SEVERITY].map(|start| format!("name.startsWith('{start}')"));
    let reserved = [names, starts].concat().join(" || ");
    let headers = json!({
        "expression": format!(
            "!has(object.spec.message.headers) || !object.spec.message.headers.exists(name, {reserved})"
        ),
        "message": format!("headers {HEADER_SENT_AT}, {HEADER_PRIORITY}, {HEADER_SCHEMA}… and {HEADER_SEVERITY} are written by the sender"),
        "reason": "Invalid",
    });
    let kinds = json!({
        "expression": "!has(object.spec.message.headers) || object.spec.message.headers.all(name, type(object.spec.message.headers[name]) == string || type(object.spec.message.headers[name]) == bool || type(object.spec.message.headers[name]) == int)",
        "message": "a header must be text, true, false or a whole number of 64 bits",
        "reason": "Invalid",
    });
    let changes = json!([same("env"), same("message"), same("authentication")]);
    [
        policy(
            "changes.fedoramessages.apps.fedoraproject.org",
            &["UPDATE"],
            &begun,
            &changes,
        ),
        policy(
            "headers.fedoramessages.apps.fedoraproject.org",
            &["CREATE"],
            &json!([]),
            &json!([headers, kinds]),
        ),
    ]
    .concat()
}

fn policy(name: &str, operations: &[&str], conditions: &Value, validations: &Value) -> [Value; 2] {
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apps.fedoraproject.org"], "apiVersions": ["v1alpha1"],
                    "operations": operations, "resources": ["fedoramessages"],
                }]},
                "matchConditions": conditions,
                "validations": validations,
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(spec: impl FnOnce(&mut Value), begun: bool) -> Value {
        let mut message = json!({
            "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage", "metadata": {"name": "a"},
            "spec": {"env": "stg", "message": {"topic": "a.b", "body": {"x": 1}},
                     "authentication": {"secret_ref": {"name": "fm"}}},
        });
        spec(&mut message["spec"]);
        if begun {
            message["status"] = json!({"messageId": "x"});
        }
        message
    }

    #[test]
    fn a_message_that_breaks_a_rule_is_not_let_in() {
        for (path, value, expected) in [
            ("topic", json!("a..b"), "empty word"),
            ("topic", json!("a.#"), "wildcard"),
            ("topic", json!("a b"), "printable ASCII"),
            (
                "headers",
                json!({"sent-at": "now"}),
                "written by the sender",
            ),
            ("headers", json!({"x": 1.5}), "whole number"),
            ("body", json!({"x": "x".repeat(300_000)}), "is the most"),
            (
                "body",
                (0..64).fold(json!({}), |inner, _| json!({"x": inner})),
                "more than 64 levels",
            ),
            ("id", json!("x"), "no UUID"),
        ] {
            let new = message(|spec| spec["message"][path] = value, false);
            let text = admit(None, &new).expect_err("it is wrong");
            assert!(text.contains(expected), "{path}: {text}");
        }
        let path = |spec: &mut Value| {
            spec["authentication"]["secret_ref"]["name"] = json!("../../team-b/secrets/fm");
        };
        let text = admit(None, &message(path, false)).expect_err("it is no name");
        assert!(text.contains("no name of a secret"), "{text}");
        assert_eq!(admit(None, &message(|_| {}, false)), Ok(()));
    }

    #[test]
    fn a_message_changes_until_its_sending_began() {
        let body = |spec: &mut Value| spec["message"]["body"] = json!({"x": 2});
        let free = |spec: &mut Value| spec["suspend"] = json!(true);
        let check = |begun, change: &dyn Fn(&mut Value)| {
            admit(Some(&message(|_| {}, begun)), &message(change, begun))
        };
        assert_eq!(check(false, &body), Ok(()));
        assert_eq!(check(true, &free), Ok(()));
        let text = check(true, &body).expect_err("it is too late");
        assert!(text.starts_with("spec.message cannot change"), "{text}");
    }
}
