//! The roles and bindings that every cluster has, and the aggregation of ClusterRoles
//! (facts: kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy).

mod aggregate;
mod table;

use std::sync::LazyLock;

use futures::future::try_join_all;
use serde_json::{Value, json};

pub use self::aggregate::run;
use super::rbac::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP};
use crate::store::{Key, Store, WriteError};

/// The objects that [`ensure`] makes sure of, with the aggregated rules filled in: store resource
/// and object, without uid and creation time.
pub fn objects() -> Vec<(&'static str, Value)> {
    let mut roles = table::cluster_roles();
    // From the inside out: `view` is part of `edit`, `edit` of `admin`.
    for _round in 0..table::DEPTH {
        for position in 0..roles.len() {
            let Some(role) = roles.get(position) else {
                continue;
            };
            if !role["aggregationRule"].is_null() {
                let gathered = aggregate::rules(role, &roles);
                if let Some(role) = roles.get_mut(position) {
                    role["rules"] = gathered.into();
                }
            }
        }
    }
    let roles = roles.into_iter().map(|role| (CLUSTER_ROLES, role));
    let bindings = table::cluster_role_bindings();
    roles
        .chain(
            bindings
                .into_iter()
                .map(|binding| (CLUSTER_ROLE_BINDINGS, binding)),
        )
        .collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Creates what is missing of the [`objects`]; what is there stays as it is. `stamp` gives a new
/// object what every object has: uid, creation time, managed fields.
pub async fn ensure(store: &Store, stamp: impl Fn(&mut Value)) -> Result<(), WriteError> {
    static OBJECTS: LazyLock<Vec<(&str, Value)>> = LazyLock::new(objects);
    let missing = OBJECTS.iter().filter_map(|(resource, object)| {
        let key = Key::new(*resource, "", name(object));
        store.get(&key).is_none().then_some((key, object))
    });
    // All at once: the store commits together what waits together.
    let writes = missing.map(|(key, object)| {
        let mut object = object.clone();
        stamp(&mut object);
        async {
            match store.create(key, object).await {
                // Somebody else was faster.
                Ok(_) | Err(WriteError::Exists) => Ok(()),
                Err(error) => Err(error),
            }
        }
    });
    try_join_all(writes).await.map(drop)
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn api_version() -> String {
    format!("{GROUP}/v1")
}

#[cfg(test)]
mod tests;
