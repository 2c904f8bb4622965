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
    ("create /events", "handed on to agents"),
    ("patch /events", "handed on to agents"),
    ("update /events", "handed on to agents"),
    ("create events.k8s.io/events", "records what agents report"),
    (
        "patch events.k8s.io/events",
        "counts what agents report again",
    ),
    ("update events.k8s.io/events", "handed on to agents"),
    ("update coordination.k8s.io/leases", "handed on to agents"),
    (
        "get coordination.k8s.io/leases",
        "handed on to agents, and the lease of the leader",
    ),
    (
        "create rbac.authorization.k8s.io/clusterroles",
        "the first apply creates",
    ),
    (
        "create rbac.authorization.k8s.io/clusterrolebindings",
        "the first apply creates",
    ),
    (
        "create rbac.authorization.k8s.io/rolebindings",
        "the first apply creates",
    ),
    (
        "delete rbac.authorization.k8s.io/clusterroles",
        "a cluster leaves",
    ),
    (
        "delete rbac.authorization.k8s.io/clusterrolebindings",
        "a cluster leaves",
    ),
    (
        "delete rbac.authorization.k8s.io/rolebindings",
        "a cluster is denied or leaves",
    ),
    ("create /namespaces", "the first apply creates"),
];

/// Rights of the agent that the suite does not use, and why it has them.
const AGENT_KEEPS: &[(&str, &str)] = &[];

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
