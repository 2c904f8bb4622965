use super::*;
use crate::work::manifest::parse;
use serde_json::json;

fn judged(rule: Value, live: &Value) -> Vec<(String, &'static str, String)> {
    let rule: ConditionRule = serde_json::from_value(rule).expect("the rule is valid");
    let mut live = live.clone();
    live["metadata"] = json!({"name": "a"});
    let gvk = parse(&live).expect("it is an object").gvk;
    judge(&[rule], &gvk, &live)
        .into_iter()
        .map(|it| {
            (
                format!("{}={}", it.type_, it.status.as_str()),
                it.reason,
                it.message,
            )
        })
        .collect()
}

#[track_caller]
fn check(rule: Value, live: &Value, expected: Option<(&str, &str, &str)>) {
    let found = judged(rule, live);
    let expected: Vec<_> = expected.into_iter().collect();
    let found: Vec<_> = found
        .iter()
        .map(|(a, b, c)| (a.as_str(), *b, c.as_str()))
        .collect();
    assert_eq!(found, expected);
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "status": {"readyReplicas": 1, "replicas": 2, "conditions": [{"type": "Available", "status": "True"}]},
    })
}

fn cel(expression: &str) -> Value {
    json!({"condition": "Fine", "type": "CEL", "celExpressions": [expression]})
}

const EVALUATED: &str = "ConditionRuleEvaluated";
const WRONG: &str = "ConditionRuleExpressionError";

#[test]
fn expressions() {
    let object = deployment();
    check(
        cel("object.status.conditions.exists(c, c.type == 'Available' && c.status == 'True')"),
        &object,
        Some(("Fine=True", EVALUATED, "Manifest is Fine")),
    );
    check(
        cel("object.status.replicas == 1"),
        &object,
        Some(("Fine=False", EVALUATED, "Manifest is not Fine")),
    );
    check(
        cel("object.status.replicas"),
        &object,
        Some(("Fine=False", WRONG, "expected bool result, got int64")),
    );
    check(
        cel("object.missing"),
        &object,
        Some(("Fine=False", WRONG, "no such key: missing")),
    );
    let several = json!({"condition": "Fine", "type": "CEL", "celExpressions": ["true", "false", "object.missing"]});
    check(
        several,
        &object,
        Some(("Fine=False", EVALUATED, "Manifest is not Fine")),
    );
    let large = "x".repeat(50);
    let costly = format!("[1]{}.size() > 0", ".map(x, [x, x])".repeat(30));
    check(
        cel(&costly),
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "data": large}),
        Some(("Fine=False", WRONG, "CEL evaluation budget exceeded")),
    );
    let broken = judged(cel("object."), &object);
    assert!(
        matches!(broken.as_slice(), [(type_, reason, _)] if type_ == "Fine=False" && *reason == WRONG),
        "{broken:?}"
    );
}

#[test]
fn messages() {
    let object = deployment();
    let with = |message: &str, expression: &str| json!({"condition": "Fine", "type": "CEL", "celExpressions": ["true"], "message": message, "messageExpression": expression});
    let fine = |message| Some(("Fine=True", EVALUATED, message));
    check(with("fixed", ""), &object, fine("fixed"));
    check(
        with(
            "fixed",
            "string(object.status.replicas) + (result ? ' yes' : ' no')",
        ),
        &object,
        fine("2 yes"),
    );
    check(with("fixed", "''"), &object, fine("fixed"));
    check(
        with("", "badcel"),
        &object,
        fine("ERROR: <input>:1:1: undeclared reference to 'badcel' (in container '')"),
    );
    check(
        with("", "1"),
        &object,
        fine("expected message expression to have a string result, got int64"),
    );
}

#[test]
fn well_known_conditions() {
    let rule = || json!({"condition": "Complete", "type": "WellKnownConditions"});
    let job = |conditions: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": conditions}});
    let pod = |phase: &str| json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": phase}});
    let done = Some(("Complete=True", EVALUATED, "Job is finished"));
    let runs = Some(("Complete=False", EVALUATED, "Job is not finished"));
    check(
        rule(),
        &job(json!([{"type": "Complete", "status": "True"}])),
        done,
    );
    check(
        rule(),
        &job(json!([{"type": "Failed", "status": "True"}])),
        done,
    );
    check(
        rule(),
        &job(
            json!([{"type": "Complete", "status": "False"}, {"type": "Suspended", "status": "True"}]),
        ),
        runs,
    );
    check(rule(), &job(json!(null)), runs);
    check(
        rule(),
        &pod("Failed"),
        Some(("Complete=True", EVALUATED, "Pod is in phase Failed")),
    );
    check(
        rule(),
        &pod("Running"),
        Some(("Complete=False", EVALUATED, "Pod is in phase Running")),
    );
    check(
        rule(),
        &json!({"apiVersion": "v1", "kind": "Pod"}),
        Some(("Complete=False", WRONG, "no such key: status")),
    );
    check(rule(), &deployment(), None);
    check(
        json!({"condition": "Ready", "type": "WellKnownConditions"}),
        &pod("Running"),
        None,
    );
    let named = json!({"condition": "Complete", "type": "WellKnownConditions", "messageExpression": "'p' + object.status.phase"});
    check(
        named,
        &pod("Failed"),
        Some(("Complete=True", EVALUATED, "pFailed")),
    );
}

#[test]
fn only_what_the_api_takes_and_rules_may_say() {
    let rule = |type_: &str| json!({"condition": type_, "type": "CEL", "celExpressions": ["true"]});
    for good in ["Available", "example.com/Ready", "a_b.c-d"] {
        assert_eq!(judged(rule(good), &deployment()).len(), 1, "{good}");
    }
    for bad in [
        "",
        "two words",
        "-a",
        "a/b/c",
        "Applied",
        "Deleting",
        "StatusFeedbackSynced",
        "Healthy",
        &"x".repeat(400),
    ] {
        assert!(judged(rule(bad), &deployment()).is_empty(), "{bad}");
    }
}
