//! One look at all placements of a set.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::conditions;
use drover_api::names::{replica_set as names, work as work_names};
use drover_api::work::v1::ManifestWork;
use drover_api::work::v1alpha1::{
    LocalPlacementReference, ManifestWorkReplicaSetSummary as Summary, PlacementSummary,
};
use jiff::Timestamp;
use kube::ResourceExt;

use super::status::{self, Told};
use super::wanted::{MAX_LABEL, labels, up_to_date, work};
use super::{Action, BadPlacement, Chosen, Plan, Seen, delete, key, state};
use crate::rollout::{self, Existing, Groups, State, Strategy};

pub(super) struct Round<'a> {
    seen: &'a Seen<'a>,
    now: Timestamp,
    /// The work of each cluster.
    works: BTreeMap<String, &'a ManifestWork>,
    /// The works of others that have its name.
    strangers: BTreeMap<String, &'a ManifestWork>,
    /// The clusters of all placements.
    decided: BTreeSet<&'a str>,
    /// The clusters that belong to placements that were looked at.
    taken: BTreeSet<String>,
    actions: Vec<Action>,
    told: Told,
    again_at: Option<Timestamp>,
}

impl<'a> Round<'a> {
    pub(super) fn new(seen: &'a Seen<'a>, now: Timestamp) -> Self {
        let name = seen.set.name_any();
        let own = seen.works.iter().filter(|work| work.name_any() == name);
        let decisions = seen
            .placements
            .values()
            .flat_map(|chosen| &chosen.decisions);
        let decided = decisions
            .flat_map(|decision| &decision.status)
            .flat_map(|status| &status.decisions);
        let by_cluster = |work: &&'a ManifestWork| (work.namespace().unwrap_or_default(), *work);
        Self {
            decided: decided
                .map(|decision| decision.cluster_name.as_str())
                .collect(),
            seen,
            now,
            works: own.map(by_cluster).collect(),
            strangers: seen.strangers.iter().map(by_cluster).collect(),
            taken: BTreeSet::new(),
            actions: Vec::new(),
            told: Told::default(),
            again_at: None,
        }
    }

    pub(super) fn plan(mut self) -> Plan {
        let set = self.seen.set;
        let refs = &set.spec.placement_refs;
        self.told.bad_name = bad_name(&key(set), refs);
        let mut seen = BTreeSet::new();
        for reference in refs {
            // A placement that is named twice counts once.
            if seen.insert(reference.name.as_str())
                && let Err(error) = self.follow(reference)
            {
                self.told.bad.push(error);
            }
        }
        self.remove_what_no_placement_has();
        let before = set.status.clone().unwrap_or_default();
        let status = status::status(&before, &self.told, set.metadata.generation, self.now);
        if status != before {
            self.actions.push(Action::SetStatus(Box::new(status)));
        }
        Plan {
            actions: self.actions,
            again_at: self.again_at,
        }
    }

    fn follow(&mut self, reference: &LocalPlacementReference) -> Result<(), BadPlacement> {
        let name = &reference.name;
        let chosen = self.seen.placements.get(name.as_str());
        let chosen = chosen.ok_or_else(|| BadPlacement::NotFound(name.clone()))?;
        let mut groups = Groups::read(chosen.decisions.iter().copied())
            .map_err(|error| BadPlacement::Group(name.clone(), error))?;
        let decided = groups.cluster_count();
        groups.retain(|cluster| !self.taken.contains(cluster));
        self.taken
            .extend(groups.clusters().into_iter().map(str::to_owned));
        let strategy = Strategy::read(&reference.rollout_strategy)
            .map_err(|error| BadPlacement::Strategy(name.clone(), error))?;
        let existing = self.existing(name, &groups);
        let outcome = rollout::plan(&strategy, &groups, &existing, self.now);
        if self.told.bad_name.is_none() {
            for step in outcome
                .rollout
                .iter()
                .filter(|step| step.state == (State::ToApply { sent: None }))
            {
                self.write(name, &step.cluster);
            }
        }
        self.remove_who_left(name, &groups, in_flux(chosen, decided));
        self.again_at = self.again_at.into_iter().chain(outcome.recheck_at).min();
        self.tell(chosen, name, &groups, &existing, &outcome);
        Ok(())
    }

    /// The clusters of the placement whose works say what they should.
    fn existing(&self, placement: &str, groups: &Groups) -> Vec<Existing> {
        let works = groups
            .clusters()
            .into_iter()
            .filter_map(|cluster| self.works.get_key_value(cluster));
        let current = works.filter(|(_, work)| up_to_date(self.seen.set, placement, work));
        current
            .map(|(cluster, work)| Existing {
                cluster: cluster.clone(),
                state: state(work, self.now),
            })
            .collect()
    }

    fn write(&mut self, placement: &str, cluster: &str) {
        let set = self.seen.set;
        let stranger = self.strangers.get(cluster);
        if let Some(other) = stranger.and_then(|work| work.labels().get(names::SET_LABEL)) {
            self.told.occupied.push((cluster.to_owned(), other.clone()));
            return;
        }
        let action = match self.works.get(cluster).or(stranger) {
            None => Action::Create(Box::new(work(set, placement, cluster))),
            // Made anew when it is gone.
            Some(found) if found.metadata.deletion_timestamp.is_some() => return,
            Some(found) => Action::Update {
                cluster: cluster.to_owned(),
                name: found.name_any(),
                labels: labels(set, placement),
                spec: Box::new(set.spec.manifest_work_template.clone()),
            },
        };
        self.actions.push(action);
    }

    /// Deletes the works of clusters that the placement does not have any more, unless another one has them.
    fn remove_who_left(&mut self, placement: &str, groups: &Groups, doubtful: bool) {
        let clusters = groups.clusters();
        let left = self.of_placement(placement).filter(|work| {
            let cluster = work.namespace().unwrap_or_default();
            !clusters.contains(cluster.as_str()) && !self.decided.contains(cluster.as_str())
        });
        let deletions: Vec<Action> = left.map(|work| delete(work, doubtful)).collect();
        self.actions.extend(deletions);
    }

    /// The works of placements that the set does not name any more.
    fn remove_what_no_placement_has(&mut self) {
        let refs = &self.seen.set.spec.placement_refs;
        let lost = self.seen.works.iter().filter(|work| {
            let label = work.labels().get(names::PLACEMENT_LABEL);
            let named =
                label.is_some_and(|label| refs.iter().any(|reference| reference.name == *label));
            let cluster = work.namespace().unwrap_or_default();
            let own = self
                .works
                .get(&cluster)
                .is_some_and(|own| own.name_any() == work.name_any());
            let kept = named || (own && self.taken.contains(&cluster));
            !kept && work.metadata.deletion_timestamp.is_none()
        });
        let deletions: Vec<Action> = lost.map(|work| delete(work, false)).collect();
        self.actions.extend(deletions);
    }

    fn of_placement(&self, placement: &str) -> impl Iterator<Item = &'a ManifestWork> {
        let works = self
            .works
            .values()
            .copied()
            .filter(|work| work.metadata.deletion_timestamp.is_none());
        works.filter(move |work| {
            work.labels()
                .get(names::PLACEMENT_LABEL)
                .is_some_and(|label| label == placement)
        })
    }

    fn tell(
        &mut self,
        chosen: &Chosen<'_>,
        name: &str,
        groups: &Groups,
        existing: &[Existing],
        outcome: &rollout::Outcome,
    ) {
        let mut summary = Summary {
            total: count(existing.len()),
            desired_total: count(groups.cluster_count()),
            ..Summary::default()
        };
        let current = existing
            .iter()
            .filter_map(|known| self.works.get(&known.cluster));
        for work in current.filter(|work| work.metadata.deletion_timestamp.is_none()) {
            add(&mut summary, work);
        }
        let status = chosen.placement.status.clone().unwrap_or_default();
        self.told.placements.push(PlacementSummary {
            name: name.to_owned(),
            available_decision_groups: format!(
                "{} ({} / {} clusters applied)",
                status.decision_groups.len(),
                existing.len(),
                status.number_of_selected_clusters
            ),
            summary,
        });
        let told = &mut self.told;
        told.succeeded += existing
            .iter()
            .filter(|known| matches!(known.state, State::Succeeded { .. }))
            .count();
        told.decided += groups.cluster_count();
        let failed = existing
            .iter()
            .filter(|known| known.state.is_failure())
            .map(|known| known.cluster.clone());
        told.failed.extend(failed);
        told.failed
            .extend(outcome.timed_out.iter().map(|step| step.cluster.clone()));
        told.breached |= outcome.breached;
    }
}

/// Whether the decisions do not say what the placement says: somebody is rewriting them.
fn in_flux(chosen: &Chosen<'_>, decided: usize) -> bool {
    let status = chosen.placement.status.as_ref();
    let selected = status.map_or(0, |status| status.number_of_selected_clusters);
    usize::try_from(selected).is_ok_and(|selected| selected != decided)
}

/// The label that does not fit, if one does not.
fn bad_name(key: &str, refs: &[LocalPlacementReference]) -> Option<String> {
    if key.len() > MAX_LABEL {
        return Some(format!(
            "the works of the set would have the label {}={key}, which has {} characters: names of namespace and set may have {} together",
            names::SET_LABEL,
            key.len(),
            MAX_LABEL - 1
        ));
    }
    let long = refs
        .iter()
        .find(|reference| reference.name.len() > MAX_LABEL)?;
    Some(format!(
        "the works of the set would have the label {}={}, which has {} characters: the name of a placement may have {MAX_LABEL}",
        names::PLACEMENT_LABEL,
        long.name,
        long.name.len()
    ))
}

fn add(summary: &mut Summary, work: &ManifestWork) {
    let found = work
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let holds = |type_: &str| i64::from(conditions::is_true(found, type_));
    summary.applied += holds(work_names::APPLIED);
    summary.progressing += holds(work_names::PROGRESSING);
    summary.available += holds(work_names::AVAILABLE);
    summary.degraded += holds(work_names::DEGRADED);
    let applied = conditions::find(found, work_names::APPLIED);
    let current =
        applied.is_some_and(|applied| applied.observed_generation == work.metadata.generation);
    summary.updated += holds(work_names::APPLIED) * i64::from(current);
}

pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
