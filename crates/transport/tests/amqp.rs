//! Publishing to a real RabbitMQ that is set up as that of Fedora Messaging.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drover_protocol::fedora::{Line, Outgoing};
use drover_testkit::pki::Pair;
use drover_testkit::rabbitmq::{CAPTURE, POWERLESS, PUBLISHER};
use drover_testkit::{Line as Wire, Proxy, RabbitMq, eventually};
use drover_transport::amqp::{AmqpError, Destination, Identity, Publisher, Verdict};
use lapin::types::{AMQPValue, ShortString};

const EXCHANGE: &str = "amq.topic";
/// The broker shares the machine with all other tests.
const LONG: Duration = Duration::from_mins(2);

fn destination(url: &str, ca: &Path, pair: &Pair) -> Destination {
    let read = |path: &Path| std::fs::read(path).expect("the file was written");
    let identity = Identity::from_pem(&read(ca), &read(&pair.cert), &read(&pair.key));
    Destination {
        url: url.to_owned(),
        identity: Some(Arc::new(identity.expect("it is in order"))),
        client_properties: BTreeMap::from([("app".to_owned(), "tests".to_owned())]),
    }
}

fn place(broker: &RabbitMq, user: &str) -> Destination {
    let pair = broker.client(user).expect("it is signed");
    destination(&broker.url(), &broker.authority().ca(), &pair)
}

fn message(topic: &str, id: u128) -> Outgoing {
    let line = format!(
        r#"{{"topic": "{topic}", "body": {{"a": "é"}}, "headers": {{"niceness": "very", "n": 5000000000, "yes": true}}}}"#
    );
    let now = "2026-11-20T21:43:07Z".parse().expect("a time");
    let line = Line::parse(&line).expect("it is a message");
    line.outgoing("org.fedoraproject.stg", now, id)
        .expect("it can be sent")
}

#[tokio::test]
async fn a_message_arrives_as_the_wire_format_has_it() {
    let broker = RabbitMq::start().await.unwrap();
    let publisher = Publisher::connect(&place(&broker, PUBLISHER))
        .await
        .unwrap();
    let sent = message("app.thing", 7);
    publisher.publish(EXCHANGE, &sent, LONG).await.unwrap();
    let reader = broker.reader().await.unwrap();
    let got = reader.take(CAPTURE).await.unwrap().expect("it is there");
    assert_eq!(got.routing_key.as_str(), "org.fedoraproject.stg.app.thing");
    assert_eq!(got.data, sent.body);
    let properties = &got.properties;
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    assert_eq!(
        text(properties.content_type()).as_deref(),
        Some("application/json")
    );
    assert_eq!(
        text(properties.content_encoding()).as_deref(),
        Some("utf-8")
    );
    assert_eq!(
        text(properties.message_id()).as_deref(),
        Some(sent.message_id.as_str())
    );
    assert_eq!(
        (*properties.delivery_mode(), *properties.priority()),
        (Some(2), Some(0))
    );
    let headers = properties.headers().clone().unwrap_or_default();
    let long = |text: &str| AMQPValue::LongString(text.into());
    for (name, value) in [
        ("fedora_messaging_schema", long("base.message")),
        ("fedora_messaging_schema_package", long("fedora_messaging")),
        ("fedora_messaging_severity", AMQPValue::LongInt(20)),
        ("sent-at", long("2026-11-20T21:43:07+00:00")),
        ("priority", AMQPValue::LongInt(0)),
        ("niceness", long("very")),
        ("n", AMQPValue::LongLongInt(5_000_000_000)),
        ("yes", AMQPValue::Boolean(true)),
    ] {
        assert_eq!(headers.inner().get(name), Some(&value), "{name}");
    }
    assert_eq!(headers.inner().len(), 8);
    let connections = broker
        .ctl(&["list_connections", "user", "auth_mechanism", "ssl"])
        .unwrap();
    assert!(
        connections.contains("fmsg-publisher\tEXTERNAL\ttrue"),
        "{connections}"
    );
    publisher.close().await;
}

#[tokio::test]
async fn each_refusal_is_told_apart_and_the_channel_goes_on() {
    let broker = RabbitMq::start().await.unwrap();
    let publisher = Publisher::connect(&place(&broker, PUBLISHER))
        .await
        .unwrap();
    let mut elsewhere = message("x", 1);
    elsewhere.routing_key = "org.example.x".to_owned();
    let error = publisher
        .publish(EXCHANGE, &elsewhere, LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, AmqpError::Forbidden(_)), "{error}");
    assert_eq!(error.verdict(), Verdict::Never);
    // What the broker says of it is cut off in the middle of the topic.
    elsewhere.routing_key = format!("org.example.{}", "x".repeat(240));
    let error = publisher.publish(EXCHANGE, &elsewhere, LONG).await;
    let error = error.unwrap_err();
    assert!(matches!(error, AmqpError::Forbidden(_)), "{error}");
    let fine = message("fine", 2);
    publisher.publish(EXCHANGE, &fine, LONG).await.unwrap();
    let error = publisher
        .publish("amq.direct", &fine, LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, AmqpError::Forbidden(_)), "{error}");
    let error = publisher.publish("nowhere", &fine, LONG).await.unwrap_err();
    assert!(matches!(error, AmqpError::NoExchange(_)), "{error}");
    assert_eq!(error.verdict(), Verdict::Never);
    let full = message("full.x", 3);
    publisher.publish(EXCHANGE, &full, LONG).await.unwrap();
    let error = publisher.publish(EXCHANGE, &full, LONG).await.unwrap_err();
    assert_eq!(error, AmqpError::Rejected);
    assert_eq!(error.verdict(), Verdict::Later);
    publisher.publish(EXCHANGE, &fine, LONG).await.unwrap();
}

#[tokio::test]
async fn who_may_not_in_is_told_why() {
    let broker = RabbitMq::start().await.unwrap();
    for user in [POWERLESS, "nobody-knows-me"] {
        let error = Publisher::connect(&place(&broker, user)).await.unwrap_err();
        assert!(matches!(error, AmqpError::Login(_)), "{user}: {error}");
        assert_eq!(error.verdict(), Verdict::AfterChange);
    }
    let nowhere = Destination {
        url: broker.url().replace("pubsub", "nope"),
        ..place(&broker, PUBLISHER)
    };
    let error = Publisher::connect(&nowhere).await.unwrap_err();
    assert!(matches!(error, AmqpError::Login(_)), "{error}");

    // An authority of the same name and another key.
    let other = tempfile::tempdir().unwrap();
    let other = drover_testkit::pki::Authority::new(other.path()).unwrap();
    let pair = broker.client(PUBLISHER).unwrap();
    let stranger = destination(&broker.url(), &other.ca(), &pair);
    let error = Publisher::connect(&stranger).await.unwrap_err();
    assert!(matches!(error, AmqpError::Tls(_)), "{error}");
    let pair = other.client("fmsg-publisher", PUBLISHER).unwrap();
    let forger = destination(&broker.url(), &broker.authority().ca(), &pair);
    let error = Publisher::connect(&forger).await.unwrap_err();
    assert!(matches!(error, AmqpError::Tls(_)), "{error}");
    let expired = broker.authority().expired_client("old", PUBLISHER).unwrap();
    let late = destination(&broker.url(), &broker.authority().ca(), &expired);
    let error = Publisher::connect(&late).await.unwrap_err();
    assert!(matches!(error, AmqpError::Tls(_)), "{error}");
    assert_eq!(error.verdict(), Verdict::AfterChange);
    // The name is verified, not only the chain.
    let by_name = place(&broker, PUBLISHER);
    let wrong_name = Destination {
        url: by_name.url.replace("localhost", "127.0.0.2"),
        ..by_name
    };
    let error = Publisher::connect(&wrong_name).await.unwrap_err();
    assert_ne!(error.verdict(), Verdict::Again, "{error}");
}

#[tokio::test]
async fn two_authorities_of_one_name_are_both_trusted() {
    let broker = RabbitMq::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = drover_testkit::pki::Authority::new(folder.path()).unwrap();
    let both = [
        std::fs::read(other.ca()).unwrap(),
        std::fs::read(broker.authority().ca()).unwrap(),
    ]
    .concat();
    let bundle = folder.path().join("bundle.crt");
    std::fs::write(&bundle, both).unwrap();
    let pair = broker.client(PUBLISHER).unwrap();
    let publisher = Publisher::connect(&destination(&broker.url(), &bundle, &pair))
        .await
        .unwrap();
    publisher
        .publish(EXCHANGE, &message("a", 1), LONG)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_line_cut_before_the_confirm_leaves_the_message_uncertain() {
    let broker = RabbitMq::start().await.unwrap();
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let mut place = place(&broker, PUBLISHER);
    place.url = format!("amqps://localhost:{}/%2Fpubsub", proxy.port());
    let publisher = Publisher::connect(&place).await.unwrap();
    proxy.set(Wire::Mute);
    let sent = message("cut", 9);
    let publish = publisher.publish(EXCHANGE, &sent, LONG);
    let reader = broker.reader().await.unwrap();
    let seen = async {
        let got = eventually("the message", LONG, async || {
            let got = reader.take(CAPTURE).await?;
            got.ok_or_else(|| anyhow::anyhow!("not there"))
        })
        .await;
        proxy.set(Wire::Cut);
        got
    };
    let (outcome, seen) = tokio::join!(publish, seen);
    let error = outcome.unwrap_err();
    assert!(matches!(error, AmqpError::Uncertain(_)), "{error}");
    assert_eq!(error.verdict(), Verdict::Again);
    let id = seen.unwrap().properties.message_id().clone();
    assert_eq!(id.map(|id| id.to_string()), Some(sent.message_id.clone()));
    assert!(!publisher.is_connected());
    let error = publisher.publish(EXCHANGE, &sent, LONG).await.unwrap_err();
    assert_eq!(
        error.verdict(),
        Verdict::Later,
        "nothing was written: {error}"
    );
}

#[tokio::test]
async fn a_broker_that_is_blocked_leaves_it_uncertain_and_one_that_restarts_takes_it() {
    let mut broker = RabbitMq::start().await.unwrap();
    let to = place(&broker, PUBLISHER);
    let publisher = Publisher::connect(&to).await.unwrap();
    broker.block(true).unwrap();
    let error = publisher
        .publish(EXCHANGE, &message("slow", 1), Duration::from_millis(300))
        .await
        .unwrap_err();
    assert_eq!(error.verdict(), Verdict::Again, "{error}");
    // It said so: what comes next is not even written.
    let blocked = async || {
        let late = message("later", 3);
        let error = publisher.publish(EXCHANGE, &late, Duration::from_millis(100));
        match error.await.unwrap_err() {
            AmqpError::Blocked => Ok(()),
            other => anyhow::bail!("{other}"),
        }
    };
    eventually("the broker tells that it takes nothing", LONG, blocked)
        .await
        .unwrap();
    broker.block(false).unwrap();
    // What was written before arrives after all: it was uncertain indeed.
    let reader = broker.reader().await.unwrap();
    eventually("the message", LONG, async || {
        let got = reader.take(CAPTURE).await?;
        got.ok_or_else(|| anyhow::anyhow!("not there"))
    })
    .await
    .unwrap();

    broker.kill();
    let error = publisher
        .publish(EXCHANGE, &message("down", 2), LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(error.verdict(), Verdict::Later | Verdict::Again),
        "{error}"
    );
    let error = Publisher::connect(&to).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Later, "{error}");
    broker.restart().await.unwrap();
    let publisher = Publisher::connect(&to).await.unwrap();
    publisher
        .publish(EXCHANGE, &message("up", 3), LONG)
        .await
        .unwrap();
}
