//! Sources and agents at one broker, over real sockets.

use std::sync::Arc;
use std::time::Duration;

use drover_protocol::{Action, CloudEvent, DataType, EventType, SubResource};
use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::authn::{Authenticator, AuthnError, Caller, Presented};
use crate::authz::{Access, Authorizer, Decision, SourceVerb};
use crate::broker::{AccessControl, Broker, BrokerConfig};
use crate::grpc::{GrpcConfig, GrpcTransport, Pem};
use crate::link::{Link, Subscription, Transport as _, TransportError};

const WORKS: DataType = DataType::MANIFEST_BUNDLES;

struct Relay {
    broker: Broker,
    address: String,
    stop: CancellationToken,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn relay(config: BrokerConfig) -> Relay {
    let broker = Broker::new(config);
    broker.relay(WORKS);
    broker.relay(DataType::LEASES);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let serving = (broker.clone(), stop.clone());
    tokio::spawn(async move { serving.0.serve(listener, None, serving.1).await });
    Relay {
        broker,
        address,
        stop,
    }
}

impl Relay {
    async fn open(&self, token: &str, subscription: Subscription) -> Result<Link, TransportError> {
        let config = GrpcConfig {
            token: Some(Pem::Inline(token.into())),
            ..GrpcConfig::new(&self.address)
        };
        GrpcTransport::new(config).open(subscription).await
    }

    async fn source(&self, source: &str, data_type: DataType) -> Link {
        let source_of = Subscription::Source {
            source: source.into(),
            data_type,
        };
        self.open(source, source_of).await.unwrap()
    }

    async fn agent(&self, cluster: &str, data_type: DataType) -> Link {
        let agent_of = Subscription::Agent {
            cluster: cluster.into(),
            data_type,
        };
        self.open(cluster, agent_of).await.unwrap()
    }
}

fn event(
    from: &str,
    data_type: &DataType,
    half: SubResource,
    action: Action,
    cluster: &str,
    to: &str,
) -> CloudEvent {
    let kind = data_type.event(half, action);
    CloudEvent::new("i", from, kind, Timestamp::UNIX_EPOCH)
        .with("clustername", cluster)
        .with("originalsource", to)
}

fn spec(from: &str, cluster: &str, id: &str) -> CloudEvent {
    let metadata = format!("{{\"name\":\"w\",\"namespace\":\"{cluster}\"}}");
    event(from, &WORKS, SubResource::Spec, Action::Create, cluster, "")
        .with("resourceid", id)
        .with("metadata", metadata)
        .with_json("{}")
}

fn status(cluster: &str, to: &str, id: &str) -> CloudEvent {
    event(
        "agent",
        &WORKS,
        SubResource::Status,
        Action::Update,
        cluster,
        to,
    )
    .with("resourceid", id)
    .with_json("{}")
}

async fn received(link: &mut Link) -> String {
    let event = link.events.next().await.unwrap().unwrap();
    let kind: EventType = event.event_type.parse().unwrap();
    let (half, action) = (kind.subresource.as_str(), kind.action.as_str());
    let id = event.resource_id().unwrap_or("-");
    format!("{} {half} {action} {id}", event.source)
}

#[tokio::test]
async fn events_find_whom_they_are_for() {
    let relay = relay(BrokerConfig::open("relay")).await;
    let mut a = relay.source("a", WORKS).await;
    let mut b = relay.source("b", WORKS).await;
    let mut one = relay.agent("c1", WORKS).await;
    let mut two = relay.agent("c2", WORKS).await;
    assert_eq!(relay.broker.sources(&WORKS), ["a", "b"]);
    let all = [
        spec("a", "c1", "u1"),
        spec("b", "c2", "u2"),
        event(
            "a",
            &WORKS,
            SubResource::Status,
            Action::ResyncRequest,
            "c2",
            "",
        ),
        event(
            "b",
            &WORKS,
            SubResource::Status,
            Action::ResyncRequest,
            "",
            "",
        ),
    ];
    for event in all {
        a.publisher.publish(event).await.unwrap();
    }
    assert_eq!(received(&mut one).await, "a spec create_request u1");
    assert_eq!(received(&mut one).await, "b status resync_request -");
    assert_eq!(received(&mut two).await, "b spec create_request u2");
    assert_eq!(received(&mut two).await, "a status resync_request -");
    assert_eq!(received(&mut two).await, "b status resync_request -");
    let all = [
        status("c1", "a", "u1"),
        status("c2", "b", "u2"),
        event(
            "agent",
            &WORKS,
            SubResource::Spec,
            Action::ResyncRequest,
            "c1",
            "",
        ),
        event(
            "agent",
            &WORKS,
            SubResource::Spec,
            Action::ResyncRequest,
            "c2",
            "b",
        ),
    ];
    for event in all {
        one.publisher.publish(event).await.unwrap();
    }
    assert_eq!(received(&mut a).await, "agent status update_request u1");
    assert_eq!(received(&mut a).await, "agent spec resync_request -");
    assert_eq!(received(&mut b).await, "agent status update_request u2");
    assert_eq!(received(&mut b).await, "agent spec resync_request -");
    assert_eq!(received(&mut b).await, "agent spec resync_request -");
}

#[tokio::test]
async fn of_leases_agents_speak_too() {
    let relay = relay(BrokerConfig::open("relay")).await;
    let lease = |from: &str| {
        event(
            from,
            &DataType::LEASES,
            SubResource::Spec,
            Action::Update,
            "c1",
            "",
        )
        .with("resourceid", "l")
        .with_json(r#"{"metadata":{"name":"l","namespace":"c1"}}"#)
    };
    let mut source = relay.source("hub", DataType::LEASES).await;
    let mut agent = relay.agent("c1", DataType::LEASES).await;
    agent.publisher.publish(lease("agent")).await.unwrap();
    assert_eq!(received(&mut source).await, "agent spec update_request l");
    agent.publisher.publish(lease("hub")).await.unwrap();
    assert_eq!(received(&mut agent).await, "hub spec update_request l");
}

#[tokio::test]
async fn what_speaks_of_another_cluster_is_refused() {
    let relay = relay(BrokerConfig::open("relay")).await;
    let link = relay.source("a", WORKS).await;
    let foreign = spec("a", "c1", "u").with("clustername", "c2");
    let error = link.publisher.publish(foreign).await.unwrap_err();
    let expected = "the event is for cluster c2 but speaks of cluster c1";
    assert!(error.to_string().contains(expected), "{error}");
    let nobodys = spec("a", "", "u");
    let error = link.publisher.publish(nobodys).await.unwrap_err();
    assert!(error.to_string().contains("must not be empty"), "{error}");
}

#[tokio::test]
async fn a_source_does_not_wait_long_for_an_agent_that_takes_nothing() {
    let config = BrokerConfig {
        max_wait: Duration::from_millis(50),
        queue: 3,
        ..BrokerConfig::open("relay")
    };
    let relay = relay(config).await;
    let link = relay.source("a", WORKS).await;
    let mut slow = relay.agent("c1", WORKS).await;
    let large = "x".repeat(3 * 1024 * 1024);
    let filling = |number: usize| spec("a", "c1", &format!("f{number}")).with_json(large.clone());
    // More than all windows and the queue hold: the agent is cut off, and the source goes on.
    for number in 0..6 {
        link.publisher.publish(filling(number)).await.unwrap();
    }
    let mut last = slow.events.next().await;
    while let Some(Ok(_)) = last {
        last = slow.events.next().await;
    }
    assert!(
        matches!(last, Some(Err(TransportError::Lost(_)))),
        "{last:?}"
    );
    assert!(relay.broker.clusters(&WORKS).is_empty());
}

/// The token is the name; names that begin with `c` are clusters.
struct Names;

#[crate::async_trait]
impl Authenticator for Names {
    async fn authenticate(&self, presented: &Presented) -> Result<Caller, AuthnError> {
        let user = presented.token.clone().unwrap_or_default();
        Ok(Caller {
            user,
            groups: Vec::new(),
        })
    }
}

#[crate::async_trait]
impl Authorizer for Names {
    async fn authorize(&self, caller: &Caller, access: &Access) -> Decision {
        let source = !caller.user.starts_with('c');
        let half = matches!((access.verb, access.subresource), ("list", ""));
        if caller.user == access.namespace || (source && access.namespace != "c2" && !half) {
            Decision::Allow
        } else {
            Decision::Deny(format!("{} may not {}", caller.user, access.verb))
        }
    }

    async fn authorize_source(&self, caller: &Caller, source: &str, verb: SourceVerb) -> Decision {
        if caller.user == source && !source.starts_with('c') {
            Decision::Allow
        } else {
            Decision::Deny(format!(
                "{} is not {source}: {}",
                caller.user,
                verb.as_str()
            ))
        }
    }
}

#[tokio::test]
async fn nobody_is_a_source_who_may_not_be_it() {
    let access = AccessControl {
        authenticators: vec![Arc::new(Names)],
        authorizers: vec![Arc::new(Names)],
    };
    let relay = relay(BrokerConfig::secured("relay", access)).await;
    let foreign = Subscription::Source {
        source: "b".into(),
        data_type: WORKS,
    };
    let error = relay.open("a", foreign).await.err().unwrap();
    assert!(error.to_string().contains("a is not b: sub"), "{error}");
    let a = relay.source("a", WORKS).await;
    let c1 = relay.agent("c1", WORKS).await;
    let ask = |from: &str, cluster: &str| {
        event(
            from,
            &WORKS,
            SubResource::Status,
            Action::ResyncRequest,
            cluster,
            "",
        )
    };
    let answer = |half| event("c1", &WORKS, half, Action::ResyncResponse, "c1", "a");
    for (link, event, refused) in [
        (&a, spec("a", "c1", "u"), None),
        (&a, spec("b", "c1", "u"), Some("a is not b: pub")),
        (&a, spec("a", "c2", "u"), Some("a may not create")),
        (&a, ask("a", ""), None),
        (&a, ask("b", ""), Some("a is not b: pub")),
        (&c1, status("c1", "a", "u"), None),
        (&c1, status("c2", "a", "u"), Some("c1 may not update")),
        (&c1, spec("a", "c1", "u"), Some("c1 is not a: pub")),
        (&c1, ask("a", "c1"), Some("c1 is not a: pub")),
        (&c1, answer(SubResource::Status), None),
        (&c1, answer(SubResource::Spec), Some("c1 is not c1: pub")),
    ] {
        let said = link.publisher.publish(event.clone()).await;
        let said = said.err().map(|error| error.to_string());
        let fits = match (&said, refused) {
            (None, None) => true,
            (Some(said), Some(refused)) => said.contains(refused),
            _ => false,
        };
        assert!(fits, "{event:?}: {said:?}");
    }
}
