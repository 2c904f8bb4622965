//! The broker as clients see it, over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drover_protocol::resync::Versions;
use drover_protocol::{Action, CloudEvent, DataType, SubResource};
use futures::StreamExt as _;
use jiff::Timestamp;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{AccessControl, Broker, BrokerConfig};
use crate::authn::{Caller, CertAuthenticator};
use crate::authz::{Access, Authorizer, Decision};
use crate::grpc::convert::encode_publish;
use crate::grpc::proto::{self, PublishRequest, SubscriptionRequest};
use crate::grpc::stubs::cloud_event_service_client::CloudEventServiceClient;
use crate::grpc::{GrpcConfig, GrpcTransport, Pem};
use crate::link::{Remedy, Subscription, Transport as _, TransportError};
use crate::service::{Service, ServiceError};
use crate::tls::{ServerPem, ServerTls, TlsFiles};

#[derive(Default)]
struct Recorder {
    works: usize,
    answer: Mutex<Option<ServiceError>>,
    callers: Mutex<Vec<Caller>>,
}

#[crate::async_trait]
impl Service for Recorder {
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        Ok((0..self.works)
            .map(|number| spec(cluster, &format!("w{number}")))
            .collect())
    }

    async fn receive(&self, caller: &Caller, _event: CloudEvent) -> Result<(), ServiceError> {
        self.callers.lock().unwrap().push(caller.clone());
        self.answer.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

fn spec(cluster: &str, uid: &str) -> CloudEvent {
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::Update);
    CloudEvent::new(uid, "kube", event_type, Timestamp::UNIX_EPOCH)
        .with("clustername", cluster)
        .with("resourceid", uid)
        .with("resourceversion", 1)
        .with_json(format!("{{\"manifests\":[{}]}}", "1".repeat(2000)))
}

fn status(cluster: &str) -> CloudEvent {
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Status, Action::Update);
    CloudEvent::new("s", "agent", event_type, Timestamp::UNIX_EPOCH)
        .with("clustername", cluster)
        .with("resourceid", "u")
        .with("metadata", r#"{"name":"w","namespace":"c1"}"#)
        .with_json("{}")
}

fn resync(known: Versions) -> CloudEvent {
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::ResyncRequest);
    CloudEvent::new("r", "agent", event_type, Timestamp::UNIX_EPOCH)
        .with("clustername", "c1")
        .with_json(known.to_json().unwrap())
}

fn bundles() -> Subscription {
    Subscription::Agent {
        cluster: "c1".into(),
        data_type: DataType::MANIFEST_BUNDLES,
    }
}

async fn start(
    config: BrokerConfig,
    service: Arc<Recorder>,
    tls: Option<ServerTls>,
) -> (Broker, String, CancellationToken) {
    let broker = Broker::new(config);
    broker.register(DataType::MANIFEST_BUNDLES, service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let serving = (broker.clone(), stop.clone());
    tokio::spawn(async move { serving.0.serve(listener, tls, serving.1).await });
    (broker, address, stop)
}

async fn open(address: &str) -> crate::Link {
    GrpcTransport::new(GrpcConfig::new(address))
        .open(bundles())
        .await
        .unwrap()
}

#[tokio::test]
async fn malformed_requests_are_refused_before_anything_else() {
    let (_broker, address, _stop) = start(BrokerConfig::open("kube"), Arc::default(), None).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut client = CloudEventServiceClient::new(endpoint.connect().await.unwrap());
    let said = client.publish(bytes::Bytes::new()).await.unwrap_err();
    assert_eq!(
        (said.code(), said.message()),
        (tonic::Code::InvalidArgument, "the request has no event")
    );
    let empty = proto::CloudEvent {
        spec_version: "1.0".into(),
        ..proto::CloudEvent::default()
    };
    let said = client
        .publish(bytes::Bytes::from(
            PublishRequest { event: Some(empty) }.encode_to_vec(),
        ))
        .await
        .unwrap_err();
    assert_eq!(
        said.message(),
        "failed to convert protobuf to cloudevent: unknown Message encoding"
    );
    let request = SubscriptionRequest {
        data_type: DataType::LEASES.to_string(),
        ..SubscriptionRequest::default()
    };
    let request = bytes::Bytes::from(request.encode_to_vec());
    let said = client.subscribe(request).await.unwrap_err();
    assert_eq!(
        said.message(),
        "invalid subscription request: missing cluster name"
    );
    let foreign = CloudEvent {
        event_type: "a.b.c.spec.create_request".into(),
        ..status("c1")
    };
    let said = client.publish(encode_publish(&foreign)).await.unwrap_err();
    assert_eq!(
        (said.code(), said.message()),
        (
            tonic::Code::InvalidArgument,
            "failed to find service for event type a.b.c"
        )
    );
}

#[tokio::test]
async fn refusals_of_services_reach_the_agent_whole() {
    let recorder = Arc::new(Recorder::default());
    let (_broker, address, _stop) =
        start(BrokerConfig::open("kube"), Arc::clone(&recorder), None).await;
    let link = open(&address).await;
    link.publisher.publish(status("c1")).await.unwrap();
    let refusal =
        ServiceError::not_found("work.open-cluster-management.io", "manifestworks", "web");
    *recorder.answer.lock().unwrap() = Some(refusal.clone());
    let error = link.publisher.publish(status("c1")).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::DropAndReport);
    let TransportError::Refused(found) = error else {
        panic!("{error}")
    };
    assert_eq!(*found, refusal);
    let lost = TransportError::Lost("offline".into()).to_service_error("web");
    assert_eq!((lost.code, lost.reason.as_str()), (500, "PublishError"));
}

#[tokio::test]
async fn an_event_may_only_speak_of_its_own_cluster() {
    let (_broker, address, _stop) = start(BrokerConfig::open("kube"), Arc::default(), None).await;
    let link = open(&address).await;
    let error = link.publisher.publish(status("c2")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the event is for cluster c2 but speaks of cluster c1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_large_resync_does_not_block_the_one_who_asks() {
    let recorder = Arc::new(Recorder {
        works: 5000,
        ..Recorder::default()
    });
    let (broker, address, _stop) = start(
        BrokerConfig {
            queue: 16,
            ..BrokerConfig::open("kube")
        },
        recorder,
        None,
    )
    .await;
    let mut link = open(&address).await;
    // The answer is more than all buffers hold; nothing is read before the request returns.
    let known = Versions([("w1".to_owned(), 1), ("gone".to_owned(), 4)].into());
    link.publisher.publish(resync(known)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5000 {
        let event = link.events.next().await.unwrap().unwrap();
        assert!(event.event_type.ends_with("spec.resync_response"));
        seen.push((event.resource_id().unwrap().to_owned(), event.is_deletion()));
    }
    assert!(seen.contains(&("gone".to_owned(), true)));
    assert!(!seen.iter().any(|(uid, _)| uid == "w1"));
    assert_eq!(broker.publish(spec("c1", "live")), 1);
    assert_eq!(
        link.events.next().await.unwrap().unwrap().resource_id(),
        Some("live")
    );
}

#[tokio::test]
async fn a_subscriber_that_does_not_keep_up_is_cut_off_alone() {
    let config = BrokerConfig {
        queue: 4,
        ..BrokerConfig::open("kube")
    };
    let (broker, address, _stop) = start(config, Arc::default(), None).await;
    let mut slow = open(&address).await;
    for number in 0..5 {
        broker.publish(spec("c1", &format!("w{number}")));
    }
    let mut last = slow.events.next().await;
    while let Some(Ok(_)) = last {
        last = slow.events.next().await;
    }
    assert!(
        matches!(last, Some(Err(TransportError::Lost(_)))),
        "{last:?}"
    );
    let mut again = open(&address).await;
    for _ in 0..5 {
        broker.publish(spec("c1", "same"));
    }
    assert_eq!(
        again.events.next().await.unwrap().unwrap().resource_id(),
        Some("same"),
        "one resource takes one place"
    );
}

#[tokio::test]
async fn silence_is_noticed_and_heartbeats_are_not_delivered() {
    let config = BrokerConfig {
        heartbeat: Duration::from_millis(20),
        ..BrokerConfig::open("kube")
    };
    let (broker, address, _stop) = start(config, Arc::default(), None).await;
    let watched = |address: &str, patience| {
        GrpcTransport::new(GrpcConfig {
            heartbeat_timeout: Some(patience),
            ..GrpcConfig::new(address)
        })
    };
    let mut link = watched(&address, Duration::from_secs(10))
        .open(bundles())
        .await
        .unwrap();
    while broker
        .metrics()
        .heartbeats
        .load(std::sync::atomic::Ordering::Relaxed)
        < 3
    {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    broker.publish(spec("c1", "w"));
    assert_eq!(
        link.events.next().await.unwrap().unwrap().resource_id(),
        Some("w")
    );
    let (_broker, address, _stop) = start(BrokerConfig::open("kube"), Arc::default(), None).await;
    let mut link = watched(&address, Duration::from_millis(30))
        .open(bundles())
        .await
        .unwrap();
    assert!(matches!(
        link.events.next().await,
        Some(Err(TransportError::Silent(_)))
    ));
}

#[tokio::test]
async fn stopping_ends_subscriptions_and_returns() {
    let broker = Broker::new(BrokerConfig::open("kube"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let (serving, stopping) = (broker.clone(), stop.clone());
    let served = tokio::spawn(async move { serving.serve(listener, None, stopping).await });
    let mut link = open(&address).await;
    stop.cancel();
    assert!(!matches!(link.events.next().await, Some(Ok(_))));
    drop(link);
    served.await.unwrap().unwrap();
    assert_eq!(
        broker
            .metrics()
            .subscribers
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

struct OwnCluster;

#[crate::async_trait]
impl Authorizer for OwnCluster {
    async fn authorize(&self, caller: &Caller, access: &Access) -> Decision {
        if caller
            .groups
            .iter()
            .any(|group| *group == format!("cluster:{}", access.namespace))
        {
            Decision::Allow
        } else {
            Decision::Deny(format!("{} may not {}", caller.user, access.verb))
        }
    }
}

struct Issuer(rcgen::Issuer<'static, rcgen::KeyPair>, String);

impl Issuer {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(rcgen::Issuer::new(params, key), pem)
    }

    fn issue(&self, names: &[&str], user: &str, group: &str) -> (Vec<u8>, Vec<u8>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, user);
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, group);
        let key = rcgen::KeyPair::generate().unwrap();
        (
            params.signed_by(&key, &self.0).unwrap().pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    }
}

#[tokio::test]
async fn client_certificates_say_who_calls_and_servers_change_theirs() {
    let issuer = Issuer::new();
    let (cert, key) = issuer.issue(&["localhost"], "hub", "hubs");
    let pem = ServerPem {
        cert,
        key,
        client_ca: Some(issuer.1.clone().into_bytes()),
    };
    let tls = ServerTls::new(&pem).unwrap();
    let access = AccessControl {
        authenticators: vec![Arc::new(CertAuthenticator)],
        authorizers: vec![Arc::new(OwnCluster)],
    };
    let recorder = Arc::new(Recorder::default());
    let (_broker, address, _stop) = start(
        BrokerConfig::secured("kube", access),
        Arc::clone(&recorder),
        Some(tls.clone()),
    )
    .await;
    let client = |issuer: &Issuer, group: &str, named: bool| {
        let (cert, key) = issuer.issue(&[], "agent-1", group);
        GrpcTransport::new(GrpcConfig {
            ca: Some(Pem::Inline(issuer.1.clone().into_bytes())),
            identity: named.then_some((Pem::Inline(cert), Pem::Inline(key))),
            server_name: Some("localhost".into()),
            ..GrpcConfig::new(&address)
        })
    };
    let link = client(&issuer, "cluster:c1", true)
        .open(bundles())
        .await
        .unwrap();
    link.publisher.publish(status("c1")).await.unwrap();
    let expected = Caller {
        user: "agent-1".into(),
        groups: vec!["cluster:c1".into()],
    };
    assert_eq!(*recorder.callers.lock().unwrap(), [expected]);
    for (group, named, code) in [
        ("cluster:c2", true, "PermissionDenied"),
        ("cluster:c1", false, "Unauthenticated"),
    ] {
        let error = client(&issuer, group, named)
            .open(bundles())
            .await
            .err()
            .unwrap();
        assert_eq!(error.remedy(), Remedy::FixConfig);
        assert!(error.to_string().contains(code), "{error}");
    }
    let other = Issuer::new();
    let (cert, key) = other.issue(&["localhost"], "hub", "hubs");
    tls.reload(&ServerPem {
        cert,
        key,
        client_ca: Some(other.1.clone().into_bytes()),
    })
    .unwrap();
    client(&other, "cluster:c1", true)
        .open(bundles())
        .await
        .unwrap();
    let error = client(&issuer, "cluster:c1", true)
        .open(bundles())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, TransportError::Connect { .. }), "{error}");
}

/// Certificate, key and client issuers of a server for `localhost`.
fn server_pem(issuer: &Issuer) -> ServerPem {
    let (cert, key) = issuer.issue(&["localhost"], "hub", "hubs");
    ServerPem {
        cert,
        key,
        client_ca: Some(issuer.1.clone().into_bytes()),
    }
}

#[tokio::test]
async fn renewed_files_are_used_once_they_fit() {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        cert: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
        client_ca: Some(folder.path().join("ca.crt")),
        more_client_ca: None,
    };
    let write = |pem: &ServerPem| {
        std::fs::write(&files.cert, &pem.cert).unwrap();
        std::fs::write(&files.key, &pem.key).unwrap();
        let ca = files.client_ca.as_ref().unwrap();
        std::fs::write(ca, pem.client_ca.as_ref().unwrap()).unwrap();
    };
    let (old, new) = (Issuer::new(), Issuer::new());
    write(&server_pem(&old));
    let used = files.read().await.unwrap();
    let tls = ServerTls::new(&used).unwrap();
    let (following, followed) = (tls.clone(), files.clone());
    let every = Duration::from_millis(2);
    tokio::spawn(async move { following.follow(&followed, used, every).await });
    let config = BrokerConfig::secured(
        "kube",
        AccessControl {
            authenticators: vec![Arc::new(CertAuthenticator)],
            authorizers: vec![Arc::new(OwnCluster)],
        },
    );
    let (_broker, address, _stop) = start(config, Arc::default(), Some(tls)).await;
    let open = |issuer: &Issuer| {
        let (cert, key) = issuer.issue(&[], "agent-1", "cluster:c1");
        let config = GrpcConfig {
            ca: Some(Pem::Inline(issuer.1.clone().into_bytes())),
            identity: Some((Pem::Inline(cert), Pem::Inline(key))),
            server_name: Some("localhost".into()),
            ..GrpcConfig::new(&address)
        };
        async move { GrpcTransport::new(config).open(bundles()).await }
    };
    let mut kept = open(&old).await.unwrap();
    std::fs::write(&files.key, "half a key").unwrap();
    open(&old).await.unwrap();
    write(&server_pem(&new));
    // Whoever the new issuer vouches for is let in, with the new certificate shown, as soon as the files were looked at.
    while open(&new).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(open(&old).await.is_err());
    kept.publisher.publish(status("c1")).await.unwrap();
    let waiting = kept.events.next();
    assert!(futures::poll!(waiting).is_pending(), "open links stay");
}

#[tokio::test]
async fn a_registry_gets_the_series_of_the_go_broker() {
    let mut registry = prometheus_client::registry::Registry::default();
    let recorder = Arc::new(Recorder::default());
    let (broker, address, _stop) =
        start(BrokerConfig::open("kube"), Arc::clone(&recorder), None).await;
    broker.register_metrics(&mut registry);
    let mut link = open(&address).await;
    link.publisher.publish(status("c1")).await.unwrap();
    let gone = ServiceError::not_found("g", "r", "n");
    *recorder.answer.lock().unwrap() = Some(gone);
    link.publisher.publish(status("c1")).await.unwrap_err();
    link.publisher.publish(status("c2")).await.unwrap_err();
    broker.publish(spec("c1", "w"));
    link.events.next().await.unwrap().unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let of =
        "consumer=\"c1\",data_type=\"io.open-cluster-management.works.v1alpha1.manifestbundles\"";
    let publish = format!("{of},method=\"Publish\"");
    let all = "grpc_type=\"unary\",grpc_service=\"io.cloudevents.v1.CloudEventService\",grpc_method=\"Publish\"";
    for line in [
        format!("grpc_server_ce_subscribers{{{of}}} 1"),
        format!("grpc_server_ce_called_total{{{publish}}} 2"),
        format!("grpc_server_ce_msg_received_total{{{publish}}} 2"),
        format!("grpc_server_ce_msg_sent_total{{{of},method=\"Subscribe\"}} 1"),
        format!("grpc_server_ce_processed_total{{{publish},grpc_code=\"OK\"}} 1"),
        format!("grpc_server_ce_processed_total{{{publish},grpc_code=\"FailedPrecondition\"}} 1"),
        "grpc_server_ce_processed_total{consumer=\"unknown\",data_type=\"unknown\",method=\"Publish\",grpc_code=\"PermissionDenied\"} 1".to_owned(),
        format!("grpc_server_ce_processing_duration_seconds_count{{{publish},grpc_code=\"OK\"}} 1"),
        format!("grpc_server_started_total{{{all}}} 3"),
        format!("grpc_server_handled_total{{{all},grpc_code=\"OK\"}} 1"),
        "drover_broker_published_total 1".to_owned(),
        "drover_broker_refused_total 2".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("\"c2\""), "who is not let in is no label");
    assert!(
        text.contains(&format!("local_addr=\"{address}\"}} 1")),
        "{text}"
    );
}

#[tokio::test]
async fn a_token_never_travels_in_the_clear() {
    let token = Some(Pem::Inline(b"secret\n".to_vec()));
    let transport = GrpcTransport::new(GrpcConfig {
        token,
        ..GrpcConfig::new("example.com:8090")
    });
    let error = transport.open(bundles()).await.err().unwrap();
    assert!(matches!(error, TransportError::Config(_)), "{error}");
}

#[tokio::test]
async fn a_client_shows_its_renewed_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let config = BrokerConfig::secured(
        "kube",
        AccessControl {
            authenticators: vec![Arc::new(CertAuthenticator)],
            authorizers: vec![Arc::new(OwnCluster)],
        },
    );
    let tls = ServerTls::new(&server_pem(&issuer)).unwrap();
    let (_broker, address, _stop) = start(config, Arc::default(), Some(tls)).await;
    let file = |name| folder.path().join(name);
    let renew = || {
        let (cert, key) = issuer.issue(&[], "agent-1", "cluster:c1");
        std::fs::write(file("crt"), cert).unwrap();
        std::fs::write(file("key"), key).unwrap();
    };
    renew();
    let transport = GrpcTransport::new(GrpcConfig {
        ca: Some(Pem::Inline(issuer.1.clone().into_bytes())),
        identity: Some((Pem::File(file("crt")), Pem::File(file("key")))),
        server_name: Some("localhost".into()),
        refresh: Duration::from_millis(2),
        ..GrpcConfig::new(&address)
    });
    let mut links = [
        transport.open(bundles()).await.unwrap(),
        transport.open(Subscription::PublishOnly).await.unwrap(),
    ];
    renew();
    for link in &mut links {
        let error = link.events.next().await.unwrap().unwrap_err();
        assert!(matches!(error, TransportError::Replaced), "{error}");
    }
    transport.open(bundles()).await.unwrap();
}
