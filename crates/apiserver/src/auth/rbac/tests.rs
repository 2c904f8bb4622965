use serde_json::{Value, json};

use super::*;
use crate::auth::user::{Attributes, User};

fn index() -> Index {
    let mut index = Index::default();
    let mut role = |resource: &str, namespace: &str, name: &str, rules: Value| {
        index.set(resource, namespace, name, &json!({"rules": rules}));
    };
    role(
        CLUSTER_ROLES,
        "",
        "reader",
        json!([
            {"verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods", "deployments/scale"]},
            {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]},
        ]),
    );
    role(
        CLUSTER_ROLES,
        "",
        "statuses",
        json!([
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/status"]},
        ]),
    );
    role(
        CLUSTER_ROLES,
        "",
        "everything",
        json!([
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        ]),
    );
    role(
        ROLES,
        "n1",
        "one-secret",
        json!([
            {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s1"]},
        ]),
    );
    role(CLUSTER_ROLES, "", "empty", Value::Null);
    let mut bind =
        |resource: &str, namespace: &str, name: &str, kind: &str, role: &str, subjects: Value| {
            let role = json!({"apiGroup": GROUP, "kind": kind, "name": role});
            index.set(
                resource,
                namespace,
                name,
                &json!({"roleRef": role, "subjects": subjects}),
            );
        };
    bind(
        CLUSTER_ROLE_BINDINGS,
        "",
        "readers",
        "ClusterRole",
        "reader",
        json!([
            {"kind": "Group", "name": "readers"}, {"kind": "User", "name": "ann"},
        ]),
    );
    bind(
        CLUSTER_ROLE_BINDINGS,
        "",
        "statuses",
        "ClusterRole",
        "statuses",
        json!([{"kind": "User", "name": "bob"}]),
    );
    bind(
        ROLE_BINDINGS,
        "n1",
        "all-here",
        "ClusterRole",
        "everything",
        json!([{"kind": "ServiceAccount", "name": "sa"}]),
    );
    bind(
        ROLE_BINDINGS,
        "n1",
        "secret",
        "Role",
        "one-secret",
        json!([{"kind": "User", "name": "carl"}]),
    );
    bind(
        ROLE_BINDINGS,
        "n1",
        "lost",
        "ClusterRole",
        "gone",
        json!([{"kind": "User", "name": "dora"}]),
    );
    bind(
        ROLE_BINDINGS,
        "n1",
        "lost2",
        "Role",
        "gone",
        json!([{"kind": "User", "name": "dora"}]),
    );
    // A ClusterRoleBinding has no namespace for a service account without one.
    bind(
        CLUSTER_ROLE_BINDINGS,
        "",
        "homeless",
        "ClusterRole",
        "everything",
        json!([{"kind": "ServiceAccount", "name": "sa"}]),
    );
    index
}

fn user(text: &str) -> User {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    User {
        name,
        groups: words.map(str::to_owned).collect(),
        ..User::default()
    }
}

/// `verb group/resource/subresource namespace name`, `-` for nothing, or `verb /path`.
#[track_caller]
fn check(index: &Index, who: &str, asked: &str, expected: &str) {
    let words: Vec<&str> = asked
        .split(' ')
        .map(|word| if word == "-" { "" } else { word })
        .collect();
    let attributes = match words.as_slice() {
        [verb, path] => Attributes {
            verb,
            path,
            ..Attributes::default()
        },
        [verb, resource, namespace, name] => {
            let parts: Vec<&str> = resource.split('/').collect();
            Attributes {
                verb,
                group: parts[0],
                version: "v1",
                resource: parts[1],
                subresource: parts.get(2).copied().unwrap_or_default(),
                namespace,
                name,
                path: "",
            }
        }
        other => panic!("{other:?}"),
    };
    let user = user(who);
    let found = match index.decide(&user, &attributes) {
        Outcome::Allowed(binding) => binding.describe(&user),
        Outcome::NoOpinion(missing) => {
            let mut text = "no".to_owned();
            for error in missing {
                text.extend(["; ".to_owned(), error.to_string()]);
            }
            text
        }
    };
    assert_eq!(found, expected, "{who}: {asked}");
}

#[test]
fn decisions() {
    let index = index();
    let readers = "ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to ";
    let (group, ann) = (
        format!("{readers}Group \"readers\""),
        format!("{readers}User \"ann\""),
    );
    check(&index, "x readers", "get /pods - -", &group);
    check(&index, "ann", "get /pods n7 p1", &ann);
    check(&index, "ann", "list /pods n7 -", &ann);
    check(&index, "ann", "delete /pods n7 p1", "no");
    check(&index, "ann", "get /pods/status n7 p1", "no");
    check(&index, "ann", "get batch/pods n7 p1", "no");
    check(&index, "ann", "get apps/deployments/scale n7 d", &ann);
    check(&index, "ann", "get apps/deployments n7 d", "no");
    check(&index, "ann", "get /healthz", &ann);
    check(&index, "ann", "get /healthz/etcd", "no");
    check(&index, "ann", "get /apis/apps/v1", &ann);
    check(&index, "ann", "post /apis/apps/v1", "no");
    let statuses = "ClusterRoleBinding \"statuses\" of ClusterRole \"statuses\" to User \"bob\"";
    check(
        &index,
        "bob",
        "update apps/deployments/status n1 d",
        statuses,
    );
    check(&index, "bob", "update apps/deployments n1 d", "no");
    let here =
        "RoleBinding \"all-here/n1\" of ClusterRole \"everything\" to ServiceAccount \"sa/n1\"";
    check(
        &index,
        "system:serviceaccount:n1:sa",
        "delete x/y/z n1 d",
        here,
    );
    check(
        &index,
        "system:serviceaccount:n1:sa",
        "delete x/y/z n2 d",
        "no",
    );
    check(
        &index,
        "system:serviceaccount:n1:sa",
        "delete x/y/z - d",
        "no",
    );
    check(
        &index,
        "system:serviceaccount:n2:sa",
        "delete x/y/z n1 d",
        "no",
    );
    check(&index, "system:serviceaccount:n1:sa", "get /healthz", "no");
    let secret = "RoleBinding \"secret/n1\" of Role \"one-secret\" to User \"carl\"";
    check(&index, "carl", "get /secrets n1 s1", secret);
    check(&index, "carl", "get /secrets n1 s2", "no");
    check(&index, "carl", "get /secrets n1 -", "no");
    check(
        &index,
        "dora",
        "get /secrets n1 s1",
        "no; clusterrole.rbac.authorization.k8s.io \"gone\" not found; role.rbac.authorization.k8s.io \"gone\" not found",
    );
    check(&index, "ann\" x", "get /secrets n1 s1", "no");
}

#[test]
fn the_index_follows_changes() {
    let mut index = index();
    let ann = "ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to User \"ann\"";
    check(&index, "ann", "get /pods - -", ann);
    index.set(
        CLUSTER_ROLE_BINDINGS,
        "",
        "readers",
        &json!({
            "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "User", "name": "new"}],
        }),
    );
    check(&index, "ann", "get /pods - -", "no");
    check(&index, "x readers", "get /pods - -", "no");
    check(
        &index,
        "new",
        "get /pods - -",
        "ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to User \"new\"",
    );
    index.set(CLUSTER_ROLES, "", "reader", &json!({"rules": []}));
    check(&index, "new", "get /pods - -", "no");
    index.remove(CLUSTER_ROLES, "", "reader");
    check(
        &index,
        "new",
        "get /pods - -",
        "no; clusterrole.rbac.authorization.k8s.io \"reader\" not found",
    );
    index.remove(CLUSTER_ROLE_BINDINGS, "", "readers");
    check(&index, "new", "get /pods - -", "no");
    index.remove(ROLES, "n1", "one-secret");
    check(
        &index,
        "carl",
        "get /secrets n1 s1",
        "no; role.rbac.authorization.k8s.io \"one-secret\" not found",
    );
    index.remove(ROLE_BINDINGS, "n1", "secret");
    check(&index, "carl", "get /secrets n1 s1", "no");
    index.remove(ROLE_BINDINGS, "n1", "never");
}

#[test]
fn rules_cover_rules() {
    #[track_caller]
    fn check(owned: Value, wanted: Value, expected: &[&str]) {
        let missing = uncovered(&Rule::list(&owned), &Rule::list(&wanted));
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), expected);
    }
    let pods = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/status"]}]);
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let one = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]);
    let two = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a", "b"]}]);
    let statuses =
        json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["*/status"]}]);
    let paths = json!([{"verbs": ["get"], "nonResourceURLs": ["/a/*"]}]);
    check(all.clone(), pods.clone(), &[]);
    check(
        pods.clone(),
        all.clone(),
        &["{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}"],
    );
    check(pods.clone(), one.clone(), &[]);
    check(
        one.clone(),
        two,
        &["{APIGroups:[\"\"], Resources:[\"pods\"], ResourceNames:[\"b\"], Verbs:[\"get\"]}"],
    );
    check(
        one,
        pods.clone(),
        &[
            "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}",
            "{APIGroups:[\"\"], Resources:[\"pods/status\"], Verbs:[\"get\" \"list\"]}",
        ],
    );
    check(
        statuses,
        pods,
        &["{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}"],
    );
    check(
        paths.clone(),
        json!([{"verbs": ["get"], "nonResourceURLs": ["/a/b", "/a/*"]}]),
        &[],
    );
    check(
        paths,
        json!([{"verbs": ["get"], "nonResourceURLs": ["/b"]}]),
        &["{NonResourceURLs:[\"/b\"], Verbs:[\"get\"]}"],
    );
    check(
        all,
        json!([{"verbs": ["get"], "nonResourceURLs": ["/b"]}]),
        &["{NonResourceURLs:[\"/b\"], Verbs:[\"get\"]}"],
    );
}
