use drover_api::work::v1::ManifestWork;
use drover_api::work::v1alpha1::ManifestWorkReplicaSet;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::rollout::State;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("small seconds are valid")
}

fn read<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the object can be read")
}

fn manifest(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"value": value}})
}

/// A fleet of one set: what the API holds.
#[derive(Clone, Default)]
struct World {
    set: ManifestWorkReplicaSet,
    placements: Vec<(Placement, Vec<PlacementDecision>)>,
    works: Vec<ManifestWork>,
    strangers: Vec<ManifestWork>,
}

impl World {
    fn new(refs: Value) -> Self {
        let set = json!({
            "metadata": {"name": "web", "namespace": "shop", "generation": 3, "labels": {"team": "a"}, "finalizers": [names::FINALIZER]},
            "spec": {"manifestWorkTemplate": {"workload": {"manifests": [manifest("1")]}}, "placementRefs": refs},
        });
        Self {
            set: read(set),
            ..Self::default()
        }
    }

    /// One group for each list of clusters.
    fn place(mut self, name: &str, groups: &[&[&str]]) -> Self {
        self.placements
            .retain(|(placement, _)| placement.name_any() != name);
        let count: usize = groups.iter().map(|group| group.len()).sum();
        let placement = json!({
            "metadata": {"name": name, "namespace": "shop"},
            "status": {"numberOfSelectedClusters": count, "decisionGroups": vec![json!({}); groups.len()]},
        });
        let decisions = groups.iter().enumerate().map(|(index, clusters)| {
            let decisions: Vec<Value> = clusters.iter().map(|name| json!({"clusterName": name, "reason": ""})).collect();
            read(json!({
                "metadata": {"name": format!("{name}-decision-{}", index + 1), "namespace": "shop", "labels": {
                    "cluster.open-cluster-management.io/placement": name,
                    "cluster.open-cluster-management.io/decision-group-index": index.to_string()}},
                "status": {"decisions": decisions},
            }))
        });
        self.placements.push((read(placement), decisions.collect()));
        self
    }

    fn plan(&self, second: i64) -> Plan {
        let chosen = self.placements.iter().map(|(placement, decisions)| {
            let name = placement.metadata.name.as_deref().unwrap_or_default();
            (
                name,
                Chosen {
                    placement,
                    decisions: decisions.iter().collect(),
                },
            )
        });
        let seen = Seen {
            set: &self.set,
            placements: chosen.collect(),
            works: self.works.iter().collect(),
            strangers: self.strangers.iter().collect(),
        };
        plan(&seen, at(second))
    }

    /// Does what is planned; the answer tells what that was.
    fn round(&mut self, second: i64) -> String {
        let plan = self.plan(second);
        let mut done = Vec::new();
        for action in plan.actions {
            match action {
                Action::AddFinalizer => done.push("+finalizer".to_owned()),
                Action::RemoveFinalizer => done.push("-finalizer".to_owned()),
                Action::Create(work) => {
                    let mut work = *work;
                    work.metadata.generation = Some(1);
                    work.metadata.creation_timestamp = Some(drover_api::Time(at(second)));
                    done.push(format!("+{}", work.namespace().unwrap_or_default()));
                    self.works.push(work);
                }
                Action::Update {
                    cluster,
                    name,
                    labels,
                    spec,
                } => {
                    let work = self.works.iter_mut().find(|work| {
                        work.namespace().as_deref() == Some(&cluster) && work.name_any() == name
                    });
                    let work = work.expect("only what is there is updated");
                    work.labels_mut().extend(labels);
                    work.spec = *spec;
                    work.metadata.generation =
                        work.metadata.generation.map(|generation| generation + 1);
                    done.push(format!("~{cluster}"));
                }
                Action::Delete {
                    cluster,
                    name,
                    doubtful,
                } => {
                    self.works.retain(|work| {
                        work.namespace().as_deref() != Some(&cluster) || work.name_any() != name
                    });
                    done.push(format!("-{cluster}{}", if doubtful { "?" } else { "" }));
                }
                Action::SetStatus(status) => self.set.status = Some(*status),
            }
        }
        if let Some(time) = plan.again_at {
            done.push(format!("again at {}", time.as_second()));
        }
        done.join(" ")
    }

    fn says(&self) -> Vec<String> {
        let status = self.set.status.clone().unwrap_or_default();
        status
            .conditions
            .iter()
            .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason))
            .collect()
    }

    fn message(&self, type_: &str) -> String {
        let status = self.set.status.clone().unwrap_or_default();
        conditions::find(&status.conditions, type_)
            .map(|found| found.message.clone())
            .unwrap_or_default()
    }

    fn summary(&self) -> Value {
        let status = serde_json::to_value(self.set.status.clone().unwrap_or_default())
            .expect("a status is JSON");
        let all = status["summary"].as_object().cloned().unwrap_or_default();
        all.into_iter().filter(|(_, number)| *number != 0).collect()
    }

    /// The agent of a cluster reports: `Applied=True` at the current generation, since this second.
    fn report(&mut self, cluster: &str, second: i64, said: &str) {
        let work = self
            .works
            .iter_mut()
            .find(|work| work.namespace().as_deref() == Some(cluster))
            .expect("a work");
        let generation = work.metadata.generation;
        let status = work.status.get_or_insert_default();
        for part in said.split_whitespace() {
            let (type_, holds) = part.split_once('=').expect("type=status");
            let holds = conditions::Status::read(holds);
            let new = conditions::condition(
                type_,
                holds,
                "Tested",
                "",
                generation,
                &drover_api::Time(at(second)),
            );
            conditions::set(&mut status.conditions, new);
        }
    }
}

use drover_api::conditions;

fn one_by_one() -> Value {
    json!([{"name": "all", "rolloutStrategy": {"type": "Progressive", "progressive": {"maxConcurrency": 1, "progressDeadline": "60s"}}}])
}

const DONE: &str = "Applied=True Available=True Progressing=False";

#[test]
fn every_chosen_cluster_gets_the_work() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1", "c2"], &["c3"]]);
    world.set.metadata.finalizers = None;
    assert_eq!(world.round(1), "+finalizer +c1 +c2 +c3");
    world.set.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
    assert_eq!(
        world.says(),
        [
            "PlacementVerified=True/AsExpected",
            "PlacementRolledOut=False/Progressing",
            "ManifestworkApplied=False/NotAsExpected"
        ]
    );
    let work = &world.works[0];
    assert_eq!(
        (work.name_any(), work.namespace()),
        ("web".to_owned(), Some("c1".to_owned()))
    );
    let labels = json!({"team": "a", names::SET_LABEL: "shop.web", names::PLACEMENT_LABEL: "all"});
    assert_eq!(serde_json::to_value(work.labels()).expect("labels"), labels);
    assert_eq!(world.round(2), "");
    assert_eq!(world.summary(), json!({"total": 3, "desiredTotal": 3}));
    for cluster in ["c1", "c2", "c3"] {
        world.report(cluster, 2, DONE);
    }
    assert_eq!(world.round(3), "");
    assert_eq!(
        world.says(),
        [
            "PlacementVerified=True/AsExpected",
            "PlacementRolledOut=True/Complete",
            "ManifestworkApplied=True/AsExpected"
        ]
    );
    assert_eq!(
        world.summary(),
        json!({"total": 3, "desiredTotal": 3, "applied": 3, "available": 3, "updated": 3})
    );
    let status = world.set.status.clone().unwrap_or_default();
    assert_eq!(
        status.placements_summary[0].available_decision_groups,
        "2 (3 / 3 clusters applied)"
    );
    assert!(
        status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(3))
    );
    assert_eq!(world.plan(4), Plan::default(), "nothing is left to do");
}

#[test]
fn a_cluster_that_leaves_loses_its_work() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1", "c2"]]);
    world.round(1);
    world = world.place("all", &[&["c2"]]);
    assert_eq!(world.round(2), "-c1");
    // Also when the work is not as the set wants it.
    world.works[0].spec = ManifestWorkSpec::default();
    world = world.place("all", &[&["c3"]]);
    assert_eq!(world.round(3), "+c3 -c2");
}

#[test]
fn decisions_that_are_being_rewritten_are_doubted() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1"], &["c2"]]);
    world.round(1);
    world.placements[0].1.pop();
    assert_eq!(world.round(2), "-c2?");
}

#[test]
fn a_template_that_changes_reaches_clusters_by_the_strategy() {
    let mut world = World::new(one_by_one()).place("all", &[&["c1", "c2", "c3"]]);
    assert_eq!(world.round(1), "+c1");
    assert_eq!(world.round(2), "again at 61");
    world.report("c1", 3, DONE);
    assert_eq!(world.round(3), "+c2");
    world.report("c2", 4, DONE);
    assert_eq!(world.round(4), "+c3");
    world.report("c3", 5, DONE);
    world.round(5);
    assert_eq!(world.says()[1], "PlacementRolledOut=True/Complete");
    world.set.spec.manifest_work_template.workload.manifests[0].0 = manifest("2");
    assert_eq!(world.round(6), "~c1");
    assert_eq!(world.says()[1], "PlacementRolledOut=False/Progressing");
    assert_eq!(world.round(7), "again at 67");
    assert_eq!(
        world.summary(),
        json!({"total": 1, "desiredTotal": 3, "applied": 1, "available": 1})
    );
    world.report("c1", 8, DONE);
    assert_eq!(world.round(8), "~c2");
    assert_eq!(world.summary()["updated"], 1);
}

#[test]
fn a_cluster_that_fails_stops_the_rollout_and_is_named() {
    let mut world = World::new(one_by_one()).place("all", &[&["c1", "c2"]]);
    world.round(1);
    world.report("c1", 2, "Applied=True Progressing=True Degraded=True");
    assert_eq!(world.round(3), "again at 62");
    assert_eq!(
        world.message(names::PLACEMENT_ROLLED_OUT),
        "0 of 2 clusters succeeded; failed: c1; no further cluster is reached, because more failed than may"
    );
    assert_eq!(world.round(70), "");
    world.report("c1", 71, DONE);
    assert_eq!(world.round(72), "+c2");
}

#[test]
fn a_cluster_that_never_answers_counts_as_failed_after_the_deadline() {
    let mut world = World::new(one_by_one()).place("all", &[&["c1", "c2"]]);
    world.round(1);
    world.round(61);
    assert_eq!(
        world.message(names::PLACEMENT_ROLLED_OUT),
        "0 of 2 clusters succeeded; failed: c1; no further cluster is reached, because more failed than may"
    );
}

#[test]
fn a_placement_that_does_not_exist_changes_nothing() {
    let mut world = World::new(json!([{"name": "all"}, {"name": "more"}]))
        .place("all", &[&["c1"]])
        .place("more", &[&["c2"]]);
    assert_eq!(world.round(1), "+c1 +c2");
    world.placements.clear();
    let before = world.set.status.clone().unwrap_or_default();
    assert_eq!(world.round(2), "");
    assert_eq!(
        world.says()[0],
        "PlacementVerified=False/PlacementDecisionNotFound"
    );
    assert_eq!(
        world.message(names::PLACEMENT_VERIFIED),
        "placement all does not exist; placement more does not exist"
    );
    assert_eq!(
        world.set.status.clone().unwrap_or_default().summary,
        before.summary
    );
    // One that exists is followed all the same.
    world = world.place("more", &[&["c2", "c3"]]);
    assert_eq!(world.round(3), "+c3");
    assert_eq!(
        world.message(names::PLACEMENT_VERIFIED),
        "placement all does not exist"
    );
}

#[test]
fn no_cluster_is_no_success_of_the_works() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&[]]);
    world.round(1);
    assert_eq!(
        world.says(),
        [
            "PlacementVerified=False/PlacementDecisionEmpty",
            "PlacementRolledOut=True/Complete",
            "ManifestworkApplied=False/PlacementDecisionEmpty"
        ]
    );
}

#[test]
fn a_strategy_that_cannot_be_read_is_told_and_nothing_moves() {
    let refs = json!([{"name": "all", "rolloutStrategy": {"type": "All", "all": {"progressDeadline": "5mXYZ"}}}]);
    let mut world = World::new(refs).place("all", &[&["c1"]]);
    assert_eq!(world.round(1), "");
    assert_eq!(world.says(), ["PlacementVerified=False/NotAsExpected"]);
    assert!(world.message(names::PLACEMENT_VERIFIED).contains("5mXYZ"));
}

#[test]
fn names_that_do_not_fit_into_a_label_are_told() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1"]]);
    world.set.metadata.name = Some("w".repeat(58));
    assert_eq!(world.round(1), "+c1", "63 characters fit");
    world.works.clear();
    world.set.metadata.name = Some("w".repeat(59));
    assert_eq!(world.round(2), "");
    assert_eq!(
        world.says()[2],
        "ManifestworkApplied=False/InvalidManifestWorkName"
    );
    let long = "p".repeat(64);
    let mut world = World::new(json!([{"name": long}])).place(&long, &[&["c1"]]);
    assert_eq!(world.round(1), "");
    assert_eq!(
        world.says()[2],
        "ManifestworkApplied=False/InvalidManifestWorkName"
    );
}

#[test]
fn a_name_with_dots_leads_back_to_its_set() {
    let mut set = World::new(json!([])).set;
    set.metadata.name = Some("web.v1.shop".to_owned());
    let work = work(&set, "all", "c1");
    assert_eq!(set_of(&work), Some(("shop", "web.v1.shop")));
}

#[test]
fn a_cluster_of_several_placements_belongs_to_the_first() {
    let refs = json!([{"name": "one"}, {"name": "two"}]);
    let mut world = World::new(refs)
        .place("one", &[&["c1", "c2"]])
        .place("two", &[&["c2", "c3"]]);
    assert_eq!(world.round(1), "+c1 +c2 +c3");
    for cluster in ["c1", "c2", "c3"] {
        world.report(cluster, 2, DONE);
    }
    assert_eq!(world.round(2), "", "nobody takes the work from the other");
    assert_eq!(world.says()[1], "PlacementRolledOut=True/Complete");
    assert_eq!(world.summary()["total"], 3);
    // It goes to the other one when the first has it no more: without being removed in between.
    world = world.place("one", &[&["c1"]]);
    assert_eq!(world.round(3), "~c2");
}

#[test]
fn works_of_placements_that_are_not_named_any_more_go() {
    let mut world = World::new(json!([{"name": "one"}]))
        .place("one", &[&["c1", "c2"]])
        .place("two", &[&["c2", "c3"]]);
    assert_eq!(world.round(1), "+c1 +c2");
    world.set.spec.placement_refs[0].name = "two".to_owned();
    assert_eq!(world.round(2), "~c2 +c3 -c1");
}

#[test]
fn what_people_change_is_changed_back_and_what_programs_add_stays() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1"]]);
    world.round(1);
    world.works[0].spec.workload.manifests[0].0["metadata"]["creationTimestamp"] = Value::Null;
    world.works[0]
        .labels_mut()
        .insert("other".to_owned(), "x".to_owned());
    world.round(2);
    assert_eq!(world.round(2), "");
    world.works[0].spec.workload.manifests[0].0["data"]["value"] = json!("by hand");
    assert_eq!(world.round(3), "~c1");
    world.works[0].labels_mut().remove("team");
    assert_eq!(world.round(4), "~c1");
    assert_eq!(
        world.works[0].labels().get("other").map(String::as_str),
        Some("x")
    );
}

#[test]
fn a_work_that_is_being_deleted_is_made_anew_when_it_is_gone() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1"]]);
    world.round(1);
    world.works[0].metadata.deletion_timestamp = Some(drover_api::Time(at(2)));
    world.works[0].spec = ManifestWorkSpec::default();
    assert_eq!(world.round(2), "");
    world.works.clear();
    assert_eq!(world.round(3), "+c1");
}

#[test]
fn a_work_of_nobody_is_taken_over_and_one_of_another_set_is_not() {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1", "c2"]]);
    let stranger = |cluster: &str, labels: Value| {
        read(
            json!({"metadata": {"name": "web", "namespace": cluster, "labels": labels}, "spec": {}}),
        )
    };
    world.strangers = vec![
        stranger("c1", json!({})),
        stranger("c2", json!({names::SET_LABEL: "other.web"})),
    ];
    let plan = world.plan(1);
    let written: Vec<_> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Update {
                cluster, labels, ..
            } => Some((cluster.as_str(), labels[names::SET_LABEL].as_str())),
            Action::Create(work) => panic!("{work:?}"),
            _ => None,
        })
        .collect();
    assert_eq!(written, [("c1", "shop.web")]);
    let told = plan.actions.into_iter().find_map(|action| match action {
        Action::SetStatus(status) => Some(*status),
        _ => None,
    });
    world.set.status = told;
    assert_eq!(
        world.message(names::WORKS_APPLIED),
        "0 of 0 works are available; the set other.web has a work of the same name in cluster c2: one of the two needs another name"
    );
}

fn deleted(policy: &str) -> World {
    let mut world = World::new(json!([{"name": "all"}])).place("all", &[&["c1", "c2"]]);
    world.round(1);
    world.set.metadata.deletion_timestamp = Some(drover_api::Time(at(2)));
    world.set.spec.cascade_deletion_policy = read(json!(policy));
    world
}

#[test]
fn a_set_goes_before_or_after_its_works() {
    let mut world = deleted("Background");
    assert_eq!(world.round(2), "-c1 -c2 -finalizer");
    let mut world = deleted("Foreground");
    world.works[1].metadata.deletion_timestamp = Some(drover_api::Time(at(2)));
    assert_eq!(world.round(2), "-c1");
    assert_eq!(world.round(3), "", "one is left");
    world.works.clear();
    assert_eq!(world.round(4), "-finalizer");
    world.set.metadata.finalizers = None;
    assert_eq!(world.plan(5), Plan::default());
}

/// What a work says that was changed at second 10, and which state that is at second 100.
#[track_caller]
fn check_state(conditions: &str, expected: State) {
    check_state_of(&json!({}), conditions, expected);
}

#[track_caller]
fn check_state_of(spec: &Value, conditions: &str, expected: State) {
    let list: Vec<Value> = conditions
        .split_whitespace()
        .map(|part| {
            let (what, when) = part.split_once('@').expect("type=status@generation,second");
            let (type_, status) = what.split_once('=').expect("type=status");
            let (generation, second) = when.split_once(',').expect("generation,second");
            json!({"type": type_, "status": status, "reason": "R", "message": "", "observedGeneration": generation.parse::<i64>().expect("a number"),
                "lastTransitionTime": at(second.parse().expect("a number")).to_string()})
        })
        .collect();
    let work: ManifestWork = read(json!({
        "metadata": {"name": "web", "namespace": "c1", "generation": 2, "managedFields": [
            {"manager": "drover-hub", "operation": "Update", "time": at(10).to_string(), "fieldsV1": {"f:spec": {}}},
            {"manager": "agent", "operation": "Update", "time": at(50).to_string(), "fieldsV1": {"f:metadata": {}}},
            {"manager": "agent", "operation": "Update", "subresource": "status", "time": at(60).to_string(), "fieldsV1": {"f:spec": {}}}]},
        "spec": spec, "status": {"conditions": list},
    }));
    assert_eq!(state(&work, at(100)), expected, "{conditions}");
}

#[test]
fn progressing_and_degraded_decide_where_they_are() {
    let sent = State::ToApply { sent: Some(at(10)) };
    check_state("", sent);
    check_state("Applied=True@1,5 Progressing=False@2,20", sent);
    check_state("Applied=False@2,5 Progressing=False@2,20", sent);
    check_state("Applied=True@2,5 Progressing=False@1,20", sent);
    check_state(
        "Applied=True@2,5 Progressing=False@2,20 Degraded=False@1,20",
        sent,
    );
    check_state(
        "Applied=True@2,5 Progressing=False@2,20",
        State::Succeeded { since: at(20) },
    );
    check_state(
        "Applied=True@2,5 Progressing=False@2,20 Degraded=True@2,30",
        State::Succeeded { since: at(20) },
    );
    check_state(
        "Applied=True@2,5 Progressing=True@2,20 Degraded=True@2,30",
        State::Failed { since: at(30) },
    );
    check_state(
        "Applied=True@2,5 Progressing=True@2,20 Degraded=False@2,30",
        State::Progressing { since: at(20) },
    );
    check_state(
        "Applied=True@2,5 Progressing=Unknown@2,20 Degraded=True@2,30",
        State::Progressing { since: at(20) },
    );
    // True since before the change, of the change only since it was sent.
    check_state(
        "Applied=True@2,5 Progressing=False@2,5",
        State::Succeeded { since: at(10) },
    );
}

#[test]
fn without_rules_applied_available_and_healthy_decide() {
    check_state(
        "Applied=True@2,5 Available=True@2,20",
        State::Succeeded { since: at(20) },
    );
    check_state(
        "Applied=True@2,5 Available=True@1,20",
        State::Progressing { since: at(10) },
    );
    check_state(
        "Applied=True@2,15 Available=False@2,20",
        State::Progressing { since: at(15) },
    );
    check_state("Applied=False@2,15", State::Failed { since: at(15) });
    check_state(
        "Applied=True@2,15 Available=True@2,15 Degraded=True@2,16",
        State::Failed { since: at(16) },
    );
    check_state(
        "Applied=True@2,5 Available=True@2,5 Healthy=False@2,20",
        State::Failed { since: at(20) },
    );
    check_state(
        "Applied=True@2,5 Available=True@2,5 Healthy=Unknown@2,20",
        State::Progressing { since: at(20) },
    );
    check_state(
        "Applied=True@2,5 Available=True@2,20 Healthy=True@2,15",
        State::Succeeded { since: at(20) },
    );
    let rule = json!({"manifestConfigs": [{"resourceIdentifier": {"resource": "deployments", "name": "a"},
        "conditionRules": [{"condition": "Progressing", "type": "CEL", "celExpressions": ["true"]}]}]});
    check_state_of(
        &rule,
        "Applied=True@2,5 Available=True@2,20",
        State::ToApply { sent: Some(at(10)) },
    );
}
