//! Scores from -100 to 100 for each cluster, and their weights (ocm: pkg/placement/plugins/{balance,steady,resource,addon}).

use std::collections::{BTreeMap, BTreeSet};

use drover_api::Quantity;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::{
    AddOnScore, PrioritizerPolicy, ScoreCoordinate, ScoreCoordinateType,
};
use drover_schema::builtin::quantity_nanos;
use jiff::Timestamp;

use super::candidates::name_of;
use super::{Misconfigured, Seen};

const MAX: i64 = 100;

/// Where a score comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prioritizer {
    Balance,
    Steady,
    Allocatable(&'static str),
    AddOn(AddOnScore),
}

/// The prioritizers that count, and how much.
pub(super) fn weights(
    policy: &PrioritizerPolicy,
) -> Result<Vec<(Prioritizer, i64)>, Misconfigured> {
    let mut weights: BTreeMap<(ScoreCoordinate, usize), i32> = BTreeMap::new();
    match policy.mode.as_str() {
        PrioritizerPolicy::EXACT => (),
        "" | PrioritizerPolicy::ADDITIVE => {
            for name in ["Balance", "Steady"] {
                let built_in = ScoreCoordinate {
                    built_in: name.to_owned(),
                    ..Default::default()
                };
                weights.insert((built_in, 0), 1);
            }
        }
        other => {
            let detail = format!("incorrect prioritizer policy mode: {other}");
            return Err(Misconfigured::new("", detail));
        }
    }
    for (index, configured) in policy.configurations.iter().enumerate() {
        let coordinate = configured.score_coordinate.clone();
        let coordinate = coordinate
            .ok_or_else(|| Misconfigured::new("", "scoreCoordinate field is required"))?;
        // The same score of an add-on counts as often as it is configured.
        let number = coordinate.add_on.as_ref().map_or(0, |_| index + 1);
        weights.insert((coordinate, number), configured.weight);
    }
    let counting = weights.into_iter().filter(|(_, weight)| *weight != 0);
    counting
        .map(|((coordinate, _), weight)| Ok((prioritizer(coordinate)?, i64::from(weight))))
        .collect()
}

fn prioritizer(coordinate: ScoreCoordinate) -> Result<Prioritizer, Misconfigured> {
    let wrong = |detail: String| Err(Misconfigured::new("", detail));
    match (
        coordinate.type_,
        coordinate.built_in.as_str(),
        coordinate.add_on,
    ) {
        (ScoreCoordinateType::BuiltIn, "Balance", _) => Ok(Prioritizer::Balance),
        (ScoreCoordinateType::BuiltIn, "Steady", _) => Ok(Prioritizer::Steady),
        (ScoreCoordinateType::BuiltIn, "ResourceAllocatableCPU", _) => {
            Ok(Prioritizer::Allocatable("cpu"))
        }
        (ScoreCoordinateType::BuiltIn, "ResourceAllocatableMemory", _) => {
            Ok(Prioritizer::Allocatable("memory"))
        }
        (ScoreCoordinateType::BuiltIn, other, _) => {
            wrong(format!("incorrect builtin prioritizer: {other}"))
        }
        (ScoreCoordinateType::AddOn, _, Some(score)) => Ok(Prioritizer::AddOn(score)),
        (ScoreCoordinateType::AddOn, _, None) => wrong("addOn should not be empty".to_owned()),
    }
}

/// The scores of clusters in their order.
pub(super) fn scores(
    prioritizer: &Prioritizer,
    seen: &Seen<'_>,
    clusters: &[&ManagedCluster],
    chosen: &BTreeSet<&str>,
    now: Timestamp,
) -> Vec<i64> {
    match prioritizer {
        Prioritizer::Balance => balance(seen.elsewhere, clusters),
        Prioritizer::Steady => {
            let steady = |cluster: &&ManagedCluster| chosen.contains(name_of(cluster));
            let score = |stays: bool| if stays { MAX } else { 0 };
            clusters
                .iter()
                .map(|cluster| score(steady(cluster)))
                .collect()
        }
        Prioritizer::Allocatable(resource) => allocatable(resource, clusters),
        Prioritizer::AddOn(score) => {
            let of = |cluster: &&ManagedCluster| add_on(seen, name_of(cluster), score, now);
            clusters.iter().map(|cluster| of(cluster).value).collect()
        }
    }
}

fn balance(elsewhere: &BTreeMap<String, u64>, clusters: &[&ManagedCluster]) -> Vec<i64> {
    let most = elsewhere.values().copied().max().unwrap_or_default();
    let score = |count: u64| {
        let usage = count as f64 / most as f64;
        2 * ((MAX as f64 * (0.5 - usage)) as i64)
    };
    let count = |cluster: &ManagedCluster| elsewhere.get(name_of(cluster)).copied();
    let scores = clusters.iter().map(|cluster| match count(cluster) {
        None | Some(0) => MAX,
        Some(count) => score(count),
    });
    scores.collect()
}

fn allocatable(resource: &str, clusters: &[&ManagedCluster]) -> Vec<i64> {
    let amounts: Vec<Option<f64>> = clusters.iter().map(|it| amount(it, resource)).collect();
    let least = amounts
        .iter()
        .flatten()
        .copied()
        .fold(f64::INFINITY, f64::min);
    let most = amounts
        .iter()
        .flatten()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let score = |amount: f64| {
        if most - least == 0.0 {
            return MAX;
        }
        let ratio = (amount - least) / (most - least);
        ((ratio - 0.5) * 2.0 * 100.0) as i64
    };
    amounts
        .into_iter()
        .map(|amount| amount.map_or(0, score))
        .collect()
}

/// What a cluster can give of a resource. One that does not say how much it has in all does not count.
fn amount(cluster: &ManagedCluster, resource: &str) -> Option<f64> {
    let status = cluster.status.as_ref()?;
    status.capacity.get(resource)?;
    approximate(status.allocatable.get(resource)?)
}

/// An amount as apimachinery approximates it: the written number times a power of ten.
fn approximate(quantity: &Quantity) -> Option<f64> {
    let mut number = quantity_nanos(&quantity.0)?;
    let mut scale = 1e-9;
    for next in [1e-6, 1e-3, 1.0] {
        if number % 1000 != 0 {
            break;
        }
        number /= 1000;
        scale = next;
    }
    Some(number as f64 * scale)
}

/// A score of an add-on.
pub(super) struct Scored {
    pub value: i64,
    /// It does not count any more.
    pub expired: bool,
    /// When it stops to count.
    pub until: Option<Timestamp>,
}

pub(super) fn add_on(seen: &Seen<'_>, cluster: &str, score: &AddOnScore, now: Timestamp) -> Scored {
    let none = Scored {
        value: 0,
        expired: false,
        until: None,
    };
    let found = (seen.scores)(cluster);
    let named = |name: &Option<String>| name.as_deref() == Some(score.resource_name.as_str());
    let found = found.iter().find(|found| named(&found.metadata.name));
    let Some(status) = found.and_then(|found| found.status.as_ref()) else {
        return none;
    };
    let until = status.valid_until.as_ref().map(|time| time.0);
    if until.is_some_and(|until| now > until) {
        return Scored {
            expired: true,
            ..none
        };
    }
    let item = status
        .scores
        .iter()
        .rev()
        .find(|item| item.name == score.score_name);
    Scored {
        value: item.map_or(0, |item| i64::from(item.value)),
        expired: false,
        until,
    }
}

#[cfg(test)]
mod tests;
