//! Writes into ClusterRoles with an aggregation rule the rules of those that it selects
//! (kubernetes: pkg/controller/clusterroleaggregation).

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::auth::rbac::CLUSTER_ROLES;
use crate::store::{Object, Store, WriteError};

/// Keeps aggregated ClusterRoles up to date until cancelled. Starts from what is stored, so it may
/// be killed at any time.
pub async fn run(store: Store, cancel: CancellationToken) {
    let work = async {
        loop {
            let listing = store.list(CLUSTER_ROLES, None);
            write(&store, &listing.items).await;
            let Ok(mut watch) = store.watch(CLUSTER_ROLES, listing.revision) else { continue };
            // Any change is reason to look at all of them: there are few. The own writes come back
            // here too, and find nothing to do. An expired watch starts the same look.
            drop(watch.next().await);
        }
    };
    cancel.run_until_cancelled(work).await;
}

async fn write(store: &Store, objects: &[Arc<Object>]) {
    let roles: Vec<Value> = objects.iter().map(|object| object.value()).collect();
    for (object, role) in objects.iter().zip(&roles) {
        if role["aggregationRule"].is_null() {
            continue;
        }
        let gathered = rules(role, &roles);
        if role["rules"].as_array().is_some_and(|current| *current == gathered) {
            continue;
        }
        let mut role = role.clone();
        role["rules"] = gathered.into();
        match store.update(object.key.clone(), object.revision, role).await {
            // A conflict comes back through the watch.
            Ok(_) | Err(WriteError::Changed(_) | WriteError::Missing | WriteError::Closed) => {}
            Err(error) => {
                tracing::warn!(name = %object.key.name, %error, "failed to write an aggregated cluster role");
            }
        }
    }
}

/// The rules that a role gathers, each once, in the order of its selectors and of the names.
pub(super) fn rules(role: &Value, all: &[Value]) -> Vec<Value> {
    let mut sorted: Vec<&Value> = all.iter().collect();
    sorted.sort_by_key(|role| super::name(role));
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
    let mut gathered: Vec<Value> = Vec::new();
    for selector in selectors.into_iter().flatten() {
        for other in &sorted {
            let own = super::name(other) == super::name(role);
            if own || !selects(selector, &other["metadata"]["labels"]) {
                continue;
            }
            for rule in other["rules"].as_array().into_iter().flatten() {
                if !gathered.contains(rule) {
                    gathered.push(rule.clone());
                }
            }
        }
    }
    gathered
}

/// A LabelSelector; one that cannot be read selects nothing.
fn selects(selector: &Value, labels: &Value) -> bool {
    let mut fields = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    selector.is_object()
        && fields.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| meets(expression, labels))
}

fn meets(expression: &Value, labels: &Value) -> bool {
    let label = labels.get(expression["key"].as_str().unwrap_or_default());
    let empty = json!([]);
    let values = expression.get("values").unwrap_or(&empty).as_array();
    let among = values.zip(label).is_some_and(|(values, label)| values.contains(label));
    match expression["operator"].as_str() {
        Some("In") => among,
        Some("NotIn") => !among,
        Some("Exists") => label.is_some(),
        Some("DoesNotExist") => label.is_none(),
        _ => false,
    }
}
