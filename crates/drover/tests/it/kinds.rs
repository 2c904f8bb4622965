//! What agents share with their hub beside works, over the real broker, with the rights that the hub gives them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use drover_apiserver::store::Database;
use drover_client::{AgentObjects, AgentOptions, ClientError, DriverConfig};
use drover_protocol::DataType;
use drover_testkit::eventually;
use kube::Client;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::hub::{TestHub, embedded};
use crate::world::{LONG, api, apply};

const ADDONS: &str = "addon.open-cluster-management.io/v1alpha1/ManagedClusterAddOn";

struct World {
    api: Client,
    hub: TestHub,
    stop: CancellationToken,
    _database: Database,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// A hub with two clusters.
    async fn start() -> Self {
        let (stop, database) = (CancellationToken::new(), Database::memory());
        let admin = embedded(&database, &stop).await;
        let hub = TestHub::start(&admin, Vec::new()).await;
        for name in ["c1", "c2"] {
            let cluster = json!({
                "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
                "metadata": {"name": name}, "spec": {"hubAcceptsClient": true},
            });
            let kind = "cluster.open-cluster-management.io/v1/ManagedCluster";
            apply(&api(&admin, kind, None), &cluster).await.unwrap();
        }
        Self {
            api: admin,
            hub,
            stop,
            _database: database,
        }
    }

    /// A client with the rights of the agent of a cluster, once it has them.
    async fn agent(&self, cluster: &str, data_type: DataType) -> AgentObjects<Value> {
        let options = AgentOptions {
            driver: DriverConfig {
                min_backoff: Duration::from_millis(20),
                max_backoff: Duration::from_millis(200),
                ..DriverConfig::default()
            },
            ..AgentOptions::new(format!("{cluster}-agent"), cluster)
        };
        let transport = Arc::new(self.hub.agent_of(cluster));
        let (client, driver) = AgentObjects::new(options, &data_type, transport).unwrap();
        tokio::spawn(driver.run(self.stop.clone()));
        client
    }

    async fn connected(&self, cluster: &str, data_type: DataType) -> AgentObjects<Value> {
        let client = self.agent(cluster, data_type).await;
        tokio::time::timeout(LONG, client.connected())
            .await
            .expect("the agent may subscribe");
        client
    }
}

fn refused(outcome: Result<(), ClientError>) -> String {
    outcome.expect_err("nobody may do that").to_string()
}

#[tokio::test]
async fn add_ons_go_to_the_agent_and_reports_come_back() {
    let world = World::start().await;
    let older = world.connected("c1", DataType::ADDONS_V1ALPHA1).await;
    let newer = world.connected("c1", DataType::ADDONS_V1BETA1).await;
    let foreign = world.connected("c2", DataType::ADDONS_V1ALPHA1).await;
    let addons = api(&world.api, ADDONS, Some("c1"));
    let addon = json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn",
        "metadata": {"name": "a", "namespace": "c1"}, "spec": {"installNamespace": "ns"},
    });
    apply(&addons, &addon).await.unwrap();
    for (client, namespace) in [(&older, json!("ns")), (&newer, Value::Null)] {
        let there = async || {
            let found = client.get("c1", "a")?;
            ensure!(
                found
                    .as_ref()
                    .is_some_and(|found| found["spec"]["installNamespace"] == namespace),
                "{found:?}"
            );
            Ok(())
        };
        eventually("the add-on to reach the agent", LONG, there)
            .await
            .unwrap();
    }
    assert!(foreign.list().unwrap().is_empty());
    let registration =
        json!({"type": "kubeClient", "kubeClient": {"driver": "token", "subject": {"user": "u"}}});
    // A copy may be older than what the API has: a conflict says so, and a newer copy comes.
    let report = async || {
        let mut copy = newer.get("c1", "a")?.unwrap_or_default();
        copy["status"] = json!({"registrations": [registration], "conditions": [{
            "type": "Available", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-05-30T09:00:00Z",
        }]});
        Ok(newer.update_status(&copy).await?)
    };
    eventually("the report to be taken", LONG, report)
        .await
        .unwrap();
    let found = addons.get("a").await.unwrap();
    assert_eq!(found.data["status"]["kubeClientDriver"], "token");
    assert_eq!(found.data["status"]["conditions"][0]["type"], "Available");
    assert_eq!(found.data["spec"]["installNamespace"], "ns");
    let mut copy = older.get("c1", "a").unwrap().unwrap();
    copy["spec"]["installNamespace"] = "mine".into();
    assert!(refused(older.update(&copy).await).contains("access denied"));
    assert!(refused(foreign.update_status(&copy).await).contains("access denied"));
    addons.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = async || {
        ensure!(
            older.list()?.is_empty() && newer.list()?.is_empty(),
            "it is still there"
        );
        Ok(())
    };
    eventually("the copies to go", LONG, gone).await.unwrap();
}

#[tokio::test]
async fn events_of_agents_are_on_the_hub() {
    let world = World::start().await;
    // Nobody may subscribe to events; an agent may record them.
    let options = AgentOptions {
        subscribe: false,
        ..AgentOptions::new("c1-agent", "c1")
    };
    let transport = Arc::new(world.hub.agent_of("c1"));
    let (client, driver) = AgentObjects::new(options, &DataType::EVENTS, transport).unwrap();
    tokio::spawn(driver.run(world.stop.clone()));
    client.connected().await;
    let mut event = json!({
        "metadata": {"name": "e1", "namespace": "c1"}, "eventTime": "2026-05-30T09:00:00.000000Z",
        "reason": "Applied", "action": "Apply", "type": "Normal", "note": "done",
        "reportingController": "agent", "reportingInstance": "agent-0",
        "regarding": {"kind": "ManagedCluster", "name": "c1", "namespace": "c1", "apiVersion": "cluster.open-cluster-management.io/v1"},
    });
    // Rights come with the cluster's namespace.
    let recorded = async || Ok(client.create(&event).await?);
    eventually("the event to be taken", LONG, recorded)
        .await
        .unwrap();
    event["series"] = json!({"count": 2, "lastObservedTime": "2026-05-30T09:01:00.000000Z"});
    event["note"] = "changed".into();
    client.update(&event).await.unwrap();
    let events = api(&world.api, "events.k8s.io/v1/Event", Some("c1"));
    let found = events.get("e1").await.unwrap();
    assert_eq!(found.data["series"]["count"], 2);
    assert_eq!(found.data["note"], "done");
    event["metadata"]["namespace"] = "c2".into();
    assert!(refused(client.create(&event).await).contains("access denied"));
}

#[tokio::test]
async fn a_token_needs_a_right_of_its_own() {
    let world = World::start().await;
    let client = world.agent("c1", DataType::TOKEN_REQUESTS).await;
    let ready = world.connected("c1", DataType::ADDONS_V1ALPHA1).await;
    drop(ready);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a-agent", "namespace": "c1"}});
    apply(&api(&world.api, "v1/ServiceAccount", Some("c1")), &account)
        .await
        .unwrap();
    let asked = json!({"metadata": {"name": "a-agent", "namespace": "c1", "uid": "r1"}, "spec": {"audiences": ["https://hub"], "expirationSeconds": 3600}});
    let denied = client.call(&asked, Duration::from_millis(200)).await;
    assert!(denied.is_err(), "no role allows it");
    // As the manager of add-ons gives it.
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "a-token-role", "namespace": "c1"},
        "rules": [
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["a-agent"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["subscribe"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "a-token-role", "namespace": "c1"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "a-token-role"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:open-cluster-management:c1"}],
    });
    apply(
        &api(&world.api, "rbac.authorization.k8s.io/v1/Role", Some("c1")),
        &role,
    )
    .await
    .unwrap();
    apply(
        &api(
            &world.api,
            "rbac.authorization.k8s.io/v1/RoleBinding",
            Some("c1"),
        ),
        &binding,
    )
    .await
    .unwrap();
    let answer = client.call(&asked, LONG).await.unwrap();
    assert_eq!(answer["metadata"]["uid"], "r1");
    let token = answer["status"]["token"].as_str().unwrap();
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": token, "audiences": ["https://hub"]}});
    let review: k8s_openapi::api::authentication::v1::TokenReview =
        serde_json::from_value(review).unwrap();
    let reviews = kube::Api::all(world.api.clone());
    let said: k8s_openapi::api::authentication::v1::TokenReview = reviews
        .create(&PostParams::default(), &review)
        .await
        .unwrap();
    let user = said.status.unwrap().user.unwrap();
    assert_eq!(
        user.username.as_deref(),
        Some("system:serviceaccount:c1:a-agent")
    );
    let mut other = asked;
    other["metadata"]["name"] = "default".into();
    assert!(
        client.call(&other, LONG).await.is_err(),
        "of one account only"
    );
}
