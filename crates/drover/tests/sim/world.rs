//! One world: a hub, clusters, and what is wanted of them.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_apiserver::store::Database;
use drover_transport::memory::MemoryBus;
use jiff::SignedDuration;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::{Api as KubeApi, Client};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::oracle;
use crate::parts::{Api, Part, agent, hub};

pub(crate) const CLUSTERS: [&str; 2] = ["c1", "c2"];
/// Accidents and wishes of one world.
const STEPS: usize = 40;
/// How long a world may take to heal.
const HEALING: Duration = Duration::from_secs(60);

/// The objects that a work is to have in its cluster.
pub(crate) type Wanted = Vec<Value>;

pub(crate) struct World {
    pub(crate) random: SmallRng,
    pub(crate) bus: MemoryBus,
    pub(crate) hub_api: Api,
    pub(crate) hub: Option<Part>,
    pub(crate) clusters: Vec<Cluster>,
    /// What is wanted, by cluster and name of the work.
    pub(crate) wanted: BTreeMap<(usize, String), Wanted>,
    pub(crate) history: Vec<String>,
    _database: Database,
    stop: CancellationToken,
}

pub(crate) struct Cluster {
    pub(crate) name: &'static str,
    pub(crate) api: Api,
    pub(crate) agent: Option<Part>,
    pub(crate) skew: SignedDuration,
    /// How long what no hub wants stays.
    pub(crate) grace: Duration,
    /// Whether the definition of widgets is there.
    pub(crate) defined: bool,
    /// Whether the namespace `box` is held while it goes.
    pub(crate) held: bool,
}

impl World {
    /// Lives through one world. What went wrong comes with its history.
    pub(crate) async fn live(seed: u64) -> Result<(), String> {
        let mut world = Self::new(seed).await;
        let works = api(
            &world.hub_api.clean,
            "work.open-cluster-management.io/v1/ManifestWork",
            None,
        );
        let oracle = tokio::spawn(oracle::statuses_go_forward(works, world.stop.clone()));
        for _ in 0..STEPS {
            world.step().await;
            let pause = world.random.random_range(0..40);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if let Err(wrong) = world.nothing_is_misplaced().await {
                return Err(world.tell(seed, &wrong));
            }
        }
        world.heal().await;
        let start = tokio::time::Instant::now();
        loop {
            match world.is_as_wanted().await {
                Ok(()) => break,
                Err(wrong) if start.elapsed() > HEALING => return Err(world.tell(seed, &wrong)),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        world.stop.cancel();
        match oracle.await.unwrap() {
            Some(wrong) => Err(world.tell(seed, &wrong)),
            None => Ok(()),
        }
    }

    async fn new(seed: u64) -> Self {
        let stop = CancellationToken::new();
        let database = Database::memory();
        let mut random = SmallRng::seed_from_u64(seed);
        let hub_api = Api::start(&database, "hub", random.random(), &stop).await;
        drover_hub::install::definitions(&hub_api.clean, &drover_api::crds::hub())
            .await
            .unwrap();
        let bus = MemoryBus::new();
        let mut clusters = Vec::new();
        for name in CLUSTERS {
            let api = Api::start(&database, name, random.random(), &stop).await;
            drover_hub::install::definitions(&api.clean, &drover_api::crds::managed())
                .await
                .unwrap();
            apply(
                &self::api(&hub_api.clean, "v1/Namespace", None),
                &namespace(name),
            )
            .await;
            let mut cluster = Cluster {
                name,
                api,
                agent: None,
                skew: SignedDuration::from_mins(random.random_range(-10..=10)),
                grace: Duration::from_hours(1),
                defined: false,
                held: false,
            };
            cluster.define().await;
            apply(
                &self::api(&cluster.api.clean, "v1/Namespace", None),
                &namespace("box"),
            )
            .await;
            clusters.push(cluster);
        }
        let mut world = Self {
            random,
            bus,
            hub_api,
            hub: None,
            clusters,
            wanted: BTreeMap::new(),
            history: Vec::new(),
            _database: database,
            stop,
        };
        world.start_all();
        world
    }

    /// Whoever is dead lives again.
    pub(crate) fn start_all(&mut self) {
        self.hub
            .get_or_insert_with(|| hub(&self.hub_api.troubled, &self.bus));
        for cluster in &mut self.clusters {
            cluster.start(&self.bus);
        }
    }

    fn tell(&self, seed: u64, wrong: &str) -> String {
        format!("seed {seed}: {wrong}\n{}", self.history.join("\n"))
    }

    pub(crate) fn works(&self, cluster: usize) -> KubeApi<DynamicObject> {
        let namespace = self.clusters[cluster].name;
        api(
            &self.hub_api.clean,
            "work.open-cluster-management.io/v1/ManifestWork",
            Some(namespace),
        )
    }
}

impl Cluster {
    pub(crate) fn start(&mut self, bus: &MemoryBus) {
        self.agent.get_or_insert_with(|| {
            agent(self.name, &self.api.troubled, bus, self.skew, self.grace)
        });
    }

    /// Serves widgets.
    pub(crate) async fn define(&mut self) {
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"data": {"type": "object", "additionalProperties": {"type": "string"}}}}}}],
            },
        });
        apply(
            &api(
                &self.api.clean,
                "apiextensions.k8s.io/v1/CustomResourceDefinition",
                None,
            ),
            &definition,
        )
        .await;
        self.defined = true;
    }
}

pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// An API by `group/version/Kind`, `v1/Kind` in the core group.
pub(crate) fn api(client: &Client, kind: &str, namespace: Option<&str>) -> KubeApi<DynamicObject> {
    let (version, kind) = kind.rsplit_once('/').unwrap_or(("v1", kind));
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match namespace {
        Some(namespace) => KubeApi::namespaced_with(client.clone(), namespace, &resource),
        None => KubeApi::all_with(client.clone(), &resource),
    }
}

/// Applies an object; one whose namespace or predecessor is just going is tried again.
pub(crate) async fn apply(api: &KubeApi<DynamicObject>, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("world").force();
    let mut tries = 0;
    while let Err(error) = api.patch(name, &params, &Patch::Apply(object)).await {
        tries += 1;
        assert!(tries < 400, "{name}: {error}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
