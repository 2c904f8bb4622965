//! What an agent may touch on its hub: its own cluster, its own namespace, and no more.
//!
//! Names, subjects and rules are upstream's (ocm: pkg/registration/hub/manifests/rbac), so that
//! either side may be replaced by the other.

use serde_json::{Value, json};

/// The group of every agent.
pub const ALL_CLUSTERS_GROUP: &str = "system:open-cluster-management:managed-clusters";
/// The group of those who may ask to join: holders of a bootstrap token.
pub const BOOTSTRAP_GROUP: &str = "system:bootstrappers:managedcluster";

/// The role that lets a bootstrap token's holder ask to join.
pub const BOOTSTRAP_ROLE: &str = "open-cluster-management:bootstrap";
const REGISTRATION_ROLE: &str = "open-cluster-management:managedcluster:registration";
const WORK_ROLE: &str = "open-cluster-management:managedcluster:work";

/// The group of one cluster's agents.
pub fn cluster_group(cluster: &str) -> String {
    format!("system:open-cluster-management:{cluster}")
}

/// The user that an agent becomes when it has joined.
pub fn agent_user(cluster: &str, agent: &str) -> String {
    format!("{}:{agent}", cluster_group(cluster))
}

/// What every hub has, whatever its clusters.
pub fn of_the_hub() -> Vec<Value> {
    let csr = rule(
        &["certificates.k8s.io"],
        &["certificatesigningrequests"],
        &["create", "get", "list", "watch"],
    );
    let join = rule(
        &["cluster.open-cluster-management.io"],
        &["managedclusters"],
        &["create", "get", "list", "watch"],
    );
    // A cluster that names no set is put into this one, in the name of whoever makes it.
    let set = named(
        rule(
            &["cluster.open-cluster-management.io"],
            &["managedclustersets/join"],
            &["create"],
        ),
        "default",
    );
    vec![
        cluster_role(BOOTSTRAP_ROLE, vec![join, set, csr]),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": BOOTSTRAP_ROLE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": BOOTSTRAP_ROLE},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": BOOTSTRAP_GROUP}],
        }),
        cluster_role(
            REGISTRATION_ROLE,
            vec![
                rule(
                    &["coordination.k8s.io"],
                    &["leases"],
                    &["get", "list", "watch", "update"],
                ),
                rule(
                    &["addon.open-cluster-management.io"],
                    &["managedclusteraddons"],
                    &["get", "list", "watch"],
                ),
                rule(
                    &["addon.open-cluster-management.io"],
                    &["managedclusteraddons/status"],
                    &["patch", "update"],
                ),
                rule(&["events.k8s.io"], &["events"], &["create"]),
            ],
        ),
        cluster_role(
            WORK_ROLE,
            vec![
                rule(
                    &["", "events.k8s.io"],
                    &["events"],
                    &["create", "patch", "update"],
                ),
                rule(
                    &["work.open-cluster-management.io"],
                    &["manifestworks"],
                    &["get", "list", "watch", "update", "patch"],
                ),
                rule(
                    &["work.open-cluster-management.io"],
                    &["manifestworks/status"],
                    &["patch", "update"],
                ),
            ],
        ),
    ]
}

/// What an accepted cluster has; a denied one may only see itself.
pub fn of_cluster(cluster: &str, accepted: bool) -> Vec<Value> {
    let name = cluster_role_name(cluster);
    let mut rules = vec![named(
        rule(
            &["cluster.open-cluster-management.io"],
            &["managedclusters"],
            if accepted {
                &["get", "list", "update", "watch"]
            } else {
                &["get", "list", "watch"]
            },
        ),
        cluster,
    )];
    if accepted {
        rules.insert(
            0,
            rule(
                &["certificates.k8s.io"],
                &["certificatesigningrequests"],
                &["create", "get", "list", "watch"],
            ),
        );
        rules.insert(
            1,
            rule(
                &["register.open-cluster-management.io"],
                &["managedclusters/clientcertificates"],
                &["renew"],
            ),
        );
        rules.push(named(
            rule(
                &["cluster.open-cluster-management.io"],
                &["managedclusters/status"],
                &["patch", "update"],
            ),
            cluster,
        ));
    }
    let mut objects = vec![
        cluster_role(&name, rules),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name, "labels": {drover_api::names::CLUSTER_NAME_LABEL: cluster}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": subjects(cluster),
        }),
    ];
    if accepted {
        objects.extend(namespaced_names(cluster).map(|(name, role)| json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": cluster, "labels": {drover_api::names::CLUSTER_NAME_LABEL: cluster}},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": subjects(cluster),
        })));
    }
    objects
}

/// The names of a cluster's own role and its binding.
pub fn cluster_role_name(cluster: &str) -> String {
    format!("open-cluster-management:managedcluster:{cluster}")
}

/// The role bindings in a cluster's namespace, with the roles that they give.
pub fn namespaced_names(cluster: &str) -> [(String, &'static str); 2] {
    let name = cluster_role_name(cluster);
    [
        (format!("{name}:registration"), REGISTRATION_ROLE),
        (format!("{name}:work"), WORK_ROLE),
    ]
}

fn subjects(cluster: &str) -> Value {
    // The second is the group that drivers without certificates give (ocm: pkg/registration/hub/manifests).
    [
        cluster_group(cluster),
        format!("open-cluster-management:{cluster}"),
    ]
    .map(|group| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}))
    .to_vec()
    .into()
}

fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name}, "rules": rules,
    })
}

fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": groups, "resources": resources, "verbs": verbs})
}

fn named(mut rule: Value, name: &str) -> Value {
    rule["resourceNames"] = json!([name]);
    rule
}
