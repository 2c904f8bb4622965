//! What is granted is what is used.

use std::collections::BTreeSet;

use drover_testkit::KubeApi;
use drover_testkit::kube_api::Asked;
use serde_json::Value;

use super::bed::{AGENT, Bed, HUB, manifests};

/// A right as `verb group/resource`.
type Right = String;

/// Rights of the hub that the suite does not use, and why it has them.
const HUB_KEEPS: &[(&str, &str)] = &[
    ("create /events", HANDED_ON),
    ("patch /events", HANDED_ON),
    ("update /events", HANDED_ON),
    ("update events.k8s.io/events", HANDED_ON),
    ("create events.k8s.io/events", "records what agents report"),
    (
        "patch events.k8s.io/events",
        "counts what agents report again",
    ),
    ("update coordination.k8s.io/leases", HANDED_ON),
    (
        "get certificates.k8s.io/certificatesigningrequests",
        HANDED_ON,
    ),
    (
        "renew register.open-cluster-management.io/managedclusters/clientcertificates",
        HANDED_ON,
    ),
    (
        "update cluster.open-cluster-management.io/managedclusters",
        HANDED_ON,
    ),
    (
        "update cluster.open-cluster-management.io/managedclusters/status",
        HANDED_ON,
    ),
    (
        "update work.open-cluster-management.io/manifestworks",
        HANDED_ON,
    ),
    (
        "update work.open-cluster-management.io/manifestworks/status",
        HANDED_ON,
    ),
    (
        "get addon.open-cluster-management.io/managedclusteraddons",
        HANDED_ON,
    ),
    (
        "patch addon.open-cluster-management.io/managedclusteraddons/status",
        HANDED_ON,
    ),
    (
        "update addon.open-cluster-management.io/managedclusteraddons/status",
        HANDED_ON,
    ),
    (
        "create cluster.open-cluster-management.io/managedclustersets/join",
        HANDED_ON,
    ),
    ("create rbac.authorization.k8s.io/clusterroles", CREATES),
    (
        "create rbac.authorization.k8s.io/clusterrolebindings",
        CREATES,
    ),
    ("create rbac.authorization.k8s.io/rolebindings", CREATES),
    ("create /namespaces", CREATES),
    ("delete rbac.authorization.k8s.io/clusterroles", LEAVES),
    (
        "delete rbac.authorization.k8s.io/clusterrolebindings",
        LEAVES,
    ),
    ("delete rbac.authorization.k8s.io/rolebindings", LEAVES),
    (
        "delete work.open-cluster-management.io/manifestworks",
        LEAVES,
    ),
    ("approve certificates.k8s.io/signers", ASKED),
    ("sign certificates.k8s.io/signers", ASKED),
    (
        "update register.open-cluster-management.io/managedclusters/accept",
        ASKED,
    ),
    (
        "watch apiextensions.k8s.io/customresourcedefinitions",
        "waits for a definition that is not served yet",
    ),
    (
        "create admissionregistration.k8s.io/mutatingwebhookconfigurations",
        CREATES,
    ),
    (
        "create admissionregistration.k8s.io/validatingwebhookconfigurations",
        CREATES,
    ),
    (
        "delete addon.open-cluster-management.io/managedclusteraddons",
        LEAVES,
    ),
    (
        "patch addon.open-cluster-management.io/managedclusteraddons",
        LEAVES,
    ),
    (
        "execute-as work.open-cluster-management.io/manifestworks",
        ASKED,
    ),
    (
        "update cluster.open-cluster-management.io/placements/finalizers",
        ASKED,
    ),
    (
        "create cluster.open-cluster-management.io/placementdecisions",
        PLACES,
    ),
    (
        "delete cluster.open-cluster-management.io/placementdecisions",
        PLACES,
    ),
    (
        "patch cluster.open-cluster-management.io/placementdecisions",
        PLACES,
    ),
    (
        "patch cluster.open-cluster-management.io/placementdecisions/status",
        PLACES,
    ),
    (
        "patch cluster.open-cluster-management.io/placements/status",
        PLACES,
    ),
    (
        "patch cluster.open-cluster-management.io/managedclustersetbindings/status",
        PLACES,
    ),
    (
        "patch cluster.open-cluster-management.io/managedclustersets",
        PLACES,
    ),
    (
        "create work.open-cluster-management.io/manifestworks",
        PLACES,
    ),
    (
        "patch work.open-cluster-management.io/manifestworkreplicasets",
        PLACES,
    ),
    (
        "patch work.open-cluster-management.io/manifestworkreplicasets/status",
        PLACES,
    ),
    ("update /secrets", "renews the certificates of the webhooks"),
];

/// Rights of the agent that the suite does not use, and why it has them.
const AGENT_KEEPS: &[(&str, &str)] = &[
    ("create /secrets", CREATES),
    ("create authorization.k8s.io/subjectaccessreviews", EXECUTOR),
    ("impersonate /groups", EXECUTOR),
    ("impersonate /serviceaccounts", EXECUTOR),
    ("watch /nodes", "follows the nodes, when it has listed them"),
];

/// Nobody can give a right that he does not have himself.
const HANDED_ON: &str = "handed on to agents";
/// The API server asks for it when an object that is applied is not there; the record shows the patch alone.
const CREATES: &str = "the first apply creates";
/// No cluster leaves in the suite.
const LEAVES: &str = "a cluster leaves or is shut out";
/// Asked by an admission rule; the record shows the write alone.
const ASKED: &str = "admission asks for it";
/// No placement of the suite decides, and no replica set makes works.
const PLACES: &str = "placements, sets and replica sets";
/// No work of the suite has an executor.
const EXECUTOR: &str = "works with an executor";

/// Nothing was refused, and everything that is granted was asked for or is in the list.
pub(super) async fn compare(bed: &Bed) {
    let hub = unused(&bed.hub_api, &manifests(HUB), "drover-hub", HUB_KEEPS);
    let agent = unused(
        &bed.cluster_api,
        &manifests(AGENT),
        "drover-agent",
        AGENT_KEEPS,
    );
    assert!(
        hub.is_empty() && agent.is_empty(),
        "granted and neither used nor explained:\nhub {hub:#?}\nagent {agent:#?}"
    );
}

fn unused(api: &KubeApi, printed: &str, account: &str, keeps: &[(&str, &str)]) -> BTreeSet<Right> {
    let asked = api.asked().unwrap();
    let asked: Vec<&Asked> = asked.iter().filter(|one| one.account == account).collect();
    assert!(!asked.is_empty(), "{account} asked for nothing");
    let refused: Vec<&&Asked> = asked.iter().filter(|one| one.code == 403).collect();
    assert!(refused.is_empty(), "{account} was refused {refused:#?}");
    let used: BTreeSet<Right> = asked
        .iter()
        .map(|one| format!("{} {}/{}", one.verb, one.group, one.resource))
        .collect();
    let explained = |right: &str| keeps.iter().any(|(kept, _)| *kept == right);
    granted(printed)
        .into_iter()
        .filter(|right| !used.contains(right) && !explained(right))
        .collect()
}

/// The rights in the roles of the program itself. Those of works are whatever works may hold.
fn granted(printed: &str) -> BTreeSet<Right> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(printed).unwrap();
    let mut rights = BTreeSet::new();
    for object in &objects {
        let (kind, name) = (&object["kind"], object["metadata"]["name"].as_str());
        let role = kind == "ClusterRole" || kind == "Role";
        if !role || name.is_some_and(|name| name.starts_with("drover:agent:")) {
            continue;
        }
        let list = |value: &Value| -> Vec<String> {
            let items = value.as_array().into_iter().flatten();
            items
                .map(|item| item.as_str().unwrap().to_owned())
                .collect()
        };
        for rule in object["rules"].as_array().unwrap() {
            for verb in list(&rule["verbs"]) {
                for group in list(&rule["apiGroups"]) {
                    for resource in list(&rule["resources"]) {
                        assert!(
                            ![&verb, &group, &resource]
                                .iter()
                                .any(|part| part.contains('*'))
                        );
                        rights.insert(format!("{verb} {group}/{resource}"));
                    }
                }
            }
        }
    }
    rights
}
