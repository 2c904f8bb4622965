//! Role based access control: who is bound to which rules, kept as an index that follows the store
//! (kubernetes: plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation).

mod index;
mod rule;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use self::index::{Binding, Index, Missing, Outcome};
pub(crate) use self::rule::quoted;
pub use self::rule::{Rule, uncovered};
use crate::store::{Change, Store, Watch};

/// Group of the four resources.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// Store resource of ClusterRoles.
pub const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
/// Store resource of ClusterRoleBindings.
pub const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
/// Store resource of Roles.
pub const ROLES: &str = "rbac.authorization.k8s.io/roles";
/// Store resource of RoleBindings.
pub const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

const RESOURCES: [&str; 4] = [CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLES, ROLE_BINDINGS];

/// An [`Index`] that is as new as its store whenever it is asked.
///
/// While nothing was written it costs one comparison; after a write it drains four watches, of
/// which those of the policy are nearly always empty.
#[derive(Debug)]
pub struct Policy {
    store: Store,
    /// The store's revision that `index` is known to contain.
    seen: AtomicU64,
    index: RwLock<Index>,
    /// Empty when the index must be read anew.
    watches: Mutex<Vec<Watch>>,
}

impl Policy {
    /// Follows a store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            seen: AtomicU64::new(0),
            index: RwLock::default(),
            watches: Mutex::default(),
        }
    }

    /// Asks the index as it is at the store's revision of now.
    pub fn read<T>(&self, ask: impl FnOnce(&Index) -> T) -> T {
        self.catch_up();
        ask(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn catch_up(&self) {
        let now = self.store.revision();
        if self.seen.load(Ordering::Acquire) >= now {
            return;
        }
        let mut watches = lock(&self.watches);
        if self.seen.load(Ordering::Acquire) >= now {
            return;
        }
        if watches.is_empty() || !self.drain(&mut watches) {
            self.reload(&mut watches);
        }
        // A reload that could not open its watches leaves none: the next question reloads again.
        let known = if watches.is_empty() { 0 } else { now };
        self.seen.store(known, Ordering::Release);
    }

    /// Applies what is waiting; `false` when a watch lost its place.
    fn drain(&self, watches: &mut [Watch]) -> bool {
        for watch in watches {
            loop {
                match watch.try_next() {
                    Ok(Some(change)) => self.write(|index| apply(index, &change)),
                    Ok(None) => break,
                    Err(_expired) => return false,
                }
            }
        }
        true
    }

    fn reload(&self, watches: &mut Vec<Watch>) {
        watches.clear();
        let mut index = Index::default();
        let mut opened = Vec::with_capacity(RESOURCES.len());
        for resource in RESOURCES {
            let listing = self.store.list(resource, None);
            for object in &listing.items {
                index.set(
                    resource,
                    &object.key.namespace,
                    &object.key.name,
                    &object.value(),
                );
            }
            opened.extend(self.store.watch(resource, listing.revision));
        }
        if opened.len() == RESOURCES.len() {
            *watches = opened;
        }
        self.write(|current| *current = index);
    }

    fn write(&self, change: impl FnOnce(&mut Index)) {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn apply(index: &mut Index, change: &Arc<Change>) {
    if let Some(new) = &change.new {
        index.set(
            &new.key.resource,
            &new.key.namespace,
            &new.key.name,
            &new.value(),
        );
    } else if let Some(old) = &change.old {
        index.remove(&old.key.resource, &old.key.namespace, &old.key.name);
    }
}

/// The index is replaced or changed whole, so it is sound even after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
