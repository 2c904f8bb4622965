//! Tests of the store: by table, against a model, against the disk's worst days.

mod crash;
mod files;
mod model;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::{Value, json};

use super::{Database, Expired, Key, Meta, Object, Options, Store, WriteError};

fn key(name: &str) -> Key {
    Key::new("/configmaps", "default", name)
}

fn object(text: &str) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"text": text}})
}

fn text(object: &Object) -> String {
    object.value()["data"]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn memory() -> (Database, Store) {
    let database = Database::memory();
    let store = database.store("hub").unwrap();
    (database, store)
}

fn names(listing: &super::Listing) -> Vec<String> {
    listing
        .items
        .iter()
        .map(|o| format!("{}/{}", o.key.namespace, o.key.name))
        .collect()
}

#[tokio::test]
async fn a_write_is_visible_with_its_revision_when_it_is_acknowledged() {
    let (_database, store) = memory();
    assert_eq!(store.revision(), 1);
    let made = store.create(key("a"), object("1")).await.unwrap();
    assert_eq!((made.revision, store.revision()), (2, 2));
    assert_eq!(made.value()["metadata"]["resourceVersion"], "2");
    assert_eq!(store.get(&key("a")).unwrap().json, made.json);
    let changed = store.update(key("a"), 2, object("2")).await.unwrap();
    assert_eq!((changed.revision, text(&changed)), (3, "2".to_owned()));
    let removed = store.delete(key("a"), 3).await.unwrap();
    assert_eq!(removed.value()["metadata"]["resourceVersion"], "4");
    assert_eq!(text(&removed), "2");
    assert!(store.get(&key("a")).is_none());
    assert!(store.resources().is_empty());
}

#[tokio::test]
async fn writes_that_do_not_fit_are_refused_and_change_nothing() {
    let (_database, store) = memory();
    store.create(key("a"), object("1")).await.unwrap();
    let refused = |result: Result<Arc<Object>, WriteError>| result.unwrap_err().to_string();
    assert_eq!(
        refused(store.create(key("a"), object("2")).await),
        "the object exists"
    );
    assert_eq!(
        refused(store.update(key("b"), 2, object("2")).await),
        "the object does not exist"
    );
    assert_eq!(
        refused(store.update(key("a"), 9, object("2")).await),
        "the object has revision 2"
    );
    assert_eq!(
        refused(store.delete(key("a"), 1).await),
        "the object has revision 2"
    );
    assert_eq!(
        refused(store.delete(key("b"), 2).await),
        "the object does not exist"
    );
    let malformed = "the object is malformed: an object must be a JSON object";
    assert_eq!(refused(store.create(key("c"), json!([])).await), malformed);
    let malformed = "the object is malformed: metadata must be a JSON object";
    assert_eq!(
        refused(store.update(key("a"), 2, json!({"metadata": 1})).await),
        malformed
    );
    assert_eq!(store.revision(), 2);
}

#[tokio::test]
async fn stores_of_a_database_do_not_see_each_other() {
    let database = Database::memory();
    let (one, two) = (
        database.store("one").unwrap(),
        database.store("two").unwrap(),
    );
    one.create(key("a"), object("1")).await.unwrap();
    assert_eq!((one.revision(), two.revision()), (2, 1));
    assert!(two.get(&key("a")).is_none());
    assert_eq!(database.store("one").unwrap().revision(), 2);
    assert_eq!(database.stores(), ["one".into(), "two".into()]);
}

#[tokio::test]
async fn lists_are_ordered_and_can_be_cut() {
    let (_database, store) = memory();
    for (namespace, name) in [("b", "x"), ("a", "y"), ("a", "x"), ("c", "x"), ("b", "z")] {
        store
            .create(Key::new("/pods", namespace, name), json!({}))
            .await
            .unwrap();
    }
    let at = store.revision();
    assert_eq!(
        names(&store.list("/pods", None)),
        ["a/x", "a/y", "b/x", "b/z", "c/x"]
    );
    assert_eq!(names(&store.list("/pods", Some("b"))), ["b/x", "b/z"]);
    assert!(names(&store.list("/pods", Some("aa"))).is_empty());
    assert!(names(&store.list("/nodes", None)).is_empty());
    // The pages stay what they were while the world goes on.
    store.delete(Key::new("/pods", "a", "y"), 3).await.unwrap();
    store
        .create(Key::new("/pods", "b", "y"), json!({}))
        .await
        .unwrap();
    let page = store.list_at("/pods", None, at, None, Some(2)).unwrap();
    assert_eq!(
        (names(&page), page.more, page.remaining),
        (vec!["a/x".into(), "a/y".into()], true, 3)
    );
    let page = store
        .list_at("/pods", None, at, Some(("a", "y")), Some(2))
        .unwrap();
    assert_eq!(
        (names(&page), page.remaining),
        (vec!["b/x".into(), "b/z".into()], 1)
    );
    let page = store
        .list_at("/pods", None, at, Some(("b", "z")), Some(2))
        .unwrap();
    assert_eq!(
        (names(&page), page.more, page.revision),
        (vec!["c/x".into()], false, at)
    );
    let page = store
        .list_at("/pods", Some("a"), at, Some(("b", "z")), None)
        .unwrap();
    assert!(names(&page).is_empty());
    assert_eq!(
        store.list_at("/pods", None, 0, None, None).unwrap_err(),
        Expired { oldest: 1 }
    );
}

#[tokio::test]
async fn indexes_follow_the_objects() {
    let (_database, store) = memory();
    let child = |owners: &[&str]| {
        let owners: Vec<Value> = owners.iter().map(|uid| json!({"uid": uid})).collect();
        json!({"metadata": {"uid": "child", "ownerReferences": owners}})
    };
    store.create(key("c"), child(&["p", "q"])).await.unwrap();
    assert_eq!(
        (store.owned_by("p").len(), store.owned_by("q").len()),
        (1, 1)
    );
    assert_eq!(store.by_uid("child").unwrap().revision, 2);
    store.update(key("c"), 2, child(&["q"])).await.unwrap();
    assert_eq!(
        (store.owned_by("p").len(), store.owned_by("q").len()),
        (0, 1)
    );
    assert_eq!(store.by_uid("child").unwrap().revision, 3);
    store.delete(key("c"), 3).await.unwrap();
    assert!(store.owned_by("q").is_empty() && store.by_uid("child").is_none());
}

#[tokio::test]
async fn a_watch_sees_its_resource_only_and_sleeps_otherwise() {
    let (_database, store) = memory();
    let mut pods = store.watch("/pods", 1).unwrap();
    let mut all = store.watch_all(1).unwrap();
    assert!(pods.next().now_or_never().is_none());
    store.create(key("a"), object("1")).await.unwrap();
    assert!(pods.next().now_or_never().is_none());
    assert_eq!(pods.progress(), 2);
    store
        .create(Key::new("/pods", "a", "x"), json!({}))
        .await
        .unwrap();
    assert_eq!(pods.progress(), 1, "a change waits");
    let seen = pods.next().await.unwrap();
    assert_eq!((seen.revision, pods.progress()), (3, 3));
    store.delete(Key::new("/pods", "a", "x"), 3).await.unwrap();
    let seen = pods.next().await.unwrap();
    assert!(seen.new.is_none());
    assert_eq!(
        (
            seen.old.as_ref().unwrap().revision,
            seen.object().unwrap().revision
        ),
        (3, 4)
    );
    let mut revisions = Vec::new();
    while let Some(change) = all.try_next().unwrap() {
        revisions.push(change.revision);
    }
    assert_eq!(revisions, [2, 3, 4]);
}

#[tokio::test]
async fn a_sleeping_watch_is_woken() {
    let (_database, store) = memory();
    let mut watch = store.watch("/configmaps", 1).unwrap();
    let reader = tokio::spawn(async move { watch.next().await.unwrap().revision });
    tokio::task::yield_now().await;
    store.create(key("a"), object("1")).await.unwrap();
    assert_eq!(reader.await.unwrap(), 2);
}

#[tokio::test]
async fn history_is_bounded_by_number() {
    let database = Database::memory_with(Options {
        history_changes: 3,
        ..Options::default()
    });
    let store = database.store("hub").unwrap();
    let mut slow = store.watch("/configmaps", 1).unwrap();
    let mut idle = store.watch("/pods", 1).unwrap();
    store
        .create(Key::new("/secrets", "a", "s"), json!({}))
        .await
        .unwrap();
    for n in 0..5 {
        store
            .create(key(&n.to_string()), object("1"))
            .await
            .unwrap();
    }
    assert_eq!(slow.next().await.unwrap_err(), Expired { oldest: 4 });
    assert_eq!(store.watch_all(3).unwrap_err(), Expired { oldest: 4 });
    assert!(store.watch("/configmaps", 4).is_ok());
    assert_eq!(
        store
            .list_at("/configmaps", None, 3, None, None)
            .unwrap_err()
            .oldest,
        4
    );
    assert_eq!(
        store
            .list_at("/configmaps", None, 4, None, None)
            .unwrap()
            .items
            .len(),
        2
    );
    // Nothing happened to pods, so nothing about them is forgotten; of secrets only the first write.
    assert!(idle.next().now_or_never().is_none());
    assert_eq!(idle.progress(), 7);
    assert_eq!(
        store.watch("/secrets", 1).unwrap_err(),
        Expired { oldest: 2 }
    );
    assert!(store.watch("/secrets", 2).is_ok());
}

#[tokio::test]
async fn history_is_bounded_by_age_and_bytes() {
    let now = Arc::new(Mutex::new(Instant::now()));
    let clock = Arc::clone(&now);
    let database = Database::memory_with(Options {
        history_age: Duration::from_mins(5),
        history_bytes: 100_000,
        clock: Arc::new(move || *clock.lock().unwrap()),
        ..Options::default()
    });
    let store = database.store("hub").unwrap();
    store.create(key("a"), object("1")).await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(299);
    store.create(key("b"), object("1")).await.unwrap();
    assert!(store.watch_all(1).is_ok());
    *now.lock().unwrap() += Duration::from_secs(2);
    store.create(key("c"), object("1")).await.unwrap();
    assert_eq!(store.watch_all(1).unwrap_err(), Expired { oldest: 2 });
    let large = object(&"x".repeat(60_000));
    let first = store.create(key("large"), large.clone()).await.unwrap();
    let second = store
        .update(key("large"), first.revision, large.clone())
        .await
        .unwrap();
    assert!(store.watch_all(2).is_ok(), "one old state of 60 kB fits");
    let third = store
        .update(key("large"), second.revision, large)
        .await
        .unwrap();
    assert_eq!(
        store.watch_all(2).unwrap_err(),
        Expired {
            oldest: second.revision
        }
    );
    assert!(store.watch_all(third.revision - 1).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_lose_no_update() {
    let (_database, store) = memory();
    store.create(key("n"), object("0")).await.unwrap();
    let writers = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                loop {
                    let live = store.get(&key("n")).unwrap();
                    let next = text(&live).parse::<u32>().unwrap() + 1;
                    match store
                        .update(key("n"), live.revision, object(&next.to_string()))
                        .await
                    {
                        Ok(_) => break,
                        Err(WriteError::Changed(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(text(&store.get(&key("n")).unwrap()), "400");
    assert_eq!(store.revision(), 402);
}

#[tokio::test]
async fn a_closed_database_reads_and_refuses() {
    let (database, store) = memory();
    store.create(key("a"), object("1")).await.unwrap();
    database.close().unwrap();
    database.close().unwrap();
    assert!(store.get(&key("a")).is_some());
    assert!(matches!(
        store.create(key("b"), object("1")).await,
        Err(WriteError::Closed)
    ));
    assert!(database.store("other").is_err());
}

#[test]
fn metadata_is_read_alike_from_trees_and_from_text() {
    let cases = [
        json!({}),
        json!({"metadata": {}}),
        json!({"metadata": {"uid": "a\"b", "labels": {"x": "y", "e": ""}, "deletionTimestamp": "t"}}),
        json!({"metadata": {"labels": null, "ownerReferences": null, "deletionTimestamp": null}}),
        json!({"metadata": {"ownerReferences": [{"uid": "u", "name": "n"}, {"name": "no uid"}]}}),
    ];
    for case in cases {
        let encoded = Object::encode(key("a"), 7, case).unwrap();
        let decoded = Object::decode(key("a"), 7, encoded.json.clone()).unwrap();
        assert_eq!(encoded.meta, decoded.meta);
        assert_eq!(Meta::of(&encoded.value()), decoded.meta);
    }
}
