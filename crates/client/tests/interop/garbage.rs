//! Events that nobody should send.

use anyhow::Result;
use drover_client::DataType;
use drover_protocol::{Action, CloudEvent, SubResource, names};
use drover_transport::Subscription;
use jiff::Timestamp;
use serde_json::{Value, json};

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
            publish(world, "agent", reports).await
        }
    }
}

/// As a third party that only sends; a broker may refuse.
async fn publish(world: &World, end: &str, events: Vec<CloudEvent>) -> Result<()> {
    let link = world
        .bed
        .transport(end)?
        .open(Subscription::PublishOnly)
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
