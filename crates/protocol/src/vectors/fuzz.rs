//! Decoders survive everything, and what is written is read back.

use bytes::Bytes;
use proptest::prelude::*;

use crate::compat::{AgentV013Codec, SourceV013Codec, V013};
use crate::raw::Raw;
use crate::{
    AgentBundleCodec, CloudEvent, Codec as _, DataType, EventType, ExtensionValue, ObjectCodec,
    SourceBundleCodec, Stamp,
};

use super::{E1, E5, now};

fn value() -> impl Strategy<Value = ExtensionValue> {
    prop_oneof![
        any::<bool>().prop_map(ExtensionValue::Bool),
        any::<i32>().prop_map(ExtensionValue::Integer),
        ".*".prop_map(ExtensionValue::String),
    ]
}

fn cloudevent() -> impl Strategy<Value = CloudEvent> {
    let extensions = proptest::collection::btree_map("x[a-z0-9]{1,8}", value(), 0..6);
    (
        ".*",
        ".*",
        ".*",
        extensions,
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
    )
        .prop_map(|(id, source, event_type, extensions, data)| CloudEvent {
            extensions,
            data: data.map(Bytes::from),
            content_type: Some("application/octet-stream".into()),
            ..CloudEvent::new(id, source, event_type, now())
        })
}

fn decode_all(event: &CloudEvent) {
    let _agent = AgentBundleCodec.decode(event);
    let _source = SourceBundleCodec.decode(event);
    for format in [V013::Bundles, V013::Manifests] {
        let _agent = AgentV013Codec(format).decode(event);
        let _source = SourceV013Codec(format).decode(event);
    }
    let _object = ObjectCodec::of(&DataType::LEASES).unwrap().decode(event);
    let _versions = crate::resync::Versions::from_event(event);
    let _hashes = crate::resync::Hashes::from_event(event);
    let _type = event.event_type.parse::<EventType>();
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(event) = CloudEvent::from_json(&bytes) {
            decode_all(&event);
        }
    }

    #[test]
    fn damaged_events_are_read_or_refused(seed in 0_usize..2, at in 0_usize..1400, byte in any::<u8>(), cut in 0_usize..1500) {
        let mut bytes = [E1, E5][seed].as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(cut.max(at));
        if let Ok(event) = CloudEvent::from_json(&bytes) {
            decode_all(&event);
        }
    }

    #[test]
    fn structured_events_are_read_back(event in cloudevent()) {
        prop_assert_eq!(CloudEvent::from_json(&event.to_json()).unwrap(), event);
    }

    #[test]
    fn works_are_read_back(name in "[a-z]{1,8}", generation in 0..i32::MAX, text in ".*") {
        let mut work = AgentBundleCodec.decode(&super::event(E1)).unwrap();
        work.metadata.name = name.clone();
        work.metadata.generation = generation.into();
        let manifest = serde_json::json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": text}});
        let mut spec = (*work.spec).clone();
        spec.manifests.push(Raw::of(&manifest).unwrap());
        work.spec = std::sync::Arc::new(spec);
        let stamp = Stamp { id: "i".into(), time: now(), source: "hub-a", sequence: None };
        let event_type = super::event(E1).event_type.parse().unwrap();
        let sent = SourceBundleCodec.encode(stamp, &event_type, &work).unwrap();
        prop_assert_eq!(AgentBundleCodec.decode(&sent).unwrap(), work);
    }
}
