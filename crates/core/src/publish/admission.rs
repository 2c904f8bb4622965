//! What may be written to a FedoraMessage: what [`super::check`] lets through, and no other message once its sending began.

use drover_api::fedora::v1alpha1::FedoraMessage;
use serde_json::{Value, json};

use super::{Place, check};

/// The name of the policy that [`policies`] gives.
pub const POLICY: &str = "fedoramessages.apps.fedoraproject.org";
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

/// The rule about changes as a ValidatingAdmissionPolicy with its binding: the rules of a definition do not see the body.
pub fn policies() -> Vec<Value> {
    let same = |field: &str| {
        format!(
            "(has(object.spec.{field}) == has(oldObject.spec.{field})) && (!has(object.spec.{field}) || object.spec.{field} == oldObject.spec.{field})"
        )
    };
    let validations: Vec<Value> = ["env", "message", "authentication"]
        .iter()
        .map(|field| {
            json!({
                "expression": same(field),
                "message": format!("spec.{field} cannot change any more: the sending of the message began; make a new FedoraMessage for another one"),
                "reason": "Invalid",
            })
        })
        .collect();
    vec![
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": POLICY},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["apps.fedoraproject.org"], "apiVersions": ["*"],
                    "operations": ["UPDATE"], "resources": ["fedoramessages"],
                }]},
                "matchConditions": [{
                    "name": "begun",
                    "expression": "has(oldObject.status) && has(oldObject.status.messageId)",
                }],
                "validations": validations,
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": POLICY},
            "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
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
            ("id", json!("x"), "no UUID"),
        ] {
            let new = message(|spec| spec["message"][path] = value, false);
            let text = admit(None, &new).expect_err("it is wrong");
            assert!(text.contains(expected), "{path}: {text}");
        }
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
