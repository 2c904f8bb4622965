mod any;

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::store::Database;

const NOW: &str = "2026-11-21T10:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

struct World {
    database: Database,
    store: Store,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        let database = Database::memory();
        let store = database.store("hub").unwrap();
        let settings = Settings {
            clock: Arc::new(now),
            uid: Arc::new(|| "made".to_owned()),
            service_accounts: false,
            retry: Duration::from_millis(1),
            ..Settings::default()
        };
        Self {
            database,
            store,
            settings,
        }
    }

    /// Puts an object there; its uid is `uid-` and its name. `more` goes over its metadata.
    async fn put(&self, place: &str, more: Value) {
        let key = key(place);
        let mut metadata = json!({"name": key.name, "uid": format!("uid-{}", key.name)});
        if !key.namespace.is_empty() {
            metadata["namespace"] = json!(key.namespace);
        }
        for (field, value) in more.as_object().unwrap() {
            metadata[field] = value.clone();
        }
        self.store
            .create(key, json!({"kind": "Thing", "metadata": metadata}))
            .await
            .unwrap();
    }

    async fn delete(&self, place: &str, propagation: Propagation) {
        let seen = self.store.get(&key(place)).unwrap();
        Writer::delete(&self.store, &seen, propagation, now())
            .await
            .unwrap();
    }

    async fn release(&self, place: &str) {
        let seen = self.store.get(&key(place)).unwrap();
        let mut value = seen.value();
        value["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("finalizers");
        Writer::update(&self.store, &seen, value).await.unwrap();
    }

    /// Runs the controllers until they have nothing to do; tells what is left.
    async fn settle(&self) -> Vec<String> {
        let mut controllers = Controllers {
            store: self.store.clone(),
            writer: self.store.clone(),
            settings: self.settings.clone(),
            dirty: BTreeSet::new(),
            events: events::Expiries::default(),
            refusals: 0,
        };
        let mut watch = self.store.watch_all(self.store.revision()).unwrap();
        controllers.look_at_everything();
        for _round in 0..100 {
            assert!(controllers.work().await.is_ok());
            while let Some(change) = watch.try_next().unwrap() {
                controllers.observe(&change);
            }
            if controllers.dirty.is_empty() {
                return self.left();
            }
        }
        panic!(
            "the controllers do not come to rest: {:?}",
            controllers.dirty
        );
    }

    fn left(&self) -> Vec<String> {
        let resources = self.store.resources();
        let objects = resources
            .iter()
            .flat_map(|resource| self.store.list(resource, None).items);
        objects
            .map(|object| {
                let mark = if object.meta.terminating {
                    " (ending)"
                } else {
                    ""
                };
                format!("{}{mark}", object.key.name)
            })
            .collect()
    }
}

/// `resource namespace name`, `-` for no namespace; the group is example.io unless there is one.
fn key(place: &str) -> Key {
    let words: Vec<&str> = place.split(' ').collect();
    let resource = if words[0].contains('/') {
        words[0].to_owned()
    } else {
        format!("example.io/{}", words[0])
    };
    Key::new(resource, words[1].trim_matches('-'), words[2])
}

fn owned(owners: &[&str]) -> Value {
    references(owners, false)
}

fn references(owners: &[&str], blocking: bool) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|name| {
            json!({"apiVersion": "example.io/v1", "kind": "Thing", "name": name,
                "uid": format!("uid-{name}"), "blockOwnerDeletion": blocking})
        })
        .collect();
    json!({"ownerReferences": references})
}

#[tokio::test]
async fn dependents_go_after_their_owner() {
    let world = World::new();
    world.put("things a owner", json!({})).await;
    world.put("things a child", owned(&["owner"])).await;
    world.put("others a grandchild", owned(&["child"])).await;
    world.put("others a stranger", json!({})).await;
    assert_eq!(
        world.settle().await,
        ["grandchild", "stranger", "child", "owner"]
    );
    world
        .delete("things a owner", Propagation::Background)
        .await;
    assert_eq!(world.settle().await, ["stranger"]);
}

#[tokio::test]
async fn one_owner_is_enough() {
    let world = World::new();
    world.put("things a one", json!({})).await;
    world.put("things a two", json!({})).await;
    world.put("others a child", owned(&["one", "two"])).await;
    world.delete("things a one", Propagation::Background).await;
    assert_eq!(world.settle().await, ["child", "two"]);
    let child = world.store.get(&key("others a child")).unwrap();
    assert_eq!(
        child.meta.owners,
        ["uid-two".into()],
        "the dangling reference is gone"
    );
    world.delete("things a two", Propagation::Background).await;
    assert!(world.settle().await.is_empty());
}

#[tokio::test]
async fn owners_must_be_where_their_dependents_are() {
    let world = World::new();
    world.put("things a owner", json!({})).await;
    world.put("things - root", json!({})).await;
    world.put("others b elsewhere", owned(&["owner"])).await;
    world.put("others b below", owned(&["root"])).await;
    world.put("others - above", owned(&["owner"])).await;
    world.put("others b never", owned(&["nobody"])).await;
    assert_eq!(world.settle().await, ["above", "below", "root", "owner"]);
}

#[tokio::test]
async fn owners_of_kinds_that_are_not_served_may_exist() {
    let mut world = World::new();
    world.settings.kinds = Some(Arc::new(|version, kind| match (version, kind) {
        ("example.io/v1", "Thing") => Some(Scope::Namespaced),
        _ => None,
    }));
    world.put("others a absent", owned(&["nobody"])).await;
    world.put("others - misplaced", owned(&["nobody"])).await;
    let foreign =
        json!({"ownerReferences": [{"apiVersion": "v9", "kind": "X", "name": "x", "uid": "x"}]});
    world.put("others a foreign", foreign).await;
    assert_eq!(world.settle().await, ["misplaced", "foreign"]);
}

#[tokio::test]
async fn foreground_waits_for_those_that_block() {
    let world = World::new();
    world.put("things a owner", json!({})).await;
    let mut held = references(&["owner"], true);
    held["finalizers"] = json!(["example.io/hold"]);
    world.put("others a held", held).await;
    world
        .put("others a quick", references(&["owner"], true))
        .await;
    let mut free = owned(&["owner"]);
    free["finalizers"] = json!(["example.io/hold"]);
    world.put("others a free", free).await;
    world
        .delete("things a owner", Propagation::Foreground)
        .await;
    assert_eq!(
        world.settle().await,
        ["free (ending)", "held (ending)", "owner (ending)"]
    );
    world.release("others a held").await;
    assert_eq!(
        world.settle().await,
        ["free (ending)"],
        "nobody waits for what does not block"
    );
}

#[tokio::test]
async fn foreground_goes_down_level_by_level() {
    let world = World::new();
    world.put("things a top", json!({})).await;
    world
        .put("things a middle", references(&["top"], true))
        .await;
    let mut leaf = references(&["middle"], true);
    leaf["finalizers"] = json!(["example.io/hold"]);
    world.put("things a leaf", leaf).await;
    world.delete("things a top", Propagation::Foreground).await;
    assert_eq!(
        world.settle().await,
        ["leaf (ending)", "middle (ending)", "top (ending)"]
    );
    world.release("things a leaf").await;
    assert!(world.settle().await.is_empty());
}

#[tokio::test]
async fn circles_end() {
    let world = World::new();
    world.put("things a one", references(&["two"], true)).await;
    world.put("things a two", references(&["one"], true)).await;
    world.delete("things a one", Propagation::Foreground).await;
    assert!(world.settle().await.is_empty());
    world
        .put("things a self", references(&["self"], true))
        .await;
    assert_eq!(world.settle().await, ["self"]);
    world.delete("things a self", Propagation::Foreground).await;
    assert!(world.settle().await.is_empty());
}

#[tokio::test]
async fn a_waiting_owner_does_not_take_what_others_own_too() {
    let world = World::new();
    world.put("things a leaving", json!({})).await;
    world.put("things a staying", json!({})).await;
    world
        .put("others a child", references(&["leaving", "staying"], true))
        .await;
    world
        .delete("things a leaving", Propagation::Foreground)
        .await;
    assert_eq!(world.settle().await, ["child", "staying"]);
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let world = World::new();
    world.put("things a owner", json!({})).await;
    world.put("things a other", json!({})).await;
    world.put("others a one", owned(&["owner"])).await;
    world.put("others a two", owned(&["owner", "other"])).await;
    world.delete("things a owner", Propagation::Orphan).await;
    assert_eq!(world.settle().await, ["one", "two", "other"]);
    let owners = |place: &str| world.store.get(&key(place)).unwrap().meta.owners.clone();
    assert!(owners("others a one").is_empty());
    assert_eq!(owners("others a two"), ["uid-other".into()]);
}

async fn namespace(world: &World, name: &str) {
    let object = json!({"kind": "Namespace", "metadata": {"name": name, "uid": name},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    world
        .store
        .create(key(&format!("/namespaces - {name}")), object)
        .await
        .unwrap();
}

fn condition(world: &World, kind: &str) -> (String, String, String) {
    let value = world.store.get(&key("/namespaces - a")).unwrap().value();
    let conditions = value["status"]["conditions"].as_array().unwrap();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap();
    let text = |field: &str| found[field].as_str().unwrap().to_owned();
    assert_eq!(text("lastTransitionTime"), NOW);
    (text("status"), text("reason"), text("message"))
}

#[tokio::test]
async fn a_namespace_goes_when_its_content_has() {
    let world = World::new();
    namespace(&world, "a").await;
    namespace(&world, "b").await;
    world
        .put("/pods a pod", json!({"finalizers": ["example.io/pod"]}))
        .await;
    world.put("/configmaps a map", json!({})).await;
    world
        .put(
            "things a held",
            json!({"finalizers": ["example.io/x", "example.io/y"]}),
        )
        .await;
    world.put("things b other", json!({})).await;
    world.put("things - cluster", json!({})).await;
    world
        .delete("/namespaces - a", Propagation::Background)
        .await;
    assert_eq!(
        world.settle().await,
        [
            "map",
            "a (ending)",
            "b",
            "pod (ending)",
            "cluster",
            "held",
            "other"
        ],
        "pods first"
    );
    world.release("/pods a pod").await;
    assert_eq!(
        world.settle().await,
        ["a (ending)", "b", "cluster", "held (ending)", "other"]
    );
    let (status, reason, message) = condition(&world, "NamespaceContentRemaining");
    assert_eq!((&*status, &*reason), ("True", "SomeResourcesRemain"));
    assert_eq!(
        message,
        "Some resources are remaining: things.example.io has 1 resource instances"
    );
    let (_, _, message) = condition(&world, "NamespaceFinalizersRemaining");
    assert_eq!(
        message,
        "Some content in the namespace has finalizers remaining: example.io/x in 1 resource \
         instances, example.io/y in 1 resource instances"
    );
    let (status, reason, _) = condition(&world, "NamespaceDeletionContentFailure");
    assert_eq!((&*status, &*reason), ("False", "ContentDeleted"));
    world.release("things a held").await;
    assert_eq!(world.settle().await, ["b", "cluster", "other"]);
}

#[tokio::test]
async fn namespaces_have_an_account_and_a_root_certificate() {
    let mut world = World::new();
    world.settings.service_accounts = true;
    world.settings.root_ca = Some("PEM".into());
    namespace(&world, "a").await;
    assert_eq!(world.settle().await, ["kube-root-ca.crt", "a", "default"]);
    let map = key("/configmaps a kube-root-ca.crt");
    let mut changed = world.store.get(&map).unwrap().value();
    assert_eq!(changed["data"], json!({"ca.crt": "PEM"}));
    changed["data"]["ca.crt"] = json!("forged");
    let revision = world.store.get(&map).unwrap().revision;
    world
        .store
        .update(map.clone(), revision, changed)
        .await
        .unwrap();
    world
        .delete("/serviceaccounts a default", Propagation::Background)
        .await;
    assert_eq!(world.settle().await, ["kube-root-ca.crt", "a", "default"]);
    assert_eq!(
        world.store.get(&map).unwrap().value()["data"],
        json!({"ca.crt": "PEM"})
    );
    world
        .delete("/namespaces - a", Propagation::Background)
        .await;
    assert!(
        world.settle().await.is_empty(),
        "they do not come back at the end"
    );
}

#[test]
fn events_age_from_when_they_were_last_seen() {
    let check = |event: Value, expected: &str| {
        assert_eq!(
            events::expires_at(&event, now(), Duration::from_hours(1)),
            expected.parse().unwrap(),
            "{event}"
        );
    };
    check(
        json!({"metadata": {"creationTimestamp": "2026-11-21T09:00:00Z"}}),
        NOW,
    );
    check(
        json!({"metadata": {"creationTimestamp": "2026-11-21T09:00:00Z"}, "lastTimestamp": "2026-11-21T09:30:00Z"}),
        "2026-11-21T10:30:00Z",
    );
    check(
        json!({"metadata": {}, "eventTime": "2026-11-21T09:10:00.5Z", "series": {"lastObservedTime": "2026-11-21T09:20:00.000000Z"}}),
        "2026-11-21T10:20:00Z",
    );
    check(
        json!({"lastTimestamp": "2030-01-01T00:00:00Z"}),
        "2026-11-21T11:00:00Z",
    );
    check(json!({}), "2026-11-21T11:00:00Z");
}

#[tokio::test]
async fn old_events_go() {
    let world = World::new();
    world
        .put(
            "/events a old",
            json!({"creationTimestamp": "2026-11-21T08:59:59Z"}),
        )
        .await;
    world
        .put(
            "/events a new",
            json!({"creationTimestamp": "2026-11-21T09:00:01Z"}),
        )
        .await;
    world
        .put(
            "events.k8s.io/events a older",
            json!({"creationTimestamp": "2026-11-20T09:00:01Z"}),
        )
        .await;
    assert_eq!(world.settle().await, ["new"]);
}

/// Waits for a state of the store.
async fn until(store: &Store, reached: impl Fn(&Store) -> bool) {
    let waits = async {
        let mut watch = store.watch_all(store.revision()).unwrap();
        while !reached(store) {
            watch.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits)
        .await
        .expect("the state was not reached");
}

#[tokio::test]
async fn running_controllers_follow_the_store_and_stop() {
    let world = World::new();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(run(
        world.store.clone(),
        cancel.clone(),
        world.settings.clone(),
    ));
    namespace(&world, "a").await;
    world.put("things a owner", json!({})).await;
    for n in 0..300 {
        world
            .put(&format!("others a child{n}"), references(&["owner"], true))
            .await;
    }
    world
        .delete("things a owner", Propagation::Foreground)
        .await;
    until(&world.store, |store| store.resources().len() == 1).await;
    world.put("things a thing", json!({})).await;
    world
        .delete("/namespaces - a", Propagation::Background)
        .await;
    until(&world.store, |store| store.resources().is_empty()).await;
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn closing_the_store_ends_its_controllers() {
    let world = World::new();
    let running = tokio::spawn(run(
        world.store.clone(),
        CancellationToken::new(),
        world.settings.clone(),
    ));
    world.put("things a owner", json!({})).await;
    world.put("things a child", owned(&["owner"])).await;
    world
        .delete("things a owner", Propagation::Background)
        .await;
    until(&world.store, |store| store.resources().is_empty()).await;
    world.put("things a last", json!({})).await;
    world.put("things a child", owned(&["nobody"])).await;
    world.database.close().unwrap();
    // Either the child went in time, or the refused delete ends the controllers.
    if world.left().contains(&"child".to_owned()) {
        running.await.unwrap();
    } else {
        running.abort();
    }
}

/// Fails the first writes.
struct Flaky(Store, Mutex<u32>);

impl Flaky {
    fn fail(&self) -> Result<(), WriteError> {
        let mut left = self.1.lock().unwrap();
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(WriteError::Unwritable("full".to_owned()))
    }
}

impl Writer for Flaky {
    async fn create(&self, key: Key, object: Value) -> Result<(), WriteError> {
        self.fail()?;
        Writer::create(&self.0, key, object).await
    }
    async fn update(&self, seen: &Arc<Object>, object: Value) -> Result<(), WriteError> {
        self.fail()?;
        Writer::update(&self.0, seen, object).await
    }
    async fn delete(
        &self,
        seen: &Arc<Object>,
        propagation: Propagation,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        self.fail()?;
        Writer::delete(&self.0, seen, propagation, now).await
    }
}

#[tokio::test]
async fn refused_writes_are_tried_again() {
    let world = World::new();
    world.put("things a child", owned(&["nobody"])).await;
    let cancel = CancellationToken::new();
    let writer = Flaky(world.store.clone(), Mutex::new(4));
    let running = tokio::spawn(run_with(
        world.store.clone(),
        writer,
        cancel.clone(),
        world.settings.clone(),
    ));
    let mut watch = world.store.watch_all(world.store.revision()).unwrap();
    assert!(watch.next().await.unwrap().new.is_none());
    cancel.cancel();
    running.await.unwrap();
}
