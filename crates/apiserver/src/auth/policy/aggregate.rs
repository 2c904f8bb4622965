//! Writes into ClusterRoles with an aggregation rule the rules of those that it selects
//! (kubernetes: pkg/controller/clusterroleaggregation).

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::auth::rbac::CLUSTER_ROLES;
use crate::selector::LabelSelector;
use crate::store::{Meta, Object, Store, WriteError};

/// Keeps aggregated ClusterRoles up to date until cancelled. Starts from what is stored, so it may
/// be killed at any time.
pub async fn run(store: Store, cancel: CancellationToken) {
    let work = async {
        loop {
            let listing = store.list(CLUSTER_ROLES, None);
            write(&store, &listing.items).await;
            let Ok(mut watch) = store.watch(CLUSTER_ROLES, listing.revision) else {
                tokio::task::yield_now().await;
                continue;
            };
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
        let current = role["rules"].as_array().map_or(&[][..], Vec::as_slice);
        if current == gathered {
            continue;
        }
        let mut role = role.clone();
        role["rules"] = gathered.into();
        match store
            .update(object.key.clone(), object.revision, role)
            .await
        {
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
    // A selector that cannot be read selects nothing.
    let selectors = selectors
        .into_iter()
        .flatten()
        .filter_map(|s| LabelSelector::from_json(s).ok());
    for selector in selectors {
        for other in &sorted {
            let own = super::name(other) == super::name(role);
            if own || !selector.matches(&Meta::of(other).labels) {
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
