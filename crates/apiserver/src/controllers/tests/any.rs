//! Any graph of owners, any deletes: the collector comes to rest, and what it leaves is right.

use proptest::prelude::*;

use super::*;

/// An object: its namespace, its owners (and whether each waits for it), and whether somebody holds
/// it.
#[derive(Clone, Debug)]
struct Thing {
    namespace: &'static str,
    owners: Vec<(usize, bool)>,
    held: bool,
}

const COUNT: usize = 7;

fn thing() -> impl Strategy<Value = Thing> {
    (
        prop::sample::select(vec!["", "a", "a", "b"]),
        // One more than there are: an owner that never was.
        prop::collection::vec((0..=COUNT, any::<bool>()), 0..3),
        prop::bool::weighted(0.25),
    )
        .prop_map(|(namespace, owners, held)| Thing {
            namespace,
            owners,
            held,
        })
}

fn place(number: usize, thing: &Thing) -> String {
    let namespace = if thing.namespace.is_empty() {
        "-"
    } else {
        thing.namespace
    };
    format!("things {namespace} t{number}")
}

async fn build(world: &World, things: &[Thing]) {
    for (number, thing) in things.iter().enumerate() {
        let owners: Vec<Value> = thing
            .owners
            .iter()
            .map(|(owner, blocking)| {
                json!({"apiVersion": "example.io/v1", "kind": "Thing", "name": format!("t{owner}"),
                    "uid": format!("uid-t{owner}"), "blockOwnerDeletion": blocking})
            })
            .collect();
        let finalizers: &[&str] = if thing.held {
            &["example.io/hold"]
        } else {
            &[]
        };
        let more = json!({"ownerReferences": owners, "finalizers": finalizers});
        world.put(&place(number, thing), more).await;
    }
}

/// What must be true whenever there is nothing to do.
fn check(world: &World) {
    for object in world.store.list("example.io/things", None).items {
        let plan = garbage::plan(&object, &world.store, None);
        assert!(plan.is_idle(), "{:?} still needs {plan:?}", object.key);
        let value = object.value();
        let held = lifecycle::has_finalizer(&value, "example.io/hold");
        if object.meta.terminating {
            let waits = lifecycle::has_finalizer(&value, lifecycle::FOREGROUND);
            assert!(held || waits, "{value} waits for nothing");
            assert!(
                !lifecycle::has_finalizer(&value, lifecycle::ORPHAN),
                "{value}"
            );
            continue;
        }
        if object.key.namespace.is_empty() || object.meta.owners.is_empty() {
            continue;
        }
        let solid = object.meta.owners.iter().any(|uid| {
            world.store.by_uid(uid).is_some_and(|owner| {
                owner.key.namespace.is_empty() || owner.key.namespace == object.key.namespace
            })
        });
        assert!(solid, "{value} has no owner");
    }
}

/// Whether an object waits for one of the cluster that somebody gave an owner in a namespace: that one stays, as upstream, and so
/// does whoever waits for it.
fn waits_for_a_mistake(world: &World, things: &[Thing], object: &Object, depth: usize) -> bool {
    let name = &*object.key.name;
    let waited_for = things.iter().enumerate().filter(|(_, thing)| {
        let mut owners = thing.owners.iter();
        owners.any(|(owner, blocking)| *blocking && format!("t{owner}") == name)
    });
    let mut there = waited_for.filter_map(|(number, thing)| {
        let found = world.store.get(&key(&place(number, thing)))?;
        Some((thing, found))
    });
    there.any(|(thing, found)| {
        let mut owners = thing
            .owners
            .iter()
            .filter_map(|(owner, _)| things.get(*owner));
        let mistaken =
            thing.namespace.is_empty() && owners.any(|owner| !owner.namespace.is_empty());
        mistaken || (depth > 0 && waits_for_a_mistake(world, things, &found, depth - 1))
    })
}

async fn run_case(things: &[Thing], deletes: &[(usize, u8)]) {
    let world = World::new();
    build(&world, things).await;
    world.settle().await;
    check(&world);
    for (number, policy) in deletes {
        let place = place(*number, &things[*number]);
        if world.store.get(&key(&place)).is_some() {
            let policies = [
                Propagation::Background,
                Propagation::Foreground,
                Propagation::Orphan,
            ];
            world
                .delete(&place, policies[usize::from(*policy % 3)])
                .await;
            world.settle().await;
            check(&world);
        }
    }
    // Nobody holds anything any more: what was to go is gone.
    for object in world.store.list("example.io/things", None).items {
        let mut value = object.value();
        let held = value["metadata"]["finalizers"].as_array_mut();
        if let Some(held) = held {
            held.retain(|finalizer| finalizer != "example.io/hold");
        }
        Writer::update(&world.store, &object, value).await.unwrap();
    }
    world.settle().await;
    check(&world);
    let ending = world.store.list("example.io/things", None).items;
    let ending: Vec<_> = ending
        .iter()
        .filter(|object| object.meta.terminating)
        .filter(|object| !waits_for_a_mistake(&world, things, object, COUNT))
        .collect();
    assert!(ending.is_empty(), "{ending:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(192) })]

    #[test]
    fn the_collector_comes_to_rest(
        things in prop::collection::vec(thing(), COUNT),
        deletes in prop::collection::vec((0..COUNT, any::<u8>()), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run_case(&things, &deletes));
    }
}

/// An object of the cluster with an owner in a namespace is nobody's garbage, so its other owner waits for it.
#[tokio::test]
async fn whoever_waits_for_a_mistake_waits() {
    let thing = |namespace, owners| Thing {
        namespace,
        owners,
        held: false,
    };
    let things = [
        thing("a", vec![]),
        thing("", vec![]),
        thing("", vec![(1, true), (0, false)]),
    ];
    run_case(&things, &[(1, 1)]).await;
}
