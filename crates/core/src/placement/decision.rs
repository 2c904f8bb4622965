//! PlacementDecisions: which there are, which there shall be, and in which order they are written.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::cluster::v1beta1::{
    ClusterDecision, DecisionGroupStatus, Placement, PlacementDecision, PlacementSortByType,
    PlacementStatus,
};
use drover_api::names::placement as words;
use drover_api::{ObjectMeta, OwnerReference, Time};
use jiff::{SignedDuration, Timestamp};

use super::group::Group;
use super::schedule::Schedule;
use super::{Action, MAX_NOTE, Note, Seen};

/// Clusters of one PlacementDecision at most (ocm: pkg/placement/controllers/scheduling).
pub const MAX_DECISIONS: usize = 100;

/// How long scores stand when the placement does not say (api: cluster/v1beta1 `ScoreRateLimit`).
const SCORE_RATE_LIMIT: SignedDuration = SignedDuration::from_mins(1);

/// An object that shall be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub name: String,
    pub index: i32,
    pub group: String,
    pub clusters: Vec<ClusterDecision>,
}

impl Wanted {
    fn labels(&self, placement: &Placement) -> BTreeMap<String, String> {
        let placement = placement.metadata.name.clone().unwrap_or_default();
        BTreeMap::from([
            (words::PLACEMENT_LABEL.to_owned(), placement),
            (words::GROUP_NAME_LABEL.to_owned(), self.group.clone()),
            (words::GROUP_INDEX_LABEL.to_owned(), self.index.to_string()),
        ])
    }
}

/// The objects that there are.
pub(super) struct Own<'a> {
    /// Those with the placement's label, in order of their numbers.
    labelled: Vec<&'a PlacementDecision>,
    /// All of the namespace, by name.
    by_name: BTreeMap<&'a str, &'a PlacementDecision>,
}

impl<'a> Own<'a> {
    pub(super) fn of(seen: &Seen<'a>) -> Self {
        let metadata = &seen.placement.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let here = seen.decisions.iter().map(AsRef::as_ref);
        let here = here.filter(|found| found.metadata.namespace == metadata.namespace);
        let by_name: BTreeMap<&str, &PlacementDecision> = here
            .filter_map(|found| Some((found.metadata.name.as_deref()?, found)))
            .collect();
        let mut labelled: Vec<&PlacementDecision> = by_name
            .values()
            .copied()
            .filter(|found| label(found, words::PLACEMENT_LABEL) == Some(name))
            .collect();
        let number = |found: &PlacementDecision| {
            let name = found.metadata.name.as_deref().unwrap_or_default();
            let number = name
                .rsplit('-')
                .next()
                .and_then(|text| text.parse::<u64>().ok());
            (number.unwrap_or(u64::MAX), name.to_owned())
        };
        labelled.sort_by_key(|found| number(found));
        Self { labelled, by_name }
    }

    /// The clusters that are chosen now.
    pub(super) fn clusters(&self) -> BTreeSet<&'a str> {
        let all = self.labelled.iter().flat_map(|found| decisions(found));
        all.map(|decision| decision.cluster_name.as_str()).collect()
    }

    fn recorded(&self) -> BTreeMap<&'a str, i64> {
        let all = self.labelled.iter().flat_map(|found| decisions(found));
        all.map(|decision| (decision.cluster_name.as_str(), decision.score))
            .collect()
    }

    /// The objects as they are, with those of the `members` that they have.
    pub(super) fn kept(&self, placement: &Placement, members: &BTreeSet<&str>) -> Vec<Wanted> {
        let kept: Vec<Wanted> = self
            .labelled
            .iter()
            .map(|found| Wanted {
                name: found.metadata.name.clone().unwrap_or_default(),
                index: label(found, words::GROUP_INDEX_LABEL)
                    .and_then(|index| index.parse().ok())
                    .unwrap_or_default(),
                group: label(found, words::GROUP_NAME_LABEL)
                    .unwrap_or_default()
                    .to_owned(),
                clusters: decisions(found)
                    .iter()
                    .filter(|decision| members.contains(decision.cluster_name.as_str()))
                    .cloned()
                    .collect(),
            })
            .collect();
        if kept.is_empty() {
            objects(placement, vec![Group::default()])
        } else {
            kept
        }
    }
}

fn label<'l>(found: &'l PlacementDecision, key: &str) -> Option<&'l str> {
    let labels = found.metadata.labels.as_ref()?;
    labels.get(key).map(String::as_str)
}

fn decisions(found: &PlacementDecision) -> &[ClusterDecision] {
    found
        .status
        .as_ref()
        .map(|status| &*status.decisions)
        .unwrap_or_default()
}

pub(super) fn is_sorted_by_score(placement: &Placement) -> bool {
    placement.spec.sort_by == Some(PlacementSortByType::Score)
}

/// In which order decisions stand, and with which scores.
pub(super) struct Ranking {
    /// The scores to show; `None`: sorted by name, without scores.
    scores: Option<BTreeMap<String, i64>>,
    /// When the scores were last updated.
    pub updated: Option<Time>,
    /// When newer scores may be shown.
    pub wake: Option<Timestamp>,
}

impl Ranking {
    /// By name, without scores.
    pub(super) fn by_name() -> Self {
        Self {
            scores: None,
            updated: None,
            wake: None,
        }
    }

    /// Scores that do not change which clusters are chosen are not updated too often.
    pub(super) fn of(
        placement: &Placement,
        schedule: &Schedule<'_>,
        own: &Own<'_>,
        now: Timestamp,
    ) -> Self {
        if !is_sorted_by_score(placement) {
            return Self::by_name();
        }
        let name = |cluster| super::candidates::name_of(cluster);
        let score = |name: &str| schedule.scores.get(name).copied().unwrap_or_default();
        let fresh: BTreeMap<&str, i64> = schedule
            .chosen
            .iter()
            .map(|cluster| (name(cluster), score(name(cluster))))
            .collect();
        let known = own.recorded();
        let last = placement
            .status
            .as_ref()
            .and_then(|it| it.last_score_update_time.clone());
        let due = last.as_ref().map(|last| {
            let limit = rate_limit(&placement.spec.score_rate_limit);
            last.0.saturating_add(limit).unwrap_or(Timestamp::MAX)
        });
        let owned = |scores: &BTreeMap<&str, i64>| {
            Some(
                scores
                    .iter()
                    .map(|(name, score)| ((*name).to_owned(), *score))
                    .collect(),
            )
        };
        match due {
            Some(_) if fresh == known => Self {
                scores: owned(&known),
                updated: last,
                wake: None,
            },
            Some(due) if now < due && fresh.keys().eq(known.keys()) => Self {
                scores: owned(&known),
                updated: last,
                wake: Some(due),
            },
            _ => {
                let seconds = Timestamp::from_second(now.as_second()).unwrap_or(now);
                Self {
                    scores: owned(&fresh),
                    updated: Some(Time(seconds)),
                    wake: None,
                }
            }
        }
    }

    /// The decisions for clusters, in order.
    pub(super) fn sorted(&self, names: Vec<&str>) -> Vec<ClusterDecision> {
        let score = |name: &str| {
            let scores = self.scores.as_ref();
            scores
                .and_then(|scores| scores.get(name))
                .copied()
                .unwrap_or_default()
        };
        let mut sorted: Vec<ClusterDecision> = names
            .into_iter()
            .map(|name| ClusterDecision {
                cluster_name: name.to_owned(),
                reason: String::new(),
                score: score(name),
            })
            .collect();
        sorted.sort_by(|one, other| {
            let by_score = other.score.cmp(&one.score);
            by_score.then_with(|| one.cluster_name.cmp(&other.cluster_name))
        });
        sorted
    }
}

/// A number and `h`, `m` or `s`.
fn rate_limit(text: &str) -> SignedDuration {
    let unit = |text: &str| match text {
        "h" => Some(3600),
        "m" => Some(60),
        "s" => Some(1),
        _ => None,
    };
    let parsed = text.find(|c: char| !c.is_ascii_digit()).and_then(|end| {
        let (number, rest) = text.split_at(end);
        number.parse::<i64>().ok()?.checked_mul(unit(rest)?)
    });
    parsed.map_or(SCORE_RATE_LIMIT, SignedDuration::from_secs)
}

/// The objects for groups: named and numbered as upstream does.
pub(super) fn objects(placement: &Placement, groups: Vec<Group>) -> Vec<Wanted> {
    let owner = placement.metadata.name.as_deref().unwrap_or_default();
    let mut objects = Vec::new();
    for (index, group) in groups.into_iter().enumerate() {
        let mut pieces: Vec<Vec<ClusterDecision>> = group
            .clusters
            .chunks(MAX_DECISIONS)
            .map(<[_]>::to_vec)
            .collect();
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        for clusters in pieces {
            objects.push(Wanted {
                name: format!("{owner}-decision-{}", objects.len() + 1),
                index: i32::try_from(index).unwrap_or(i32::MAX),
                group: group.name.clone(),
                clusters,
            });
        }
    }
    objects
}

/// What the placement says of its decisions, without conditions.
pub(super) fn status(wanted: &[Wanted], updated: Option<Time>) -> PlacementStatus {
    let count = |clusters: usize| i32::try_from(clusters).unwrap_or(i32::MAX);
    let mut groups: Vec<DecisionGroupStatus> = Vec::new();
    for object in wanted {
        match groups
            .last_mut()
            .filter(|last| last.decision_group_index == object.index)
        {
            Some(last) => {
                last.decisions.push(object.name.clone());
                last.clusters_count += count(object.clusters.len());
            }
            None => groups.push(DecisionGroupStatus {
                decision_group_index: object.index,
                decision_group_name: object.group.clone(),
                decisions: vec![object.name.clone()],
                clusters_count: count(object.clusters.len()),
            }),
        }
    }
    PlacementStatus {
        number_of_selected_clusters: count(wanted.iter().map(|it| it.clusters.len()).sum()),
        decision_groups: groups,
        conditions: Vec::new(),
        last_score_update_time: updated,
    }
}

/// The steps to the wanted objects. A cluster that moves stands in its new object before it leaves the old one.
pub(super) fn write(
    seen: &Seen<'_>,
    own: &Own<'_>,
    wanted: &[Wanted],
    schedule: Option<&Schedule<'_>>,
    actions: &mut Vec<Action>,
) {
    for object in in_order(wanted, own) {
        let found = own.by_name.get(object.name.as_str());
        let labels = object.labels(seen.placement);
        let mut changed = false;
        if found.is_none() {
            actions.push(Action::CreateDecision(Box::new(new(
                seen.placement,
                object,
                &labels,
            ))));
            tell(seen, "Create", &object.name, None, actions);
        }
        let known = found.map(|found| decisions(found)).unwrap_or_default();
        if known != object.clusters {
            actions.push(Action::SetDecisions {
                name: object.name.clone(),
                decisions: object.clusters.clone(),
            });
            changed = true;
        }
        if found.is_some_and(|found| {
            labels
                .iter()
                .any(|(key, value)| label(found, key) != Some(value.as_str()))
        }) {
            actions.push(Action::SetLabels {
                name: object.name.clone(),
                labels,
            });
            changed = true;
        }
        if changed {
            let warning = schedule.and_then(|schedule| schedule.warning.as_ref());
            tell(seen, "Update", &object.name, warning, actions);
            actions.extend(
                schedule
                    .filter(|schedule| schedule.by_score)
                    .map(|schedule| Action::Tell(scores(schedule, &object.name))),
            );
        }
    }
    let names: BTreeSet<&str> = wanted.iter().map(|object| object.name.as_str()).collect();
    for found in &own.labelled {
        let name = found.metadata.name.as_deref().unwrap_or_default();
        if !names.contains(name) {
            actions.push(Action::DeleteDecision(name.to_owned()));
            tell(seen, "Delete", name, None, actions);
        }
    }
}

/// An object comes after those that get clusters from it. Where two exchange clusters, the first in order comes first.
fn in_order<'w>(wanted: &'w [Wanted], own: &Own<'_>) -> Vec<&'w Wanted> {
    let places = wanted.iter().flat_map(|object| {
        let clusters = object.clusters.iter();
        clusters.map(move |decision| (decision.cluster_name.as_str(), object.name.as_str()))
    });
    let places: BTreeMap<&str, &str> = places.collect();
    let takers = |object: &Wanted| -> BTreeSet<&str> {
        let found = own.by_name.get(object.name.as_str());
        let old = found.into_iter().flat_map(|found| decisions(found));
        let now = old.filter_map(|decision| places.get(decision.cluster_name.as_str()).copied());
        now.filter(|place| *place != object.name).collect()
    };
    let mut waiting: Vec<(&Wanted, BTreeSet<&str>)> = wanted
        .iter()
        .map(|object| (object, takers(object)))
        .collect();
    let mut ordered = Vec::with_capacity(wanted.len());
    while !waiting.is_empty() {
        let free = waiting.iter().position(|(_, takers)| takers.is_empty());
        let (next, _) = waiting.remove(free.unwrap_or_default());
        for (_, takers) in &mut waiting {
            takers.remove(next.name.as_str());
        }
        ordered.push(next);
    }
    ordered
}

fn new(
    placement: &Placement,
    object: &Wanted,
    labels: &BTreeMap<String, String>,
) -> PlacementDecision {
    let owner = OwnerReference {
        api_version: "cluster.open-cluster-management.io/v1beta1".to_owned(),
        kind: "Placement".to_owned(),
        name: placement.metadata.name.clone().unwrap_or_default(),
        uid: placement.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    PlacementDecision {
        metadata: ObjectMeta {
            name: Some(object.name.clone()),
            namespace: placement.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        status: None,
    }
}

fn tell(
    seen: &Seen<'_>,
    what: &str,
    name: &str,
    warning: Option<&(String, String)>,
    actions: &mut Vec<Action>,
) {
    let metadata = &seen.placement.metadata;
    let placement = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let (reason, action, verb) = match what {
        "Create" => ("DecisionCreate", "DecisionCreated", "created"),
        "Delete" => ("DecisionDelete", "DecisionDeleted", "deleted"),
        _ => ("DecisionUpdate", "DecisionUpdated", "updated"),
    };
    let warned = warning.map(|(part, why)| format!(": {why} in plugin {part}"));
    let mut message = format!(
        "Decision {name} is {verb} with placement {placement} in namespace {namespace}{}",
        warned.unwrap_or_default()
    );
    if let Some((end, _)) = message
        .char_indices()
        .find(|(end, c)| end + c.len_utf8() > MAX_NOTE)
    {
        message.truncate(end);
    }
    actions.push(Action::Tell(Note {
        warning: warning.is_some(),
        reason,
        action,
        message,
        decision: name.to_owned(),
    }));
}

/// The scores, best first.
fn scores(schedule: &Schedule<'_>, name: &str) -> Note {
    let mut ranked: Vec<(&str, i64)> = schedule.scores.iter().map(|(n, s)| (*n, *s)).collect();
    ranked.sort_by_key(|(name, score)| (std::cmp::Reverse(*score), *name));
    let mut message = String::new();
    for (name, score) in ranked {
        let next = format!("{name}:{score} ");
        if message.len() + next.len() > MAX_NOTE {
            message += "......";
            break;
        }
        message += &next;
    }
    Note {
        warning: false,
        reason: "ScoreUpdate",
        action: "ScoreUpdated",
        message,
        decision: name.to_owned(),
    }
}
