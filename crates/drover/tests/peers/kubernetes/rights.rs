//! What is granted is what is used.

use std::collections::BTreeSet;

use drover_testkit::KubeApi;
use drover_testkit::kube_api::Asked;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::bed::{AGENT, Bed, HUB, manifests};

/// A right as `verb group/resource`.
type Right = String;

/// Rights of the hub that the suite does not use, and why it has them.
const HUB_KEEPS: &[(&str, &str)] = &[
    ("approve certificates.k8s.io/signers", ASKED),
    ("sign certificates.k8s.io/signers", ASKED),
    (
        "update cluster.open-cluster-management.io/placements/finalizers",
        ASKED,
    ),
    (
        "watch apiextensions.k8s.io/customresourcedefinitions",
        "waits for a definition that is not served yet",
    ),
    ("update /secrets", "renews the certificates of the webhooks"),
];

/// Rights of the agent that the suite does not use, and why it has them.
const AGENT_KEEPS: &[(&str, &str)] = &[(
    "create authentication.k8s.io/tokenreviews",
    "who asks for metrics, where that is not on loopback as here",
)];

/// The API server's own admission asks for it; the record shows the write alone, which it refuses without.
const ASKED: &str = "asked inside the API server";

/// Nothing was refused, and everything that is granted was asked for or is in the list.
pub(super) async fn compare(bed: &Bed) {
    let mut hub = unused(&bed.hub_api, &manifests(HUB), "drover-hub", HUB_KEEPS);
    let handed = handed_on(&bed.hub).await;
    hub.retain(|right| !handed.contains(right));
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
    for (kept, why) in keeps {
        assert!(!used.contains(*kept), "{kept} is used, not only {why}");
    }
    let explained = |right: &str| keeps.iter().any(|(kept, _)| *kept == right);
    granted(printed)
        .into_iter()
        .filter(|right| !used.contains(right) && !explained(right))
        .collect()
}

/// What the roles say that the hub wrote: nobody can give a right that he does not have himself.
async fn handed_on(hub: &Client) -> BTreeSet<Right> {
    let roles: Api<ClusterRole> = Api::all(hub.clone());
    let all = roles.list(&ListParams::default()).await.unwrap();
    let written = all.items.into_iter().filter(|role| {
        let mut managers = role.managed_fields().iter();
        managers.any(|entry| entry.manager.as_deref() == Some("drover-hub"))
    });
    let rights: BTreeSet<Right> = written
        .flat_map(|role| role.rules.unwrap_or_default())
        .flat_map(|rule| rights(&serde_json::to_value(rule).unwrap()))
        .collect();
    assert!(!rights.is_empty(), "the hub wrote no roles");
    rights
}

/// The rights in the roles of the program itself. Those of works are whatever works may hold.
fn granted(printed: &str) -> BTreeSet<Right> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(printed).unwrap();
    let mut all = BTreeSet::new();
    for object in &objects {
        let (kind, name) = (&object["kind"], object["metadata"]["name"].as_str());
        let role = kind == "ClusterRole" || kind == "Role";
        if !role || name.is_some_and(|name| name.starts_with("drover:agent:")) {
            continue;
        }
        let rules = object["rules"].as_array().unwrap();
        all.extend(rules.iter().flat_map(rights));
    }
    all
}

/// Every right of one rule, none of which is granted by a wildcard.
fn rights(rule: &Value) -> Vec<Right> {
    let list = |name: &str| -> Vec<&str> {
        let items = rule[name].as_array().into_iter().flatten();
        items.map(|item| item.as_str().unwrap()).collect()
    };
    let mut rights = Vec::new();
    for verb in list("verbs") {
        for group in list("apiGroups") {
            for resource in list("resources") {
                let right = format!("{verb} {group}/{resource}");
                assert!(!right.contains('*'), "{right}");
                rights.push(right);
            }
        }
    }
    rights
}
