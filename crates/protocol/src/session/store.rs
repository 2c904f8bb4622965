//! Local copies, found by uid and by name without scanning.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::codec::Resource;

/// Copies by uid, with an index by namespace and name.
#[derive(Clone, Debug)]
pub struct Store<R> {
    by_uid: BTreeMap<String, Arc<R>>,
    /// Two sources may use one name in one cluster: the first that came is found first.
    by_name: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl<R> Default for Store<R> {
    fn default() -> Self {
        Self {
            by_uid: BTreeMap::new(),
            by_name: BTreeMap::new(),
        }
    }
}

fn beyond(key: Option<&str>) -> (Bound<&str>, Bound<&str>) {
    (
        key.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}

impl<R: Resource> Store<R> {
    /// By uid.
    pub fn get(&self, uid: &str) -> Option<&Arc<R>> {
        self.by_uid.get(uid)
    }

    /// By namespace and name.
    pub fn get_named(&self, namespace: &str, name: &str) -> Option<&Arc<R>> {
        self.named(namespace, name).next()
    }

    /// All with a namespace and name: more than one only if several sources use the name.
    pub fn named(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Arc<R>> {
        let uids = self
            .by_name
            .get(namespace)
            .and_then(|names| names.get(name));
        uids.into_iter()
            .flatten()
            .filter_map(|uid| self.by_uid.get(uid))
    }

    /// All in a namespace, by name.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<R>> {
        let names = self.by_name.get(namespace).into_iter().flatten();
        names
            .flat_map(|(_, uids)| uids)
            .filter_map(|uid| self.by_uid.get(uid))
    }

    /// All in a namespace whose names come after one.
    pub(super) fn in_namespace_after(
        &self,
        namespace: &str,
        name: Option<&str>,
    ) -> impl Iterator<Item = &Arc<R>> {
        let names = self.by_name.get(namespace).into_iter();
        names
            .flat_map(move |names| names.range::<str, _>(beyond(name)))
            .flat_map(|(_, uids)| uids)
            .filter_map(|uid| self.by_uid.get(uid))
    }

    /// All whose uids come after one.
    pub(super) fn iter_after(&self, uid: Option<&str>) -> impl Iterator<Item = &Arc<R>> {
        let objects = self.by_uid.range::<str, _>(beyond(uid));
        objects.map(|(_, object)| object)
    }

    /// Namespaces that hold something.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// All, by uid.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.by_uid.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_uid.is_empty()
    }

    pub(super) fn put(&mut self, object: R) -> Arc<R> {
        let uid = object.meta().uid.clone();
        let same_name = self.by_uid.get(&uid).is_some_and(|old| {
            (&old.meta().name, &old.meta().namespace)
                == (&object.meta().name, &object.meta().namespace)
        });
        if !same_name {
            self.remove(&uid);
            let names = self
                .by_name
                .entry(object.meta().namespace.clone())
                .or_default();
            names
                .entry(object.meta().name.clone())
                .or_default()
                .push(uid.clone());
        }
        let object = Arc::new(object);
        self.by_uid.insert(uid, Arc::clone(&object));
        object
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<Arc<R>> {
        let old = self.by_uid.remove(uid)?;
        let meta = old.meta();
        if let Some(names) = self.by_name.get_mut(&meta.namespace) {
            if let Some(uids) = names.get_mut(&meta.name) {
                uids.retain(|other| other != uid);
                if uids.is_empty() {
                    names.remove(&meta.name);
                }
            }
            if names.is_empty() {
                self.by_name.remove(&meta.namespace);
            }
        }
        Some(old)
    }
}
