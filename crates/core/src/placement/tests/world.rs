//! A hub in memory: what is planned is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_api::{Time, conditions, names};
use serde_json::{Value, json};

use super::*;

pub(super) fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

pub(super) fn clusters(found: &PlacementDecision) -> &[ClusterDecision] {
    found
        .status
        .as_ref()
        .map(|status| &*status.decisions)
        .unwrap_or_default()
}

#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub now: i64,
    pub placement: Placement,
    pub clusters: BTreeMap<String, ManagedCluster>,
    pub sets: BTreeMap<String, ManagedClusterSet>,
    pub bindings: Vec<Arc<ManagedClusterSetBinding>>,
    pub decisions: BTreeMap<String, PlacementDecision>,
    pub elsewhere: BTreeMap<String, u64>,
    pub scores: BTreeMap<String, BTreeMap<String, Arc<AddOnPlacementScore>>>,
    pub wake: Option<Timestamp>,
    pub told: Vec<Note>,
}

impl World {
    /// With a set `s` that is bound and has so many clusters.
    pub(super) fn bound(count: usize) -> Self {
        let mut world = Self::default();
        world.set("s", json!({}));
        world.bind("s");
        for i in 0..count {
            world.cluster(&format!("c{i:03}"), json!({"set": "s"}));
        }
        world
    }

    pub(super) fn set(&mut self, name: &str, spec: Value) {
        let set = ManagedClusterSet::new(name, serde_json::from_value(spec).unwrap());
        self.sets.insert(name.to_owned(), set);
    }

    pub(super) fn bind(&mut self, set: &str) {
        let object =
            json!({"metadata": {"name": set, "namespace": "ns"}, "spec": {"clusterSet": set}});
        self.bindings
            .push(Arc::new(serde_json::from_value(object).unwrap()));
    }

    /// `about`: `set`, `taints`, `claims`, `version`, `cpu`; everything else is a label.
    pub(super) fn cluster(&mut self, name: &str, about: Value) {
        let mut labels = json!({});
        let mut object = json!({"metadata": {"name": name}, "spec": {}, "status": {}});
        for (key, value) in about.as_object().unwrap() {
            match key.as_str() {
                "set" => labels[names::CLUSTER_SET_LABEL] = value.clone(),
                "taints" => object["spec"]["taints"] = value.clone(),
                "version" => object["status"]["version"] = json!({"kubernetes": value}),
                "cpu" => {
                    object["status"]["capacity"] = json!({"cpu": value});
                    object["status"]["allocatable"] = json!({"cpu": value});
                }
                "claims" => {
                    let claims = value.as_object().unwrap().iter();
                    let claims = claims.map(|(name, value)| json!({"name": name, "value": value}));
                    object["status"]["clusterClaims"] = claims.collect();
                }
                _ => labels[key] = value.clone(),
            }
        }
        object["metadata"]["labels"] = labels;
        let cluster = serde_json::from_value(object).unwrap();
        self.clusters.insert(name.to_owned(), cluster);
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut ManagedCluster)) {
        change(self.clusters.get_mut(name).unwrap());
    }

    pub(super) fn score(&mut self, cluster: &str, name: &str, scores: Value, until: Option<i64>) {
        let until = until.map(|second| at(second).0.to_string());
        let object = json!({"metadata": {"name": name, "namespace": cluster}, "status": {"scores": scores, "validUntil": until}});
        let of = self.scores.entry(cluster.to_owned()).or_default();
        of.insert(
            name.to_owned(),
            Arc::new(serde_json::from_value(object).unwrap()),
        );
    }

    pub(super) fn place(&mut self, name: &str, spec: Value) {
        self.placement.metadata.name = Some(name.to_owned());
        self.placement.metadata.namespace = Some("ns".to_owned());
        self.placement.metadata.uid = Some("uid".to_owned());
        self.placement.spec = serde_json::from_value(spec).unwrap();
        let generation = self.placement.metadata.generation.get_or_insert(0);
        *generation += 1;
    }

    pub(super) fn plan(&self) -> Vec<Action> {
        self.plan_of(self.clusters.values().cloned().map(Arc::new).collect())
    }

    pub(super) fn plan_of(&self, clusters: Vec<Arc<ManagedCluster>>) -> Vec<Action> {
        let sets: Vec<_> = self.sets.values().cloned().map(Arc::new).collect();
        let decisions: Vec<_> = self.decisions.values().cloned().map(Arc::new).collect();
        let scores = |cluster: &str| {
            let found = self.scores.get(cluster).into_iter().flatten();
            found.map(|(_, score)| score.clone()).collect()
        };
        let seen = Seen {
            placement: &self.placement,
            sets: &sets,
            bindings: &self.bindings,
            clusters: &clusters,
            decisions: &decisions,
            elsewhere: &self.elsewhere,
            scores: &scores,
        };
        plan(&seen, at(self.now).0)
    }

    /// Does what is planned; planned again, nothing is left to do.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        self.watch(|_| ());
        let again = self.plan();
        let idle = again
            .iter()
            .all(|action| matches!(action, Action::WakeAt(_)));
        assert!(idle, "planned again: {again:?}");
    }

    /// Does what is planned and shows every state in between.
    pub(super) fn watch(&mut self, mut look: impl FnMut(&Self)) {
        self.wake = None;
        for action in self.plan() {
            self.act(action);
            look(self);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::CreateDecision(object) => {
                assert_eq!(object.status, None);
                let name = object.metadata.name.clone().unwrap();
                assert_eq!(self.decisions.insert(name, *object), None);
            }
            Action::SetDecisions { name, decisions } => {
                assert!(decisions.len() <= MAX_DECISIONS);
                let found = self.decisions.get_mut(&name).unwrap();
                found.status.get_or_insert_default().decisions = decisions;
            }
            Action::SetLabels { name, labels } => {
                let found = self.decisions.get_mut(&name).unwrap();
                found.metadata.labels.get_or_insert_default().extend(labels);
            }
            Action::DeleteDecision(name) => {
                self.decisions.remove(&name).unwrap();
            }
            Action::SetStatus(status) => self.placement.status = Some(status),
            Action::Tell(note) => {
                assert!(note.message.len() <= MAX_NOTE + 6);
                self.told.push(note);
            }
            Action::WakeAt(time) => self.wake = Some(time),
        }
    }

    pub(super) fn status(&self) -> &PlacementStatus {
        self.placement.status.as_ref().unwrap()
    }

    pub(super) fn condition(&self, type_: &str) -> String {
        let found = conditions::find(&self.status().conditions, type_).unwrap();
        assert_eq!(
            found.observed_generation,
            self.placement.metadata.generation
        );
        format!("{} {} {}", found.status, found.reason, found.message)
    }

    pub(super) fn told_last(&self, reason: &str) -> &str {
        let mut told = self.told.iter().rev();
        &told.find(|note| note.reason == reason).unwrap().message
    }

    /// The names of the chosen clusters, each once, in order.
    pub(super) fn chosen(&self) -> Vec<String> {
        let all = self.decisions.values().flat_map(clusters);
        let names: std::collections::BTreeSet<&str> =
            all.map(|it| it.cluster_name.as_str()).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// `name index/group/: clusters` for each object.
    pub(super) fn shown(&self) -> String {
        let object = |(name, found): (&String, &PlacementDecision)| {
            let labels = found.metadata.labels.as_ref().unwrap();
            let (index, group) = (
                &labels[words::GROUP_INDEX_LABEL],
                &labels[words::GROUP_NAME_LABEL],
            );
            assert_eq!(
                Some(&labels[words::PLACEMENT_LABEL]),
                self.placement.metadata.name.as_ref()
            );
            let clusters = clusters(found).iter().map(|it| match it.score {
                0 => it.cluster_name.clone(),
                score => format!("{}={score}", it.cluster_name),
            });
            format!(
                "{name} {index}/{group}/: {}",
                clusters.collect::<Vec<_>>().join(" ")
            )
        };
        self.decisions
            .iter()
            .map(object)
            .collect::<Vec<_>>()
            .join("; ")
    }
}
