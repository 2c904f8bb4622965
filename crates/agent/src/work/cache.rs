//! Objects as they were last heard of, from watches and from answers to writes.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::{Resource, ResourceExt, runtime::watcher::Event};
use serde::de::DeserializeOwned;

use super::Heard;

/// Objects of one kind in one place, by name.
///
/// Each object is read on its own, so that one that cannot be read does not hide the others.
#[derive(Debug)]
pub struct Cache<K> {
    state: Mutex<State<K>>,
    synced: AtomicBool,
}

#[derive(Debug)]
struct State<K> {
    objects: HashMap<String, Arc<K>>,
    /// The names that the list which is being read has shown so far.
    listed: HashSet<String>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                objects: HashMap::new(),
                listed: HashSet::new(),
            }),
            synced: AtomicBool::new(false),
        }
    }
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Cache<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        // No code panics while it holds the lock, and the state is valid after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of this name.
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        self.state().objects.get(name).cloned()
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Whether the whole list was read once.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Takes a watch event; the answer is what changed, also what is gone.
    pub fn hear(&self, event: Heard) -> Vec<Arc<K>> {
        match event {
            Event::Init => {
                self.state().listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.state().listed.insert(object.name_any());
                read(object)
                    .and_then(|object| self.learn(object))
                    .into_iter()
                    .collect()
            }
            Event::InitDone => {
                let gone = {
                    let mut state = self.state();
                    let listed = std::mem::take(&mut state.listed);
                    let gone: Vec<String> = state
                        .objects
                        .keys()
                        .filter(|name| !listed.contains(*name))
                        .cloned()
                        .collect();
                    gone.iter()
                        .filter_map(|name| state.objects.remove(name))
                        .collect()
                };
                self.synced.store(true, Ordering::Release);
                gone
            }
            Event::Apply(object) => read(object)
                .and_then(|object| self.learn(object))
                .into_iter()
                .collect(),
            Event::Delete(object) => self.forget(&object.name_any()).into_iter().collect(),
        }
    }

    /// Takes an object unless a newer one is known; the answer is the object if it was news.
    pub fn learn(&self, mut object: K) -> Option<Arc<K>> {
        // Nobody here asks who wrote what, and it is most of the object.
        object.meta_mut().managed_fields = None;
        let mut state = self.state();
        let name = object.name_any();
        if let Some(known) = state.objects.get(&name)
            && known.uid() == object.uid()
            && !is_newer(&object, known.as_ref())
        {
            return None;
        }
        let object = Arc::new(object);
        state.objects.insert(name, object.clone());
        Some(object)
    }

    /// Takes an object that was asked for, if it is known still: the answer to the write that let it go must not bring it back.
    pub fn learn_known(&self, object: K) {
        let known = self
            .state()
            .objects
            .get(&object.name_any())
            .is_some_and(|known| known.uid() == object.uid());
        if known {
            self.learn(object);
        }
    }

    /// Forgets the object of this name.
    pub fn forget(&self, name: &str) -> Option<Arc<K>> {
        self.state().objects.remove(name)
    }
}

fn is_newer<K: Resource>(object: &K, known: &K) -> bool {
    newer(
        object.meta().resource_version.as_deref(),
        known.meta().resource_version.as_deref(),
    )
}

/// Whether the first resource version is newer than the second. Versions that are no numbers cannot be compared: any other one is news.
pub(crate) fn newer(one: Option<&str>, other: Option<&str>) -> bool {
    let number = |version: Option<&str>| version.and_then(|version| version.parse::<u64>().ok());
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one > other,
        _ => one != other,
    }
}

fn read<K: DeserializeOwned>(mut object: kube::core::DynamicObject) -> Option<K> {
    let name = object.name_any();
    object.metadata.managed_fields = None;
    let read = serde_json::to_value(object).and_then(serde_json::from_value);
    read.map_err(
        |error| tracing::warn!(%name, %error, "an object cannot be read and is left alone"),
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_api::work::v1::ManifestWork;
    use kube::core::DynamicObject;
    use serde_json::{Value, json};

    fn object(name: &str, version: &str, extra: Value) -> DynamicObject {
        let mut object = json!({
            "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
            "metadata": {"name": name, "uid": name, "resourceVersion": version},
        });
        if let (Some(object), Value::Object(extra)) = (object.as_object_mut(), extra) {
            object.extend(extra);
        }
        serde_json::from_value(object).expect("it is an object")
    }

    fn told(cache: &Cache<ManifestWork>, event: Heard) -> Vec<String> {
        cache
            .hear(event)
            .iter()
            .map(|work| work.name_any())
            .collect()
    }

    fn version(cache: &Cache<ManifestWork>, name: &str) -> Option<String> {
        cache.get(name)?.resource_version()
    }

    #[test]
    fn the_newest_is_kept_and_only_news_are_told() {
        let cache = Cache::default();
        assert_eq!(told(&cache, Event::Init), [""; 0]);
        assert_eq!(
            told(&cache, Event::InitApply(object("a", "10", json!({})))),
            ["a"]
        );
        assert!(!cache.is_synced());
        assert_eq!(told(&cache, Event::InitDone), [""; 0]);
        assert!(cache.is_synced());
        assert_eq!(
            told(&cache, Event::Apply(object("a", "9", json!({})))),
            [""; 0]
        );
        assert_eq!(
            told(&cache, Event::Apply(object("a", "10", json!({})))),
            [""; 0]
        );
        assert_eq!(
            told(&cache, Event::Apply(object("a", "11", json!({})))),
            ["a"]
        );
        assert_eq!(version(&cache, "a").as_deref(), Some("11"));
    }

    #[test]
    fn what_a_new_list_does_not_show_is_gone() {
        let cache = Cache::default();
        for name in ["a", "b"] {
            told(&cache, Event::Apply(object(name, "1", json!({}))));
        }
        told(&cache, Event::Init);
        told(&cache, Event::InitApply(object("b", "1", json!({}))));
        assert_eq!(told(&cache, Event::InitDone), ["a"]);
        assert_eq!(cache.names(), ["b"]);
    }

    #[test]
    fn an_answer_does_not_bring_back_what_is_gone() {
        let cache = Cache::<ManifestWork>::default();
        let work =
            |version| read::<ManifestWork>(object("a", version, json!({}))).expect("it is a work");
        cache.learn_known(work("1"));
        assert!(cache.get("a").is_none());
        cache.learn(work("1"));
        cache.learn_known(work("2"));
        assert_eq!(version(&cache, "a").as_deref(), Some("2"));
    }

    #[test]
    fn one_that_cannot_be_read_hides_no_other() {
        let cache = Cache::default();
        let odd = json!({"spec": {"deleteOption": {"propagationPolicy": "Sideways"}}});
        assert_eq!(told(&cache, Event::Apply(object("odd", "1", odd))), [""; 0]);
        assert_eq!(
            told(&cache, Event::Apply(object("a", "2", json!({})))),
            ["a"]
        );
    }
}
