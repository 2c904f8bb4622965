//! A model of a hub and a cluster in which every plan is done, and the property that a plan that was done is done.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, json};
use std::collections::BTreeMap;

type Key = (String, String, String, String);

struct World {
    work: Option<ManifestWork>,
    applied: Option<AppliedManifestWork>,
    objects: BTreeMap<Key, Value>,
    /// Whether the kind Offer is served.
    offers: bool,
    clock: i64,
}

fn served(world: &World, kind: &str) -> Option<Served> {
    let (resource, namespaced) = match kind {
        "ConfigMap" => ("configmaps", true),
        "Namespace" => ("namespaces", false),
        "Offer" if world.offers => ("offers", true),
        _ => return None,
    };
    Some(Served {
        resource: resource.to_owned(),
        namespaced,
    })
}

fn identity() -> Identity {
    Identity {
        hub_hash: "hub".to_owned(),
        agent_id: "hub".to_owned(),
    }
}

impl World {
    fn new(spec: Value) -> Self {
        let work = json!({"metadata": {"name": "w", "namespace": "c", "uid": "w", "generation": 1}, "spec": spec});
        Self {
            work: Some(serde_json::from_value(work).expect("the work is valid")),
            applied: None,
            objects: BTreeMap::new(),
            offers: false,
            clock: 1,
        }
    }

    fn now(&mut self) -> Time {
        self.clock += 1;
        Time(jiff::Timestamp::from_second(self.clock).expect("small seconds are valid"))
    }

    fn live(&self, key: &Key) -> Live {
        self.objects
            .get(key)
            .map_or(Live::Absent, |object| Live::Present(object.clone()))
    }

    fn observe(&self, attempts: &BTreeMap<usize, Attempt>) -> Vec<Observed> {
        let parsed = self
            .work
            .as_ref()
            .map(manifest::parse_all)
            .unwrap_or_default();
        let observe = |(at, parsed): (usize, Result<Desired, ManifestError>)| {
            let served = parsed
                .as_ref()
                .ok()
                .and_then(|desired| served(self, &desired.gvk.kind));
            let meta = manifest::meta(at, parsed.as_ref(), served.as_ref());
            let live = self.live(&(meta.group, meta.resource, meta.namespace, meta.name));
            Observed {
                parsed,
                served,
                live,
                attempt: attempts.get(&at).cloned().unwrap_or(Attempt::None),
                pods: Vec::new(),
            }
        };
        parsed.into_iter().enumerate().map(observe).collect()
    }

    fn plan(&mut self, attempts: &BTreeMap<usize, Attempt>) -> Vec<Action> {
        let now = self.now();
        let needs = needs(self.work.as_ref(), self.applied.as_ref());
        let manifests = if needs == Needs::Manifests {
            self.observe(attempts)
        } else {
            Vec::new()
        };
        let residue: Vec<_> = residue(needs, &manifests, self.applied.as_ref())
            .into_iter()
            .map(|entry| {
                let live = self.live(&key_of(&entry));
                (entry, live)
            })
            .collect();
        let identity = identity();
        let seen = Seen {
            work: self.work.as_ref(),
            applied: self.applied.as_ref(),
            identity: &identity,
            manifests: &manifests,
            residue: &residue,
            raw_feedback: false,
        };
        plan(&seen, &now)
    }

    fn run(&mut self) {
        let mut attempts = BTreeMap::new();
        for _ in 0..20 {
            let actions = self.plan(&attempts);
            if only_waits(&actions) {
                if attempts.is_empty() {
                    return;
                }
                attempts.clear();
                continue;
            }
            let wrote = actions
                .iter()
                .any(|action| matches!(action, Action::Write { .. }));
            if !wrote {
                attempts.clear();
            }
            for action in actions {
                self.act(action, &mut attempts);
            }
        }
        panic!(
            "the plan does not come to an end: {:?}",
            self.plan(&BTreeMap::new())
        );
    }

    fn act(&mut self, action: Action, attempts: &mut BTreeMap<usize, Attempt>) {
        match action {
            Action::AddFinalizer => {
                self.work_mut().metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
            }
            Action::RemoveFinalizer => self.work = None,
            Action::CreateApplied(mut applied) => {
                applied.metadata.uid = Some(format!("amw-{}", self.clock));
                self.applied = Some(*applied);
            }
            Action::AddAppliedFinalizer => {
                self.applied_mut().metadata.finalizers =
                    Some(vec![names::APPLIED_FINALIZER.to_owned()]);
            }
            Action::RemoveAppliedFinalizer => self.applied = None,
            Action::AdoptApplied => {
                let labels = self.work_mut().metadata.labels.clone();
                self.applied_mut().metadata.labels = labels;
                self.applied_mut().spec.agent_id = identity().agent_id;
            }
            Action::DeleteApplied => {
                let now = self.now();
                self.applied_mut().metadata.deletion_timestamp = Some(now);
            }
            Action::Write { ordinal, write } => {
                attempts.insert(ordinal, Attempt::Done);
                self.write(ordinal, *write);
            }
            Action::Refuse { ordinal, why } => {
                drop(attempts.insert(ordinal, Attempt::BadIgnoreField(why)));
            }
            Action::Delete { target, uid } => {
                let gone = self
                    .objects
                    .remove(&key_of(&target))
                    .expect("only what is there is deleted");
                assert_eq!(gone["metadata"]["uid"], json!(uid));
            }
            Action::Release { target, patch } => json_patch::merge(
                self.objects
                    .get_mut(&key_of(&target))
                    .expect("only what is there is released"),
                &patch,
            ),
            Action::PatchApplied(status) => self.applied_mut().status = Some(status),
            Action::PatchStatus(status) => self.work_mut().status = Some(*status),
            Action::Wait(_) => (),
        }
    }

    fn write(&mut self, ordinal: usize, write: Write) {
        let observed = self.observe(&BTreeMap::new()).swap_remove(ordinal);
        let meta = observed.meta(ordinal);
        let key = (meta.group, meta.resource, meta.namespace, meta.name);
        let mut object = match write {
            Write::Create(object) | Write::Replace(object) => object,
            Write::Merge(patch) => {
                let mut object = self.objects[&key].clone();
                json_patch::merge(&mut object, &patch);
                object
            }
            Write::Apply { object, .. } => {
                let mut live = self.objects.get(&key).cloned().unwrap_or_else(|| json!({}));
                json_patch::merge(&mut live, &object);
                live
            }
        };
        self.clock += 1;
        let metadata = object["metadata"]
            .as_object_mut()
            .expect("an object has metadata");
        metadata
            .entry("uid")
            .or_insert(json!(format!("u{}", self.clock)));
        metadata.insert("resourceVersion".to_owned(), json!(self.clock.to_string()));
        if object["kind"] == "Offer" && object.get("spec").is_some() {
            object["spec"]["filledIn"] = json!("by the server");
        }
        self.objects.insert(key, object);
    }

    fn work_mut(&mut self) -> &mut ManifestWork {
        self.work.as_mut().expect("the work is there")
    }

    fn applied_mut(&mut self) -> &mut AppliedManifestWork {
        self.applied.as_mut().expect("the trace is there")
    }
}

fn key_of(entry: &AppliedManifestResourceMeta) -> Key {
    (
        entry.group.clone(),
        entry.resource.clone(),
        entry.namespace.clone(),
        entry.name.clone(),
    )
}

fn only_waits(actions: &[Action]) -> bool {
    actions
        .iter()
        .all(|action| matches!(action, Action::Wait(_)))
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n"}, "data": {"k": value}})
}

fn config_key(name: &str) -> Key {
    (
        String::new(),
        "configmaps".to_owned(),
        "n".to_owned(),
        name.to_owned(),
    )
}

fn names_of(world: &World) -> Vec<&str> {
    world.objects.keys().map(|key| key.3.as_str()).collect()
}

#[test]
fn a_work_lives_and_dies() {
    let mut world = World::new(
        json!({"workload": {"manifests": [config_map("a", "1"), config_map("b", "1")]}}),
    );
    world.run();
    assert_eq!(names_of(&world), ["a", "b"]);
    let status = world.work_mut().status.clone().expect("it is reported");
    assert!(
        conditions::is_true(&status.conditions, "Applied")
            && conditions::is_true(&status.conditions, "Available")
    );
    assert_eq!(
        world
            .applied_mut()
            .status
            .as_ref()
            .map(|status| status.applied_resources.len()),
        Some(2)
    );

    // A manifest leaves the spec.
    world.work_mut().spec.workload.manifests.pop();
    world.run();
    assert_eq!(names_of(&world), ["a"]);

    // Somebody changes, then deletes, what is there.
    world
        .objects
        .get_mut(&config_key("a"))
        .expect("it is there")["data"]["k"] = json!("2");
    world.run();
    assert_eq!(world.objects[&config_key("a")]["data"]["k"], "1");
    world.objects.clear();
    world.run();
    assert_eq!(names_of(&world), ["a"]);

    let now = world.now();
    world.work_mut().metadata.deletion_timestamp = Some(now);
    world.run();
    assert_eq!(
        (
            names_of(&world),
            world.work.is_none(),
            world.applied.is_none()
        ),
        (vec![], true, true)
    );
}

#[test]
fn the_record_has_the_labels_of_the_work() {
    let mut world = World::new(json!({"workload": {"manifests": [config_map("a", "1")]}}));
    let label = |value: &str| Some([("tier".to_owned(), value.to_owned())].into());
    for value in ["web", "data"] {
        world.work_mut().metadata.labels = label(value);
        world.run();
        assert_eq!(world.applied_mut().metadata.labels, label(value));
    }
    world.applied_mut().spec.agent_id = "another".to_owned();
    world.run();
    assert_eq!(world.applied_mut().spec.agent_id, identity().agent_id);
}

#[test]
fn what_is_shared_or_orphaned_stays() {
    let spec = json!({
        "workload": {"manifests": [config_map("mine", "1"), config_map("shared", "1"), config_map("orphan", "1")]},
        "deleteOption": {"propagationPolicy": "SelectivelyOrphan",
            "selectivelyOrphans": {"orphaningRules": [{"resource": "configmaps", "name": "orph*", "namespace": "n"}]}},
    });
    let mut world = World::new(spec);
    world.run();
    let other = Owner {
        name: "hub-other".to_owned(),
        uid: "other".to_owned(),
    }
    .reference();
    world
        .objects
        .get_mut(&config_key("shared"))
        .and_then(|object| object["metadata"]["ownerReferences"].as_array_mut())
        .expect("it is owned")
        .push(other);
    assert_eq!(owners::of(&world.objects[&config_key("orphan")]).len(), 0);

    let now = world.now();
    world.work_mut().metadata.deletion_timestamp = Some(now);
    world.run();
    assert_eq!(names_of(&world), ["orphan", "shared"]);
    assert_eq!(
        owners::works(&world.objects[&config_key("shared")]).collect::<Vec<_>>(),
        ["hub-other"]
    );
}

#[test]
fn an_orphaning_deletion_lets_everything_stay() {
    let mut world = World::new(json!({"workload": {"manifests": [config_map("a", "1")]}}));
    world.run();
    assert_eq!(owners::of(&world.objects[&config_key("a")]).len(), 1);
    world.work_mut().spec.delete_option = Some(drover_api::work::v1::DeleteOption {
        propagation_policy: DeletePropagationPolicy::Orphan,
        ..Default::default()
    });
    let now = world.now();
    world.work_mut().metadata.deletion_timestamp = Some(now);
    world.run();
    assert_eq!(names_of(&world), ["a"]);
    assert_eq!(owners::of(&world.objects[&config_key("a")]).len(), 0);
}

#[test]
fn a_kind_that_vanishes_takes_nothing_with_it() {
    let offer = json!({"apiVersion": "shop.example.com/v1", "kind": "Offer", "metadata": {"name": "o", "namespace": "n"}, "spec": {"price": 1}});
    let mut world = World::new(json!({"workload": {"manifests": [offer]}}));
    world.run();
    assert!(world.objects.is_empty());
    world.offers = true;
    world.run();
    assert_eq!(names_of(&world), ["o"]);
    world.offers = false;
    world.run();
    assert_eq!(names_of(&world), ["o"]);
    assert_eq!(
        world
            .applied_mut()
            .status
            .as_ref()
            .map(|status| status.applied_resources.len()),
        Some(1)
    );
}

fn manifests() -> impl Strategy<Value = Vec<Value>> {
    let one = (0..4_u8, 0..3_u8, 0..3_u8).prop_map(|(name, kind, value)| {
        let name = format!("x{name}");
        match kind {
            0 => config_map(&name, &value.to_string()),
            1 => json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"v": value.to_string()}}}),
            _ => json!({"apiVersion": "shop.example.com/v1", "kind": "Offer", "metadata": {"name": name, "namespace": "n"}, "spec": {"price": value}}),
        }
    });
    proptest::collection::vec(one, 0..6).prop_map(|all| {
        // Admission refuses duplicates.
        let mut seen = BTreeMap::new();
        for manifest in all {
            seen.insert(
                (
                    manifest["kind"].to_string(),
                    manifest["metadata"]["name"].to_string(),
                ),
                manifest,
            );
        }
        seen.into_values().collect()
    })
}

#[derive(Clone, Debug)]
enum Event {
    Spec(Vec<Value>),
    Strategy(&'static str),
    Offers(bool),
    Drift(usize),
    Vanish(usize),
    TraceDeleted,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => manifests().prop_map(Event::Spec),
        1 => proptest::sample::select(vec!["Update", "CreateOnly", "ServerSideApply", "ReadOnly"]).prop_map(Event::Strategy),
        1 => any::<bool>().prop_map(Event::Offers),
        2 => (0..6_usize).prop_map(Event::Drift),
        1 => (0..6_usize).prop_map(Event::Vanish),
        1 => Just(Event::TraceDeleted),
    ];
    proptest::collection::vec(event, 1..8)
}

proptest! {
    #[test]
    fn a_plan_that_was_done_is_done(events in events(), orphan in any::<bool>()) {
        let mut world = World::new(json!({}));
        for event in events {
            world.happen(event);
            world.run();
            prop_assert!(only_waits(&world.plan(&BTreeMap::new())));
        }
        if orphan {
            world.work_mut().spec.delete_option = Some(drover_api::work::v1::DeleteOption { propagation_policy: DeletePropagationPolicy::Orphan, ..Default::default() });
        }
        let now = world.now();
        world.work_mut().metadata.deletion_timestamp = Some(now);
        world.run();
        prop_assert!(world.work.is_none() && world.applied.is_none());
        prop_assert!(world.objects.values().all(|object| owners::of(object).is_empty()));
    }
}

impl World {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Spec(manifests) => {
                self.work_mut().spec.workload.manifests = manifests
                    .into_iter()
                    .map(drover_api::work::v1::Manifest)
                    .collect();
                self.work_mut().metadata.generation = Some(self.clock);
            }
            Event::Strategy(strategy) => {
                let config = |group: &str, resource: &str| json!({"resourceIdentifier": {"group": group, "resource": resource, "name": "*", "namespace": "*"}, "updateStrategy": {"type": strategy}});
                self.work_mut().spec.manifest_configs = serde_json::from_value(json!([
                    config("", "configmaps"),
                    config("shop.example.com", "offers")
                ]))
                .expect("the configs are valid");
            }
            Event::Offers(served) => self.offers = served,
            Event::Drift(at) => {
                if let Some(object) = self.objects.values_mut().nth(at) {
                    object["data"] = json!({"drift": "x"});
                    object["metadata"]["labels"] = Value::Object(Map::new());
                }
            }
            Event::Vanish(at) => {
                if let Some(key) = self.objects.keys().nth(at).cloned() {
                    self.objects.remove(&key);
                }
            }
            Event::TraceDeleted => {
                let now = self.now();
                if let Some(applied) = &mut self.applied {
                    applied.metadata.deletion_timestamp = Some(now);
                }
            }
        }
    }
}

#[test]
fn only_what_was_never_applied_and_is_created_first_is_new() {
    let meta = ManifestResourceMeta {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        resource: "configmaps".to_owned(),
        namespace: "n".to_owned(),
        name: "a".to_owned(),
        ..ManifestResourceMeta::default()
    };
    let work = |strategy: &str, status: Value| -> ManifestWork {
        let config = json!({
            "resourceIdentifier": {"group": "", "resource": "configmaps", "namespace": "n", "name": "a"},
            "updateStrategy": {"type": strategy},
        });
        let work = json!({
            "metadata": {"name": "w"}, "spec": {"workload": {"manifests": []}, "manifestConfigs": [config]}, "status": status,
        });
        serde_json::from_value(work).expect("the work is valid")
    };
    let trace = |name: &str| -> AppliedManifestWork {
        let entry = json!({"group": "", "version": "v1", "resource": "configmaps", "namespace": "n", "name": name, "uid": "u"});
        let applied = json!({
            "metadata": {"name": "t"}, "spec": {"hubHash": "h", "agentID": "h", "manifestWorkName": "w"},
            "status": {"appliedResources": [entry]},
        });
        serde_json::from_value(applied).expect("the trace is valid")
    };
    let condition = json!({"type": "Complete", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let reported =
        json!({"resourceStatus": {"manifests": [{"conditions": [], "resourceMeta": meta}]}});
    let check = |strategy: &str, status: Value, applied: Option<&str>, expected: bool| {
        let applied = applied.map(trace);
        let work = work(strategy, status.clone());
        let found = is_new(&work, applied.as_ref(), &meta);
        assert_eq!(found, expected, "{strategy} {status} {applied:?}");
    };
    check("Update", json!({}), None, true);
    check("CreateOnly", json!({}), Some("other"), true);
    check("Update", json!({}), Some("a"), false);
    check("Update", reported, None, false);
    check("Update", json!({"conditions": [condition]}), None, false);
    check("ServerSideApply", json!({}), None, false);
    check("ReadOnly", json!({}), None, false);
}

#[test]
fn a_work_with_too_many_manifests_is_refused_once() {
    let manifests = vec![json!({}); MAX_MANIFESTS + 1];
    let mut work: ManifestWork = serde_json::from_value(json!({
        "metadata": {"name": "w", "finalizers": [names::FINALIZER]}, "spec": {"workload": {"manifests": manifests}},
    }))
    .expect("the work is valid");
    let identity = identity();
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    let planned = |work: &ManifestWork| {
        assert_eq!(needs(Some(work), None), Needs::Nothing);
        let seen = Seen {
            work: Some(work),
            applied: None,
            identity: &identity,
            manifests: &[],
            residue: &[],
            raw_feedback: false,
        };
        plan(&seen, &now)
    };
    let actions = planned(&work);
    let [Action::PatchStatus(status)] = actions.as_slice() else {
        panic!("it is only told: {actions:?}")
    };
    let applied = conditions::find(&status.conditions, names::APPLIED).expect("it is told");
    assert!(
        applied.message.contains("at most 4000 are applied"),
        "{}",
        applied.message
    );
    work.status = Some(*status.clone());
    assert_eq!(planned(&work), Vec::new());
}
