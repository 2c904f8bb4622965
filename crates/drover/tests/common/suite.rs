//! Scenarios that hold on every Kubernetes API: the same functions run on the embedded one (target `it`) and on kube-apiserver with
//! etcd and kube-controller-manager (target `peers`), where hub and agent have only the rights that `drover manifests` prints.
//!
//! A scenario is a function in `scenarios/` that takes a [`Ground`], named in the list of [`scenarios::all`]. Scenarios run side by
//! side on one fleet: each has a namespace of the cluster for itself and names what it makes with [`Ground::own`].
//! `DROVER_SCENARIO=text` runs those with the text in their name.

#[path = "scenarios.rs"]
mod scenarios;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use kube::api::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::world::{api, apply, works};

/// Scenarios at a time: the fleet shares two cores with whoever tests it.
const AT_ONCE: usize = 4;

/// A hub with one managed cluster that is joined and available.
#[derive(Clone)]
pub(crate) struct Fleet {
    /// The hub's administrator.
    pub(crate) hub: Client,
    /// The administrator of the managed cluster.
    pub(crate) cluster: Client,
    /// The cluster's name on the hub, which is the namespace of its works.
    pub(crate) name: String,
    /// A kubeconfig whose current context is that of the hub's administrator, for commands.
    pub(crate) kubeconfig: PathBuf,
    /// Name of that context.
    pub(crate) context: String,
}

/// The part of a fleet that one scenario has for itself.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    /// A namespace of the managed cluster.
    pub(crate) space: String,
}

impl Ground {
    /// A name that no other scenario has.
    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}-{name}", self.space)
    }

    /// The works of the cluster, on the hub.
    pub(crate) fn works(&self) -> Api<DynamicObject> {
        works(&self.fleet.hub, &self.fleet.name)
    }

    /// Objects of the scenario's namespace in the managed cluster.
    pub(crate) fn there(&self, kind: &str) -> Api<DynamicObject> {
        api(&self.fleet.cluster, kind, Some(&self.space))
    }

    /// A manifest for the scenario's namespace.
    pub(crate) fn config_map(&self, name: &str, value: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": self.space},
            "data": {"value": value},
        })
    }

    /// Applies a work with a name of [`Self::own`], and gives back that name.
    pub(crate) async fn work(&self, name: &str, manifests: &[Value]) -> String {
        let name = self.own(name);
        let work = crate::world::work(&name, &self.fleet.name, manifests);
        apply(&self.works(), &work).await.unwrap();
        name
    }
}

type Scenario = fn(Ground) -> LocalBoxFuture<'static, ()>;

/// Runs all scenarios, and fails with the names of those that failed.
pub(crate) async fn run(fleet: &Fleet) {
    let only = std::env::var("DROVER_SCENARIO").unwrap_or_default();
    let chosen = scenarios::all()
        .into_iter()
        .enumerate()
        .filter(|(_, (name, _))| name.contains(&only));
    let running = chosen.map(|(number, (name, scenario))| async move {
        let space = format!("scenario-{number}");
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}});
        let made = apply(&api(&fleet.cluster, "v1/Namespace", None), &namespace).await;
        made.unwrap();
        let fleet = fleet.clone();
        let ended = AssertUnwindSafe(scenario(Ground { fleet, space })).catch_unwind();
        (name, ended.await.is_ok())
    });
    let ended: Vec<_> = stream::iter(running)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    assert!(!ended.is_empty(), "no scenario has {only:?} in its name");
    let failed: Vec<&str> = ended
        .into_iter()
        .filter_map(|(name, well)| (!well).then_some(name))
        .collect();
    assert!(failed.is_empty(), "{failed:?} failed: see above");
}
