//! Who listens: subscribers by data type and cluster or source.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use drover_protocol::DataType;

use super::queue::Subscriber;

/// Subscribers of one cluster or source, and data type.
const MAX_SUBSCRIBERS: usize = 64;

/// Whom a subscription is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Party {
    /// The agents of a cluster.
    Cluster(String),
    /// A source.
    Source(String),
}

/// Whom an event is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Audience<'a> {
    Cluster(&'a str),
    Source(&'a str),
    EveryCluster,
    EverySource,
}

type Named = HashMap<String, Vec<Arc<Subscriber>>>;

#[derive(Default)]
struct Parties {
    clusters: Named,
    sources: Named,
}

/// All subscribers.
#[derive(Default)]
pub(super) struct Topics(RwLock<HashMap<DataType, Parties>>);

impl Parties {
    fn side(&mut self, party: &Party) -> (&mut Named, String) {
        match party {
            Party::Cluster(name) => (&mut self.clusters, name.clone()),
            Party::Source(name) => (&mut self.sources, name.clone()),
        }
    }
}

impl Topics {
    fn read(&self) -> RwLockReadGuard<'_, HashMap<DataType, Parties>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<DataType, Parties>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false` when the party has too many subscribers of this data type already.
    pub(super) fn add(
        &self,
        data_type: &DataType,
        party: &Party,
        subscriber: Arc<Subscriber>,
    ) -> bool {
        let mut topics = self.write();
        let (side, name) = topics.entry(data_type.clone()).or_default().side(party);
        let same = side.entry(name).or_default();
        let fits = same.len() < MAX_SUBSCRIBERS;
        if fits {
            same.push(subscriber);
        }
        fits
    }

    pub(super) fn remove(&self, data_type: &DataType, party: &Party, subscriber: &Arc<Subscriber>) {
        let mut topics = self.write();
        let Some(parties) = topics.get_mut(data_type) else {
            return;
        };
        let (side, name) = parties.side(party);
        if let Some(same) = side.get_mut(&name) {
            same.retain(|other| !Arc::ptr_eq(other, subscriber));
            if same.is_empty() {
                side.remove(&name);
            }
        }
        if parties.clusters.is_empty() && parties.sources.is_empty() {
            topics.remove(data_type);
        }
    }

    /// Removes all.
    pub(super) fn drain(&self) -> Vec<Arc<Subscriber>> {
        let topics = std::mem::take(&mut *self.write());
        let sides = topics
            .into_values()
            .flat_map(|parties| [parties.clusters, parties.sources]);
        sides.flat_map(HashMap::into_values).flatten().collect()
    }

    pub(super) fn of(&self, data_type: &DataType, audience: Audience<'_>) -> Vec<Arc<Subscriber>> {
        let topics = self.read();
        let Some(parties) = topics.get(data_type) else {
            return Vec::new();
        };
        let everyone = |side: &Named| side.values().flatten().cloned().collect();
        let one = |side: &Named, name: &str| side.get(name).cloned().unwrap_or_default();
        match audience {
            Audience::Cluster(name) => one(&parties.clusters, name),
            Audience::Source(name) => one(&parties.sources, name),
            Audience::EveryCluster => everyone(&parties.clusters),
            Audience::EverySource => everyone(&parties.sources),
        }
    }

    /// Clusters that listen, by name.
    pub(super) fn clusters(&self, data_type: &DataType) -> Vec<String> {
        self.names(data_type, |parties| &parties.clusters)
    }

    /// Sources that listen, by name.
    pub(super) fn sources(&self, data_type: &DataType) -> Vec<String> {
        self.names(data_type, |parties| &parties.sources)
    }

    fn names(&self, data_type: &DataType, side: fn(&Parties) -> &Named) -> Vec<String> {
        let topics = self.read();
        let named = topics.get(data_type).map(side);
        let mut names: Vec<_> = named
            .into_iter()
            .flat_map(|side| side.keys().cloned())
            .collect();
        names.sort();
        names
    }

    /// Whether a source of this name listens.
    pub(super) fn has_source(&self, data_type: &DataType, source: &str) -> bool {
        self.read()
            .get(data_type)
            .is_some_and(|parties| parties.sources.contains_key(source))
    }
}
