//! Copies of the hub end and start while works come, change and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use drover_testkit::eventually;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, CLUSTER};
use crate::world::{LONG, api, apply, gone, good, work, works};

const SPACE: &str = "restarts";

/// Every object that a namespace of the cluster has ever had: uids by name.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>);

impl Ledger {
    fn keep(&self, maps: Api<ConfigMap>, stop: CancellationToken) {
        let ledger = self.clone();
        tokio::spawn(async move {
            let events = kube::runtime::watcher(maps, watcher::Config::default());
            futures::pin_mut!(events);
            while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
                if let Ok(Event::Apply(map) | Event::InitApply(map) | Event::Delete(map)) = event {
                    let mut all = ledger.0.lock().unwrap();
                    let uids = all.entry(map.name_any()).or_default();
                    uids.insert(map.uid().unwrap_or_default());
                }
            }
        });
    }

    fn lives_of(&self, name: &str) -> usize {
        self.0.lock().unwrap().get(name).map_or(0, BTreeSet::len)
    }
}

fn config_map(name: &str, value: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SPACE},
        "data": {"value": value.to_string()},
    })
}

/// What the works shall be in the end: the value of each, or nothing.
type Wanted = BTreeMap<String, Option<usize>>;

/// Applies as a person does: a copy that dies while it judges a write makes it fail, and the write is tried again.
async fn put(shop: &Api<DynamicObject>, object: &Value) {
    let tried = async || apply(shop, object).await;
    eventually("a write", LONG, tried).await.unwrap();
}

/// Makes, changes and deletes works until `enough`.
async fn press(bed: &Bed, enough: CancellationToken) -> Wanted {
    let shop = works(&bed.hub, CLUSTER);
    let mut wanted = Wanted::new();
    let mut round = 0;
    while !enough.is_cancelled() {
        let new = format!("w{round}");
        let made = work(&new, CLUSTER, &[config_map(&new, round)]);
        put(&shop, &made).await;
        wanted.insert(new, Some(round));
        if let Some(older) = round.checked_sub(3) {
            let name = format!("w{older}");
            let changed = work(&name, CLUSTER, &[config_map(&name, round)]);
            put(&shop, &changed).await;
            wanted.insert(name, Some(round));
        }
        if let Some(oldest) = round.checked_sub(7).filter(|oldest| oldest % 2 == 0) {
            let name = format!("w{oldest}");
            shop.delete(&name, &DeleteParams::default()).await.unwrap();
            wanted.insert(name, None);
        }
        round += 1;
        // As fast as the API takes it, and no faster than a person could ever watch.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_hub_restart_in_turn_and_no_work_is_lost_or_doubled() {
    let mut bed = Bed::start(false).await;
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}});
    apply(&api(&bed.cluster, "v1/Namespace", None), &space)
        .await
        .unwrap();
    let (ledger, stop) = (Ledger::default(), CancellationToken::new());
    let maps: Api<ConfigMap> = Api::namespaced(bed.cluster.clone(), SPACE);
    ledger.keep(maps.clone(), stop.clone());

    let mut copies = std::mem::take(&mut bed.copies);
    let enough = CancellationToken::new();
    let restarts = async {
        for gently in [true, false] {
            for copy in &mut copies {
                copy.restart(gently).await;
            }
        }
        enough.cancel();
    };
    let (wanted, ()) = tokio::join!(press(&bed, enough.clone()), restarts);
    bed.copies = copies;

    let shop = works(&bed.hub, CLUSTER);
    for (name, value) in &wanted {
        match value {
            Some(_) => {
                good(&shop, name).await;
            }
            None => gone(&shop, name).await,
        }
    }
    let same = async || {
        let found = maps.list(&ListParams::default()).await?;
        let found: BTreeMap<String, Option<usize>> = found
            .into_iter()
            .filter(|map| map.name_any() != "kube-root-ca.crt")
            .map(|map| {
                let value = map.data.as_ref().and_then(|data| data.get("value"));
                (map.name_any(), value.and_then(|value| value.parse().ok()))
            })
            .collect();
        let expected = wanted.iter().filter(|(_, value)| value.is_some());
        let expected: BTreeMap<_, _> = expected.map(|(k, v)| (k.clone(), *v)).collect();
        ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    };
    eventually("what the works say", LONG, same).await.unwrap();
    let kind = "work.open-cluster-management.io/v1/AppliedManifestWork";
    let applied = api(&bed.cluster, kind, None);
    let applied = applied.list(&ListParams::default()).await.unwrap();
    let expected = wanted.values().filter(|value| value.is_some()).count();
    assert_eq!(applied.items.len(), expected, "records of works");
    // What was never to go has never gone: one object for each work, all the time.
    for (name, value) in &wanted {
        let lives = ledger.lives_of(name);
        let fine = if value.is_some() {
            lives == 1
        } else {
            lives <= 1
        };
        assert!(fine, "{name} was made {lives} times");
    }
    let carried = bed.doors.joins.carried();
    assert!(carried.iter().sum::<usize>() > 3, "{carried:?}");
    stop.cancel();
    bed.stop().await;
}
