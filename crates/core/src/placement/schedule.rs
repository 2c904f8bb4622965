//! From the clusters that may be chosen to those that are, and stay.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::Placement;
use jiff::Timestamp;

use super::candidates::name_of;
use super::predicate::Predicates;
use super::score::{self, Prioritizer};
use super::{Misconfigured, Seen, spread, toleration};

/// Rounds of choosing after which a choice that still changes is taken as it is. Every choice among a finite number of clusters comes
/// to rest or around again; in practice after the second round.
const MAX_ROUNDS: usize = 32;

/// What was chosen.
pub(super) struct Schedule<'a> {
    /// Best first.
    pub chosen: Vec<&'a ManagedCluster>,
    /// Of every cluster that could have been chosen.
    pub scores: BTreeMap<&'a str, i64>,
    /// Whether scores decided anything.
    pub by_score: bool,
    /// How many more clusters were asked for.
    pub missing: usize,
    /// What is not as it should be, and the part that says so.
    pub warning: Option<(String, String)>,
    /// When time alone changes something.
    pub wake: Option<Timestamp>,
}

struct Candidate<'a> {
    cluster: &'a ManagedCluster,
    only_if_chosen: bool,
    tolerated_until: Option<Timestamp>,
}

struct Round<'a> {
    chosen: Vec<&'a ManagedCluster>,
    scores: BTreeMap<&'a str, i64>,
}

impl<'a> Round<'a> {
    fn names(&self) -> BTreeSet<&'a str> {
        self.chosen.iter().map(|cluster| name_of(cluster)).collect()
    }
}

/// Chooses among `clusters`, which are sorted by name; `current` are chosen now.
pub(super) fn schedule<'a>(
    seen: &Seen<'_>,
    clusters: &[&'a ManagedCluster],
    current: &BTreeSet<&str>,
    now: Timestamp,
) -> Result<Schedule<'a>, Misconfigured> {
    let spec = &seen.placement.spec;
    let candidates = filter(seen, clusters, now)?;
    let weights = score::weights(&spec.prioritizer_policy)?;
    let choose = |current: &BTreeSet<&str>| {
        let feasible: Vec<&'a ManagedCluster> = candidates
            .iter()
            .filter(|it| !it.only_if_chosen || current.contains(name_of(it.cluster)))
            .map(|it| it.cluster)
            .collect();
        round(seen, feasible, &weights, current, now)
    };
    let round = settle(current, choose);
    let asked = spec
        .number_of_clusters
        .map(|count| usize::try_from(count).unwrap_or(0));
    let missing = asked.map_or(0, |asked| asked.saturating_sub(round.chosen.len()));
    let chosen = round.names();
    let ends = candidates
        .iter()
        .filter(|it| chosen.contains(name_of(it.cluster)))
        .filter_map(|it| it.tolerated_until);
    let (warning, expiry) = expiring(seen, round.scores.keys(), &weights, now);
    Ok(Schedule {
        by_score: is_decided_by_score(seen.placement) && !round.scores.is_empty(),
        missing,
        warning,
        wake: ends.chain(expiry).min(),
        chosen: round.chosen,
        scores: round.scores,
    })
}

/// The clusters that no predicate and no taint keeps away.
fn filter<'a>(
    seen: &Seen<'_>,
    clusters: &[&'a ManagedCluster],
    now: Timestamp,
) -> Result<Vec<Candidate<'a>>, Misconfigured> {
    let spec = &seen.placement.spec;
    // Upstream looks at neither where there is nothing to keep away.
    if clusters.is_empty() {
        return Ok(Vec::new());
    }
    let predicates = Predicates::compile(&spec.predicates)?;
    let matching: Vec<&ManagedCluster> = clusters
        .iter()
        .copied()
        .filter(|cluster| predicates.matches(cluster, seen))
        .collect();
    if !matching.is_empty() {
        toleration::check(&spec.tolerations)?;
    }
    let tolerated = matching.into_iter().filter_map(|cluster| {
        let tolerated = toleration::tolerated(cluster, &spec.tolerations, now)?;
        Some(Candidate {
            cluster,
            only_if_chosen: tolerated.only_if_chosen,
            tolerated_until: tolerated.until,
        })
    });
    Ok(tolerated.collect())
}

fn round<'a>(
    seen: &Seen<'_>,
    mut feasible: Vec<&'a ManagedCluster>,
    weights: &[(Prioritizer, i64)],
    current: &BTreeSet<&str>,
    now: Timestamp,
) -> Round<'a> {
    let mut sums = vec![0_i64; feasible.len()];
    for (prioritizer, weight) in weights {
        let scores = score::scores(prioritizer, seen, &feasible, current, now);
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += score * weight;
        }
    }
    let scores: BTreeMap<&str, i64> = feasible
        .iter()
        .map(|cluster| name_of(cluster))
        .zip(sums)
        .collect();
    let rank = |cluster: &&'a ManagedCluster| {
        let name = name_of(cluster);
        (std::cmp::Reverse(scores.get(name).copied()), name)
    };
    feasible.sort_by(|one, other| rank(one).cmp(&rank(other)));
    let spec = &seen.placement.spec;
    let asked = spec
        .number_of_clusters
        .map(|count| usize::try_from(count).unwrap_or(0));
    let count = asked.unwrap_or(feasible.len());
    let terms = &spec.spread_policy.spread_constraints;
    let chosen = if terms.is_empty() {
        feasible.truncate(count);
        feasible
    } else {
        spread::take(&feasible, terms, count)
    };
    Round { chosen, scores }
}

/// Chooses again until the choice stays. One that never does comes around again: then the first in order of all that come around.
fn settle<'a>(
    current: &BTreeSet<&str>,
    choose: impl Fn(&BTreeSet<&str>) -> Round<'a>,
) -> Round<'a> {
    let mut round = choose(current);
    if round.names() == *current {
        return round;
    }
    let mut before: Vec<Round<'a>> = Vec::new();
    loop {
        let names = round.names();
        let start = before.iter().position(|earlier| earlier.names() == names);
        if let Some(start) = start {
            let around = before.drain(start..).min_by_key(Round::names);
            return around.unwrap_or(round);
        }
        if before.len() >= MAX_ROUNDS {
            return round;
        }
        let next = choose(&names);
        if next.names() == names {
            return next;
        }
        before.push(std::mem::replace(&mut round, next));
    }
}

/// Scores of add-ons that do not count any more, and when the next one stops to count.
fn expiring<'a>(
    seen: &Seen<'_>,
    clusters: impl Iterator<Item = &'a &'a str> + Clone,
    weights: &[(Prioritizer, i64)],
    now: Timestamp,
) -> (Option<(String, String)>, Option<Timestamp>) {
    let (mut warning, mut next) = (None, None);
    for (prioritizer, _) in weights {
        let Prioritizer::AddOn(score) = prioritizer else {
            continue;
        };
        let mut expired: Vec<&str> = Vec::new();
        for cluster in clusters.clone() {
            let found = score::add_on(seen, cluster, score, now);
            expired.extend(found.expired.then_some(*cluster));
            next = [next, found.until].into_iter().flatten().min();
        }
        if !expired.is_empty() {
            let resource = &score.resource_name;
            let part = format!("AddOn/{resource}/{}", score.score_name);
            let all: Vec<_> = expired
                .iter()
                .map(|it| format!("{it}/{resource}"))
                .collect();
            warning = Some((
                part,
                format!("AddOnPlacementScores {} expired", all.join(" ")),
            ));
        }
    }
    (warning, next)
}

fn is_decided_by_score(placement: &Placement) -> bool {
    let spec = &placement.spec;
    spec.number_of_clusters.is_some()
        || !spec.spread_policy.spread_constraints.is_empty()
        || super::decision::is_sorted_by_score(placement)
}
