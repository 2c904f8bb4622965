//! Works of a set, in the cluster of the fleet and in two more whose agents the scenario plays.

use anyhow::{Context, ensure};
use drover_testkit::eventually;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject};
use serde_json::{Value, json};

use super::super::Ground;
use super::executors::{ALL, grant, runner};
use super::placements::forget;
use crate::placing::{Place, SATISFIED};
use crate::world::{LONG, api, apply, field, gone, works};

const NAME: &str = "web";

struct Rollout {
    ground: Ground,
    place: Place,
    sets: Api<DynamicObject>,
    executor: Value,
}

impl Rollout {
    /// Waits until a condition of the set as it is now has this status and a message that begins so.
    async fn says(&self, type_: &str, status: &str, message: &str) {
        let check = async || {
            let found = self.sets.get(NAME).await?;
            let all = found.data["status"]["conditions"].as_array();
            let mut all = all.into_iter().flatten();
            let condition = all.find(|condition| condition["type"] == type_);
            let condition = condition.context("it does not say it")?;
            let text = condition["message"].as_str().unwrap_or_default();
            let generation = condition["observedGeneration"].as_i64();
            ensure!(
                condition["status"] == status
                    && text.starts_with(message)
                    && generation == found.metadata.generation,
                "{}",
                found.data["status"]
            );
            Ok(())
        };
        eventually(&format!("{type_}={status} {message}"), LONG, check)
            .await
            .unwrap();
    }

    fn works(&self, cluster: &str) -> Api<DynamicObject> {
        works(&self.ground.fleet.hub, cluster)
    }

    /// The value in the work of a cluster; none where there is no work.
    async fn value(&self, cluster: &str) -> Option<String> {
        let work = self.works(cluster).get_opt(NAME).await.unwrap()?;
        let value = work.data.pointer("/spec/workload/manifests/0/data/value");
        Some(value.and_then(Value::as_str).unwrap().to_owned())
    }

    /// Does as an agent does: says that the work with this value was applied, or that it could not be.
    async fn play(&self, cluster: &str, value: &str, well: bool) {
        let shop = self.works(cluster);
        let pointer = "/spec/workload/manifests/0/data/value";
        field(&shop, NAME, pointer, value).await;
        let work = shop.get(NAME).await.unwrap();
        let (status, reason) = if well {
            ("True", "Fine")
        } else {
            ("False", "Broken")
        };
        let conditions = ["Applied", "Available"].map(|type_| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": "played",
                "observedGeneration": work.metadata.generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        });
        let patch = kube::api::Patch::Merge(json!({"status": {"conditions": conditions}}));
        let params = kube::api::PatchParams::default();
        shop.patch_status(NAME, &params, &patch).await.unwrap();
    }

    async fn apply(&self, value: &str) {
        let map = self.ground.config_map("rolled", value);
        let progressive = json!({"maxConcurrency": 1});
        let set = json!({
            "apiVersion": "work.open-cluster-management.io/v1alpha1", "kind": "ManifestWorkReplicaSet",
            "metadata": {"name": NAME, "namespace": self.ground.space},
            "spec": {
                "manifestWorkTemplate": {"workload": {"manifests": [map]}, "executor": self.executor},
                "cascadeDeletionPolicy": "Foreground",
                "placementRefs": [{"name": "all", "rolloutStrategy": {"type": "Progressive", "progressive": progressive}}],
            },
        });
        apply(&self.sets, &set).await.unwrap();
    }
}

/// One cluster after the other gets the work and each change of it; a cluster that fails stops the rollout, one that is not chosen any
/// more loses the work, and all goes with the set.
pub(super) async fn a_set_of_works_reaches_cluster_after_cluster(ground: Ground) {
    let place = Place::new(&ground.fleet.hub, &ground.space).await;
    let names = ["x", "y"].map(|name| ground.own(name));
    let [x, y] = &names;
    let (set, label) = (ground.own("set"), ground.own("rollout"));
    let marked = json!({label.as_str(): "yes"});
    for name in &names {
        place.cluster(name, marked.clone()).await;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let namespaces = api(&ground.fleet.hub, "v1/Namespace", None);
        apply(&namespaces, &namespace).await.unwrap();
    }
    let real = ground.fleet.name.clone();
    let mark = json!({"metadata": {"labels": marked}});
    place.patch(&place.clusters(), &real, mark).await;
    let selector = json!({"matchLabels": {label.as_str(): "yes"}});
    place.set(&set, Some(selector)).await;
    place.bind(&set).await;
    place.place("all", json!({})).await;
    let chosen = format!("0/: {real} {x} {y}");
    place.expect("all", &[&chosen], SATISFIED).await;

    let kind = "work.open-cluster-management.io/v1alpha1/ManifestWorkReplicaSet";
    let rollout = Rollout {
        sets: api(&ground.fleet.hub, kind, Some(&ground.space)),
        executor: runner(&ground).await,
        ground: ground.clone(),
        place,
    };
    let maps = ground.there("v1/ConfigMap");
    grant(&ground, "runs", &["configmaps"], &ALL).await;
    rollout.apply("1").await;
    rollout
        .says("PlacementRolledOut", "False", "1 of 3 clusters succeeded")
        .await;
    field(&maps, "rolled", "/data/value", "1").await;
    assert_eq!(rollout.value(y).await, None, "{x} is under way");
    rollout.play(x, "1", true).await;
    rollout.play(y, "1", true).await;
    rollout.says("PlacementRolledOut", "True", "3 of 3").await;
    rollout.says("ManifestworkApplied", "True", "3 of 3").await;

    rollout.apply("2").await;
    field(&maps, "rolled", "/data/value", "2").await;
    rollout.play(x, "2", false).await;
    let stopped = format!("1 of 3 clusters succeeded; failed: {x}; no further cluster is reached");
    rollout.says("PlacementRolledOut", "False", &stopped).await;
    assert_eq!(rollout.value(y).await.as_deref(), Some("1"), "it stopped");
    rollout.play(x, "2", true).await;
    rollout.play(y, "2", true).await;
    rollout.says("PlacementRolledOut", "True", "3 of 3").await;

    let place = &rollout.place;
    let unmark = json!({"metadata": {"labels": {label.as_str(): null}}});
    place.patch(&place.clusters(), x, unmark.clone()).await;
    gone(&rollout.works(x), NAME).await;
    rollout.says("PlacementRolledOut", "True", "2 of 2").await;
    let params = DeleteParams::default();
    rollout.sets.delete(NAME, &params).await.unwrap();
    gone(&rollout.sets, NAME).await;
    for cluster in [&real, y] {
        assert_eq!(rollout.value(cluster).await, None, "{cluster}");
    }
    gone(&maps, "rolled").await;
    place.patch(&place.clusters(), &real, unmark).await;
    forget(place, &names, Some(&set)).await;
}
