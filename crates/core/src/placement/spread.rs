//! Takes clusters best first, but evenly over the values of labels or claims (api: cluster/v1beta1 `SpreadConstraintsTerm`;
//! upstream declares it and does not do it).
//!
//! The skew of a value is how many clusters more than the emptiest value it has. A term is kept as long as taking a cluster leaves the
//! skew of its value within `maxSkew`. A cluster without the label or claim keeps no term.

use std::collections::BTreeMap;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::{
    SpreadConstraintsTerm, TopologyKeyType, UnsatisfiableMaxSkewAction,
};

/// Takes up to `count` of `ranked`, which are sorted best first. The answer is in the order of taking.
pub(super) fn take<'a>(
    ranked: &[&'a ManagedCluster],
    terms: &[SpreadConstraintsTerm],
    count: usize,
) -> Vec<&'a ManagedCluster> {
    let mut terms: Vec<Term<'_>> = terms.iter().map(Term::new).collect();
    // Clusters with the same values keep their order among each other.
    let mut alike: BTreeMap<Vec<Option<usize>>, Vec<usize>> = BTreeMap::new();
    for (place, cluster) in ranked.iter().enumerate() {
        let values = terms.iter_mut().map(|term| term.value(cluster)).collect();
        alike.entry(values).or_default().push(place);
    }
    for places in alike.values_mut() {
        places.reverse();
    }
    let mut taken = Vec::new();
    while taken.len() < count {
        let least: Vec<u64> = terms.iter().map(Term::least).collect();
        let best = alike
            .iter()
            .filter_map(|(values, places)| {
                let excess = excess(&terms, &least, values)?;
                Some(((excess, *places.last()?), values.clone()))
            })
            .min();
        let Some(((_, place), values)) = best else {
            break;
        };
        for (term, value) in terms.iter_mut().zip(&values) {
            term.count(*value);
        }
        if let Some(places) = alike.get_mut(&values) {
            places.pop();
        }
        taken.push(ranked[place]);
    }
    taken
}

/// By how much each term would be exceeded; `None` when one must not be.
fn excess(terms: &[Term<'_>], least: &[u64], values: &[Option<usize>]) -> Option<Vec<u64>> {
    let each = terms.iter().zip(least).zip(values);
    each.map(|((term, least), value)| {
        let excess = match value {
            Some(value) => (term.counts[*value] + 1).saturating_sub(least + term.skew),
            None => u64::MAX,
        };
        (excess == 0 || !term.hard).then_some(excess)
    })
    .collect()
}

struct Term<'t> {
    term: &'t SpreadConstraintsTerm,
    skew: u64,
    hard: bool,
    numbers: BTreeMap<String, usize>,
    counts: Vec<u64>,
}

impl<'t> Term<'t> {
    fn new(term: &'t SpreadConstraintsTerm) -> Self {
        Self {
            term,
            skew: u64::try_from(term.max_skew).unwrap_or_default().max(1),
            hard: term.when_unsatisfiable == UnsatisfiableMaxSkewAction::DoNotSchedule,
            numbers: BTreeMap::new(),
            counts: Vec::new(),
        }
    }

    /// The number of a cluster's value.
    fn value(&mut self, cluster: &ManagedCluster) -> Option<usize> {
        let key = &self.term.topology_key;
        let value = match self.term.topology_key_type {
            TopologyKeyType::Label => cluster.metadata.labels.as_ref()?.get(key)?,
            TopologyKeyType::Claim => {
                let claims = &cluster.status.as_ref()?.cluster_claims;
                &claims.iter().rev().find(|claim| claim.name == *key)?.value
            }
        };
        if let Some(number) = self.numbers.get(value) {
            return Some(*number);
        }
        let number = self.counts.len();
        self.numbers.insert(value.clone(), number);
        self.counts.push(0);
        Some(number)
    }

    fn least(&self) -> u64 {
        self.counts.iter().copied().min().unwrap_or_default()
    }

    fn count(&mut self, value: Option<usize>) {
        if let Some(value) = value {
            self.counts[value] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Clusters are written `name@zone`, best first.
    #[track_caller]
    fn check(clusters: &str, terms: Value, count: usize, expected: &str) {
        let clusters: Vec<ManagedCluster> = clusters
            .split_whitespace()
            .map(|text| {
                let (name, zone) = text.split_once('@').unwrap_or((text, ""));
                let (zone, rack) = zone.split_once('/').unwrap_or((zone, ""));
                let mut labels = json!({});
                if !zone.is_empty() {
                    labels["zone"] = zone.into();
                }
                let claims = json!([{"name": "rack", "value": rack}]);
                let claims = if rack.is_empty() { json!([]) } else { claims };
                let object = json!({"metadata": {"name": name, "labels": labels}, "status": {"clusterClaims": claims}});
                serde_json::from_value(object).unwrap()
            })
            .collect();
        let ranked: Vec<&ManagedCluster> = clusters.iter().collect();
        let terms: Vec<SpreadConstraintsTerm> = serde_json::from_value(terms).unwrap();
        let taken = take(&ranked, &terms, count);
        let names: Vec<&str> = taken
            .iter()
            .map(|it| super::super::candidates::name_of(it))
            .collect();
        assert_eq!(names.join(" "), expected);
    }

    fn zones(skew: u32, when: &str) -> Value {
        json!({"topologyKey": "zone", "topologyKeyType": "Label", "maxSkew": skew, "whenUnsatisfiable": when})
    }

    #[test]
    fn the_best_that_keeps_the_skew_is_next() {
        let hard = || json!([zones(1, "DoNotSchedule")]);
        check("a1@a a2@a a3@a b1@b b2@b", hard(), 2, "a1 b1");
        check("a1@a a2@a a3@a b1@b b2@b", hard(), 3, "a1 b1 a2");
        check("a1@a a2@a a3@a b1@b", hard(), 9, "a1 b1 a2");
        check(
            "a1@a a2@a a3@a b1@b",
            json!([zones(2, "DoNotSchedule")]),
            9,
            "a1 a2 b1 a3",
        );
        check("a1@a none b1@b", hard(), 9, "a1 b1");
        check("", hard(), 9, "");
    }

    #[test]
    fn soft_terms_only_order() {
        let soft = || json!([zones(1, "ScheduleAnyway")]);
        check("a1@a a2@a a3@a b1@b", soft(), 2, "a1 b1");
        check("a1@a a2@a a3@a b1@b none", soft(), 9, "a1 b1 a2 a3 none");
    }

    #[test]
    fn earlier_terms_matter_more() {
        let racks = |when: &str| json!({"topologyKey": "rack", "topologyKeyType": "Claim", "whenUnsatisfiable": when});
        let clusters = "a1@a/x a2@a/y b1@b/x b2@b/y";
        check(
            clusters,
            json!([zones(1, "ScheduleAnyway"), racks("ScheduleAnyway")]),
            2,
            "a1 b2",
        );
        check(
            "a1@a/x a2@a/y b1@b/x",
            json!([zones(1, "ScheduleAnyway"), racks("ScheduleAnyway")]),
            2,
            "a1 b1",
        );
        check(
            "a1@a/x a2@a/y b1@b/x",
            json!([racks("ScheduleAnyway"), zones(1, "ScheduleAnyway")]),
            2,
            "a1 a2",
        );
        check(
            "a1@a/x b1@b/x a2@a/y",
            json!([zones(1, "ScheduleAnyway"), racks("DoNotSchedule")]),
            2,
            "a1 a2",
        );
    }
}
