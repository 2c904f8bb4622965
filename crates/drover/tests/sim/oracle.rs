//! What must never be, and what must be in the end.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::world::{World, api};

/// Follows the statuses on the hub: neither the generation that one speaks of nor its sequence id ever goes back.
pub(crate) async fn statuses_go_forward(
    works: Api<DynamicObject>,
    stop: CancellationToken,
) -> Option<String> {
    let mut seen: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let events = watcher(works, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    futures::pin_mut!(events);
    loop {
        let work = tokio::select! {
            () = stop.cancelled() => return None,
            event = events.next() => event?.ok(),
        };
        let Some(work) = work else { continue };
        let conditions = work.data["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of = |type_: &str| conditions.iter().find(|it| it["type"] == type_);
        let generation = of("Applied")
            .and_then(|it| it["observedGeneration"].as_i64())
            .unwrap_or(0);
        let sequence = of("Reported")
            .and_then(|it| it["message"].as_str()?.parse().ok())
            .unwrap_or(0);
        let before = seen.entry(work.uid().unwrap_or_default()).or_default();
        // An agent that starts anew says no more of a work that goes than that it goes.
        let generation = if generation == 0 {
            before.0
        } else {
            generation
        };
        let before = std::mem::replace(before, (generation, sequence));
        if before.0 > generation || before.1 > sequence {
            return Some(format!(
                "the status of {} went from {before:?} to {:?}",
                work.name_any(),
                (generation, sequence)
            ));
        }
    }
}

/// An object by kind, namespace and name.
type Place = (String, String, String);

fn place(object: &Value) -> Place {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name"),
    )
}

impl World {
    /// The objects of a cluster that works made, with their data.
    async fn made(&self, cluster: usize) -> BTreeMap<Place, Value> {
        let client = &self.clusters[cluster].api.clean;
        let mut all = BTreeMap::new();
        for (kind, version) in [("ConfigMap", "v1"), ("Widget", "example.com/v1")] {
            let list = api(client, &format!("{version}/{kind}"), None)
                .list(&ListParams::default())
                .await;
            // Widgets may not be served.
            for object in list.map(|list| list.items).unwrap_or_default() {
                if object.data["data"]["work"].is_string() {
                    let place = (
                        kind.to_owned(),
                        object.namespace().unwrap_or_default(),
                        object.name_any(),
                    );
                    all.insert(place, object.data["data"].clone());
                }
            }
        }
        all
    }

    /// No cluster has what is meant for another one.
    pub(crate) async fn nothing_is_misplaced(&self) -> Result<(), String> {
        for (at, cluster) in self.clusters.iter().enumerate() {
            for (place, data) in self.made(at).await {
                if data["cluster"] != cluster.name {
                    return Err(format!(
                        "{place:?} of {} is in {}",
                        data["cluster"], cluster.name
                    ));
                }
            }
        }
        Ok(())
    }

    /// Works, statuses and objects are what is wanted, and nothing else is there.
    pub(crate) async fn is_as_wanted(&self) -> Result<(), String> {
        self.nothing_is_misplaced().await?;
        for (at, cluster) in self.clusters.iter().enumerate() {
            let wanted: BTreeMap<&String, &Vec<Value>> = self
                .wanted
                .iter()
                .filter(|((of, _), _)| *of == at)
                .map(|((_, name), objects)| (name, objects))
                .collect();
            let works = self
                .works(at)
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let names: BTreeSet<String> = works.iter().map(kube::ResourceExt::name_any).collect();
            if names != wanted.keys().map(|name| (*name).clone()).collect() {
                return Err(format!(
                    "{} has the works {names:?}, wanted are {:?}",
                    cluster.name,
                    wanted.keys()
                ));
            }
            for work in &works {
                is_reported(work)?;
            }
            let objects: BTreeMap<Place, Value> = wanted
                .values()
                .flat_map(|it| it.iter())
                .map(|it| (place(it), it["data"].clone()))
                .collect();
            let made = self.made(at).await;
            let differs = |it: &Place| made.get(it) != objects.get(it);
            let places: BTreeSet<&Place> = made.keys().chain(objects.keys()).collect();
            if let Some(place) = places.into_iter().find(|it| differs(it)) {
                return Err(format!(
                    "{place:?} of {} is {:?}, wanted is {:?}",
                    cluster.name,
                    made.get(place),
                    objects.get(place)
                ));
            }
            let records = api(
                &cluster.api.clean,
                "work.open-cluster-management.io/v1/AppliedManifestWork",
                None,
            );
            let records = records
                .list(&ListParams::default())
                .await
                .map_err(|error| error.to_string())?;
            let recorded: BTreeSet<&str> = records
                .iter()
                .filter_map(|it| it.data["spec"]["manifestWorkName"].as_str())
                .collect();
            if recorded != wanted.keys().map(|name| name.as_str()).collect() {
                return Err(format!(
                    "{} has records of {recorded:?}, wanted are {:?}",
                    cluster.name,
                    wanted.keys()
                ));
            }
        }
        Ok(())
    }
}

fn is_reported(work: &DynamicObject) -> Result<(), String> {
    let conditions = work.data["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for type_ in ["Applied", "Available"] {
        let well = conditions.iter().any(|it| {
            it["type"] == type_
                && it["status"] == "True"
                && it["observedGeneration"].as_i64() == work.metadata.generation
        });
        if !well {
            return Err(format!(
                "{} is not {type_}: {}",
                work.name_any(),
                work.data["status"]
            ));
        }
    }
    Ok(())
}
