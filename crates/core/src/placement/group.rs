//! Divides the chosen clusters into groups (ocm: pkg/placement/controllers/scheduling).

use std::collections::BTreeSet;

use drover_api::IntOrString;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::{ClusterDecision, Placement};

use super::Misconfigured;
use super::candidates::name_of;
use super::decision::Ranking;
use super::predicate::Traits;

/// A group; its index is its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// Empty for the clusters that no named group took.
    pub name: String,
    /// In order.
    pub clusters: Vec<ClusterDecision>,
}

/// There is always a group, if only an empty one.
pub(super) fn divide(
    placement: &Placement,
    chosen: &[&ManagedCluster],
    ranking: &Ranking,
) -> Result<Vec<Group>, Misconfigured> {
    let strategy = &placement.spec.decision_strategy.group_strategy;
    let size = size(strategy.clusters_per_decision_group.as_ref(), chosen.len())?;
    let mut rest: BTreeSet<&str> = chosen.iter().map(|cluster| name_of(cluster)).collect();
    let mut groups = Vec::new();
    for group in &strategy.decision_groups {
        let selector = &group.group_cluster_selector;
        let traits = Traits::new(&selector.label_selector, &selector.claim_selector)
            .map_err(|error| Misconfigured::new("", error.to_string()))?;
        let matching = chosen.iter().filter(|cluster| traits.matches(cluster));
        let members: Vec<&str> = matching
            .map(|cluster| name_of(cluster))
            .filter(|name| rest.remove(name))
            .collect();
        cut(&group.group_name, members, size, ranking, &mut groups);
    }
    cut("", rest.into_iter().collect(), size, ranking, &mut groups);
    if groups.is_empty() {
        groups.push(Group::default());
    }
    Ok(groups)
}

fn cut(name: &str, members: Vec<&str>, size: usize, ranking: &Ranking, groups: &mut Vec<Group>) {
    let members = ranking.sorted(members);
    let pieces = members.chunks(size.max(1));
    groups.extend(pieces.map(|piece| Group {
        name: name.to_owned(),
        clusters: piece.to_vec(),
    }));
}

/// The most clusters of one group.
fn size(wanted: Option<&IntOrString>, total: usize) -> Result<usize, Misconfigured> {
    let size = match wanted {
        None => total,
        Some(IntOrString::Int(number)) => usize::try_from(*number).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|it| it.parse::<f64>().ok());
            let percent = percent.ok_or_else(|| {
                let detail = format!("{text} invalid type: string is not a percentage");
                Misconfigured::new("", detail)
            })?;
            (percent / 100.0 * total as f64).ceil() as usize
        }
    };
    Ok(if size == 0 || size > total {
        total
    } else {
        size
    })
}
