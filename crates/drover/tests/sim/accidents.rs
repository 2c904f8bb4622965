//! What is wished for, and what goes wrong.

use std::time::Duration;

use drover_transport::memory::Faults;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use rand::Rng;
use serde_json::{Value, json};

use crate::world::{Wanted, World, api, apply, namespace};

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// Keeps the namespace `box` from going.
const HOLDER: &str = "holder";

impl World {
    /// One wish or one accident.
    pub(crate) async fn step(&mut self) {
        let cluster = self.random.random_range(0..self.clusters.len());
        match self.random.random_range(0..20) {
            0..7 => self.put(cluster).await,
            7..9 => self.delete(cluster).await,
            9 => self.kill_agent(cluster),
            10 => self.kill_hub(),
            11 => self.start_some(cluster),
            12 => self.trouble_apis(),
            13 => self.trouble_bus(),
            14 => self.cut(),
            15..17 => self.drift(cluster).await,
            17 => self.undefine(cluster).await,
            18 => self.hold(cluster).await,
            _ => self.free(cluster).await,
        }
    }

    fn note(&mut self, what: String) {
        self.history.push(what);
    }

    async fn put(&mut self, cluster: usize) {
        let name = NAMES[self.random.random_range(0..NAMES.len())];
        let value = self.random.random_range(0..1000);
        let of = self.clusters[cluster].name;
        let data = || json!({"cluster": of, "work": name, "value": value.to_string()});
        let map = |name: String, namespace: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data()});
        let mut objects: Wanted = vec![map(format!("{name}-0"), "default")];
        for at in 1..4 {
            if self.random.random_bool(0.5) {
                objects.push(map(format!("{name}-{at}"), "default"));
            }
        }
        if self.random.random_bool(0.4) {
            objects.push(map(format!("{name}-box"), "box"));
        }
        if self.random.random_bool(0.4) {
            objects.push(json!({
                "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default"}, "data": data(),
            }));
        }
        // Several works own this one.
        if self.random.random_bool(0.3) {
            objects.push(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared", "namespace": "default"},
                "data": {"cluster": of, "work": "shared", "value": "1"},
            }));
        }
        self.note(format!(
            "put {of}/{name} = {value} with {} objects",
            objects.len()
        ));
        let work = json!({
            "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
            "metadata": {"name": name, "namespace": of}, "spec": {"workload": {"manifests": objects}},
        });
        let works = self.works(cluster);
        // One that is still going is not changed: it will not be back.
        let leaving = works.get_opt(name).await.unwrap();
        if leaving.is_some_and(|it| it.metadata.deletion_timestamp.is_some()) {
            self.note("  it is still going".to_owned());
            return;
        }
        apply(&works, &work).await;
        self.wanted.insert((cluster, name.to_owned()), objects);
    }

    async fn delete(&mut self, cluster: usize) {
        let name = NAMES[self.random.random_range(0..NAMES.len())];
        if self.wanted.remove(&(cluster, name.to_owned())).is_some() {
            self.note(format!("delete {}/{name}", self.clusters[cluster].name));
            self.works(cluster)
                .delete(name, &DeleteParams::default())
                .await
                .unwrap();
        }
    }

    fn kill_agent(&mut self, cluster: usize) {
        self.note(format!("kill the agent of {}", self.clusters[cluster].name));
        let skew = jiff::SignedDuration::from_mins(self.random.random_range(-10..=10));
        self.clusters[cluster].skew = skew;
        if let Some(agent) = self.clusters[cluster].agent.take() {
            agent.kill();
        }
    }

    fn kill_hub(&mut self) {
        self.note("kill the hub".to_owned());
        if let Some(hub) = self.hub.take() {
            hub.kill();
        }
    }

    fn start_some(&mut self, cluster: usize) {
        self.note(format!(
            "start the hub and the agent of {}",
            self.clusters[cluster].name
        ));
        let (bus, api) = (&self.bus, &self.hub_api.troubled);
        self.hub.get_or_insert_with(|| crate::parts::hub(api, bus));
        self.clusters[cluster].start(bus);
    }

    fn trouble_apis(&mut self) {
        let shares: Vec<f64> = (0..=self.clusters.len())
            .map(|_| self.random.random_range(0.0..0.4))
            .collect();
        self.note(format!("APIs fail: {shares:.2?}"));
        self.hub_api.trouble.set(shares[0]);
        for (cluster, share) in self.clusters.iter().zip(&shares[1..]) {
            cluster.api.trouble.set(*share);
        }
    }

    fn trouble_bus(&mut self) {
        self.note("the broker loses, doubles and mixes up".to_owned());
        self.bus.set_faults(Faults {
            seed: self.random.random(),
            loss: 0.1,
            duplicate: 0.1,
            reorder: 0.2,
            delay: Duration::from_millis(20),
            cut: 0.02,
        });
    }

    fn cut(&mut self) {
        self.note("the broker is gone for a moment".to_owned());
        self.bus.set_down(true);
        self.bus.set_down(false);
    }

    /// Somebody changes or deletes what a work made.
    async fn drift(&mut self, cluster: usize) {
        let maps = api(
            &self.clusters[cluster].api.clean,
            "v1/ConfigMap",
            Some("default"),
        );
        let all = maps.list(&ListParams::default()).await.unwrap().items;
        if all.is_empty() {
            return;
        }
        let name = all[self.random.random_range(0..all.len())].name_any();
        let deletes = self.random.random_bool(0.5);
        self.note(format!(
            "somebody {} {}/{name}",
            if deletes { "deletes" } else { "changes" },
            self.clusters[cluster].name
        ));
        // The agent may have been faster.
        if deletes {
            maps.delete(&name, &DeleteParams::default()).await.ok();
        } else {
            let patch = json!({"data": {"value": "drift"}});
            maps.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .ok();
        }
    }

    async fn undefine(&mut self, cluster: usize) {
        self.note(format!(
            "widgets vanish from {}",
            self.clusters[cluster].name
        ));
        let definitions = api(
            &self.clusters[cluster].api.clean,
            "apiextensions.k8s.io/v1/CustomResourceDefinition",
            None,
        );
        definitions
            .delete("widgets.example.com", &DeleteParams::default())
            .await
            .ok();
        self.clusters[cluster].defined = false;
    }

    /// The namespace `box` is deleted, and held.
    async fn hold(&mut self, cluster: usize) {
        if self.clusters[cluster].held {
            return;
        }
        self.note(format!("box gets stuck in {}", self.clusters[cluster].name));
        let client = &self.clusters[cluster].api.clean;
        let holder = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": HOLDER, "namespace": "box", "finalizers": ["example.com/hold"]},
        });
        apply(&api(client, "v1/ConfigMap", Some("box")), &holder).await;
        api(client, "v1/Namespace", None)
            .delete("box", &DeleteParams::default())
            .await
            .unwrap();
        self.clusters[cluster].held = true;
    }

    /// The namespace `box` goes at last, and is made anew.
    async fn free(&mut self, cluster: usize) {
        if !self.clusters[cluster].held {
            return;
        }
        self.note(format!("box is free in {}", self.clusters[cluster].name));
        let client = &self.clusters[cluster].api.clean;
        let free = json!({"metadata": {"finalizers": Value::Null}});
        let maps = api(client, "v1/ConfigMap", Some("box"));
        maps.patch(HOLDER, &PatchParams::default(), &Patch::Merge(free))
            .await
            .unwrap();
        let namespaces = api(client, "v1/Namespace", None);
        while namespaces.get_opt("box").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        apply(&namespaces, &namespace("box")).await;
        self.clusters[cluster].held = false;
    }

    /// Everything is well again.
    pub(crate) async fn heal(&mut self) {
        self.note("all is well".to_owned());
        self.hub_api.trouble.set(0.0);
        for cluster in 0..self.clusters.len() {
            self.clusters[cluster].api.trouble.set(0.0);
            self.free(cluster).await;
            if !self.clusters[cluster].defined {
                self.clusters[cluster].define().await;
            }
        }
        self.bus.set_faults(Faults::default());
        self.cut();
        self.start_all();
        // A work that was deleted before the hub heard that an agent has it is nobody's: it goes when its grace is over.
        for cluster in &mut self.clusters {
            cluster.grace = Duration::from_secs(4);
            cluster.agent = None;
            cluster.start(&self.bus);
        }
    }
}
