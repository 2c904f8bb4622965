//! What Go's codecs write, read by ours and written again.

use std::collections::BTreeMap;

use drover_protocol::cloudevent::APPLICATION_JSON;
use drover_protocol::{
    AgentBundleCodec, CloudEvent, Codec, EventType, ExtensionValue, Object, ObjectCodec, Resource,
    SourceBundleCodec, Stamp, Work, names,
};
use drover_testkit::probe;
use drover_transport::grpc::convert::{from_proto, to_proto};
use drover_transport::grpc::proto;
use prost::Message as _;
use serde_json::Value;

use crate::world::normal;

#[test]
fn ours_and_gos_codecs_agree() {
    let vectors = probe::vectors().unwrap();
    assert!(vectors.len() > 20, "{} vectors", vectors.len());
    for vector in &vectors {
        // Only there every value has its type.
        let bytes = unhex(vector["grpc"].as_str().unwrap());
        let event = from_proto(proto::CloudEvent::decode(bytes.as_slice()).unwrap()).unwrap();
        let name = format!(
            "{} {}",
            vector["vector"], vector["object"]["metadata"]["name"]
        );
        carriers(&name, vector, &event);
        match vector["vector"].as_str().unwrap() {
            "work spec" => work(&name, vector, &event, &SourceBundleCodec, &AgentBundleCodec),
            "work status" => {
                work(&name, vector, &event, &AgentBundleCodec, &SourceBundleCodec);
                let object = Work::from_object(&vector["object"]).unwrap();
                assert_eq!(object.status.hash(), vector["hash"], "{name}");
            }
            "resync deletion" => {
                let read = AgentBundleCodec.decode(&event).unwrap();
                assert!(read.metadata.deleting(), "{name}");
                assert_eq!(read.metadata.generation, 2, "{name}");
            }
            "resync versions" => {
                let read = drover_protocol::resync::Versions::from_event(&event).unwrap();
                let wanted = listed(&vector["object"]["resourceVersions"], "resourceVersion");
                let read = read.0.into_iter().map(|(id, number)| (id, number.into()));
                assert_eq!(read.collect::<BTreeMap<_, Value>>(), wanted, "{name}");
            }
            "resync hashes" => {
                let read = drover_protocol::resync::Hashes::from_event(&event).unwrap();
                let wanted = listed(&vector["object"]["statusHashes"], "statusHash");
                let read = read.0.into_iter().map(|(id, hash)| (id, hash.into()));
                assert_eq!(read.collect::<BTreeMap<_, Value>>(), wanted, "{name}");
            }
            _ => whole(&name, vector, &event),
        }
    }
}

fn listed(list: &Value, field: &str) -> BTreeMap<String, Value> {
    let entries = list.as_array().unwrap().iter();
    entries
        .map(|entry| {
            let id = entry["resourceID"].as_str().unwrap().to_owned();
            (id, entry[field].clone())
        })
        .collect()
}

/// The event as JSON and MQTT carry it is the event as gRPC carries it, and ours are the same as Go's.
fn carriers(name: &str, vector: &Value, event: &CloudEvent) {
    let json = CloudEvent::from_json(vector["event"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(texts(&json), texts(event), "{name} as JSON");
    let mqtt = &vector["mqtt"];
    let theirs: BTreeMap<String, String> =
        serde_json::from_value::<Vec<(String, String)>>(mqtt["properties"].clone())
            .unwrap()
            .into_iter()
            .collect();
    let pairs = theirs
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let content_type = mqtt["contentType"].as_str().filter(|text| !text.is_empty());
    let payload = unhex(mqtt["payload"].as_str().unwrap());
    let read = CloudEvent::from_pairs(pairs, content_type, payload.clone().into()).unwrap();
    assert_eq!(texts(&read), texts(event), "{name} over MQTT");
    let ours: BTreeMap<String, String> = event.to_pairs().into_iter().collect();
    assert_eq!(ours, theirs, "{name} over MQTT");
    assert_eq!(event.payload(), payload, "{name} over MQTT");

    let bytes = unhex(vector["grpc"].as_str().unwrap());
    let message = proto::CloudEvent::decode(bytes.as_slice()).unwrap();
    assert_eq!(to_proto(event), message, "{name} over gRPC");
}

/// MQTT has texts alone, JSON no times.
fn texts(event: &CloudEvent) -> CloudEvent {
    let mut event = event.clone();
    for value in event.extensions.values_mut() {
        *value = ExtensionValue::String(value.to_text());
    }
    event.data = event.data.filter(|data| !data.is_empty());
    event
}

fn work(
    name: &str,
    vector: &Value,
    event: &CloudEvent,
    sender: &impl Codec<Object = Work>,
    receiver: &impl Codec<Object = Work>,
) {
    let object = Work::from_object(&vector["object"]).unwrap();
    agree(name, event, sender, &object);
    let read = receiver.decode(event).unwrap();
    let read = serde_json::to_value(&read).unwrap();
    same_object(name, &read, &vector["decoded"]);
}

fn whole(name: &str, vector: &Value, event: &CloudEvent) {
    let event_type: EventType = event.event_type.parse().unwrap();
    let codec = ObjectCodec::of(&event_type.data_type).unwrap();
    let object = Object::from_value(vector["object"].clone()).unwrap();
    agree(name, event, &codec, &object);
    let read = codec.decode(event).unwrap();
    let mut decoded = vector["decoded"].clone();
    if event.is_deletion() {
        // Go's types have fields that nobody set.
        decoded = serde_json::json!({"metadata": decoded["metadata"]});
    }
    same_object(name, &read.to_value().unwrap(), &decoded);
    if let Some(hash) = vector["hash"].as_str() {
        // Go hashes a status of nothing where ours says that there is none to hash.
        if !normal(vector["object"]["status"].clone())
            .as_object()
            .is_some_and(serde_json::Map::is_empty)
        {
            assert_eq!(object.status_hash().as_deref(), Some(hash), "{name}");
        }
    }
}

/// Ours of the same object is the event that Go made.
fn agree<R: Resource>(name: &str, event: &CloudEvent, codec: &impl Codec<Object = R>, object: &R) {
    let event_type: EventType = event.event_type.parse().unwrap();
    let stamp = Stamp {
        id: event.id.clone(),
        time: event.time.unwrap(),
        source: &event.source,
        sequence: event.text(names::EXT_SEQUENCE_ID).ok().map(str::to_owned),
    };
    let ours = codec.encode(stamp, &event_type, object).unwrap();
    assert_eq!(readable(&ours), readable(event), "{name}");
}

/// An event whose JSON parts are parsed, and cleaned of what means nothing.
fn readable(event: &CloudEvent) -> Value {
    let mut value: Value = serde_json::from_slice(&event.to_json()).unwrap();
    for part in [names::EXT_METADATA, names::EXT_LOG_TRACING] {
        if let Some(text) = value[part].as_str() {
            value[part] = serde_json::from_str(text).unwrap();
        }
    }
    if event.content_type.as_deref() != Some(APPLICATION_JSON) {
        assert!(event.payload().is_empty(), "{value}");
    }
    // Neither kept nor sent by ours: nobody reads them.
    if let Some(meta) = value[names::EXT_METADATA].as_object_mut() {
        meta.remove("managedFields");
    }
    normal(value)
}

fn same_object(name: &str, ours: &Value, theirs: &Value) {
    let plain = |value: &Value| {
        let mut value = normal(value.clone());
        for key in ["apiVersion", "kind"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        value
    };
    assert_eq!(plain(ours), plain(theirs), "{name}");
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
