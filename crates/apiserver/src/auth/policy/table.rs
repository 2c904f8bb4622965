//! The facts: which role has which rules, who is bound to it.

use serde_json::{Value, json};

use super::super::rbac::GROUP;
use super::{api_version, metadata};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";

/// How deep aggregation goes: admin, edit, view.
pub(super) const DEPTH: usize = 3;

/// Verbs, API groups (`core` is the empty one), resources, resource names: separated by spaces.
/// A rule without API groups is for paths.
type Line = (&'static str, &'static str, &'static str, &'static str);

const VIEW: &[Line] = &[
    (
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
         replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
        "",
    ),
    (
        READ,
        "core",
        "bindings limitranges namespaces/status pods/log pods/status \
         replicationcontrollers/status resourcequotas resourcequotas/status",
        "",
    ),
    (READ, "core", "namespaces", ""),
    (READ, "core events.k8s.io", "events", ""),
    (READ, "discovery.k8s.io", "endpointslices", ""),
    (
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
         deployments/status replicasets replicasets/scale replicasets/status statefulsets \
         statefulsets/scale statefulsets/status",
        "",
    ),
    (
        READ,
        "autoscaling",
        "horizontalpodautoscalers horizontalpodautoscalers/status",
        "",
    ),
    (
        READ,
        "batch",
        "cronjobs cronjobs/status jobs jobs/status",
        "",
    ),
    (
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
         ingresses/status networkpolicies replicasets replicasets/scale replicasets/status \
         replicationcontrollers/scale",
        "",
    ),
    (
        READ,
        "policy",
        "poddisruptionbudgets poddisruptionbudgets/status",
        "",
    ),
    (
        READ,
        "networking.k8s.io",
        "ingresses ingresses/status networkpolicies",
        "",
    ),
    (
        READ,
        "resource.k8s.io",
        "resourceclaims resourceclaims/status resourceclaimtemplates",
        "",
    ),
];

const EDIT: &[Line] = &[
    (
        READ,
        "core",
        "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
        "",
    ),
    ("impersonate", "core", "serviceaccounts", ""),
    (
        WRITE,
        "core",
        "pods pods/attach pods/exec pods/portforward pods/proxy",
        "",
    ),
    ("create", "core", "pods/eviction", ""),
    (
        WRITE,
        "core",
        "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale \
         secrets serviceaccounts services services/proxy",
        "",
    ),
    ("create", "core", "serviceaccounts/token", ""),
    (WRITE, "core events.k8s.io", "events", ""),
    (
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets \
         replicasets/scale statefulsets statefulsets/scale",
        "",
    ),
    (WRITE, "autoscaling", "horizontalpodautoscalers", ""),
    (WRITE, "batch", "cronjobs jobs", ""),
    (
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies \
         replicasets replicasets/scale replicationcontrollers/scale",
        "",
    ),
    (WRITE, "policy", "poddisruptionbudgets", ""),
    (WRITE, "networking.k8s.io", "ingresses networkpolicies", ""),
    (READ_WRITE, "coordination.k8s.io", "leases", ""),
    (
        WRITE,
        "resource.k8s.io",
        "resourceclaims resourceclaimtemplates",
        "",
    ),
];

const ADMIN: &[Line] = &[
    (
        "create",
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "",
    ),
    (READ_WRITE, GROUP, "rolebindings roles", ""),
];

const CSR: &str = "certificates.k8s.io";

/// Name and rules.
const ROLES: &[(&str, &[Line])] = &[
    ("cluster-admin", &[("*", "*", "*", ""), ("*", "", "*", "")]),
    ("system:aggregate-to-admin", ADMIN),
    ("system:aggregate-to-edit", EDIT),
    ("system:aggregate-to-view", VIEW),
    (
        "system:auth-delegator",
        &[
            ("create", "authentication.k8s.io", "tokenreviews", ""),
            ("create", "authorization.k8s.io", "subjectaccessreviews", ""),
        ],
    ),
    (
        "system:basic-user",
        &[
            (
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
                "",
            ),
            ("create", "authentication.k8s.io", "selfsubjectreviews", ""),
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[("create", CSR, "certificatesigningrequests/nodeclient", "")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[(
            "create",
            CSR,
            "certificatesigningrequests/selfnodeclient",
            "",
        )],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[(
            "approve",
            CSR,
            "signers",
            "kubernetes.io/kube-apiserver-client",
        )],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[(
            "approve",
            CSR,
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[("approve", CSR, "signers", "kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[("approve", CSR, "signers", "kubernetes.io/legacy-unknown")],
    ),
    (
        "system:discovery",
        &[(
            "get",
            "",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
            "",
        )],
    ),
    (
        "system:monitoring",
        &[
            (
                "get",
                "",
                "/flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz \
                 /readyz/* /statusz",
                "",
            ),
            ("get", "core", "nodes/metrics", ""),
        ],
    ),
    (
        "system:node-bootstrapper",
        &[(
            "create get list watch",
            CSR,
            "certificatesigningrequests",
            "",
        )],
    ),
    (
        "system:public-info-viewer",
        &[("get", "", "/healthz /livez /readyz /version /version/", "")],
    ),
    (
        "system:service-account-issuer-discovery",
        &[(
            "get",
            "",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ \
             /openid/v1/jwks /openid/v1/jwks/",
            "",
        )],
    ),
];

/// Roles whose rules are those of the roles that have a label `aggregate-to-…`: name, own label,
/// label that it gathers.
const AGGREGATES: &[(&str, &str, &str)] = &[
    ("admin", "", "admin"),
    ("edit", "admin", "edit"),
    ("view", "edit", "view"),
];

/// Role, which is the binding's name too, and groups.
const BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["system:masters"]),
    ("system:basic-user", &["system:authenticated"]),
    ("system:discovery", &["system:authenticated"]),
    ("system:monitoring", &["system:monitoring"]),
    (
        "system:public-info-viewer",
        &["system:authenticated", "system:unauthenticated"],
    ),
    (
        "system:service-account-issuer-discovery",
        &["system:serviceaccounts"],
    ),
];

pub(super) fn cluster_roles() -> Vec<Value> {
    let role = |name: &str| json!({"apiVersion": api_version(), "kind": "ClusterRole", "metadata": metadata(name)});
    let label = |role: &mut Value, target: &str| {
        role["metadata"]["labels"][format!("{GROUP}/aggregate-to-{target}")] = "true".into();
    };
    let plain = ROLES.iter().map(|(name, lines)| {
        let mut role = role(name);
        if let Some(target) = name.strip_prefix("system:aggregate-to-") {
            label(&mut role, target);
        }
        role["rules"] = lines.iter().map(rule).collect();
        role
    });
    let gathering = AGGREGATES.iter().map(|(name, own, gathered)| {
        let mut role = role(name);
        if !own.is_empty() {
            label(&mut role, own);
        }
        let selector = format!("{GROUP}/aggregate-to-{gathered}");
        role["aggregationRule"] =
            json!({"clusterRoleSelectors": [{"matchLabels": {selector: "true"}}]});
        role["rules"] = json!([]);
        role
    });
    plain.chain(gathering).collect()
}

pub(super) fn cluster_role_bindings() -> Vec<Value> {
    let subject = |group: &&str| json!({"apiGroup": GROUP, "kind": "Group", "name": group});
    let binding = |(role, groups): &(&str, &[&str])| {
        json!({
            "apiVersion": api_version(), "kind": "ClusterRoleBinding",
            "metadata": metadata(role),
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
            "subjects": groups.iter().map(subject).collect::<Vec<_>>(),
        })
    };
    BINDINGS.iter().map(binding).collect()
}

fn rule((verbs, groups, resources, names): &Line) -> Value {
    let list = |text: &str| -> Vec<String> {
        let words = text.split_whitespace();
        words
            .map(|word| {
                if word == "core" {
                    String::new()
                } else {
                    word.to_owned()
                }
            })
            .collect()
    };
    let mut rule = json!({"verbs": list(verbs)});
    if groups.is_empty() {
        rule["nonResourceURLs"] = list(resources).into();
        return rule;
    }
    rule["apiGroups"] = list(groups).into();
    rule["resources"] = list(resources).into();
    if !names.is_empty() {
        rule["resourceNames"] = list(names).into();
    }
    rule
}
