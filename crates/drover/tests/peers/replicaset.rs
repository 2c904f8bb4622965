//! Sets of works on two real control planes: OCM's work manager on one, Drover's hub on the other. After every step both have made
//! the same works and say the same of them.

use anyhow::{Result, ensure};
use drover_testkit::ocm::{OcmHub, namespace};
use drover_testkit::{KubeApi, KubeOptions, Process, eventually};
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

use crate::hub::TestHub;
use crate::ocm::note;
use crate::world::{LONG, api, apply, gone, works};

const SPACE: &str = "apps";
const CLUSTERS: [&str; 5] = ["c1", "c2", "c3", "c4", "c5"];
const SET_LABEL: &str = "work.open-cluster-management.io/manifestworkreplicaset";

/// Both control planes, and who works there.
struct Two {
    ocm: Client,
    ours: Client,
    _kube: [KubeApi; 2],
    _manager: (OcmHub, Process),
    hub: TestHub,
}

impl Two {
    async fn start() -> Self {
        let options = KubeOptions::default();
        let (theirs, ours) = tokio::join!(KubeApi::start(options), KubeApi::start(options));
        let (theirs, ours) = (theirs.unwrap(), ours.unwrap());
        let client = theirs.client().await.unwrap();
        let ocm = OcmHub::prepare(theirs.kubeconfig(), &client).await.unwrap();
        let manager = ocm.work_kube().await.unwrap();
        let our_client = ours.client().await.unwrap();
        let hub = TestHub::start(&our_client, Vec::new()).await;
        let two = Self {
            ocm: client,
            ours: our_client,
            _kube: [theirs, ours],
            _manager: (ocm, manager),
            hub,
        };
        for client in two.both() {
            for name in CLUSTERS.iter().chain([&SPACE]) {
                namespace(client, name).await.unwrap();
            }
        }
        two
    }

    fn both(&self) -> [&Client; 2] {
        [&self.ocm, &self.ours]
    }

    async fn apply(&self, kind: &str, object: &Value) {
        for client in self.both() {
            apply(&api(client, kind, Some(SPACE)), object)
                .await
                .unwrap();
        }
    }

    /// A placement that others decide for, one group for each list of clusters.
    async fn place(&self, name: &str, groups: &[&[&str]]) {
        let count: usize = groups.iter().map(|group| group.len()).sum();
        let mut decisions = Vec::new();
        let mut told = Vec::new();
        for (index, clusters) in groups.iter().enumerate() {
            let own = format!("{name}-decision-{}", index + 1);
            told.push(json!({"decisionGroupIndex": index, "decisionGroupName": "", "decisions": [own], "clusterCount": clusters.len()}));
            let list: Vec<Value> = clusters
                .iter()
                .map(|cluster| json!({"clusterName": cluster, "reason": ""}))
                .collect();
            let object = json!({
                "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "PlacementDecision",
                "metadata": {"name": own, "namespace": SPACE, "labels": {
                    "cluster.open-cluster-management.io/placement": name,
                    "cluster.open-cluster-management.io/decision-group-index": index.to_string(),
                    "cluster.open-cluster-management.io/decision-group-name": ""}},
            });
            decisions.push((object, json!({"decisions": list})));
        }
        let placement = json!({
            "apiVersion": "cluster.open-cluster-management.io/v1beta1", "kind": "Placement",
            "metadata": {"name": name, "namespace": SPACE, "annotations": {
                "cluster.open-cluster-management.io/experimental-scheduling-disable": "true"}},
            "spec": {},
        });
        let status = json!({"numberOfSelectedClusters": count, "decisionGroups": told});
        decisions.push((placement, status));
        for client in self.both() {
            for (object, status) in &decisions {
                let kind = format!(
                    "{}/{}",
                    object["apiVersion"].as_str().unwrap(),
                    object["kind"].as_str().unwrap()
                );
                let objects = api(client, &kind, Some(SPACE));
                apply(&objects, object).await.unwrap();
                let name = object["metadata"]["name"].as_str().unwrap();
                let patch = Patch::Merge(json!({"status": status}));
                objects
                    .patch_status(name, &PatchParams::default(), &patch)
                    .await
                    .unwrap();
            }
        }
    }

    async fn set(&self, value: &str, refs: &Value, deletion: &str) {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"value": value}});
        let config = json!({"resourceIdentifier": {"resource": "configmaps", "name": "a", "namespace": "default"}, "updateStrategy": {"type": "ServerSideApply"}});
        let object = json!({
            "apiVersion": "work.open-cluster-management.io/v1alpha1", "kind": "ManifestWorkReplicaSet",
            "metadata": {"name": "web", "namespace": SPACE, "labels": {"team": "shop"}},
            "spec": {
                "manifestWorkTemplate": {"workload": {"manifests": [map]}, "manifestConfigs": [config], "deleteOption": {"propagationPolicy": "Orphan"}},
                "placementRefs": refs, "cascadeDeletionPolicy": deletion,
            },
        });
        self.apply(SET, &object).await;
    }

    /// The agents of these clusters report on the work as it is; `conditions` are `Type=Status`.
    async fn report(&self, clusters: &[&str], conditions: &str) {
        for client in self.both() {
            for cluster in clusters {
                let works = works(client, cluster);
                let work = works.get("web").await.unwrap();
                let mut list = work.data["status"]["conditions"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                for part in conditions.split_whitespace() {
                    let (type_, status) = part.split_once('=').unwrap();
                    let before = list.iter().find(|known| known["type"] == type_).cloned();
                    list.retain(|known| known["type"] != type_);
                    let since = match before {
                        Some(before) if before["status"] == status => {
                            before["lastTransitionTime"].clone()
                        }
                        _ => json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
                    };
                    list.push(json!({"type": type_, "status": status, "reason": "Tested", "message": "",
                        "observedGeneration": work.metadata.generation, "lastTransitionTime": since}));
                }
                let patch = Patch::Merge(json!({"status": {"conditions": list}}));
                works
                    .patch_status("web", &PatchParams::default(), &patch)
                    .await
                    .unwrap();
            }
        }
    }

    /// Waits until both have these works (cluster and value), and say this of the set and the same of everything else.
    async fn agree(&self, what: &str, works: &[&str], conditions: &[&str]) {
        let check = async || {
            let (theirs, ours) = (Seen::of(&self.ocm).await?, Seen::of(&self.ours).await?);
            for (who, seen) in [("OCM", &theirs), ("Drover", &ours)] {
                ensure!(
                    seen.values() == works,
                    "{who} has {:?} and says {:?} {}",
                    seen.values(),
                    seen.conditions,
                    seen.numbers
                );
                ensure!(
                    seen.conditions == conditions,
                    "{who} says {:?}",
                    seen.conditions
                );
            }
            ensure!(
                theirs.works == ours.works,
                "OCM {:#?}\nDrover {:#?}",
                theirs.works,
                ours.works
            );
            ensure!(
                theirs.numbers == ours.numbers,
                "OCM {}\nDrover {}",
                theirs.numbers,
                ours.numbers
            );
            Ok(())
        };
        eventually(what, LONG, check).await.unwrap();
    }
}

const SET: &str = "work.open-cluster-management.io/v1alpha1/ManifestWorkReplicaSet";

fn sets(client: &Client) -> Api<DynamicObject> {
    api(client, SET, Some(SPACE))
}

/// What one control plane has of the set.
struct Seen {
    /// Name, labels, spec and generation of the work of each cluster.
    works: Map<String, Value>,
    conditions: Vec<String>,
    /// Summary and summaries of placements, without the two numbers that OCM never sets.
    numbers: Value,
}

impl Seen {
    async fn of(client: &Client) -> Result<Self> {
        let all = api(
            client,
            "work.open-cluster-management.io/v1/ManifestWork",
            None,
        );
        let own = ListParams::default().labels(&format!("{SET_LABEL}={SPACE}.web"));
        let list = all.list(&own).await?;
        let works = list.iter().map(|work| {
            let cluster = work.namespace().unwrap_or_default();
            let seen = json!({"name": work.name_any(), "labels": work.labels(), "spec": work.data["spec"], "generation": work.metadata.generation,
                "annotations": work.annotations(), "finalizers": work.finalizers()});
            (cluster, seen)
        });
        let works = works.collect();
        let set = sets(client).get("web").await?;
        let status = &set.data["status"];
        let list = status["conditions"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut conditions: Vec<String> = list
            .iter()
            .map(|c| {
                format!(
                    "{}={}/{}",
                    text(&c["type"]),
                    text(&c["status"]),
                    text(&c["reason"])
                )
            })
            .collect();
        conditions.sort();
        let mut numbers = json!({"all": status["summary"], "placements": status["placementSummary"], "finalizers": set.finalizers()});
        forget(&mut numbers);
        Ok(Self {
            works,
            conditions,
            numbers,
        })
    }

    fn values(&self) -> Vec<String> {
        let value = |work: &Value| {
            work["spec"]["workload"]["manifests"][0]["data"]["value"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        self.works
            .iter()
            .map(|(cluster, work)| format!("{cluster}={}", value(work)))
            .collect()
    }
}

/// Drops the numbers that OCM never sets.
fn forget(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for name in ["desiredTotal", "updated"] {
                map.remove(name);
            }
            map.values_mut().for_each(forget);
        }
        Value::Array(list) => list.iter_mut().for_each(forget),
        _ => {}
    }
}

const DONE: &str = "Applied=True Available=True Progressing=False Degraded=False";
const SAYS_COMPLETE: [&str; 3] = [
    "ManifestworkApplied=True/AsExpected",
    "PlacementRolledOut=True/Complete",
    "PlacementVerified=True/AsExpected",
];
const SAYS_UNDER_WAY: [&str; 3] = [
    "ManifestworkApplied=False/NotAsExpected",
    "PlacementRolledOut=False/Progressing",
    "PlacementVerified=True/AsExpected",
];
const SAYS_PROCESSING: [&str; 3] = [
    "ManifestworkApplied=False/Processing",
    "PlacementRolledOut=False/Progressing",
    "PlacementVerified=True/AsExpected",
];
/// Works that have nothing more to do, of a rollout that has.
const SAYS_PART: [&str; 3] = [
    "ManifestworkApplied=True/AsExpected",
    "PlacementRolledOut=False/Progressing",
    "PlacementVerified=True/AsExpected",
];
const SAYS_EMPTY: [&str; 3] = [
    "ManifestworkApplied=False/PlacementDecisionEmpty",
    "PlacementRolledOut=True/Complete",
    "PlacementVerified=False/PlacementDecisionEmpty",
];

fn progressive(placement: &str, more: Value) -> Value {
    let mut progressive = json!({"maxConcurrency": 1});
    for (name, value) in more.as_object().unwrap() {
        progressive[name] = value.clone();
    }
    json!([{"name": placement, "rolloutStrategy": {"type": "Progressive", "progressive": progressive}}])
}

async fn works_come_and_go(two: &Two) {
    two.set("1", &json!([{"name": "some"}]), "Background").await;
    two.place("some", &[&["c1", "c2"], &["c3"]]).await;
    two.agree(
        "every chosen cluster to have the work",
        &["c1=1", "c2=1", "c3=1"],
        &SAYS_UNDER_WAY,
    )
    .await;
    two.report(&["c1", "c2", "c3"], DONE).await;
    two.agree(
        "the works to be done",
        &["c1=1", "c2=1", "c3=1"],
        &SAYS_COMPLETE,
    )
    .await;
    two.report(&["c2"], "Progressing=True").await;
    two.agree(
        "one to be under way",
        &["c1=1", "c2=1", "c3=1"],
        &SAYS_PROCESSING,
    )
    .await;
    two.report(&["c2"], "Degraded=True").await;
    two.agree(
        "one to be degraded",
        &["c1=1", "c2=1", "c3=1"],
        &SAYS_UNDER_WAY,
    )
    .await;
    two.report(&["c2"], DONE).await;
    two.place("some", &[&["c1"], &["c3", "c4"]]).await;
    two.agree(
        "one to leave and one to come",
        &["c1=1", "c3=1", "c4=1"],
        &SAYS_UNDER_WAY,
    )
    .await;
    two.place("some", &[&[]]).await;
    // The second group's decision is not the placement's any more.
    for client in two.both() {
        let decisions = api(
            client,
            "cluster.open-cluster-management.io/v1beta1/PlacementDecision",
            Some(SPACE),
        );
        decisions
            .delete("some-decision-2", &DeleteParams::default())
            .await
            .unwrap();
    }
    two.agree("nobody to be left", &[], &SAYS_EMPTY).await;
}

async fn changes_go_step_by_step(two: &Two) {
    two.place("some", &[&["c1", "c2"]]).await;
    two.set("1", &progressive("some", json!({})), "Background")
        .await;
    two.agree("the first cluster", &["c1=1"], &SAYS_UNDER_WAY)
        .await;
    two.report(&["c1"], DONE).await;
    two.agree("the second cluster", &["c1=1", "c2=1"], &SAYS_UNDER_WAY)
        .await;
    two.report(&["c2"], DONE).await;
    two.agree("both clusters", &["c1=1", "c2=1"], &SAYS_COMPLETE)
        .await;
    two.set("2", &progressive("some", json!({})), "Background")
        .await;
    two.agree(
        "the change in the first cluster",
        &["c1=2", "c2=1"],
        &SAYS_PART,
    )
    .await;
    two.report(
        &["c1"],
        "Applied=True Available=True Progressing=True Degraded=True",
    )
    .await;
    two.agree(
        "the change to be stopped",
        &["c1=2", "c2=1"],
        &SAYS_UNDER_WAY,
    )
    .await;
    two.set(
        "2",
        &progressive("some", json!({"maxFailures": 1, "progressDeadline": "4s"})),
        "Background",
    )
    .await;
    two.agree("the deadline to pass", &["c1=2", "c2=2"], &SAYS_UNDER_WAY)
        .await;
    two.report(&["c1", "c2"], DONE).await;
    two.agree("both to recover", &["c1=2", "c2=2"], &SAYS_COMPLETE)
        .await;
    two.set(
        "3",
        &progressive("some", json!({"minSuccessTime": "4s"})),
        "Background",
    )
    .await;
    two.agree("the third change", &["c1=3", "c2=2"], &SAYS_PART)
        .await;
    two.report(&["c1"], "Applied=True Progressing=True").await;
    two.agree("it to be under way", &["c1=3", "c2=2"], &SAYS_PROCESSING)
        .await;
    two.report(&["c1"], DONE).await;
    two.agree("the success to last", &["c1=3", "c2=3"], &SAYS_PART)
        .await;
}

async fn groups_go_one_after_the_other(two: &Two) {
    two.place("more", &[&["c5"], &["c3", "c4"]]).await;
    let refs = |first: Value| json!([{"name": "more", "rolloutStrategy": {"type": "ProgressivePerGroup", "progressivePerGroup": {"mandatoryDecisionGroups": first}}}]);
    two.set("4", &refs(json!([{"groupIndex": 1}])), "Background")
        .await;
    two.agree(
        "the mandatory group of another placement",
        &["c3=4", "c4=4"],
        &SAYS_UNDER_WAY,
    )
    .await;
    two.report(&["c3"], DONE).await;
    two.report(&["c4"], "Applied=True Available=True Progressing=True")
        .await;
    two.agree(
        "one of the group to be under way",
        &["c3=4", "c4=4"],
        &SAYS_PROCESSING,
    )
    .await;
    two.report(&["c4"], DONE).await;
    two.agree(
        "the other group",
        &["c3=4", "c4=4", "c5=4"],
        &SAYS_UNDER_WAY,
    )
    .await;
}

async fn sets_go(two: &Two) {
    // Somebody holds the work of one cluster.
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    for client in two.both() {
        works(client, "c3")
            .patch("web", &PatchParams::default(), &hold)
            .await
            .unwrap();
    }
    let refs = json!([{"name": "more"}]);
    two.set("4", &refs, "Foreground").await;
    for client in two.both() {
        sets(client)
            .delete("web", &DeleteParams::default())
            .await
            .unwrap();
        gone(&works(client, "c4"), "web").await;
        let set = sets(client).get("web").await.unwrap();
        assert_eq!(
            set.finalizers(),
            ["work.open-cluster-management.io/manifest-work-cleanup"]
        );
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        works(client, "c3")
            .patch("web", &PatchParams::default(), &free)
            .await
            .unwrap();
        gone(&sets(client), "web").await;
        for cluster in CLUSTERS {
            assert!(
                works(client, cluster)
                    .get_opt("web")
                    .await
                    .unwrap()
                    .is_none()
            );
        }
    }
    two.set("5", &json!([{"name": "nobody"}]), "Background")
        .await;
    two.agree(
        "a placement that does not exist",
        &[],
        &["PlacementVerified=False/PlacementDecisionNotFound"],
    )
    .await;
    two.set("5", &json!([{"name": "more"}]), "Background").await;
    two.agree("one that does", &["c3=5", "c4=5", "c5=5"], &SAYS_UNDER_WAY)
        .await;
    for client in two.both() {
        works(client, "c3")
            .patch("web", &PatchParams::default(), &hold)
            .await
            .unwrap();
        sets(client)
            .delete("web", &DeleteParams::default())
            .await
            .unwrap();
        gone(&sets(client), "web").await;
        gone(&works(client, "c4"), "web").await;
        let held = works(client, "c3").get("web").await.unwrap();
        assert!(
            held.metadata.deletion_timestamp.is_some(),
            "the set went first"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_of_works_are_handled_as_ocms_manager_does() {
    let mut two = Two::start().await;
    works_come_and_go(&two).await;
    changes_go_step_by_step(&two).await;
    groups_go_one_after_the_other(&two).await;
    sets_go(&two).await;
    two.hub.stop().await;
    note(
        "mwrs",
        "OCM's work manager 1.2.1 and Drover's hub, each on a real kube-apiserver with the same sets, placements and reports: the works that \
         they make and what they say of the sets are compared after every step.",
        &[
            "works come and go with decisions; conditions and numbers follow the reports",
            "Progressive: one by one, stopped by a failure, past a deadline, after a time of success",
            "ProgressivePerGroup: a mandatory group first; the works of a placement that is not named any more go",
            "Foreground and Background deletion; placements that do not exist or choose nobody",
        ],
    );
}
