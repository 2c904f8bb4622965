//! Placements on a real kube-apiserver, and side by side with OCM's placement controller.

use anyhow::{Result, ensure};
use drover_testkit::ocm::OcmHub;
use drover_testkit::{KubeApi, KubeOptions, eventually};
use futures::future::join;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::hub::TestHub;
use crate::placing::{self, Place};
use crate::world::LONG;

const SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";
const CLUSTERS: usize = 30;
const NAMESPACES: [&str; 3] = ["n0", "n1", "n2"];
const PLACEMENTS: usize = 60;
const CHANGES: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn sets_and_placements_on_a_real_control_plane() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let client = kube.client().await.unwrap();
    let mut hub = TestHub::start(&client, Vec::new()).await;
    placing::sets(&client).await;
    placing::decisions(&client).await;
    placing::reasons(&client).await;
    hub.stop().await;
}

/// The same fleet on two hubs.
struct Twins {
    theirs: Place,
    ours: Place,
}

impl Twins {
    fn within(&self, namespace: &str) -> Self {
        let within = |place: &Place| Place {
            client: place.client.clone(),
            namespace: namespace.to_owned(),
        };
        Self {
            theirs: within(&self.theirs),
            ours: within(&self.ours),
        }
    }

    async fn both(&self, each: impl AsyncFn(&Place)) {
        join(each(&self.theirs), each(&self.ours)).await;
    }

    /// Waits until a placement has the same decisions and says the same on both.
    async fn same(&self, placement: &str) {
        let check = async || {
            let (theirs, ours) = join(
                outcome(&self.theirs, placement),
                outcome(&self.ours, placement),
            )
            .await;
            let (theirs, ours) = (theirs?, ours?);
            ensure!(theirs == ours, "OCM: {theirs:#}\nDrover: {ours:#}");
            Ok(())
        };
        if let Err(error) = eventually("the same outcome", LONG, check).await {
            let asked = self.ours.placements().get(placement).await.unwrap();
            panic!("{placement} {:#}: {error:#}", asked.data["spec"]);
        }
    }
}

/// What a placement decided and says.
async fn outcome(place: &Place, placement: &str) -> Result<Value> {
    let found = place.placements().get(placement).await?;
    let status = &found.data["status"];
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    ensure!(conditions.len() == 2, "it says nothing yet: {status}");
    let mut conditions: Vec<String> = conditions
        .iter()
        .map(|it| {
            // Compilers of CEL have words of their own.
            let message = it["message"].as_str().unwrap_or_default();
            let message = message.split_inclusive("compilation failed").next();
            format!(
                "{} {} {} {message:?}",
                it["type"], it["status"], it["reason"]
            )
        })
        .collect();
    conditions.sort();
    let (mut decisions, mut groups) = (
        place.shown(placement).await?,
        status["decisionGroups"].clone(),
    );
    // Drover keeps an empty decision where OCM has none.
    if conditions.iter().any(|it| it.contains("\"Misconfigured\"")) {
        decisions.retain(|it| it != "0/: ");
        groups = Value::Null;
    }
    Ok(json!({
        "decisions": decisions, "conditions": conditions, "groups": groups,
        "selected": status["numberOfSelectedClusters"].as_i64().unwrap_or(0),
    }))
}

/// What is made of a seed.
struct Dice(StdRng);

impl Dice {
    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all.choose(&mut self.0).unwrap().clone()
    }

    fn often(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    fn some_of(&mut self, all: &[&str]) -> Vec<String> {
        let some: Vec<String> = all
            .iter()
            .filter(|_| self.often(50))
            .map(|it| (*it).to_owned())
            .collect();
        if some.is_empty() {
            vec![self.one_of(all).to_owned()]
        } else {
            some
        }
    }

    fn labels(&mut self) -> Value {
        json!({
            SET_LABEL: self.one_of(&["s1", "s1", "s2", "s3"]), "zone": self.one_of(&["a", "b", "c"]),
            "env": self.one_of(&["dev", "prod"]), "version": self.one_of(&["1.29.0", "1.30.2", "1.31.0"]),
        })
    }

    fn taints(&mut self) -> Value {
        if self.often(70) {
            return json!([]);
        }
        let effect = self.one_of(&["NoSelect", "NoSelect", "PreferNoSelect", "NoSelectIfNew"]);
        let added = self.one_of(&["2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z"]);
        json!([{"key": self.one_of(&["gpu", "old"]), "value": self.one_of(&["x", "y"]), "effect": effect, "timeAdded": added}])
    }

    fn status(&mut self) -> Value {
        let amounts = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
        let cpu = self.one_of(&["4", "8", "3500m", "16"]);
        let memory = self.one_of(&["16Gi", "8Gi", "33000M", "64Gi"]);
        let condition = json!({
            "type": "ManagedClusterConditionAvailable", "status": "True", "reason": "Test", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let mut status = json!({"conditions": [condition], "allocatable": amounts(cpu, memory), "capacity": amounts("32", "128Gi")});
        if self.often(80) {
            let region = self.one_of(&["east", "west"]);
            status["clusterClaims"] = json!([{"name": "region", "value": region}, {"name": "platform", "value": self.one_of(&["AWS", "GCP"])}]);
        }
        status
    }

    fn score(&mut self) -> Value {
        let until = self.one_of(&[
            None,
            None,
            Some("2020-01-01T00:00:00Z"),
            Some("2100-01-01T00:00:00Z"),
        ]);
        let mut status = json!({"scores": [
            {"name": "fit", "value": self.0.random_range(-100..=100)}, {"name": "cost", "value": self.0.random_range(-100..=100)},
        ]});
        if let Some(until) = until {
            status["validUntil"] = until.into();
        }
        status
    }

    fn selector(&mut self) -> Value {
        let requirement = |key: &str, operator: &str, values: Vec<String>| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        match self.0.random_range(0..8) {
            0 => json!({"labelSelector": {"matchLabels": {"env": self.one_of(&["dev", "prod"])}}}),
            1 => {
                json!({"labelSelector": requirement("zone", "In", self.some_of(&["a", "b", "c"]))})
            }
            2 => {
                json!({"labelSelector": requirement("zone", "NotIn", self.some_of(&["a", "b", "c"])), "claimSelector": requirement("region", "Exists", vec![])})
            }
            3 => {
                json!({"claimSelector": requirement("region", "In", self.some_of(&["east", "west"]))})
            }
            4 => json!({"claimSelector": requirement("platform", "DoesNotExist", vec![])}),
            5 => {
                let operator = self.one_of(&["Near", "Exists", "In"]);
                let values = if operator == "In" {
                    vec![]
                } else {
                    vec!["x".to_owned()]
                };
                if self.often(30) {
                    json!({"labelSelector": requirement("zone", operator, values)})
                } else {
                    json!({})
                }
            }
            _ => json!({"celSelector": {"celExpressions": [self.expression()]}}),
        }
    }

    fn expression(&mut self) -> &'static str {
        self.one_of(&[
            "managedCluster.metadata.labels['env'] == 'prod'",
            "semver(managedCluster.metadata.labels['version']).isGreaterThan(semver('1.30.0'))",
            "managedCluster.status.clusterClaims.exists(c, c.name == 'region' && c.value == 'east')",
            "managedCluster.scores('demo').filter(s, s.name == 'fit').all(s, s.value > 0)",
            "quantity(managedCluster.status.allocatable.memory).isGreaterThan(quantity('20Gi'))",
            "'{\"zones\": [\"a\", \"b\"]}'.parseJSON().zones.exists(z, z == managedCluster.metadata.labels.zone)",
            "managedCluster.metadata.name.matches('c[0-9]*[02468]$')",
            "managedCluster.metadata.name.split('c').size() > 1 && has(managedCluster.spec.taints)",
            "managedCluster.metadata.name",
            "unknown.metadata.name == 'x'",
        ])
    }

    fn policy(&mut self) -> Value {
        let count = self.0.random_range(0..4);
        let configurations: Vec<Value> = (0..count)
            .map(|_| {
                let add_on = json!({"type": "AddOn", "addOn": {"resourceName": "demo", "scoreName": self.one_of(&["fit", "cost", "none"])}});
                let names = ["Balance", "Steady", "ResourceAllocatableCPU", "ResourceAllocatableMemory"];
                let name = if self.often(4) { "Spread" } else { self.one_of(&names) };
                let from = if self.often(35) { add_on } else { json!({"type": "BuiltIn", "builtIn": name}) };
                // With a negative weight of Steady OCM's choice never comes to rest.
                let least = if from["builtIn"] == "Steady" { 0 } else { -3 };
                json!({"scoreCoordinate": from, "weight": self.0.random_range(least..=3)})
            })
            .collect();
        let mode = if self.often(4) {
            "Other"
        } else {
            self.one_of(&["Additive", "Exact"])
        };
        json!({"mode": mode, "configurations": configurations})
    }

    fn tolerations(&mut self) -> Value {
        self.one_of(&[
            json!([]),
            json!([]),
            json!([{"key": "gpu", "operator": "Exists"}]),
            json!([{"key": "gpu", "value": "x"}, {"key": "old", "value": "y", "effect": "NoSelect"}]),
            json!([{"operator": "Exists"}]),
            json!([{"operator": "Exists", "tolerationSeconds": 1_000_000_000}]),
            json!([{"operator": "Exists", "tolerationSeconds": 100_000_000}]),
            json!([{"key": "gpu", "operator": "Exists", "value": "x"}]),
        ])
    }

    fn groups(&mut self) -> Value {
        let size = self.one_of(&[json!("100%"), json!("30%"), json!(3), json!(7), json!("1%")]);
        let mut groups = Vec::new();
        if self.often(50) {
            groups.push(json!({"groupName": "prod", "groupClusterSelector": {"labelSelector": {"matchLabels": {"env": "prod"}}}}));
        }
        if self.often(30) {
            let claims = json!({"matchExpressions": [{"key": "region", "operator": "In", "values": ["east"]}]});
            groups.push(
                json!({"groupName": "east", "groupClusterSelector": {"claimSelector": claims}}),
            );
        }
        json!({"groupStrategy": {"clustersPerDecisionGroup": size, "decisionGroups": groups}})
    }

    fn placement(&mut self) -> Value {
        let mut spec =
            json!({"prioritizerPolicy": self.policy(), "tolerations": self.tolerations()});
        if self.often(50) {
            spec["clusterSets"] = json!(self.some_of(&["s1", "s2", "s3", "zone-a", "missing"]));
        }
        if self.often(60) {
            spec["numberOfClusters"] = self.0.random_range(0..14).into();
        }
        let predicates = self.0.random_range(0..3);
        let selectors: Vec<Value> = (0..predicates)
            .map(|_| json!({"requiredClusterSelector": self.selector()}))
            .collect();
        spec["predicates"] = json!(selectors);
        if self.often(50) {
            spec["decisionStrategy"] = self.groups();
        }
        spec
    }
}

/// Whether what a placement chooses depends on what others chose, and when.
fn looks_at_others(spec: &Value) -> bool {
    let policy = &spec["prioritizerPolicy"];
    let configured = policy["configurations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let balance: Vec<&Value> = configured
        .iter()
        .filter(|it| it["scoreCoordinate"]["builtIn"] == "Balance")
        .collect();
    let counts = match balance.last() {
        Some(last) => last["weight"] != 0,
        None => policy["mode"] != "Exact",
    };
    counts && !spec["numberOfClusters"].is_null()
}

/// The same clusters, scores, sets and bindings on both.
async fn populate(twins: &Twins, dice: &mut Dice) {
    for set in ["s1", "s2", "s3", "empty", "watch"] {
        twins.both(async |place| place.set(set, None).await).await;
    }
    let zone = json!({"matchLabels": {"zone": "a"}});
    twins
        .both(async |place| place.set("zone-a", Some(zone.clone())).await)
        .await;
    for (namespace, sets) in [
        ("n0", &["s1", "s2", "s3", "zone-a"][..]),
        ("n1", &["s2", "zone-a", "empty"]),
        ("n2", &["s1", "lost"]),
    ] {
        twins
            .both(async |place| drop(Place::new(&place.client, namespace).await))
            .await;
        for set in sets {
            twins
                .within(namespace)
                .both(async |place| place.bind(set).await)
                .await;
        }
    }
    for number in 0..CLUSTERS {
        let name = format!("c{number}");
        let (labels, taints, status) = (dice.labels(), dice.taints(), dice.status());
        let score = dice.often(70).then(|| dice.score());
        let each = async |place: &Place| {
            place.cluster(&name, labels.clone()).await;
            place
                .patch(
                    &place.clusters(),
                    &name,
                    json!({"spec": {"taints": taints}}),
                )
                .await;
            place.cluster_status(&name, status.clone()).await;
            if let Some(score) = &score {
                place.score(&name, "demo", score.clone()).await;
            }
        };
        twins.both(each).await;
    }
    twins
        .both(async |place| place.cluster("sentry", json!({SET_LABEL: "watch"})).await)
        .await;
}

/// One change of one object.
async fn change(twins: &Twins, dice: &mut Dice, number: usize) {
    let name = format!("c{}", dice.0.random_range(0..CLUSTERS));
    let (labels, taints, status) = (dice.labels(), dice.taints(), dice.status());
    let kind = dice.0.random_range(0..5);
    let each = async |place: &Place| {
        let clusters = place.clusters();
        let found = clusters.get_opt(&name).await.unwrap().is_some();
        match kind {
            0 if found => {
                place
                    .patch(&clusters, &name, json!({"metadata": {"labels": labels}}))
                    .await
            }
            1 if found => {
                place
                    .patch(&clusters, &name, json!({"spec": {"taints": taints}}))
                    .await
            }
            2 if found => place.cluster_status(&name, status.clone()).await,
            3 if found => {
                let gone = clusters.delete(&name, &DeleteParams::default()).await;
                gone.unwrap();
            }
            _ => place.cluster(&format!("d{number}"), labels.clone()).await,
        }
    };
    twins.both(each).await;
}

/// Changes a cluster of its own, and waits until both controllers saw it: they see everything before, too.
async fn look(twins: &Twins, on: bool) {
    let watch = twins.within("watch");
    let value = if on { json!("yes") } else { Value::Null };
    watch
        .both(async |place| {
            place
                .patch(
                    &place.clusters(),
                    "sentry",
                    json!({"metadata": {"labels": {"on": value}}}),
                )
                .await
        })
        .await;
    let expected = if on { "0/: sentry" } else { "0/: " };
    let seen = async |place: &Place| {
        let check = async || {
            let shown = place.shown("watch").await?;
            ensure!(shown == [expected], "{shown:?}");
            Ok(())
        };
        eventually("the sentry to be seen", LONG, check)
            .await
            .unwrap();
    };
    watch.both(seen).await;
}

async fn versions(place: &Place) -> Vec<String> {
    let mut all = Vec::new();
    for namespace in NAMESPACES {
        let place = Place {
            client: place.client.clone(),
            namespace: namespace.to_owned(),
        };
        let found = place
            .decisions()
            .list(&ListParams::default())
            .await
            .unwrap();
        all.extend(found.iter().map(|it| {
            format!(
                "{namespace}/{} {}",
                it.name_any(),
                it.resource_version().unwrap_or_default()
            )
        }));
    }
    all.sort();
    all
}

/// `DROVER_SEED` tries another fleet.
fn seed() -> u64 {
    let given = std::env::var("DROVER_SEED").ok();
    given.map_or(7, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn placements_decide_as_ocm_decides() {
    let options = KubeOptions::default();
    let (their_kube, our_kube) = join(KubeApi::start(options), KubeApi::start(options)).await;
    let (their_kube, our_kube) = (their_kube.unwrap(), our_kube.unwrap());
    let (theirs, ours) = (
        their_kube.client().await.unwrap(),
        our_kube.client().await.unwrap(),
    );
    let (ocm, _) = join(
        OcmHub::prepare(their_kube.kubeconfig(), &theirs),
        OcmHub::prepare(our_kube.kubeconfig(), &ours),
    )
    .await;
    let ocm = ocm.unwrap();
    let (theirs, ours) = join(Place::new(&theirs, "watch"), Place::new(&ours, "watch")).await;
    let twins = Twins { theirs, ours };
    let mut dice = Dice(StdRng::seed_from_u64(seed()));
    populate(&twins, &mut dice).await;
    let controller = ocm.placement().await.unwrap();
    let mut hub = TestHub::start(&twins.ours.client, Vec::new()).await;

    let watch = json!({"predicates": [{"requiredClusterSelector": {"labelSelector": {"matchLabels": {"on": "yes"}}}}]});
    twins
        .both(async |place| {
            place.bind("watch").await;
            place.place("watch", watch.clone()).await;
        })
        .await;
    let mut alone = Vec::new();
    for number in 0..PLACEMENTS {
        let (name, spec) = (format!("p{number}"), dice.placement());
        let within = twins.within(dice.one_of(&NAMESPACES));
        within
            .both(async |place| place.place(&name, spec.clone()).await)
            .await;
        within.same(&name).await;
        if !looks_at_others(&spec) {
            alone.push((within, name));
        }
    }
    assert!(
        alone.len() >= PLACEMENTS / 3,
        "{} of {PLACEMENTS}",
        alone.len()
    );
    for number in 0..CHANGES {
        change(&twins, &mut dice, number).await;
        look(&twins, number % 2 == 0).await;
        for (within, name) in &alone {
            within.same(name).await;
        }
    }

    // Drover goes on where OCM was, and changes nothing that OCM decided.
    drop(controller);
    hub.stop().await;
    let of_alone = |all: Vec<String>| -> Vec<String> {
        let is_alone = |it: &String| {
            alone.iter().any(|(within, name)| {
                it.starts_with(&format!("{}/{name}-decision-", within.ours.namespace))
            })
        };
        all.into_iter().filter(is_alone).collect()
    };
    let before = of_alone(versions(&twins.theirs).await);
    let mut hub = TestHub::start(&twins.theirs.client, Vec::new()).await;
    let taken = async || {
        for (within, name) in &alone {
            let found = within.theirs.placements().get(name).await?;
            let seen = found.data["status"]["conditions"][0]["observedGeneration"].as_i64();
            ensure!(
                seen == found.metadata.generation,
                "{name} is not planned yet: {}",
                found.data["status"]
            );
        }
        Ok(())
    };
    eventually("Drover to plan what OCM planned", LONG, taken)
        .await
        .unwrap();
    assert_eq!(of_alone(versions(&twins.theirs).await), before);
    hub.stop().await;
}
