use super::*;
use serde_json::json;

fn rules(rules: Value) -> Vec<FeedbackRule> {
    serde_json::from_value(rules).expect("the rules are valid")
}

fn gvk(group: &str, kind: &str) -> Gvk {
    Gvk {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
    }
}

fn shown(feedback: &Feedback) -> (Vec<(&str, String)>, &'static str) {
    let text = |value: &FieldValue| match value.type_ {
        ValueType::Integer => value.integer.map(|number| number.to_string()),
        ValueType::String => value.string.clone(),
        ValueType::Boolean => value.boolean.map(|truth| truth.to_string()),
        ValueType::JsonRaw => value.json_raw.clone(),
    };
    (
        feedback
            .values
            .iter()
            .map(|one| (one.name.as_str(), text(&one.value).unwrap_or_default()))
            .collect(),
        feedback.reason,
    )
}

#[test]
fn well_known_statuses_of_known_kinds() {
    let well_known = rules(json!([{"type": "WellKnownStatus"}]));
    let check = |gvk: Gvk, live: Value, expected: &[(&str, &str)], reason: &str| {
        let feedback = collect(&well_known, &gvk, &live, false);
        let (values, seen) = shown(&feedback);
        let values: Vec<_> = values
            .iter()
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        assert_eq!(
            (values.as_slice(), seen),
            (expected, reason),
            "{gvk} {live}"
        );
    };
    check(
        gvk("apps", "Deployment"),
        json!({"status": {"replicas": 2, "readyReplicas": 1, "availableReplicas": 0}}),
        &[
            ("ReadyReplicas", "1"),
            ("Replicas", "2"),
            ("AvailableReplicas", "0"),
        ],
        REASON_FEEDBACK_SYNCED,
    );
    check(
        gvk("apps", "Deployment"),
        json!({}),
        &[],
        REASON_FEEDBACK_SYNCED,
    );
    check(
        gvk("batch", "Job"),
        json!({"status": {"succeeded": 1, "conditions": [{"type": "Suspended", "status": "False"}, {"type": "Complete", "status": "True"}]}}),
        &[("JobComplete", "True"), ("JobSucceeded", "1")],
        REASON_FEEDBACK_SYNCED,
    );
    check(
        gvk("", "Pod"),
        json!({"status": {"phase": "Running"}}),
        &[("PodPhase", "Running")],
        REASON_FEEDBACK_SYNCED,
    );
    check(
        gvk("apps", "StatefulSet"),
        json!({"status": {"replicas": 1}}),
        &[],
        REASON_FEEDBACK_FAILED,
    );
}

#[test]
fn no_rules_no_values() {
    let feedback = collect(&[], &gvk("", "ConfigMap"), &json!({}), false);
    assert_eq!(
        (feedback.status, feedback.reason),
        (Status::True, REASON_NO_FEEDBACK)
    );
}

#[test]
fn values_have_a_type_or_are_refused() {
    let check = |value: Value, raw: bool, expected: Option<ValueType>| {
        assert_eq!(
            field_value("x", &value, raw)
                .ok()
                .flatten()
                .map(|value| value.type_),
            expected,
            "{value}"
        );
    };
    check(json!(1), false, Some(ValueType::Integer));
    check(json!("a"), false, Some(ValueType::String));
    check(json!(true), false, Some(ValueType::Boolean));
    check(json!([1]), false, None);
    check(json!([1]), true, Some(ValueType::JsonRaw));
    check(json!(1.5), true, Some(ValueType::JsonRaw));
    check(json!("a".repeat(2000)), false, Some(ValueType::String));
    check(json!(["a".repeat(2000)]), true, None);
    check(json!(u64::MAX), false, None);
}

#[test]
fn json_paths_give_one_value_or_say_why_not() {
    let live = json!({"status": {"revision": "a", "ready": 2, "list": [1, 2], "conditions": [{"type": "Ready", "status": "True"}]}});
    let check = |path: &str, expected: Result<&str, &str>| {
        let rules =
            rules(json!([{"type": "JSONPaths", "jsonPaths": [{"name": "x", "path": path}]}]));
        let feedback = collect(&rules, &gvk("", "Thing"), &live, false);
        let (values, _) = shown(&feedback);
        match expected {
            Ok(text) => assert_eq!(
                (values[0].1.as_str(), feedback.status),
                (text, Status::True),
                "{path}"
            ),
            Err(why) => assert!(
                values.is_empty() && feedback.message.contains(why),
                "{path}: {}",
                feedback.message
            ),
        }
    };
    check(".status.revision", Ok("a"));
    check(".status.ready", Ok("2"));
    check(
        ".status.conditions[?(@.type==\"Ready\")].status",
        Ok("True"),
    );
    check(
        ".status.list",
        Err("neither an integer, a string nor a boolean"),
    );
    check(".status.list[*]", Ok("1"));
    check(".status[", Err("failed to parse json path"));
}

#[test]
fn raw_values() {
    let live = json!({"list": [{"b": 1, "a": null}, 2], "none": null, "text": "x".repeat(20_000)});
    let check = |path: &str, expected: Option<&str>, reason: &str| {
        let rules =
            rules(json!([{"type": "JSONPaths", "jsonPaths": [{"name": "x", "path": path}]}]));
        let feedback = collect(&rules, &gvk("", "Thing"), &live, true);
        let (values, seen) = shown(&feedback);
        let value = values.first().map(|(_, text)| text.as_str());
        assert_eq!((value, seen), (expected, reason), "{path}");
    };
    check(
        ".list",
        Some(r#"[{"a":null,"b":1},2]"#),
        REASON_FEEDBACK_SYNCED,
    );
    check(
        ".list[*]",
        Some(r#"[{"a":null,"b":1},2]"#),
        REASON_FEEDBACK_SYNCED,
    );
    check(".list[1]", Some("2"), REASON_FEEDBACK_SYNCED);
    check(".none", None, REASON_FEEDBACK_SYNCED);
    check(".absent.deep", None, REASON_FEEDBACK_SYNCED);
    check(".text", None, REASON_FEEDBACK_FAILED);
}

#[test]
fn a_path_of_another_version_is_told() {
    let rules = rules(
        json!([{"type": "JSONPaths", "jsonPaths": [{"name": "x", "path": ".a", "version": "v2"}]}]),
    );
    let feedback = collect(&rules, &gvk("", "Thing"), &json!({"a": 1}), false);
    assert_eq!((feedback.values.len(), feedback.status), (0, Status::False));
    assert!(
        feedback
            .message
            .contains("version set in the path x is not matched")
    );
}
