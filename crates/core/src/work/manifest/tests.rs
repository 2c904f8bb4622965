use super::*;
use serde_json::json;

#[test]
fn a_manifest_names_an_object_or_says_why_not() {
    let check = |manifest: Value, expected: Result<(&str, &str, &str), ManifestError>| {
        let seen = parse(&manifest);
        let seen = seen.as_ref().map(|desired| {
            (
                desired.gvk.group.as_str(),
                desired.namespace.as_str(),
                desired.name.as_str(),
            )
        });
        assert_eq!(seen.map_err(Clone::clone), expected, "{manifest}");
    };
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}),
        Ok(("", "n", "a")),
    );
    check(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}),
        Ok(("apps", "", "a")),
    );
    check(json!([]), Err(ManifestError::NotAnObject));
    check(
        json!({"kind": "ConfigMap"}),
        Err(ManifestError::Missing("apiVersion")),
    );
    check(
        json!({"apiVersion": "v1"}),
        Err(ManifestError::Missing("kind")),
    );
    check(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x"}}),
        Err(ManifestError::Missing("metadata.name")),
    );
    check(
        json!({"apiVersion": "a/b/c", "kind": "X", "metadata": {"name": "a"}}),
        Err(ManifestError::ApiVersion("a/b/c".to_owned())),
    );
}

#[test]
fn what_the_server_owns_is_stripped() {
    let desired = parse(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "status": {},
        "metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "creationTimestamp": null, "labels": {"k": "v"}},
    }))
    .expect("it names an object");
    assert_eq!(
        desired.object,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"k": "v"}}})
    );
}

#[test]
fn kinds_come_in_order_and_equals_stay() {
    let kinds = [
        ("shop.example.com/v1", "Offer"),
        ("apps/v1", "Deployment"),
        ("", ""),
        ("v1", "Service"),
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("v1", "ServiceAccount"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("v1", "Namespace"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ];
    let parsed: Vec<_> = kinds
        .map(|(version, kind)| {
            parse(&json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}}))
        })
        .into();
    assert_eq!(order(&parsed), [8, 9, 7, 6, 4, 5, 3, 1, 0, 2]);
}

#[test]
fn stars_stand_for_anything() {
    let check = |pattern: &str, text: &str, expected: bool| {
        assert_eq!(glob(pattern, text), expected, "{pattern} on {text}");
    };
    check("", "", true);
    check("a", "a", true);
    check("a", "ab", false);
    check("*", "", true);
    check("*", "abc", true);
    check("a*c", "abc", true);
    check("a*c", "ac", true);
    check("a*c", "abcd", false);
    check("*b*", "abc", true);
    check("*b*d", "abcd", true);
    check("a*a", "a", false);
    check("*bb*b", "bb", false);
}

#[test]
fn the_first_option_wins_but_the_last_scrape_type() {
    let spec: ManifestWorkSpec = serde_json::from_value(json!({"manifestConfigs": [
        {"resourceIdentifier": {"group": "apps", "resource": "deployments", "name": "*", "namespace": "n"}, "feedbackScrapeType": "Watch",
         "feedbackRules": [{"type": "WellKnownStatus"}]},
        {"resourceIdentifier": {"group": "apps", "resource": "deployments", "name": "web", "namespace": "*"}, "feedbackScrapeType": "Poll",
         "feedbackRules": [{"type": "JSONPaths"}], "updateStrategy": {"type": "CreateOnly"}},
        {"resourceIdentifier": {"resource": "deployments", "name": "*", "namespace": "*"}, "updateStrategy": {"type": "ReadOnly"}},
    ]}))
    .expect("the spec is valid");
    let meta = ManifestResourceMeta {
        group: "apps".to_owned(),
        resource: "deployments".to_owned(),
        name: "web".to_owned(),
        namespace: "n".to_owned(),
        ..ManifestResourceMeta::default()
    };
    let options = options(&spec, &meta);
    assert_eq!(
        options.strategy.map(|strategy| strategy.type_),
        Some(drover_api::work::v1::UpdateStrategyType::CreateOnly)
    );
    assert_eq!(options.feedback.len(), 1);
    assert_eq!(
        options.feedback[0].type_,
        drover_api::work::v1::FeedbackType::WellKnownStatus
    );
    assert_eq!(options.scrape, FeedbackScrapeType::Poll);
}
