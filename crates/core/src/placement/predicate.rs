//! Labels, claims and expressions that a cluster must fulfil (ocm: pkg/placement/plugins/predicate, pkg/placement/helpers).

use std::collections::BTreeMap;

use drover_api::LabelSelector;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::cluster::v1beta1::{ClusterClaimSelector, ClusterPredicate};
use drover_schema::cel::{Expression, Outcome, SCORES, Variables};
use serde_json::{Value, json};

use super::candidates::name_of;
use super::{Misconfigured, Seen};
use crate::selector::{Selector, SelectorError};

/// Steps that the expressions of one predicate may take for one cluster (apiserver: pkg/apis/cel RuntimeCELCostBudget).
const BUDGET: u64 = drover_schema::cel::COST_BUDGET;
/// Steps that one of them may take (apiserver: pkg/apis/cel PerCallLimit).
const CALL_LIMIT: u64 = 1_000_000;
/// The name of the cluster in expressions.
const VARIABLE: &str = "managedCluster";

const PART: &str = "Predicate";

/// Requirements on labels and claims.
pub(super) struct Traits {
    labels: Selector,
    claims: Selector,
}

impl Traits {
    pub(super) fn new(
        labels: &LabelSelector,
        claims: &ClusterClaimSelector,
    ) -> Result<Self, SelectorError> {
        Ok(Self {
            labels: Selector::labels(labels)?,
            claims: Selector::expressions(&claims.match_expressions)?,
        })
    }

    pub(super) fn matches(&self, cluster: &ManagedCluster) -> bool {
        let claims = cluster
            .status
            .as_ref()
            .map(|status| &*status.cluster_claims);
        let claims = claims.unwrap_or_default();
        // Of claims with one name the last counts.
        let claim = |name: &str| {
            let found = claims.iter().rev().find(|claim| claim.name == name);
            found.map(|claim| claim.value.as_str())
        };
        self.labels.matches_labels(cluster.metadata.labels.as_ref()) && self.claims.matches(claim)
    }
}

/// The predicates of a placement.
pub(super) struct Predicates(Vec<Predicate>);

struct Predicate {
    traits: Traits,
    expressions: Vec<Expression>,
}

impl Predicates {
    pub(super) fn compile(predicates: &[ClusterPredicate]) -> Result<Self, Misconfigured> {
        let compiled = predicates.iter().map(|predicate| {
            let selector = &predicate.required_cluster_selector;
            let traits = Traits::new(&selector.label_selector, &selector.claim_selector)
                .map_err(|error| Misconfigured::new(PART, error.to_string()))?;
            let expressions = selector.cel_selector.cel_expressions.iter().map(|source| {
                Expression::compile(source, &[VARIABLE])
                    .map_err(|why| Misconfigured::new(PART, format!("compilation failed: {why}")))
            });
            let expressions = expressions.collect::<Result<_, _>>()?;
            Ok(Predicate {
                traits,
                expressions,
            })
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them holds, or there are none.
    pub(super) fn matches(&self, cluster: &ManagedCluster, seen: &Seen<'_>) -> bool {
        let mut variables = None;
        self.0.is_empty()
            || self.0.iter().any(|predicate| {
                predicate.traits.matches(cluster)
                    && (predicate.expressions.is_empty()
                        || hold(
                            &predicate.expressions,
                            variables.get_or_insert_with(|| shown(cluster, seen)),
                        ))
            })
    }
}

/// Whether all are true. One that fails or may take too long is not.
fn hold(expressions: &[Expression], variables: &Variables) -> bool {
    let mut budget = BUDGET;
    expressions.iter().all(|expression| {
        let limit = budget.min(CALL_LIMIT);
        let mut left = limit;
        let outcome = expression.evaluate(variables, &mut left);
        budget -= limit - left;
        outcome == Ok(Outcome::Bool(true))
    })
}

/// The cluster as expressions see it.
fn shown(cluster: &ManagedCluster, seen: &Seen<'_>) -> Variables {
    let mut scores = BTreeMap::new();
    for found in (seen.scores)(name_of(cluster)) {
        let status = found.status.clone().unwrap_or_default();
        let items = status.scores.into_iter();
        let items = items.map(|item| json!({"name": item.name, "value": item.value}));
        let name = found.metadata.name.clone().unwrap_or_default();
        scores.insert(name, items.collect::<Value>());
    }
    let mut cluster = cluster.clone();
    cluster.metadata.managed_fields = None;
    let mut object = serde_json::to_value(&cluster).unwrap_or_default();
    if let Value::Object(object) = &mut object {
        object.insert(SCORES.to_owned(), json!(scores));
    }
    Variables::default().with(VARIABLE, &object)
}
