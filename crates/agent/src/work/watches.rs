//! Tells at once when an applied object changes, with one watch of metadata for each kind.
//!
//! Only the resource versions of objects that some work names are kept. At most a fixed number of kinds is watched; objects of further
//! kinds are found by polling.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_runtime::queue::WorkQueue;
use futures::{StreamExt, stream::FuturesUnordered};
use kube::{
    Api, Client, ResourceExt,
    api::PartialObjectMeta,
    core::DynamicObject,
    discovery::ApiResource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Key, cache::newer, cluster::Place, memory::spread};

/// Until what is not watched for the moment is looked at.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Until a work hears that the agent changed its object for another work.
const SHARED: Duration = Duration::from_secs(10);

/// A kind, as an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Collection {
    group: String,
    version: String,
    resource: String,
}

impl From<&Place> for Collection {
    fn from(place: &Place) -> Self {
        Self {
            group: place.group.clone(),
            version: place.version.clone(),
            resource: place.resource.clone(),
        }
    }
}

/// Namespace and name.
type Name = (String, String);

#[derive(Debug, Default)]
struct Watch {
    /// Whether the watch has shown everything and goes on.
    live: bool,
    /// The objects that works name.
    objects: HashMap<Name, Object>,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Object {
    /// The version that was last heard of; none while it is unknown or the object is gone.
    version: Option<String>,
    /// The version at which it went, so that what was read before does not bring it back.
    gone: Option<String>,
    /// Whether the list that is being read has shown it.
    shown: bool,
    /// Whom to tell: one, as a rule.
    keys: Vec<Key>,
}

#[derive(Debug, Default)]
struct State {
    watches: HashMap<Collection, Watch>,
    /// What each key names, to find what it names no more; in order.
    names: HashMap<Key, Box<[Place]>>,
}

/// The watches of one agent.
#[derive(Debug)]
pub struct Watches {
    queue: Arc<WorkQueue<Key>>,
    state: Mutex<State>,
    start: mpsc::UnboundedSender<(Collection, CancellationToken)>,
    limit: usize,
}

/// Runs the watches.
pub struct Watching {
    client: Client,
    watches: Arc<Watches>,
    start: mpsc::UnboundedReceiver<(Collection, CancellationToken)>,
}

impl Watches {
    /// No watches yet; the second half must be run.
    pub fn new(client: Client, queue: Arc<WorkQueue<Key>>, limit: usize) -> (Arc<Self>, Watching) {
        // Bounded by the limit of kinds: each start is for a kind that is not watched yet.
        let (start, started) = mpsc::unbounded_channel();
        let watches = Arc::new(Self {
            queue,
            state: Mutex::default(),
            start,
            limit,
        });
        (
            watches.clone(),
            Watching {
                client,
                watches,
                start: started,
            },
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and the state is valid after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `key` is told of changes of these objects, and of no others.
    pub fn follow(&self, key: &Key, places: HashSet<Place>) {
        let mut places: Box<[Place]> = places.into_iter().collect();
        places.sort();
        let mut state = self.state();
        let before = state.names.remove(key).unwrap_or_default();
        let lacks = |list: &[Place], place: &Place| list.binary_search(place).is_err();
        for place in before.iter().filter(|place| lacks(&places, place)) {
            state.drop_name(key, place);
        }
        for place in places.iter().filter(|place| lacks(&before, place)) {
            let collection = Collection::from(place);
            if !state.watches.contains_key(&collection) {
                if state.watches.len() >= self.limit {
                    continue;
                }
                let watch = Watch::default();
                // The receiver lives as long as the agent; after it there is nobody to tell.
                if self
                    .start
                    .send((collection.clone(), watch.cancel.clone()))
                    .is_err()
                {
                    return;
                }
                state.watches.insert(collection.clone(), watch);
            }
            if let Some(watch) = state.watches.get_mut(&collection) {
                let name = (place.namespace.clone(), place.name.clone());
                let keys = &mut watch.objects.entry(name).or_default().keys;
                if !keys.contains(key) {
                    keys.push(key.clone());
                }
            }
        }
        if !places.is_empty() {
            state.names.insert(key.clone(), places);
        }
    }

    /// Takes the version of an object that was read or written for `by`. The event of a version that is known already tells nobody: so
    /// the agent does not wake itself. Other works that name the object are told after a while: two that want different things of
    /// one object differ at that pace.
    pub fn note(&self, place: &Place, version: &str, by: &Key) {
        let mut state = self.state();
        let object = state
            .watches
            .get_mut(&Collection::from(place))
            .and_then(|watch| {
                watch
                    .objects
                    .get_mut(&(place.namespace.clone(), place.name.clone()))
            });
        if let Some(object) = object
            && (object.version.is_none() || newer(Some(version), object.version.as_deref()))
            && (object.gone.is_none() || newer(Some(version), object.gone.as_deref()))
        {
            object.version = Some(version.to_owned());
            for other in object.keys.iter().filter(|key| *key != by) {
                self.queue.add_after(other.clone(), spread(other, SHARED));
            }
        }
    }

    /// Whether the watch of its kind is alive and shows the object in this version.
    pub fn is_at(&self, place: &Place, version: &str) -> bool {
        self.state().version(place) == Some(version)
    }

    fn hear(&self, collection: &Collection, event: Event<PartialObjectMeta<DynamicObject>>) {
        let mut state = self.state();
        let Some(watch) = state.watches.get_mut(collection) else {
            return;
        };
        match event {
            // Every object is shown again; one that is not is gone.
            Event::Init => {
                watch.live = false;
                for object in watch.objects.values_mut() {
                    object.shown = false;
                }
            }
            Event::InitDone => {
                watch.live = true;
                for object in watch.objects.values_mut().filter(|object| !object.shown) {
                    object.version = None;
                    self.tell(object);
                }
            }
            Event::InitApply(seen) | Event::Apply(seen) => {
                let name = (seen.namespace().unwrap_or_default(), seen.name_any());
                if let Some(object) = watch.objects.get_mut(&name) {
                    object.shown = true;
                    object.gone = None;
                    if object.version != seen.resource_version() {
                        object.version = seen.resource_version();
                        self.tell(object);
                    }
                }
            }
            Event::Delete(seen) => {
                let name = (seen.namespace().unwrap_or_default(), seen.name_any());
                if let Some(object) = watch.objects.get_mut(&name) {
                    object.version = None;
                    object.gone = seen.resource_version();
                    self.tell(object);
                }
            }
        }
    }

    fn tell(&self, object: &Object) {
        for key in &object.keys {
            self.queue.add(key.clone());
        }
    }

    /// A watch was interrupted: what it knew may be old, and until it was read anew its objects are looked at now and then.
    fn interrupted(&self, collection: &Collection) {
        let mut state = self.state();
        let Some(watch) = state.watches.get_mut(collection) else {
            return;
        };
        if std::mem::take(&mut watch.live) {
            for key in watch.objects.values().flat_map(|object| &object.keys) {
                self.queue.add_after(key.clone(), spread(key, UNWATCHED));
            }
        }
    }
}

impl State {
    /// The version of an object that is there, if the watch of its kind is alive and knows it.
    fn version(&self, place: &Place) -> Option<&str> {
        let watch = self.watches.get(&Collection::from(place));
        let watch = watch.filter(|watch| watch.live)?;
        let name = (place.namespace.clone(), place.name.clone());
        watch.objects.get(&name)?.version.as_deref()
    }

    fn drop_name(&mut self, key: &Key, place: &Place) {
        let collection = Collection::from(place);
        let Some(watch) = self.watches.get_mut(&collection) else {
            return;
        };
        let name = (place.namespace.clone(), place.name.clone());
        if let Some(object) = watch.objects.get_mut(&name) {
            object.keys.retain(|other| other != key);
            if object.keys.is_empty() {
                watch.objects.remove(&name);
            }
        }
        if watch.objects.is_empty() {
            watch.cancel.cancel();
            self.watches.remove(&collection);
        }
    }
}

impl Watching {
    /// Runs all watches until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some((collection, stop)) = self.start.recv() => running.push(watch(self.client.clone(), self.watches.clone(), collection, stop)),
                Some(()) = running.next(), if !running.is_empty() => (),
            }
        }
    }
}

async fn watch(
    client: Client,
    watches: Arc<Watches>,
    collection: Collection,
    stop: CancellationToken,
) {
    let Collection {
        group,
        version,
        resource,
    } = &collection;
    let api_version = if group.is_empty() {
        version.clone()
    } else {
        format!("{group}/{version}")
    };
    // The kind is not needed for an address.
    let resource = ApiResource {
        group: group.clone(),
        version: version.clone(),
        api_version,
        kind: String::new(),
        plural: resource.clone(),
    };
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let stream = watcher::watcher(api, watcher::Config::default()).default_backoff();
    futures::pin_mut!(stream);
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = stream.next() => event,
        };
        // A watch of the same kind may have been started anew meanwhile; this one has nothing to say any more.
        if stop.is_cancelled() {
            return;
        }
        match event {
            Some(Ok(event)) => watches.hear(&collection, event),
            Some(Err(error)) => {
                tracing::debug!(%error, resource = %resource.plural, "the watch of applied objects was interrupted");
                watches.interrupted(&collection);
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place(resource: &str, name: &str) -> Place {
        Place {
            group: String::new(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
        }
    }

    fn seen(name: &str, version: &str) -> PartialObjectMeta<DynamicObject> {
        let seen = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n", "resourceVersion": version}});
        serde_json::from_value(seen).expect("it is metadata")
    }

    fn version(watches: &Watches, place: &Place) -> Option<String> {
        watches.state().version(place).map(ToOwned::to_owned)
    }

    fn work(name: &str) -> Key {
        Key::Work(name.to_owned())
    }

    fn watches(
        limit: usize,
    ) -> (
        Watches,
        mpsc::UnboundedReceiver<(Collection, CancellationToken)>,
    ) {
        let (start, started) = mpsc::unbounded_channel();
        (
            Watches {
                queue: Arc::default(),
                state: Mutex::default(),
                start,
                limit,
            },
            started,
        )
    }

    #[test]
    fn only_news_of_what_is_followed_are_told() {
        let (watches, mut started) = watches(5);
        watches.follow(&work("w"), HashSet::from([place("configmaps", "a")]));
        let (collection, _stop) = started.try_recv().expect("a watch is started");
        watches.hear(&collection, Event::Init);
        watches.hear(&collection, Event::InitApply(seen("a", "1")));
        watches.hear(&collection, Event::InitApply(seen("other", "1")));
        assert_eq!(version(&watches, &place("configmaps", "a")), None);
        watches.hear(&collection, Event::InitDone);
        assert_eq!(
            version(&watches, &place("configmaps", "a")).as_deref(),
            Some("1")
        );
        assert_eq!(watches.queue.len(), 1);

        watches.note(&place("configmaps", "a"), "2", &work("w"));
        watches.note(&place("configmaps", "a"), "1", &work("w"));
        assert_eq!(
            version(&watches, &place("configmaps", "a")).as_deref(),
            Some("2")
        );
        watches.hear(&collection, Event::Delete(seen("a", "3")));
        assert_eq!(version(&watches, &place("configmaps", "a")), None);
        watches.note(&place("configmaps", "a"), "2", &work("w"));
        assert_eq!(version(&watches, &place("configmaps", "a")), None);
        watches.note(&place("configmaps", "a"), "4", &work("w"));
        assert_eq!(
            version(&watches, &place("configmaps", "a")).as_deref(),
            Some("4")
        );
    }

    #[test]
    fn what_a_new_list_does_not_show_is_not_believed() {
        let (watches, mut started) = watches(5);
        let names = ["a", "b"].map(|name| place("configmaps", name));
        watches.follow(&work("w"), HashSet::from(names));
        let (collection, _stop) = started.try_recv().expect("a watch is started");
        for name in ["a", "b"] {
            watches.note(&place("configmaps", name), "1", &work("w"));
        }
        watches.hear(&collection, Event::Init);
        watches.hear(&collection, Event::InitApply(seen("b", "1")));
        assert!(watches.queue.is_empty());
        watches.hear(&collection, Event::InitDone);
        assert_eq!(version(&watches, &place("configmaps", "a")), None);
        assert_eq!(
            version(&watches, &place("configmaps", "b")).as_deref(),
            Some("1")
        );
        assert_eq!(watches.queue.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn works_that_share_an_object_hear_of_each_other() {
        let (watches, mut started) = watches(5);
        for name in ["w", "v"] {
            watches.follow(&work(name), HashSet::from([place("configmaps", "a")]));
        }
        let (collection, _stop) = started.try_recv().expect("a watch is started");
        watches.note(&place("configmaps", "a"), "1", &work("w"));
        watches.hear(&collection, Event::Apply(seen("a", "1")));
        assert_eq!(watches.queue.next().await, work("v"));
        assert!(watches.queue.is_empty(), "nobody wakes itself");
    }

    #[test]
    fn a_watch_ends_with_the_last_object() {
        let (watches, mut started) = watches(5);
        watches.follow(&work("w"), HashSet::from([place("configmaps", "a")]));
        watches.follow(&work("v"), HashSet::from([place("configmaps", "a")]));
        let (_, stop) = started.try_recv().expect("a watch is started");
        assert!(started.try_recv().is_err());
        watches.follow(&work("w"), HashSet::new());
        assert!(!stop.is_cancelled());
        watches.follow(&work("v"), HashSet::new());
        assert!(stop.is_cancelled());
        assert!(watches.state().watches.is_empty() && watches.state().names.is_empty());
    }

    #[test]
    fn further_kinds_are_not_watched() {
        let (watches, mut started) = watches(1);
        watches.follow(&work("w"), HashSet::from([place("configmaps", "a")]));
        watches.follow(&work("v"), HashSet::from([place("secrets", "a")]));
        assert!(started.try_recv().is_ok() && started.try_recv().is_err());
        assert_eq!(version(&watches, &place("secrets", "a")), None);
    }
}
