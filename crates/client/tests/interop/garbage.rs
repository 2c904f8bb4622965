//! Events that nobody should send.

use anyhow::{Result, ensure};
use drover_client::DataType;
use drover_protocol::{Action, CloudEvent, SubResource, names};
use drover_transport::Subscription;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use drover_transport::config::Client;

use crate::bed::Wire;
use crate::ends::{CLUSTER, SOURCE};
use crate::world::{World, manifest_work};

const UID: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

/// Throws garbage at both ends.
pub(crate) async fn throw(world: &World) -> Result<()> {
    let (specs, reports) = (specs(), reports());
    match world.bed.wire {
        Wire::Service => {
            let broker = world.bed.drover()?;
            for event in specs {
                broker.publish(event);
            }
            publish(world, "agent", reports).await
        }
        Wire::GoBroker => {
            let broker = world.bed.go()?;
            for event in specs {
                let event: Value = serde_json::from_slice(&event.to_json())?;
                // Some are too strange even for that.
                broker.ask(json!({"do": "raw", "object": event})).await.ok();
            }
            publish(world, "agent", reports).await
        }
        Wire::Relay | Wire::Mosquitto | Wire::MosquittoTls => {
            publish(world, "source", specs).await?;
            publish(world, "agent", reports).await?;
            match world.bed.mosquitto() {
                Some(address) if world.bed.wire == Wire::Mosquitto => raw(&address).await,
                Some(_) | None => Ok(()),
            }
        }
    }
}

/// Messages that are no events, on the topics of both ends: MQTT 5 packets shorter than 128 bytes.
async fn raw(broker: &str) -> Result<()> {
    let mut stream = TcpStream::connect(broker).await?;
    let connect = packet(0x10, &[b"\x00\x04MQTT\x05\x02\x00\x3c\x00", &text("raw")]);
    stream.write_all(&connect).await?;
    ensure!(stream.read(&mut [0; 1024]).await? > 0, "no answer");
    let typed = |kind: &str| [b"\x03".to_vec(), text(kind)].concat();
    let marked = [b"\x26".to_vec(), text("ce-specversion"), text("1.0")].concat();
    for kind in ["sourceevents", "agentevents"] {
        let topic = text(&format!("sources/{SOURCE}/clusters/{CLUSTER}/{kind}"));
        for properties in [&[][..], &typed("application/cloudevents+json"), &marked] {
            let size = [properties.len() as u8];
            let publish = packet(0x30, &[&topic, &size, properties, b"{\xff"]);
            stream.write_all(&publish).await?;
        }
    }
    stream.write_all(&packet(0xe0, &[])).await?;
    // It ends when the broker has read all.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first, body.len() as u8], body.as_slice()].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// As a third party of the same name; a broker may refuse.
async fn publish(world: &World, end: &str, events: Vec<CloudEvent>) -> Result<()> {
    let data_type = DataType::MANIFEST_BUNDLES;
    let subscription = if end == "source" {
        let source = SOURCE.to_owned();
        Subscription::Source { source, data_type }
    } else {
        let cluster = CLUSTER.to_owned();
        Subscription::Agent { cluster, data_type }
    };
    let link = world
        .bed
        .transport(end, &Client::Source("thrower".to_owned()))?
        .open(subscription)
        .await?;
    for event in events {
        link.publisher.publish(event).await.ok();
    }
    Ok(())
}

fn event(subresource: SubResource, action: Action) -> CloudEvent {
    let event_type = DataType::MANIFEST_BUNDLES.event(subresource, action);
    CloudEvent::new("garbage", SOURCE, event_type, Timestamp::now())
        .with(names::EXT_CLUSTER_NAME, CLUSTER)
        .with(names::EXT_ORIGINAL_SOURCE, "")
        .with(names::EXT_RESOURCE_ID, UID)
        .with(names::EXT_RESOURCE_VERSION, 7)
}

fn without(mut event: CloudEvent, name: &str) -> CloudEvent {
    event.extensions.remove(name);
    event
}

/// What an agent must not take.
fn specs() -> Vec<CloudEvent> {
    let good = manifest_work("garbage", "1")["spec"]["workload"].to_string();
    let spec = || event(SubResource::Spec, Action::Create);
    let fine = || spec().with_json(good.clone());
    let mut strange = fine();
    "nonsense".clone_into(&mut strange.event_type);
    let mut unknown = fine();
    "io.example.v1.things.spec.create_request".clone_into(&mut unknown.event_type);
    let large = json!({"manifests": [{
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"x": "x".repeat(600_000)},
    }]});
    vec![
        spec().with_json("{\"manifests\": ["),
        spec().with_json("[]"),
        spec().with_json("{\"manifests\": []}"),
        spec().with_json("{\"manifests\": [{\"kind\": \"ConfigMap\"}]}"),
        spec().with_json(large.to_string()),
        fine().with(names::EXT_LOG_TRACING, "not json"),
        fine().with(names::EXT_METADATA, "{"),
        fine().with(names::EXT_RESOURCE_VERSION, "many"),
        fine().with(names::EXT_CLUSTER_NAME, "edge-8"),
        without(fine(), names::EXT_RESOURCE_ID),
        without(fine(), names::EXT_RESOURCE_VERSION),
        event(SubResource::Status, Action::Update).with_json(good.clone()),
        event(SubResource::Spec, Action::ResyncRequest).with_json("{"),
        strange,
        unknown,
    ]
}

/// What a source must not take.
fn reports() -> Vec<CloudEvent> {
    let report = || {
        event(SubResource::Status, Action::Update)
            .with(names::EXT_ORIGINAL_SOURCE, SOURCE)
            .with(names::EXT_SEQUENCE_ID, "2060647406105530368")
    };
    let status = "{\"conditions\": []}";
    let mut strange = report().with_json(status);
    "a.b.c.d".clone_into(&mut strange.event_type);
    vec![
        report().with_json("{"),
        report().with_json("{\"conditions\": 7}"),
        // Nobody knows this work, and Go's source looks for it ever after.
        report().with_json(status),
        report()
            .with(names::EXT_SEQUENCE_ID, "first")
            .with_json(status),
        without(report(), names::EXT_SEQUENCE_ID).with_json(status),
        report()
            .with(names::EXT_ORIGINAL_SOURCE, "hub-b")
            .with_json(status),
        event(SubResource::Status, Action::ResyncRequest).with_json("{"),
        strange,
    ]
}
