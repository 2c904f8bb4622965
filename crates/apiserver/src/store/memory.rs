//! What readers and watchers see: the current objects, their indexes, and the recent history.
//!
//! Everything here happens under one short lock per store; nothing here waits for a disk.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Change, Expired, Key, Listing, Object};

/// How much history a store keeps for watches and consistent lists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) age: Duration,
    pub(super) changes: usize,
    pub(super) bytes: usize,
}

type Names = BTreeMap<Arc<str>, Arc<Object>>;

/// The objects of one resource and their recent changes.
#[derive(Debug)]
struct Resource {
    namespaces: BTreeMap<Arc<str>, Names>,
    changes: VecDeque<Arc<Change>>,
    /// Changes up to this revision may be missing in `changes`.
    gone: u64,
    notify: Arc<Notify>,
}

impl Resource {
    fn new(gone: u64) -> Self {
        Self {
            namespaces: BTreeMap::new(),
            changes: VecDeque::new(),
            gone,
            notify: Arc::default(),
        }
    }

    fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.namespaces.get(namespace)?.get(name)
    }

    fn insert(&mut self, object: &Arc<Object>) -> Option<Arc<Object>> {
        let key = &object.key;
        match self.namespaces.entry(Arc::clone(&key.namespace)) {
            Entry::Occupied(names) => names.into_mut(),
            Entry::Vacant(place) => place.insert(Names::new()),
        }
        .insert(Arc::clone(&key.name), Arc::clone(object))
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<Object>> {
        let names = self.namespaces.get_mut(&key.namespace)?;
        let old = names.remove(&key.name);
        if names.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
        old
    }

    /// The current objects of one namespace or of all, behind a place.
    fn walk<'a>(
        &'a self,
        namespace: Option<&'a str>,
        after: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let lower = match (namespace, after) {
            (Some(namespace), _) | (None, Some((namespace, _))) => Bound::Included(namespace),
            (None, None) => Bound::Unbounded,
        };
        let upper = namespace.map_or(Bound::Unbounded, Bound::Included);
        self.namespaces
            .range::<str, _>((lower, upper))
            .flat_map(move |(namespace, names)| {
                let lower = match after {
                    Some((place, name)) if place == &**namespace => Bound::Excluded(name),
                    // A place in a later namespace than the only one that is asked for.
                    Some((place, _)) if place > &**namespace => return NamesWalk::Nothing,
                    Some(_) | None => Bound::Unbounded,
                };
                NamesWalk::Some(names.range::<str, _>((lower, Bound::Unbounded)))
            })
    }

    /// The changes after a revision.
    fn since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Arc<Change>> {
        self.changes.range(after(&self.changes, revision)..)
    }
}

enum NamesWalk<'a> {
    Nothing,
    Some(std::collections::btree_map::Range<'a, Arc<str>, Arc<Object>>),
}

impl<'a> Iterator for NamesWalk<'a> {
    type Item = &'a Arc<Object>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Nothing => None,
            Self::Some(range) => range.next().map(|(_, object)| object),
        }
    }
}

/// The first place in an ordered history that is after a revision.
fn after(changes: &VecDeque<Arc<Change>>, revision: u64) -> usize {
    changes.partition_point(|change| change.revision <= revision)
}

/// The state of one store.
#[derive(Debug)]
pub(super) struct State {
    revision: u64,
    resources: HashMap<Arc<str>, Resource>,
    by_uid: HashMap<Box<str>, Arc<Object>>,
    by_owner: HashMap<Box<str>, BTreeMap<Key, Arc<Object>>>,
    /// All changes that are kept, in order, with the time of their commit.
    history: VecDeque<(Instant, Arc<Change>)>,
    history_bytes: usize,
    /// Changes up to this revision may be missing in `history`.
    gone: u64,
    /// The revision that the store had when it was opened: older history is unknown.
    base: u64,
    notify: Arc<Notify>,
}

impl State {
    /// An empty store at a revision.
    pub(super) fn new(revision: u64) -> Self {
        Self {
            revision,
            resources: HashMap::new(),
            by_uid: HashMap::new(),
            by_owner: HashMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            gone: revision,
            base: revision,
            notify: Arc::default(),
        }
    }

    /// Adds an object that was there when the store was opened.
    pub(super) fn load(&mut self, object: Object) {
        let object = Arc::new(object);
        self.resource(&object.key.resource).insert(&object);
        self.index(&object);
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.resources
            .get(&key.resource)?
            .get(&key.namespace, &key.name)
            .map(Arc::clone)
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<Arc<Object>> {
        self.by_uid.get(uid).map(Arc::clone)
    }

    pub(super) fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        self.by_owner
            .get(uid)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(Arc::clone)
            .collect()
    }

    /// The resources that have objects, in order.
    pub(super) fn resources(&self) -> Vec<Arc<str>> {
        let mut names: Vec<Arc<str>> = self
            .resources
            .iter()
            .filter(|(_, resource)| !resource.namespaces.is_empty())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        names.sort_unstable();
        names
    }

    pub(super) fn list(&self, resource: &str, namespace: Option<&str>) -> Listing {
        let items = self
            .resources
            .get(resource)
            .into_iter()
            .flat_map(|resource| resource.walk(namespace, None))
            .map(Arc::clone)
            .collect();
        Listing {
            items,
            revision: self.revision,
            more: false,
            remaining: 0,
        }
    }

    /// The state at a revision: the current one, with the changes since then undone.
    pub(super) fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        revision: u64,
        after: Option<(&str, &str)>,
        limit: Option<usize>,
    ) -> Result<Listing, Expired> {
        let revision = revision.min(self.revision);
        let Some(resource) = self.resources.get(resource) else {
            expect_history(revision, self.base)?;
            return Ok(Listing {
                items: Vec::new(),
                revision,
                more: false,
                remaining: 0,
            });
        };
        expect_history(revision, resource.gone)?;
        let mut undone: BTreeMap<(&str, &str), Option<&Arc<Object>>> = BTreeMap::new();
        for change in resource.since(revision).rev() {
            let Some(key) = change.object().map(|object| &object.key) else {
                continue;
            };
            let place = (&*key.namespace, &*key.name);
            if namespace.is_none_or(|wanted| wanted == place.0)
                && after.is_none_or(|after| after < place)
            {
                undone.insert(place, change.old.as_ref());
            }
        }
        let mut listing = Listing {
            items: Vec::new(),
            revision,
            more: false,
            remaining: 0,
        };
        let limit = limit.unwrap_or(usize::MAX);
        let mut take = |object: &Arc<Object>| {
            if listing.items.len() < limit {
                listing.items.push(Arc::clone(object));
            } else {
                listing.more = true;
                listing.remaining += 1;
            }
        };
        let mut undone = undone.into_iter().peekable();
        for object in resource.walk(namespace, after) {
            let place = (&*object.key.namespace, &*object.key.name);
            while let Some((_, old)) = undone.next_if(|(other, _)| *other < place) {
                old.into_iter().for_each(&mut take);
            }
            match undone.next_if(|(other, _)| *other == place) {
                Some((_, old)) => old.into_iter().for_each(&mut take),
                None => take(object),
            }
        }
        undone.filter_map(|(_, old)| old).for_each(take);
        Ok(listing)
    }

    /// Shows committed changes, in order, and forgets what is too old or too much. The answer is
    /// whom to wake when the lock is free again.
    pub(super) fn publish(
        &mut self,
        changes: Vec<Arc<Change>>,
        now: Instant,
        bounds: &Bounds,
    ) -> Vec<Arc<Notify>> {
        let mut wake = vec![Arc::clone(&self.notify)];
        for change in changes {
            let Some(object) = change.object() else {
                continue;
            };
            let name = Arc::clone(&object.key.resource);
            if let Some(old) = &change.old {
                self.unindex(old);
            }
            let resource = self.resource(&name);
            match &change.new {
                Some(new) => resource.insert(new),
                None => resource.remove(&object.key),
            };
            resource.changes.push_back(Arc::clone(&change));
            let notify = Arc::clone(&resource.notify);
            if !wake.iter().any(|other| Arc::ptr_eq(other, &notify)) {
                wake.push(notify);
            }
            if let Some(new) = &change.new {
                self.index(new);
            }
            self.revision = change.revision;
            self.history_bytes += change.weight();
            self.history.push_back((now, change));
        }
        self.forget(now, bounds);
        wake
    }

    fn forget(&mut self, now: Instant, bounds: &Bounds) {
        while let Some((time, change)) = self.history.front() {
            let old = now.saturating_duration_since(*time) > bounds.age;
            if !old && self.history.len() <= bounds.changes && self.history_bytes <= bounds.bytes {
                return;
            }
            self.gone = change.revision;
            self.history_bytes = self.history_bytes.saturating_sub(change.weight());
            if let Some(resource) = change
                .object()
                .and_then(|object| self.resources.get_mut(&object.key.resource))
            {
                // Both histories are in order, so this is the first one here too.
                resource.changes.pop_front();
                resource.gone = change.revision;
            }
            self.history.pop_front();
        }
    }

    /// Whom to wait for to see changes of a resource, or of all.
    pub(super) fn notify(&mut self, resource: Option<&Arc<str>>) -> Arc<Notify> {
        match resource {
            Some(name) => Arc::clone(&self.resource(name).notify),
            None => Arc::clone(&self.notify),
        }
    }

    /// Up to `limit` changes after a revision.
    pub(super) fn changes(
        &self,
        resource: Option<&str>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Change>>, Expired> {
        let Some(name) = resource else {
            expect_history(from, self.gone)?;
            let start = self
                .history
                .partition_point(|(_, change)| change.revision <= from);
            let found = self.history.range(start..).take(limit);
            return Ok(found.map(|(_, change)| Arc::clone(change)).collect());
        };
        let Some(resource) = self.resources.get(name) else {
            expect_history(from, self.base)?;
            return Ok(Vec::new());
        };
        expect_history(from, resource.gone)?;
        Ok(resource.since(from).take(limit).map(Arc::clone).collect())
    }

    fn resource(&mut self, name: &Arc<str>) -> &mut Resource {
        if !self.resources.contains_key(name) {
            self.resources
                .insert(Arc::clone(name), Resource::new(self.base));
        }
        self.resources
            .get_mut(name)
            .expect("the entry was made just above")
    }

    fn index(&mut self, object: &Arc<Object>) {
        if !object.meta.uid.is_empty() {
            self.by_uid
                .insert(object.meta.uid.clone(), Arc::clone(object));
        }
        for owner in &object.meta.owners {
            self.by_owner
                .entry(owner.clone())
                .or_default()
                .insert(object.key.clone(), Arc::clone(object));
        }
    }

    fn unindex(&mut self, object: &Arc<Object>) {
        if self
            .by_uid
            .get(&object.meta.uid)
            .is_some_and(|other| other.key == object.key)
        {
            self.by_uid.remove(&object.meta.uid);
        }
        for owner in &object.meta.owners {
            if let Some(owned) = self.by_owner.get_mut(owner) {
                owned.remove(&object.key);
                if owned.is_empty() {
                    self.by_owner.remove(owner);
                }
            }
        }
    }
}

/// What happened after `revision` is known when nothing after it is gone.
fn expect_history(revision: u64, gone: u64) -> Result<(), Expired> {
    if revision < gone {
        Err(Expired { oldest: gone })
    } else {
        Ok(())
    }
}
