//! A hub in memory: a real broker with TLS, and what agents of one cluster need behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use drover_core::registration::request;
use drover_core::registration::roles::{ALL_CLUSTERS_GROUP, cluster_group};
use drover_protocol::{
    Action, CloudEvent, Codec as _, DataType, EventType, Object, ObjectCodec, Stamp, SubResource,
};
use drover_transport::authn::{
    Authenticator, AuthnError, Caller, CertAuthenticator, Presented, TokenAuthenticator,
    TokenReview,
};
use drover_transport::authz::{Access, Authorizer, Decision};
use drover_transport::broker::AccessControl;
use drover_transport::tls::{ServerPem, ServerTls};
use drover_transport::{Broker, BrokerConfig, Service, ServiceError, async_trait};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyPair,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::PATIENCE;

pub(super) const TOKEN: &str = "bootstrap-token";
const BOOTSTRAPPER: &str = "bootstrapper";

/// How long a certificate is good for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Life {
    Long,
    NearlyOver,
}

/// What the administrator wants.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub accept: bool,
    pub approve: bool,
    pub deny: bool,
    pub lease_seconds: i32,
    /// Whether a denial takes the roles away at once.
    pub roles_stay: bool,
    /// Of the first certificates; the others live long.
    pub lives: Vec<Life>,
}

impl Policy {
    pub(super) fn welcoming() -> Self {
        Self {
            accept: true,
            approve: true,
            deny: false,
            lease_seconds: 1,
            roles_stay: false,
            lives: Vec::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub user: String,
    pub object: Value,
    pub certificate: Option<String>,
}

impl Request {
    pub(super) fn issued(&self) -> bool {
        self.certificate.is_some()
    }
}

/// What the hub knows.
#[derive(Clone, Debug)]
pub(super) struct State {
    policy: Policy,
    version: u64,
    pub cluster: Option<Value>,
    pub requests: Vec<Request>,
    pub lease: Option<Value>,
    pub renewals: usize,
    /// Users that reported.
    pub reporters: Vec<String>,
    /// Distinct client certificates that were shown.
    pub certificates: Vec<Vec<u8>>,
}

impl State {
    /// The status of a condition of the cluster, empty when it is not there.
    pub(super) fn condition(&self, name: &str) -> String {
        let conditions = self
            .cluster
            .as_ref()
            .and_then(|cluster| cluster["status"]["conditions"].as_array());
        let found = conditions.into_iter().flatten().find(|c| c["type"] == name);
        found
            .and_then(|c| c["status"].as_str())
            .unwrap_or_default()
            .to_owned()
    }

    fn stamp(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }
}

struct Inner {
    state: watch::Sender<State>,
    broker: Broker,
    ca: (rcgen::Certificate, Issuer<'static, KeyPair>),
}

pub(super) struct Hub {
    inner: Arc<Inner>,
    pub address: SocketAddr,
    _stop: DropGuard,
}

impl Hub {
    pub(super) async fn start(policy: Policy) -> Self {
        let state = watch::Sender::new(State {
            policy,
            version: 0,
            cluster: None,
            requests: Vec::new(),
            lease: None,
            renewals: 0,
            reporters: Vec::new(),
            certificates: Vec::new(),
        });
        let access = AccessControl {
            authenticators: vec![
                Arc::new(TokenAuthenticator(Tokens)),
                Arc::new(Certificates(state.clone())),
            ],
            authorizers: vec![Arc::new(Roles(state.clone()))],
        };
        let broker = Broker::new(BrokerConfig::secured("kube", access));
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test hub");
        let key = KeyPair::generate().expect("there is randomness");
        let certificate = params.self_signed(&key).expect("it can be signed");
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate().expect("there is randomness");
        let server =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("it is an address");
        let server = server
            .signed_by(&server_key, &issuer)
            .expect("it can be signed");
        let tls = ServerTls::new(&ServerPem {
            cert: server.pem().into_bytes(),
            key: server_key.serialize_pem().into_bytes(),
            client_ca: Some(certificate.pem().into_bytes()),
        })
        .expect("the pieces fit");
        let inner = Arc::new(Inner {
            state,
            broker: broker.clone(),
            ca: (certificate, issuer),
        });
        for data_type in [
            DataType::MANAGED_CLUSTERS,
            DataType::CSRS,
            DataType::LEASES,
            DataType::MANIFEST_BUNDLES,
        ] {
            let served = Served {
                hub: inner.clone(),
                data_type: data_type.clone(),
            };
            broker.register(data_type, Arc::new(served));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a port");
        let address = listener.local_addr().expect("it listens");
        let stop = CancellationToken::new();
        tokio::spawn({
            let stop = stop.clone();
            async move { broker.serve(listener, Some(tls), stop).await }
        });
        Self {
            inner,
            address,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn ca_pem(&self) -> Vec<u8> {
        self.inner.ca.0.pem().into_bytes()
    }

    pub(super) fn state(&self) -> State {
        self.inner.state.borrow().clone()
    }

    /// The administrator changes their mind.
    pub(super) fn decide(&self, policy: Policy) {
        self.inner.state.send_modify(|state| state.policy = policy);
        self.inner.settle();
    }

    pub(super) async fn until(&self, what: &str, done: impl Fn(&State) -> bool) {
        let mut changes = self.inner.state.subscribe();
        if tokio::time::timeout(PATIENCE, changes.wait_for(done))
            .await
            .is_err()
        {
            panic!("{what} did not happen: {:#?}", self.state());
        }
    }

    /// Waits until so many subscribe; the broker tells nobody, so it is asked again and again.
    pub(super) async fn until_subscribed(&self, data_type: &DataType, expected: usize) {
        let wait = async {
            while self.inner.broker.clusters(data_type).len() != expected {
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        assert!(done, "not {expected} subscribers of {data_type}");
    }
}

impl Inner {
    /// What controllers of a hub do, then tells everybody.
    fn settle(&self) {
        self.state.send_modify(|state| {
            let policy = state.policy.clone();
            let version = state.stamp();
            if let Some(cluster) = &mut state.cluster {
                let was_accepted = cluster["spec"]["hubAcceptsClient"] == true;
                if policy.accept || was_accepted {
                    cluster["spec"]["hubAcceptsClient"] = json!(policy.accept);
                    let status = if policy.accept { "True" } else { "False" };
                    let accepted = json!({"type": "HubAcceptedManagedCluster", "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
                    let conditions = cluster["status"]["conditions"].as_array().cloned().unwrap_or_default();
                    let others = conditions.into_iter().filter(|c| c["type"] != "HubAcceptedManagedCluster");
                    cluster["status"]["conditions"] = std::iter::once(accepted).chain(others).collect();
                    cluster["metadata"]["resourceVersion"] = json!(version);
                }
                if policy.accept && state.lease.is_none() {
                    state.lease = Some(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                        "metadata": {"name": "managed-cluster-lease", "namespace": "c1", "uid": "lease", "resourceVersion": version},
                        "spec": {"holderIdentity": "managed-cluster-lease"}}));
                }
            }
            for (index, asked) in state.requests.iter_mut().enumerate() {
                if policy.deny {
                    asked.object["status"] = json!({"conditions": [{"type": "Denied", "status": "True", "reason": "No"}]});
                } else if policy.approve && asked.certificate.is_none() {
                    let life = policy.lives.get(index).copied().unwrap_or(Life::Long);
                    let pem = self.sign(&asked.object, life);
                    asked.object["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": ByteString(pem.clone().into_bytes())});
                    asked.certificate = Some(pem);
                }
                asked.object["metadata"]["resourceVersion"] = json!(version);
            }
        });
        for data_type in [DataType::MANAGED_CLUSTERS, DataType::CSRS, DataType::LEASES] {
            for event in self.events(&data_type) {
                self.broker.publish(event);
            }
        }
        // Links of those who lost their rights end with the roles.
        let policy = self.state.borrow().policy.clone();
        if !policy.accept && !policy.roles_stay {
            self.broker.disconnect_all();
        }
    }

    fn sign(&self, object: &Value, life: Life) -> String {
        let asked: CertificateSigningRequest =
            serde_json::from_value(object.clone()).expect("it is a request");
        let agent = request::read(&asked).expect("it is one of an agent");
        let pem = String::from_utf8(asked.spec.request.0).expect("PEM is text");
        let mut params = CertificateSigningRequestParams::from_pem(&pem).expect("it is PKCS #10");
        let (past, left) = match life {
            Life::Long => (0, 86_400),
            Life::NearlyOver => (10_000, 120),
        };
        let now = SystemTime::now();
        params.params.not_before = (now - Duration::from_secs(past)).into();
        params.params.not_after = (now + Duration::from_secs(left)).into();
        params.params.distinguished_name = DistinguishedName::new();
        let names = &mut params.params.distinguished_name;
        names.push(DnType::OrganizationName, cluster_group(&agent.cluster));
        names.push(DnType::CustomDnType(vec![2, 5, 4, 10]), ALL_CLUSTERS_GROUP);
        names.push(
            DnType::CommonName,
            format!("{}:{}", cluster_group(&agent.cluster), agent.agent),
        );
        params
            .signed_by(&self.ca.1)
            .expect("it can be signed")
            .pem()
    }

    fn events(&self, data_type: &DataType) -> Vec<CloudEvent> {
        let state = self.state.borrow();
        let objects: Vec<&Value> = match data_type.resource() {
            "managedclusters" => state.cluster.iter().collect(),
            "leases" => state.lease.iter().collect(),
            "certificatesigningrequests" => {
                state.requests.iter().map(|asked| &asked.object).collect()
            }
            _ => Vec::new(),
        };
        let Some(codec) = ObjectCodec::of(data_type) else {
            return Vec::new();
        };
        let event = |object: &Value| {
            let object = Object::from_value(object.clone()).expect("it is an object");
            let stamp = Stamp {
                id: format!(
                    "{}-{}",
                    object.metadata.uid, object.metadata.resource_version
                ),
                time: jiff::Timestamp::now(),
                source: "kube",
                sequence: None,
            };
            codec
                .encode(
                    stamp,
                    &data_type.event(SubResource::Spec, Action::Update),
                    &object,
                )
                .expect("it can travel")
        };
        objects.into_iter().map(event).collect()
    }

    fn take(&self, caller: &Caller, kind: &EventType, body: Value) -> Result<(), ServiceError> {
        let conflict = |found: &Value| {
            ServiceError::new(
                409,
                "Conflict",
                format!("not the newest: {}", found["metadata"]["resourceVersion"]),
            )
        };
        let mut outcome = Ok(());
        self.state.send_modify(|state| {
            match (kind.data_type.resource(), kind.subresource, &kind.action) {
                ("managedclusters", SubResource::Spec, Action::Create) => {
                    if state.cluster.is_some() {
                        outcome = Err(ServiceError::new(409, "AlreadyExists", "it is there"));
                        return;
                    }
                    let mut made = body.clone();
                    made["metadata"]["uid"] = json!("cluster");
                    made["metadata"]["resourceVersion"] = json!(state.stamp());
                    made["spec"]["hubAcceptsClient"] = json!(false);
                    made["spec"]["leaseDurationSeconds"] = json!(state.policy.lease_seconds);
                    state.cluster = Some(made);
                }
                ("managedclusters", SubResource::Status, Action::Update) => {
                    let version = state.stamp();
                    let Some(cluster) = &mut state.cluster else {
                        outcome = Err(ServiceError::not_found(
                            "cluster.open-cluster-management.io",
                            "managedclusters",
                            "c1",
                        ));
                        return;
                    };
                    if cluster["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]
                    {
                        outcome = Err(conflict(cluster));
                        return;
                    }
                    cluster["status"] = body["status"].clone();
                    cluster["metadata"]["resourceVersion"] = json!(version);
                    state.reporters.push(caller.user.clone());
                }
                ("certificatesigningrequests", SubResource::Spec, Action::Create) => {
                    let mut object = body.clone();
                    object["metadata"]["uid"] = json!(format!("request-{}", state.requests.len()));
                    state.requests.push(Request {
                        user: caller.user.clone(),
                        object,
                        certificate: None,
                    });
                }
                ("leases", SubResource::Spec, Action::Update) => {
                    let version = state.stamp();
                    let Some(lease) = &mut state.lease else {
                        outcome = Err(ServiceError::not_found(
                            "coordination.k8s.io",
                            "leases",
                            "managed-cluster-lease",
                        ));
                        return;
                    };
                    if lease["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                        outcome = Err(conflict(lease));
                        return;
                    }
                    lease["spec"] = body["spec"].clone();
                    lease["metadata"]["resourceVersion"] = json!(version);
                    state.renewals += 1;
                }
                _ => outcome = Err(ServiceError::bad_request(format!("no {kind}"))),
            }
        });
        outcome
    }
}

struct Served {
    hub: Arc<Inner>,
    data_type: DataType,
}

#[async_trait]
impl Service for Served {
    async fn list(&self, _cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        Ok(self.hub.events(&self.data_type))
    }

    async fn receive(&self, caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let kind: EventType = event
            .event_type
            .parse()
            .map_err(|error| ServiceError::bad_request(format!("{error}")))?;
        let body = serde_json::from_slice(event.payload())
            .map_err(|error| ServiceError::bad_request(error.to_string()))?;
        self.hub.take(caller, &kind, body)?;
        self.hub.settle();
        Ok(())
    }
}

struct Tokens;

#[async_trait]
impl TokenReview for Tokens {
    async fn review(&self, token: &str) -> Result<Option<Caller>, AuthnError> {
        Ok((token == TOKEN).then(|| Caller {
            user: BOOTSTRAPPER.to_owned(),
            groups: Vec::new(),
        }))
    }
}

/// Recognises certificates and remembers them.
struct Certificates(watch::Sender<State>);

#[async_trait]
impl Authenticator for Certificates {
    async fn authenticate(&self, presented: &Presented) -> Result<Caller, AuthnError> {
        let caller = CertAuthenticator.authenticate(presented).await?;
        let leaf = presented
            .certs
            .0
            .first()
            .map(|leaf| leaf.to_vec())
            .unwrap_or_default();
        self.0.send_if_modified(|state| {
            let new = !state.certificates.contains(&leaf);
            if new {
                state.certificates.push(leaf);
            }
            new
        });
        Ok(caller)
    }
}

/// What the roles of a hub allow.
struct Roles(watch::Sender<State>);

#[async_trait]
impl Authorizer for Roles {
    async fn authorize(&self, caller: &Caller, access: &Access) -> Decision {
        let looks = matches!(access.verb, "watch" | "list");
        let allowed = if caller.user == BOOTSTRAPPER {
            let joins = matches!(
                access.resource.as_str(),
                "managedclusters" | "certificatesigningrequests"
            );
            joins && access.subresource.is_empty() && (looks || access.verb == "create")
        } else {
            let own = caller.groups.contains(&cluster_group("c1"))
                && caller
                    .groups
                    .iter()
                    .any(|group| group == ALL_CLUSTERS_GROUP);
            let state = self.0.borrow();
            let accepted = state
                .cluster
                .as_ref()
                .is_some_and(|cluster| cluster["spec"]["hubAcceptsClient"] == true);
            own && (accepted
                || state.policy.roles_stay
                || looks && access.resource == "managedclusters")
        };
        if allowed {
            Decision::Allow
        } else {
            Decision::Deny(format!(
                "{} may not {} {}",
                caller.user, access.verb, access.resource
            ))
        }
    }
}
