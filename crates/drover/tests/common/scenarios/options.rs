//! How objects are written, and what stays of them.

use anyhow::ensure;
use drover_testkit::eventually;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::Ground;
use crate::world::{LONG, apply, field, gone, good};

/// Options for a config map of the scenario.
fn config(ground: &Ground, name: &str, options: &Value) -> Value {
    let identifier =
        json!({"group": "", "resource": "configmaps", "namespace": ground.space, "name": name});
    let mut config = json!({"resourceIdentifier": identifier});
    for (key, value) in options.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// The names of those who manage fields of an object.
fn managers(object: &DynamicObject) -> Vec<String> {
    let entries = object.managed_fields().iter();
    entries.filter_map(|entry| entry.manager.clone()).collect()
}

/// What is only created is left alone, what is only read is not written, and what is applied belongs to whoever applied it first, or
/// with force.
pub(super) async fn update_strategies_say_who_writes(ground: Ground) {
    let (works, maps) = (ground.works(), ground.there("v1/ConfigMap"));
    let name = ground.own("strategies");
    let work = |value: &str, force: bool| {
        let manifests = ["once", "read", "applied"].map(|map| ground.config_map(map, value));
        let mut work = crate::world::work(&name, &ground.fleet.name, &manifests);
        let strategy = |type_: &str| json!({"updateStrategy": {"type": type_}});
        let mut applied = strategy("ServerSideApply");
        applied["updateStrategy"]["serverSideApply"] = json!({"force": force});
        work["spec"]["manifestConfigs"] = json!([
            config(&ground, "once", &strategy("CreateOnly")),
            config(&ground, "read", &strategy("ReadOnly")),
            config(&ground, "applied", &applied),
        ]);
        work
    };
    let read = ground.config_map("read", "by hand");
    apply(&maps, &read).await.unwrap();
    apply(&works, &work("1", false)).await.unwrap();
    good(&works, &name).await;
    field(&maps, "read", "/data/value", "by hand").await;
    let applied = maps.get("applied").await.unwrap();
    assert_eq!(managers(&applied), ["work-agent"]);
    apply(&works, &work("2", false)).await.unwrap();
    field(&maps, "applied", "/data/value", "2").await;

    let taken = ground.config_map("applied", "by hand");
    apply(&maps, &taken).await.unwrap();
    apply(&works, &work("3", false)).await.unwrap();
    let told = async || {
        let found = works.get(&name).await?;
        let manifest = &found.data["status"]["resourceStatus"]["manifests"][2];
        let text = manifest["conditions"].to_string();
        ensure!(text.contains("conflict"), "{}", found.data["status"]);
        Ok(())
    };
    eventually("the conflict", LONG, told).await.unwrap();
    field(&maps, "applied", "/data/value", "by hand").await;
    apply(&works, &work("4", true)).await.unwrap();
    field(&maps, "applied", "/data/value", "4").await;
    good(&works, &name).await;
    field(&maps, "once", "/data/value", "1").await;
    field(&maps, "read", "/data/value", "by hand").await;
    let read = maps.get("read").await.unwrap();
    assert_eq!(managers(&read), ["test"]);

    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
    gone(&maps, "applied").await;
    field(&maps, "read", "/data/value", "by hand").await;
}

/// Objects that a work lets go stay, and belong to nobody.
pub(super) async fn deletion_options_say_what_stays(ground: Ground) {
    let (works, maps) = (ground.works(), ground.there("v1/ConfigMap"));
    let rule = json!({"resource": "configmaps", "namespace": ground.space, "name": "kept"});
    let some = json!({"propagationPolicy": "SelectivelyOrphan", "selectivelyOrphans": {"orphaningRules": [rule]}});
    let all = json!({"propagationPolicy": "Orphan"});
    for (name, manifests, option) in [
        ("some", ["kept", "lost"], some),
        ("all", ["left", "stays"], all),
    ] {
        let manifests = manifests.map(|map| ground.config_map(map, "1"));
        let own = ground.own(name);
        let mut work = crate::world::work(&own, &ground.fleet.name, &manifests);
        work["spec"]["deleteOption"] = option;
        apply(&works, &work).await.unwrap();
        good(&works, &own).await;
        if name == "all" {
            // One object leaves the work before the others.
            work["spec"]["workload"]["manifests"] = json!([ground.config_map("stays", "2")]);
            apply(&works, &work).await.unwrap();
            field(&maps, "stays", "/data/value", "2").await;
            good(&works, &own).await;
        }
    }
    let owners = maps.get("lost").await.unwrap();
    assert_eq!(owners.owner_references().len(), 1);
    for name in ["some", "all"].map(|name| ground.own(name)) {
        works.delete(&name, &DeleteParams::default()).await.unwrap();
        gone(&works, &name).await;
    }
    gone(&maps, "lost").await;
    for name in ["kept", "left", "stays"] {
        let found = maps.get(name).await.unwrap();
        assert!(found.owner_references().is_empty(), "{name}: {found:?}");
    }
}

/// Values of an object arrive as they change; what is not there is not reported, and what cannot be is explained.
pub(super) async fn feedback_follows_paths(ground: Ground) {
    let (works, maps) = (ground.works(), ground.there("v1/ConfigMap"));
    let name = ground.own("feedback");
    let path = |name: &str, path: &str| json!({"name": name, "path": path});
    let rules = json!({"updateStrategy": {"type": "CreateOnly"}, "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [
        path("value", ".data.value"), path("nothing", ".data.nothing")]}]});
    let mut work = crate::world::work(&name, &ground.fleet.name, &[ground.config_map("told", "1")]);
    work["spec"]["manifestConfigs"] = json!([config(&ground, "told", &rules)]);
    apply(&works, &work).await.unwrap();
    let tells = async |expected: &str| {
        let told = async || {
            let found = works.get(&name).await?;
            let manifest = &found.data["status"]["resourceStatus"]["manifests"][0];
            let values = &manifest["statusFeedback"]["values"];
            let all =
                json!([{"name": "value", "fieldValue": {"type": "String", "string": expected}}]);
            ensure!(*values == all, "{values}");
            Ok(())
        };
        eventually(expected, LONG, told).await.unwrap();
    };
    tells("1").await;
    let by_hand = Patch::Merge(json!({"data": {"value": "by hand"}}));
    let params = PatchParams::default();
    maps.patch("told", &params, &by_hand).await.unwrap();
    tells("by hand").await;
    let wrong =
        json!({"feedbackRules": [{"type": "JSONPaths", "jsonPaths": [path("all", ".data")]}]});
    work["spec"]["manifestConfigs"] = json!([config(&ground, "told", &wrong)]);
    apply(&works, &work).await.unwrap();
    let told = async || {
        let found = works.get(&name).await?;
        let manifest = &found.data["status"]["resourceStatus"]["manifests"][0];
        let all = manifest["conditions"].as_array();
        let mut all = all.into_iter().flatten();
        let synced = all.find(|condition| condition["type"] == "StatusFeedbackSynced");
        let status = synced.map(|condition| &condition["status"]);
        ensure!(
            status.is_some_and(|status| status == "False"),
            "{}",
            found.data["status"]
        );
        Ok(())
    };
    eventually("an explanation", LONG, told).await.unwrap();
    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
    gone(&maps, "told").await;
}
