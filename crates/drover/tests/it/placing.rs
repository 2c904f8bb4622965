//! Cluster sets and placements on a hub, on any API: what OCM's own integration tests ask for.

use anyhow::{Result, ensure};
use drover_testkit::eventually;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::world::{LONG, api, apply, conditions, gone};

const GROUP: &str = "cluster.open-cluster-management.io";
pub(crate) const SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";

/// A hub's API, for a namespace with placements.
pub(crate) struct Place {
    pub client: Client,
    pub namespace: String,
}

impl Place {
    pub(crate) async fn new(client: &Client, namespace: &str) -> Self {
        let place = Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
        };
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        apply(&api(client, "v1/Namespace", None), &object)
            .await
            .unwrap();
        place
    }

    pub(crate) fn of(&self, kind: &str) -> Api<DynamicObject> {
        let namespaced = ["Placement", "PlacementDecision", "ManagedClusterSetBinding"];
        let is_namespaced = namespaced.iter().any(|it| kind.ends_with(it));
        let kind = format!("{GROUP}/{kind}");
        api(
            &self.client,
            &kind,
            is_namespaced.then_some(&*self.namespace),
        )
    }

    pub(crate) fn clusters(&self) -> Api<DynamicObject> {
        self.of("v1/ManagedCluster")
    }

    pub(crate) fn sets(&self) -> Api<DynamicObject> {
        self.of("v1beta2/ManagedClusterSet")
    }

    pub(crate) fn bindings(&self) -> Api<DynamicObject> {
        self.of("v1beta2/ManagedClusterSetBinding")
    }

    pub(crate) fn placements(&self) -> Api<DynamicObject> {
        self.of("v1beta1/Placement")
    }

    pub(crate) fn decisions(&self) -> Api<DynamicObject> {
        self.of("v1beta1/PlacementDecision")
    }

    /// A cluster that is not accepted, so that nobody waits for its agent, but says that it is available.
    pub(crate) async fn cluster(&self, name: &str, labels: Value) {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "ManagedCluster",
            "metadata": {"name": name, "labels": labels}, "spec": {"hubAcceptsClient": false},
        });
        apply(&self.clusters(), &object).await.unwrap();
        self.available(name, "True").await;
    }

    pub(crate) async fn available(&self, name: &str, status: &str) {
        let condition = json!({
            "type": "ManagedClusterConditionAvailable", "status": status, "reason": "Test", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        self.cluster_status(name, json!({"conditions": [condition]}))
            .await;
    }

    pub(crate) async fn cluster_status(&self, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let written = self
            .clusters()
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        written.unwrap();
    }

    pub(crate) async fn patch(&self, api: &Api<DynamicObject>, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        api.patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn set(&self, name: &str, selector: Option<Value>) {
        let mut object = json!({"apiVersion": format!("{GROUP}/v1beta2"), "kind": "ManagedClusterSet", "metadata": {"name": name}});
        if let Some(selector) = selector {
            object["spec"] = json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": selector}});
        }
        apply(&self.sets(), &object).await.unwrap();
    }

    pub(crate) async fn bind(&self, set: &str) {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1beta2"), "kind": "ManagedClusterSetBinding",
            "metadata": {"name": set, "namespace": self.namespace}, "spec": {"clusterSet": set},
        });
        apply(&self.bindings(), &object).await.unwrap();
    }

    pub(crate) async fn place(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": format!("{GROUP}/v1beta1"), "kind": "Placement",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        apply(&self.placements(), &object).await.unwrap();
    }

    pub(crate) async fn score(&self, cluster: &str, name: &str, status: Value) {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": cluster}});
        apply(&api(&self.client, "v1/Namespace", None), &namespace)
            .await
            .unwrap();
        let kind = format!("{GROUP}/v1alpha1/AddOnPlacementScore");
        let scores = api(&self.client, &kind, Some(cluster));
        let object = json!({
            "apiVersion": format!("{GROUP}/v1alpha1"), "kind": "AddOnPlacementScore",
            "metadata": {"name": name, "namespace": cluster},
        });
        apply(&scores, &object).await.unwrap();
        let patch = Patch::Merge(json!({"status": status}));
        scores
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// The decisions of a placement: `index/group: clusters` for each object, in order of their numbers.
    pub(crate) async fn shown(&self, placement: &str) -> Result<Vec<String>> {
        let label = format!("{GROUP}/placement={placement}");
        let found = self
            .decisions()
            .list(&ListParams::default().labels(&label))
            .await?;
        let number = |it: &DynamicObject| {
            let name = it.name_any();
            name.rsplit('-')
                .next()
                .and_then(|number| number.parse::<u32>().ok())
        };
        let mut found = found.items;
        found.sort_by_key(number);
        let object = |it: &DynamicObject| {
            let label = |name: &str| {
                it.labels()
                    .get(&format!("{GROUP}/decision-group-{name}"))
                    .cloned()
                    .unwrap_or_default()
            };
            let list = it.data["status"]["decisions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let names: Vec<String> = list
                .iter()
                .map(|it| it["clusterName"].as_str().unwrap_or_default().to_owned())
                .collect();
            format!("{}/{}: {}", label("index"), label("name"), names.join(" "))
        };
        Ok(found.iter().map(object).collect())
    }

    /// Waits until a placement has these decisions, and a condition of its current generation whose `Type=Status/Reason` ends so.
    pub(crate) async fn expect(&self, placement: &str, shown: &[&str], condition: &str) {
        let check = async || {
            let found = self.placements().get(placement).await?;
            let seen = conditions(&found);
            let decisions = self.shown(placement).await?;
            ensure!(
                decisions == shown,
                "{decisions:?} instead of {shown:?}, {seen:?}"
            );
            let generation = found.metadata.generation;
            let list = found.data["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let old = list
                .iter()
                .any(|it| it["observedGeneration"].as_i64() != generation);
            ensure!(
                !old && seen.iter().any(|it| it.ends_with(condition)),
                "{seen:?}"
            );
            Ok(())
        };
        eventually(placement, LONG, check).await.unwrap();
    }

    pub(crate) async fn says(&self, api: &Api<DynamicObject>, name: &str, condition: &str) {
        let check = async || {
            let seen = conditions(&api.get(name).await?);
            ensure!(seen.iter().any(|it| it == condition), "{seen:?}");
            Ok(())
        };
        eventually(&format!("{name} to say {condition}"), LONG, check)
            .await
            .unwrap();
    }

    /// Forgets what a scenario made, so that the next one finds an empty hub.
    pub(crate) async fn clear(&self) {
        let all = ListParams::default();
        for api in [
            self.placements(),
            self.bindings(),
            self.sets(),
            self.clusters(),
        ] {
            for found in api.list(&all).await.unwrap() {
                let name = found.name_any();
                if !["default", "global"].contains(&&*name) {
                    api.delete(&name, &DeleteParams::default()).await.unwrap();
                    gone(&api, &name).await;
                }
            }
        }
    }
}

pub(crate) const SATISFIED: &str = "PlacementSatisfied=True/AllDecisionsScheduled";

/// Sets and bindings say what they are; built-in sets and default labels come by themselves.
pub(crate) async fn sets(client: &Client) {
    let place = Place::new(client, "sets").await;
    place
        .says(
            &place.sets(),
            "default",
            "ClusterSetEmpty=True/NoClusterMatched",
        )
        .await;
    place
        .says(
            &place.sets(),
            "global",
            "ClusterSetEmpty=True/NoClusterMatched",
        )
        .await;
    place.cluster("s1", json!({})).await;
    place
        .says(
            &place.sets(),
            "default",
            "ClusterSetEmpty=False/ClustersSelected",
        )
        .await;
    place
        .says(
            &place.sets(),
            "global",
            "ClusterSetEmpty=False/ClustersSelected",
        )
        .await;

    place.bind("one").await;
    place
        .says(&place.bindings(), "one", "Bound=False/ClusterSetNotFound")
        .await;
    place.set("one", None).await;
    place
        .says(&place.bindings(), "one", "Bound=True/ClusterSetBound")
        .await;
    place
        .says(
            &place.sets(),
            "one",
            "ClusterSetEmpty=True/NoClusterMatched",
        )
        .await;
    place
        .patch(
            &place.clusters(),
            "s1",
            json!({"metadata": {"labels": {SET_LABEL: "one"}}}),
        )
        .await;
    place
        .says(
            &place.sets(),
            "one",
            "ClusterSetEmpty=False/ClustersSelected",
        )
        .await;
    place
        .says(
            &place.sets(),
            "default",
            "ClusterSetEmpty=True/NoClusterMatched",
        )
        .await;
    place
        .set(
            "labels",
            Some(json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]})),
        )
        .await;
    place
        .says(
            &place.sets(),
            "labels",
            "ClusterSetEmpty=True/NoClusterMatched",
        )
        .await;
    place
        .patch(
            &place.clusters(),
            "s1",
            json!({"metadata": {"labels": {"zone": "a"}}}),
        )
        .await;
    place
        .says(
            &place.sets(),
            "labels",
            "ClusterSetEmpty=False/ClustersSelected",
        )
        .await;

    place
        .sets()
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    place
        .says(&place.bindings(), "one", "Bound=False/ClusterSetNotFound")
        .await;
    for (name, selector) in [
        ("default", "ExclusiveClusterSetLabel"),
        ("global", "LabelSelector"),
    ] {
        place
            .sets()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
        crate::world::field(
            &place.sets(),
            name,
            "/spec/clusterSelector/selectorType",
            selector,
        )
        .await;
        let other =
            json!({"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"a": "b"}}});
        place
            .patch(
                &place.sets(),
                name,
                json!({"spec": {"clusterSelector": other}}),
            )
            .await;
        let restored = async || {
            let found = place.sets().get(name).await?;
            let labels =
                found.data["spec"]["clusterSelector"]["labelSelector"]["matchLabels"].clone();
            ensure!(labels.is_null(), "{}", found.data["spec"]);
            Ok(())
        };
        eventually("the built-in selector", LONG, restored)
            .await
            .unwrap();
        crate::world::field(
            &place.sets(),
            name,
            "/spec/clusterSelector/selectorType",
            selector,
        )
        .await;
    }
    place.clear().await;
}

/// Decisions follow the placement, its clusters, sets and bindings.
pub(crate) async fn decisions(client: &Client) {
    let place = Place::new(client, "decisions").await;
    place.place("p", json!({})).await;
    place
        .expect(
            "p",
            &["0/: "],
            "PlacementSatisfied=False/NoManagedClusterSetBindings",
        )
        .await;
    place.set("one", None).await;
    place.bind("one").await;
    place
        .expect(
            "p",
            &["0/: "],
            "PlacementSatisfied=False/AllManagedClusterSetsEmpty",
        )
        .await;
    for name in ["d1", "d2", "d3"] {
        place.cluster(name, json!({SET_LABEL: "one"})).await;
    }
    place.expect("p", &["0/: d1 d2 d3"], SATISFIED).await;

    // What somebody deletes comes back; who leaves is not chosen.
    place
        .decisions()
        .delete("p-decision-1", &DeleteParams::default())
        .await
        .unwrap();
    place.expect("p", &["0/: d1 d2 d3"], SATISFIED).await;
    place
        .patch(
            &place.clusters(),
            "d1",
            json!({"metadata": {"finalizers": ["example.com/test"]}}),
        )
        .await;
    place
        .clusters()
        .delete("d1", &DeleteParams::default())
        .await
        .unwrap();
    place.expect("p", &["0/: d2 d3"], SATISFIED).await;
    place
        .patch(
            &place.clusters(),
            "d1",
            json!({"metadata": {"finalizers": null}}),
        )
        .await;
    gone(&place.clusters(), "d1").await;

    // Numbers of clusters.
    place.place("p", json!({"numberOfClusters": 1})).await;
    place.expect("p", &["0/: d2"], SATISFIED).await;
    place.place("p", json!({"numberOfClusters": 4})).await;
    place
        .expect(
            "p",
            &["0/: d2 d3"],
            "PlacementSatisfied=False/NotAllDecisionsScheduled",
        )
        .await;
    place.cluster("d1", json!({SET_LABEL: "one"})).await;
    place
        .cluster("d4", json!({SET_LABEL: "one", "canary": "true"}))
        .await;
    place.expect("p", &["0/: d1 d2 d3 d4"], SATISFIED).await;

    // Sets, by label and by selector, that come and go.
    place.place("p", json!({"clusterSets": ["two"]})).await;
    place
        .expect("p", &["0/: "], "PlacementSatisfied=False/NoIntersection")
        .await;
    place
        .set("two", Some(json!({"matchLabels": {"canary": "true"}})))
        .await;
    place.bind("two").await;
    place.expect("p", &["0/: d4"], SATISFIED).await;
    place
        .sets()
        .delete("two", &DeleteParams::default())
        .await
        .unwrap();
    place
        .expect("p", &["0/: "], "PlacementSatisfied=False/NoIntersection")
        .await;
    place
        .set("two", Some(json!({"matchLabels": {"canary": "true"}})))
        .await;
    place.expect("p", &["0/: d4"], SATISFIED).await;
    place
        .bindings()
        .delete("two", &DeleteParams::default())
        .await
        .unwrap();
    place
        .expect("p", &["0/: "], "PlacementSatisfied=False/NoIntersection")
        .await;

    // Groups.
    let canary = json!({"groupName": "canary", "groupClusterSelector": {"labelSelector": {"matchLabels": {"canary": "true"}}}});
    let strategy =
        json!({"groupStrategy": {"clustersPerDecisionGroup": 2, "decisionGroups": [canary]}});
    place
        .place("p", json!({"decisionStrategy": strategy}))
        .await;
    place
        .expect("p", &["0/canary: d4", "1/: d1 d2", "2/: d3"], SATISFIED)
        .await;
    place
        .clusters()
        .delete("d1", &DeleteParams::default())
        .await
        .unwrap();
    place
        .expect("p", &["0/canary: d4", "1/: d2 d3"], SATISFIED)
        .await;
    place
        .cluster("d0", json!({SET_LABEL: "one", "canary": "true"}))
        .await;
    place
        .expect("p", &["0/canary: d0 d4", "1/: d2 d3"], SATISFIED)
        .await;

    // What cannot be followed changes nothing, and others may decide.
    place
        .place(
            "p",
            json!({"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}]}),
        )
        .await;
    place
        .expect(
            "p",
            &["0/canary: d0 d4", "1/: d2 d3"],
            "PlacementMisconfigured=True/Misconfigured",
        )
        .await;
    place.place("p", json!({})).await;
    place
        .expect(
            "p",
            &["0/: d0 d2 d3 d4"],
            "PlacementMisconfigured=False/Succeedconfigured",
        )
        .await;
    events(&place).await;
    place.clear().await;
}

async fn events(place: &Place) {
    let events = api(
        &place.client,
        "events.k8s.io/v1/Event",
        Some(&place.namespace),
    );
    let check = async || {
        let all = events.list(&ListParams::default()).await?;
        for (reason, note) in [
            (
                "DecisionCreate",
                "Decision p-decision-1 is created with placement p in namespace decisions",
            ),
            (
                "DecisionUpdate",
                "Decision p-decision-1 is updated with placement p in namespace decisions",
            ),
            (
                "DecisionDelete",
                "Decision p-decision-2 is deleted with placement p in namespace decisions",
            ),
        ] {
            let told = all
                .iter()
                .any(|it| it.data["reason"] == reason && it.data["note"] == note);
            ensure!(told, "no event says {note:?}");
        }
        Ok(())
    };
    eventually("the events", LONG, check).await.unwrap();
}

/// Taints, tolerations in time, scores and expressions.
pub(crate) async fn reasons(client: &Client) {
    let place = Place::new(client, "reasons").await;
    place.set("one", None).await;
    place.bind("one").await;
    for name in ["r1", "r2", "r3"] {
        place.cluster(name, json!({SET_LABEL: "one"})).await;
    }
    place.place("all", json!({})).await;
    place
        .place(
            "late",
            json!({"tolerations": [{"operator": "Exists", "tolerationSeconds": 3}]}),
        )
        .await;
    place.place("ever", json!({"tolerations": [{"key": "cluster.open-cluster-management.io/unreachable", "operator": "Exists"}]})).await;
    for name in ["all", "late", "ever"] {
        place.expect(name, &["0/: r1 r2 r3"], SATISFIED).await;
    }
    place.available("r1", "Unknown").await;
    place.expect("all", &["0/: r2 r3"], SATISFIED).await;
    // Nothing but time passes.
    place.expect("late", &["0/: r2 r3"], SATISFIED).await;
    place.expect("ever", &["0/: r1 r2 r3"], SATISFIED).await;
    place.available("r1", "True").await;
    place.expect("late", &["0/: r1 r2 r3"], SATISFIED).await;

    let coordinate =
        json!({"type": "AddOn", "addOn": {"resourceName": "demo", "scoreName": "fit"}});
    let policy =
        json!({"mode": "Exact", "configurations": [{"scoreCoordinate": coordinate, "weight": 1}]});
    place
        .score(
            "r2",
            "demo",
            json!({"scores": [{"name": "fit", "value": 50}]}),
        )
        .await;
    place
        .place(
            "best",
            json!({"numberOfClusters": 1, "prioritizerPolicy": policy}),
        )
        .await;
    place.expect("best", &["0/: r2"], SATISFIED).await;
    let expression = "managedCluster.scores('demo').exists(s, s.name == 'fit' && s.value > 60)";
    let predicate =
        json!({"requiredClusterSelector": {"celSelector": {"celExpressions": [expression]}}});
    place.place("fit", json!({"predicates": [predicate]})).await;
    place
        .expect(
            "fit",
            &["0/: "],
            "PlacementSatisfied=False/NoManagedClusterMatched",
        )
        .await;
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3)).to_string();
    place
        .score(
            "r3",
            "demo",
            json!({"scores": [{"name": "fit", "value": 70}], "validUntil": soon}),
        )
        .await;
    place.expect("best", &["0/: r3"], SATISFIED).await;
    place.expect("fit", &["0/: r3"], SATISFIED).await;
    place.expect("best", &["0/: r2"], SATISFIED).await;

    let claim = json!([{"name": "platform", "value": "AWS"}]);
    let claims =
        json!({"matchExpressions": [{"key": "platform", "operator": "In", "values": ["AWS"]}]});
    place
        .place(
            "claim",
            json!({"predicates": [{"requiredClusterSelector": {"claimSelector": claims}}]}),
        )
        .await;
    place
        .expect(
            "claim",
            &["0/: "],
            "PlacementSatisfied=False/NoManagedClusterMatched",
        )
        .await;
    place
        .cluster_status("r1", json!({"clusterClaims": claim}))
        .await;
    place.expect("claim", &["0/: r1"], SATISFIED).await;
    place.clear().await;
}
