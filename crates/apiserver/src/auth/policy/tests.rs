use super::*;
use crate::auth::rbac::{Index, Outcome};
use crate::auth::user::{Attributes, User};

fn index() -> Index {
    let mut index = Index::default();
    for (resource, object) in objects() {
        index.set(resource, "", name(&object), &object);
    }
    for role in ["view", "edit", "admin"] {
        let subjects = json!([{"kind": "User", "name": role}]);
        let role_ref = json!({"kind": "ClusterRole", "name": role});
        let binding = json!({"roleRef": role_ref, "subjects": subjects});
        index.set(super::super::rbac::ROLE_BINDINGS, "n", role, &binding);
    }
    index
}

/// Recorded from kube-apiserver 1.36.3 with `kubectl auth can-i --as … -n n`.
#[test]
fn who_may_do_what() {
    #[track_caller]
    fn check(index: &Index, verb: &str, resource: &str, namespace: &str, expected: &[&str]) {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let asked = Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            ..Attributes::default()
        };
        let may = |who: &&str| {
            let groups = vec!["system:authenticated".to_owned()];
            let user = User {
                name: (*who).to_owned(),
                groups,
                ..User::default()
            };
            matches!(index.decide(&user, &asked), Outcome::Allowed(_))
        };
        let found: Vec<&str> = ["view", "edit", "admin"].into_iter().filter(may).collect();
        assert_eq!(found, expected, "{verb} {resource}.{group}/{subresource}");
    }
    let index = index();
    check(&index, "get", "pods", "n", &["view", "edit", "admin"]);
    check(&index, "get", "pods", "m", &[]);
    check(&index, "create", "pods", "n", &["edit", "admin"]);
    check(&index, "get", "secrets", "n", &["edit", "admin"]);
    check(&index, "update", "configmaps", "n", &["edit", "admin"]);
    check(
        &index,
        "get",
        "deployments/status.apps",
        "n",
        &["view", "edit", "admin"],
    );
    check(&index, "update", "deployments/status.apps", "n", &[]);
    check(
        &index,
        "patch",
        "leases.coordination.k8s.io",
        "n",
        &["edit", "admin"],
    );
    check(
        &index,
        "get",
        "leases.coordination.k8s.io",
        "n",
        &["edit", "admin"],
    );
    check(
        &index,
        "create",
        "rolebindings.rbac.authorization.k8s.io",
        "n",
        &["admin"],
    );
    check(
        &index,
        "create",
        "localsubjectaccessreviews.authorization.k8s.io",
        "n",
        &["admin"],
    );
    check(
        &index,
        "impersonate",
        "serviceaccounts",
        "n",
        &["edit", "admin"],
    );
    check(
        &index,
        "create",
        "serviceaccounts/token",
        "n",
        &["edit", "admin"],
    );
    check(
        &index,
        "list",
        "namespaces",
        "n",
        &["view", "edit", "admin"],
    );
    check(&index, "list", "namespaces", "", &[]);
    check(
        &index,
        "create",
        "events.events.k8s.io",
        "n",
        &["edit", "admin"],
    );
    check(&index, "create", "resourcequotas", "n", &[]);
    check(
        &index,
        "create",
        "selfsubjectaccessreviews.authorization.k8s.io",
        "",
        &["view", "edit", "admin"],
    );
}

#[test]
fn paths_for_everyone() {
    let index = index();
    for (path, anonymous, authenticated) in [
        ("/healthz", true, true),
        ("/version", true, true),
        ("/api", false, true),
        ("/openapi/v3", false, true),
        ("/metrics", false, false),
        ("/openid/v1/jwks", false, false),
    ] {
        let may = |user: User| {
            let asked = Attributes {
                verb: "get",
                path,
                ..Attributes::default()
            };
            matches!(index.decide(&user, &asked), Outcome::Allowed(_))
        };
        assert_eq!(may(User::anonymous()), anonymous, "{path}");
        let groups = vec!["system:authenticated".to_owned()];
        assert_eq!(
            may(User {
                groups,
                ..User::default()
            }),
            authenticated,
            "{path}"
        );
    }
}

#[test]
fn aggregation_gathers_by_label() {
    #[track_caller]
    fn check(all: &[Value], selectors: Value, expected: &[&str]) {
        let role = json!({"metadata": {"name": "me"}, "aggregationRule": {"clusterRoleSelectors": selectors}});
        let rules = aggregate::rules(&role, all);
        let found: Vec<&str> = rules
            .iter()
            .filter_map(|rule| rule["verbs"][0].as_str())
            .collect();
        assert_eq!(found, expected);
    }
    let role = |name: &str, labels: Value, rules: Value| json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
    let all = [
        role(
            "b",
            json!({"x": "1"}),
            json!([{"verbs": ["b"]}, {"verbs": ["same"]}]),
        ),
        role(
            "a",
            json!({"x": "1", "y": "2"}),
            json!([{"verbs": ["a"]}, {"verbs": ["same"]}]),
        ),
        role("c", json!({"x": "2"}), json!([{"verbs": ["c"]}])),
        role("d", Value::Null, Value::Null),
    ];
    check(
        &all,
        json!([{"matchLabels": {"x": "1"}}]),
        &["a", "same", "b"],
    );
    check(
        &all,
        json!([{"matchLabels": {"x": "2"}}, {"matchLabels": {"y": "2"}}]),
        &["c", "a", "same"],
    );
    check(
        &all,
        json!([{"matchExpressions": [{"key": "x", "operator": "In", "values": ["2"]}]}]),
        &["c"],
    );
    check(
        &all,
        json!([{"matchExpressions": [{"key": "y", "operator": "Exists"}]}]),
        &["a", "same"],
    );
    check(
        &all,
        json!([{"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["1"]}]}]),
        &["c"],
    );
    check(
        &all,
        json!([{"matchExpressions": [{"key": "x", "operator": "?"}]}]),
        &[],
    );
    check(&all, json!([]), &[]);
}
