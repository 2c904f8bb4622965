//! Any sequence of writes, against a map that cannot be wrong.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::super::{Database, Key, Store, WriteError};
use super::text;

#[derive(Clone, Debug)]
enum Step {
    Create(u8, u8),
    Update(u8, u8),
    UpdateStale(u8),
    Delete(u8),
    DeleteStale(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0_u8..12;
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|(k, v)| Step::Create(k, v)),
        4 => (place.clone(), any::<u8>()).prop_map(|(k, v)| Step::Update(k, v)),
        1 => place.clone().prop_map(Step::UpdateStale),
        2 => place.clone().prop_map(Step::Delete),
        1 => place.prop_map(Step::DeleteStale),
        1 => Just(Step::Reopen),
    ]
}

/// Two resources, three namespaces, two names.
fn key(place: u8) -> Key {
    let resource = ["/pods", "apps/deployments"][usize::from(place % 2)];
    let namespace = ["a", "b", "bb"][usize::from(place / 2 % 3)];
    Key::new(resource, namespace, ["x", "y"][usize::from(place / 6)])
}

/// Key to revision and text.
type Model = BTreeMap<Key, (u64, String)>;

struct World {
    database: Option<Database>,
    store: Store,
    model: Model,
    /// The model at each revision since the last opening.
    past: BTreeMap<u64, Model>,
}

impl World {
    async fn step(&mut self, step: &Step, folder: Option<&Path>) {
        let value = |n: u8| {
            json!({"metadata": {"uid": n.to_string(), "ownerReferences": [{"uid": (n % 3).to_string()}]},
                "data": {"text": n.to_string()}})
        };
        let live = |k: u8| self.model.get(&key(k)).map(|(revision, _)| *revision);
        let last = self.store.revision();
        let (place, done, expected) = match *step {
            Step::Create(k, v) => {
                let done = self.store.create(key(k), value(v)).await;
                (k, done, live(k).is_none().then(|| Some(v.to_string())))
            }
            Step::Update(k, v) => {
                let done = self
                    .store
                    .update(key(k), live(k).unwrap_or(7), value(v))
                    .await;
                (k, done, live(k).map(|_| Some(v.to_string())))
            }
            Step::UpdateStale(k) => (k, self.store.update(key(k), last + 1, value(0)).await, None),
            Step::Delete(k) => {
                let done = self.store.delete(key(k), live(k).unwrap_or(7)).await;
                (k, done, live(k).map(|_| None))
            }
            Step::DeleteStale(k) => (k, self.store.delete(key(k), last + 1).await, None),
            Step::Reopen => {
                if let Some(folder) = folder {
                    self.database = None;
                    let database = Database::open(folder).unwrap();
                    self.store = database.store("hub").unwrap();
                    self.database = Some(database);
                    self.past = BTreeMap::from([(last, self.model.clone())]);
                    assert_eq!(self.store.revision(), last);
                }
                return;
            }
        };
        match (done, expected) {
            (Ok(object), Some(new)) => {
                assert_eq!(object.revision, last + 1);
                match new {
                    Some(new) => self.model.insert(key(place), (last + 1, new)),
                    None => self.model.remove(&key(place)),
                };
                self.past.insert(last + 1, self.model.clone());
            }
            (Err(WriteError::Exists | WriteError::Missing | WriteError::Changed(_)), None) => {}
            (done, expected) => panic!("{step:?}: {done:?}, expected {expected:?}"),
        }
    }

    fn check_now(&self) {
        let mut found = Model::new();
        for resource in self.store.resources() {
            for object in self.store.list(&resource, None).items {
                found.insert(object.key.clone(), (object.revision, text(&object)));
            }
        }
        assert_eq!(found, self.model);
        for owner in 0..3_u32 {
            let owned = |text: &str| text.parse::<u32>().unwrap() % 3 == owner;
            let expected: Vec<&Key> = self
                .model
                .iter()
                .filter(|(_, (_, text))| owned(text))
                .map(|(key, _)| key)
                .collect();
            let found = self.store.owned_by(&owner.to_string());
            assert_eq!(
                found.iter().map(|object| &object.key).collect::<Vec<_>>(),
                expected
            );
        }
    }

    /// Lists at every revision, page by page, and watches from every revision.
    fn check_past(&self) {
        for (revision, then) in &self.past {
            for resource in ["/pods", "apps/deployments"] {
                for namespace in [None, Some("a"), Some("b"), Some("c")] {
                    let expected: Vec<(Key, u64)> = then
                        .iter()
                        .filter(|(key, _)| {
                            &*key.resource == resource
                                && namespace.is_none_or(|n| n == &*key.namespace)
                        })
                        .map(|(key, (revision, _))| (key.clone(), *revision))
                        .collect();
                    assert_eq!(self.pages(resource, namespace, *revision), expected);
                }
            }
            let mut replayed = then.clone();
            let mut watch = self.store.watch_all(*revision).unwrap();
            while let Some(change) = watch.try_next().unwrap() {
                let key = change.object().unwrap().key.clone();
                let old = change.old.as_ref().map(|old| (old.revision, text(old)));
                let before = match &change.new {
                    Some(new) => replayed.insert(key, (new.revision, text(new))),
                    None => replayed.remove(&key),
                };
                assert_eq!(before, old);
                assert_eq!(Some(&replayed), self.past.get(&change.revision));
            }
            assert_eq!(replayed, self.model);
            let mut seen = 0;
            for resource in ["/pods", "apps/deployments"] {
                let mut watch = self.store.watch(resource, *revision).unwrap();
                while let Some(change) = watch.try_next().unwrap() {
                    assert_eq!(&*change.object().unwrap().key.resource, resource);
                    seen += 1;
                }
                assert_eq!(watch.progress(), self.store.revision());
            }
            assert_eq!(seen, self.store.revision() - revision);
        }
    }

    fn pages(&self, resource: &str, namespace: Option<&str>, revision: u64) -> Vec<(Key, u64)> {
        let mut all: Vec<(Key, u64)> = Vec::new();
        loop {
            let after = all
                .last()
                .map(|(key, _)| (key.namespace.to_string(), key.name.to_string()));
            let after = after
                .as_ref()
                .map(|(namespace, name)| (&**namespace, &**name));
            let page = self
                .store
                .list_at(resource, namespace, revision, after, Some(2))
                .unwrap();
            all.extend(
                page.items
                    .iter()
                    .map(|object| (object.key.clone(), object.revision)),
            );
            assert_eq!((page.revision, page.more), (revision, page.remaining > 0));
            if !page.more {
                return all;
            }
        }
    }
}

fn run(steps: &[Step], folder: Option<&Path>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let database =
            folder.map_or_else(Database::memory, |folder| Database::open(folder).unwrap());
        let store = database.store("hub").unwrap();
        let past = BTreeMap::from([(1, Model::new())]);
        let mut world = World {
            database: Some(database),
            store,
            model: Model::new(),
            past,
        };
        for step in steps {
            world.step(step, folder).await;
        }
        world.check_now();
        world.check_past();
        drop(world.database);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn memory_behaves_as_a_map_with_a_past(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps, None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn a_file_behaves_as_a_map_with_a_past(steps in prop::collection::vec(step(), 0..40)) {
        let folder = tempfile::tempdir().unwrap();
        run(&steps, Some(folder.path()));
    }
}
