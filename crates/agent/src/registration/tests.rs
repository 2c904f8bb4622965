mod hub;
mod managed;

use std::time::Duration;

use drover_core::registration::request::{self, GRPC_SIGNER};
use drover_protocol::DataType;
use tokio::task::JoinHandle;

use super::identity::{Identity, Kept, Key};
use super::*;
use hub::{Hub, Life, Policy};
use managed::Managed;

fn me() -> Agent {
    Agent {
        cluster: "c1".to_owned(),
        agent: "a1".to_owned(),
    }
}

fn options(hub: &Hub, managed: &Managed) -> AgentOptions {
    let endpoint = HubEndpoint {
        url: format!("https://{}", hub.address),
        ca_pem: hub.ca_pem(),
        server_name: None,
        bootstrap_token: Some(hub::TOKEN.to_owned()),
    };
    AgentOptions {
        tuning: Tuning {
            min_backoff: Duration::from_millis(10),
            max_backoff: Duration::from_millis(100),
            ..Tuning::default()
        },
        labels: BTreeMap::from([("region".to_owned(), "north".to_owned())]),
        ..AgentOptions::new("c1", endpoint, "https://hub.example", managed.client())
    }
}

fn forget_token(options: &mut AgentOptions) {
    let hubs = std::mem::take(&mut options.hubs).into_iter();
    options.hubs = hubs.map(Bootstrap::without_asking).collect();
}

struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

fn start(options: AgentOptions) -> Running {
    let cancel = CancellationToken::new();
    let task = tokio::spawn(run(options, cancel.clone()));
    Running { cancel, task }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.task
            .await
            .expect("it does not panic")
            .expect("it ends well");
    }
}

#[test]
fn a_request_carries_both_groups() {
    let key = Key::generate().expect("there is randomness");
    let pem = key.request(&me()).expect("it can be written");
    let request = drover_core::registration::agent::certificate::request(
        &me(),
        GRPC_SIGNER,
        pem,
        "xxxxx",
        None,
    );
    assert_eq!(request::read(&request), Ok(me()));
}

#[test]
fn a_stored_key_is_the_same_key() {
    let key = Key::generate().expect("there is randomness");
    assert_eq!(Key::read(key.pem()).expect("it was written here"), key);
    assert!(Key::read(b"nonsense").is_err());
    assert_eq!(format!("{key:?}"), "Key");
}

#[tokio::test]
async fn what_is_stored_is_found_and_belongs_to_one_hub() {
    let managed = Managed::default();
    let store = SecretStore::new(managed.client(), identity::NAMESPACE);
    assert!(store.load().await.expect("it answers").identity.is_none());
    let (key, next) = (
        Key::generate().expect("randomness"),
        Key::generate().expect("randomness"),
    );
    let identity = Identity {
        key,
        certificate: b"PEM".to_vec(),
    };
    let hub = HubEndpoint {
        url: "https://h:1/".to_owned(),
        ca_pem: b"CA".to_vec(),
        server_name: None,
        bootstrap_token: None,
    };
    let at = |hub: &HubEndpoint| Bootstrap::at(hub.clone());
    let there = at(&hub);
    let mut kept = Kept {
        me: &me(),
        agent_id: "id",
        identity: Some((&identity, &there)),
        pending: Some((&next, "h:2")),
    };
    store
        .save(&kept)
        .await
        .expect("the namespace is made when it is not there");
    let stored = store.load().await.expect("it answers");
    assert_eq!(
        (stored.agent.as_deref(), stored.cluster.as_deref()),
        (Some("a1"), Some("c1"))
    );
    assert_eq!(stored.agent_id.as_deref(), Some("id"));
    assert_eq!(
        (stored.identity.as_ref(), stored.pending.clone()),
        (Some(&identity), Some((next.clone(), "h:2".to_owned())))
    );
    let is_for = |hub: HubEndpoint| stored.is_for(&hub.into());
    assert!(is_for(HubEndpoint {
        url: "h:1".to_owned(),
        ..hub.clone()
    }));
    assert!(!is_for(HubEndpoint {
        url: "h:2".to_owned(),
        ..hub.clone()
    }));
    assert!(!is_for(HubEndpoint {
        ca_pem: b"other".to_vec(),
        ..hub.clone()
    }));
    kept.pending = None;
    store.save(&kept).await.expect("it answers");
    assert!(store.load().await.expect("it answers").pending.is_none());
}

#[tokio::test]
async fn a_cluster_joins_reports_and_renews_its_lease() {
    let hub = Hub::start(Policy {
        lease_seconds: 1,
        ..Policy::welcoming()
    })
    .await;
    let managed = Managed::default();
    let agent = start(options(&hub, &managed));
    hub.until("joined and available", |state| {
        state.condition("ManagedClusterJoined") == "True"
            && state.condition("ManagedClusterConditionAvailable") == "True"
    })
    .await;
    hub.until("two renewals", |state| state.renewals >= 2).await;
    let state = hub.state();
    let cluster = state.cluster.as_ref().expect("it joined");
    assert_eq!(cluster["metadata"]["labels"]["region"], "north");
    assert_eq!(cluster["status"]["version"]["kubernetes"], "v1.36.3");
    assert_eq!(cluster["status"]["capacity"]["cpu"], "4");
    assert_eq!(cluster["status"]["clusterClaims"][0]["name"], "id.k8s.io");
    assert_eq!(state.condition("ClusterCertificateRotated"), "True");
    assert_eq!(state.requests.len(), 1);
    let installed = managed.definitions();
    assert!(
        installed
            .iter()
            .any(|name| name == "appliedmanifestworks.work.open-cluster-management.io"),
        "{installed:?}"
    );
    assert!(
        state
            .reporters
            .iter()
            .all(|user| user.starts_with("system:open-cluster-management:c1:")),
        "{:?}",
        state.reporters
    );
    agent.stop().await;
    assert_eq!(
        managed.secret_keys(),
        [
            "agent-id",
            "agent-name",
            "cluster-name",
            "config.yaml",
            "hub-identity",
            "tls.crt",
            "tls.key"
        ]
    );
}

#[tokio::test]
async fn a_restarted_agent_uses_its_certificate() {
    let hub = Hub::start(Policy::welcoming()).await;
    let managed = Managed::default();
    let agent = start(options(&hub, &managed));
    hub.until("a renewal", |state| state.renewals >= 1).await;
    agent.stop().await;
    let before = hub.state().renewals;
    let mut without_token = options(&hub, &managed);
    forget_token(&mut without_token);
    let agent = start(without_token);
    hub.until("another renewal", |state| state.renewals > before)
        .await;
    agent.stop().await;
    assert_eq!(hub.state().requests.len(), 1, "it did not ask again");
}

#[tokio::test]
async fn a_restart_while_a_request_waits_does_not_ask_again() {
    let hub = Hub::start(Policy {
        approve: false,
        ..Policy::welcoming()
    })
    .await;
    let managed = Managed::default();
    let agent = start(options(&hub, &managed));
    hub.until("a request", |state| state.requests.len() == 1)
        .await;
    agent.stop().await;
    assert_eq!(
        managed.secret_keys(),
        [
            "agent-id",
            "agent-name",
            "cluster-name",
            "pending.hub",
            "pending.key"
        ]
    );
    hub.decide(Policy::welcoming());
    let agent = start(options(&hub, &managed));
    hub.until("joined", |state| {
        state.condition("ManagedClusterJoined") == "True"
    })
    .await;
    agent.stop().await;
    assert_eq!(hub.state().requests.len(), 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends() {
    let hub = Hub::start(Policy {
        lives: vec![Life::NearlyOver],
        ..Policy::welcoming()
    })
    .await;
    let managed = Managed::default();
    let agent = start(options(&hub, &managed));
    hub.until("a renewed certificate", |state| {
        state.requests.len() == 2 && state.requests[1].issued()
    })
    .await;
    let asked_by = hub.state().requests[1].user.clone();
    assert!(
        asked_by.starts_with("system:open-cluster-management:c1:"),
        "{asked_by}"
    );
    managed
        .until("stored", |managed| {
            managed.certificate() == hub.state().requests[1].certificate
        })
        .await;
    let (before, reports) = (hub.state().certificates.len(), hub.state().reporters.len());
    hub.until("the new certificate in use", |state| {
        state.certificates.len() >= 2
    })
    .await;
    hub.until("the hub is told", |state| {
        state.reporters.len() > reports || before >= 2
    })
    .await;
    agent.stop().await;
}

async fn denied_and_back(roles_stay: bool) {
    let hub = Hub::start(Policy::welcoming()).await;
    let managed = Managed::default();
    let agent = start(options(&hub, &managed));
    hub.until("a renewal", |state| state.renewals >= 1).await;
    hub.until_subscribed(&DataType::MANIFEST_BUNDLES, 1).await;
    hub.decide(Policy {
        accept: false,
        roles_stay,
        ..Policy::welcoming()
    });
    hub.until_subscribed(&DataType::LEASES, 0).await;
    hub.until_subscribed(&DataType::MANIFEST_BUNDLES, 0).await;
    hub.until_subscribed(&DataType::MANAGED_CLUSTERS, 1).await;
    let before = hub.state().renewals;
    hub.decide(Policy::welcoming());
    hub.until("another renewal", |state| state.renewals > before)
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_denied_cluster_stays_connected_and_comes_back() {
    denied_and_back(false).await;
}

#[tokio::test]
async fn a_denied_agent_stops_by_itself() {
    denied_and_back(true).await;
}

#[tokio::test]
async fn an_agent_that_can_neither_show_nor_ask_says_so() {
    let hub = Hub::start(Policy::welcoming()).await;
    let mut options = options(&hub, &Managed::default());
    forget_token(&mut options);
    let error = run(options, CancellationToken::new())
        .await
        .expect_err("it cannot join");
    assert!(error.to_string().contains("bootstrap token"), "{error}");
}

#[tokio::test]
async fn a_refused_request_is_not_repeated_at_once() {
    let hub = Hub::start(Policy {
        deny: true,
        ..Policy::welcoming()
    })
    .await;
    let managed = Managed::default();
    let agent = start(options(&hub, &managed));
    hub.until("a request", |state| state.requests.len() == 1)
        .await;
    managed
        .until("the key is forgotten", |managed| {
            managed.secret_keys() == ["agent-id", "agent-name", "cluster-name"]
        })
        .await;
    agent.stop().await;
    assert_eq!(hub.state().requests.len(), 1);
}

/// Everything waits at most this long.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
