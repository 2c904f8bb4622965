//! What the fuzz targets do with their input, and the replay of the kept corpus in `cargo test` as well: each decoder reads
//! or refuses it, and what was read is written and read back the same.

use bytes::Bytes;
use drover_protocol::compat::{AgentV013Codec, SourceV013Codec, V013, status_hash};
use drover_protocol::resync::{Hashes, Versions};
use drover_protocol::topics::{TopicNames, Topics};
use drover_protocol::{
    Action, AgentBundleCodec, CloudEvent, Codec, DataType, EventType, ExtensionValue, ObjectCodec,
    SourceBundleCodec, Stamp, SubResource, names,
};
use drover_transport::grpc::convert::{decode_publish, from_proto, to_proto};
use drover_transport::grpc::proto;
use drover_transport::mqtt::event::{from_message, to_message};
use drover_transport::mqtt::packet::{self, Framed, Packet};
use jiff::Timestamp;
use prost::Message as _;

/// What is done with one input.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("structured", structured),
    ("pairs", pairs),
    ("protobuf", protobuf),
    ("bundle_spec", bundle_spec),
    ("bundle_status", bundle_status),
    ("object", object),
    ("resync", resync),
    ("event_type", event_type),
    ("v013", v013),
    ("topics", topics),
    ("mqtt", mqtt),
];

const CLUSTER: &str = "edge-7";
const SOURCE: &str = "hub-a";

/// An event as structured JSON.
pub fn structured(data: &[u8]) {
    if let Ok(event) = CloudEvent::from_json(data) {
        let again = CloudEvent::from_json(&event.to_json()).expect("what was written can be read");
        assert_eq!(again, event);
    }
}

/// An event as pairs of text. Lines of the input: the content type, then `name=value` until an empty line, then the payload.
pub fn pairs(data: &[u8]) {
    let (head, payload) = halves(data, b"\n\n");
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let mut lines = head.split('\n');
    let content_type = lines.next();
    let pairs = lines.filter_map(|line| line.split_once('='));
    let payload = Bytes::copy_from_slice(payload);
    let Ok(event) = CloudEvent::from_pairs(pairs, content_type, payload) else {
        return;
    };
    let sent = event.to_pairs();
    let sent = sent.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let payload = event.data.clone().unwrap_or_default();
    // A structured payload may say of itself that it is one: it would be unwrapped once more.
    let content_type = event.content_type.as_deref();
    if content_type.is_some_and(|t| t.starts_with("application/cloudevents")) {
        return;
    }
    let again = CloudEvent::from_pairs(sent, content_type, payload).expect("pairs can be read");
    assert_eq!(
        (&again.id, &again.source, &again.event_type, again.time),
        (&event.id, &event.source, &event.event_type, event.time)
    );
    for (name, value) in &event.extensions {
        // Attributes of the envelope win over extensions of the same name.
        if let Some(found) = again.extensions.get(name) {
            assert_eq!(*found, ExtensionValue::String(value.to_text()));
        }
    }
}

/// An event as a message of the gRPC service, and as a request to publish one.
pub fn protobuf(data: &[u8]) {
    let request = Bytes::copy_from_slice(data);
    if let Ok(published) = decode_publish(request) {
        // What is sent on as it came must say the same to everybody.
        let sent_on = proto::CloudEvent::decode(published.message).expect("a message can be read");
        if let Ok(event) = from_proto(sent_on) {
            assert_eq!(event, published.event);
        }
    }
    let Ok(message) = proto::CloudEvent::decode(data) else {
        return;
    };
    let Ok(event) = from_proto(message) else {
        return;
    };
    let sent = to_proto(&event).encode_to_vec();
    let message = proto::CloudEvent::decode(&*sent).expect("a message can be read");
    if let Ok(again) = from_proto(message) {
        assert_eq!(
            (again.id, again.source, again.event_type),
            (event.id, event.source, event.event_type)
        );
    }
}

/// What an MQTT broker sends: packet after packet, and the event of each message.
pub fn mqtt(data: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let mut rest = data;
    while let Ok(Framed::Whole(frame)) = packet::frame(rest, LIMIT) {
        rest = &rest[frame.size..];
        let Ok(Packet::Publish(message)) = Packet::read(frame) else {
            continue;
        };
        let Ok(event) = from_message(&message) else {
            continue;
        };
        // A structured payload may say of itself that it is one: it would be unwrapped once more.
        let content_type = event.content_type.as_deref();
        if content_type.is_some_and(|t| t.starts_with("application/cloudevents")) {
            continue;
        }
        let Ok(sent) = to_message(&event, "topic", 1) else {
            continue;
        };
        let mut written = Vec::new();
        sent.write(&mut written, 7);
        let frame = match packet::frame(&written, usize::MAX) {
            Ok(Framed::Whole(frame)) => Some(frame),
            _ => None,
        };
        let message = match Packet::read(frame.expect("what was written is a whole packet")) {
            Ok(Packet::Publish(message)) => Some(message),
            _ => None,
        };
        let message = message.expect("what was written is a message");
        let again = from_message(&message).expect("what was written can be read");
        assert_eq!(
            (&again.id, &again.source, &again.event_type, again.time),
            (&event.id, &event.source, &event.event_type, event.time)
        );
    }
}

/// A work as an agent gets it. Lines: version, deletion time, `metadata`, `logtracing`, then the payload.
pub fn bundle_spec(data: &[u8]) {
    let Some(event) = bundle(data, SubResource::Spec) else {
        return;
    };
    let Ok(work) = AgentBundleCodec.decode(&event) else {
        return;
    };
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::Update);
    let Ok(sent) = SourceBundleCodec.encode(stamp(SOURCE), &event_type, &work) else {
        return;
    };
    let again = AgentBundleCodec.decode(&sent).expect("a work can be read");
    assert_eq!(again.spec, work.spec);
    assert_eq!(again.metadata.generation, work.metadata.generation);
    assert_eq!(again.metadata.name, work.metadata.name);
}

/// The status of a work as a source gets it. Lines as for [`bundle_spec`].
pub fn bundle_status(data: &[u8]) {
    let Some(event) = bundle(data, SubResource::Status) else {
        return;
    };
    let Ok(mut work) = SourceBundleCodec.decode(&event) else {
        return;
    };
    let label = names::LABEL_ORIGINAL_SOURCE.to_owned();
    work.metadata.labels.insert(label, SOURCE.to_owned());
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Status, Action::Update);
    let Ok(sent) = AgentBundleCodec.encode(stamp("agent"), &event_type, &work) else {
        return;
    };
    let again = SourceBundleCodec
        .decode(&sent)
        .expect("a status can be read");
    assert_eq!(again.status, work.status);
    assert_eq!(again.status.hash(), work.status.hash());
}

/// A whole object. The first byte selects the data type, the rest is the payload.
pub fn object(data: &[u8]) {
    const TYPES: [DataType; 7] = [
        DataType::MANAGED_CLUSTERS,
        DataType::ADDONS_V1ALPHA1,
        DataType::ADDONS_V1BETA1,
        DataType::CSRS,
        DataType::EVENTS,
        DataType::LEASES,
        DataType::TOKEN_REQUESTS,
    ];
    let Some((first, payload)) = data.split_first() else {
        return;
    };
    let data_type = &TYPES[usize::from(*first) % TYPES.len()];
    let codec = ObjectCodec::of(data_type).expect("the data type is known");
    let event_type = data_type.event(SubResource::Spec, Action::Create);
    let mut event = CloudEvent::new("id", SOURCE, &event_type, Timestamp::UNIX_EPOCH)
        .with(names::EXT_CLUSTER_NAME, CLUSTER)
        .with(names::EXT_RESOURCE_ID, "uid");
    if first & 0x80 != 0 {
        event.set(names::EXT_DELETION_TIMESTAMP, Timestamp::UNIX_EPOCH);
    }
    let event = event.with_json(payload.to_vec());
    let Ok(object) = codec.decode(&event) else {
        return;
    };
    let Ok(sent) = codec.encode(stamp("agent"), &event_type, &object) else {
        return;
    };
    let again = codec.decode(&sent).expect("an object can be read");
    assert_eq!(again.metadata.uid, object.metadata.uid);
}

/// Both lists of a resync.
pub fn resync(data: &[u8]) {
    let event = |data: Vec<u8>| {
        CloudEvent::new("id", SOURCE, "type", Timestamp::UNIX_EPOCH).with_json(data)
    };
    let first = event(data.to_vec());
    if let Ok(versions) = Versions::from_event(&first) {
        let sent = event(versions.to_json().expect("numbers and text can be written"));
        assert_eq!(Versions::from_event(&sent).ok(), Some(versions));
    }
    if let Ok(hashes) = Hashes::from_event(&first) {
        let sent = event(hashes.to_json().expect("text can be written"));
        assert_eq!(Hashes::from_event(&sent).ok(), Some(hashes));
    }
}

/// The type of an event, and a data type alone.
pub fn event_type(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(event_type) = text.parse::<EventType>() {
        assert_eq!(event_type.to_string(), text);
        assert_eq!(text.parse::<EventType>(), Ok(event_type));
    }
    if let Ok(data_type) = text.parse::<DataType>() {
        assert_eq!(data_type.to_string(), text);
    }
}

/// Works and statuses as peers of v0.13 send them. The first byte selects the data type, then lines as for [`bundle_spec`].
pub fn v013(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let kind = [V013::Bundles, V013::Manifests][usize::from(first & 1)];
    if let Some(event) = bundle(rest, SubResource::Spec)
        && let Ok(work) = AgentV013Codec(kind).decode(&event)
    {
        let codec = SourceV013Codec(kind);
        let event_type = codec.data_type().event(SubResource::Spec, Action::Update);
        if let Ok(sent) = codec.encode(stamp(SOURCE), &event_type, &work) {
            let again = AgentV013Codec(kind).decode(&sent);
            assert_eq!(again.expect("a work can be read").spec, work.spec);
        }
    }
    if let Some(event) = bundle(rest, SubResource::Status)
        && let Ok(work) = SourceV013Codec(kind).decode(&event)
    {
        status_hash(&work.status);
    }
}

/// Topics as a configuration names them, one in a line, and an event to send.
pub fn topics(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let names = TopicNames {
        source_events: line(),
        agent_events: line(),
        source_broadcast: line(),
        agent_broadcast: line(),
    };
    let (source, cluster) = (line(), line());
    let Ok(topics) = Topics::new(&names) else {
        return;
    };
    let kind = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, Action::Update);
    let event = CloudEvent::new("id", source.as_str(), kind, Timestamp::UNIX_EPOCH)
        .with(names::EXT_CLUSTER_NAME, cluster.as_str())
        .with(names::EXT_ORIGINAL_SOURCE, source.as_str());
    for topic in [
        topics.agent_topic(Some(&cluster), &event),
        topics.source_topic(&source, &event),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!topic.contains(['+', '#']), "{topic} can be sent to");
    }
    for filter in [
        topics.agent_filters(&cluster),
        topics.source_filters(&source),
    ]
    .into_iter()
    .flatten()
    .flatten()
    {
        assert!(!filter.is_empty());
    }
}

fn bundle(data: &[u8], half: SubResource) -> Option<CloudEvent> {
    let (version, rest) = halves(data, b"\n");
    let (deletion, rest) = halves(rest, b"\n");
    let (metadata, rest) = halves(rest, b"\n");
    let (logs, payload) = halves(rest, b"\n");
    let event_type = DataType::MANIFEST_BUNDLES.event(half, Action::Update);
    let mut event = CloudEvent::new("id", SOURCE, &event_type, Timestamp::UNIX_EPOCH)
        .with(names::EXT_CLUSTER_NAME, CLUSTER)
        .with(names::EXT_ORIGINAL_SOURCE, SOURCE)
        .with(
            names::EXT_RESOURCE_ID,
            "44ab9d86-d31e-5fb6-8c8a-848cd98801ea",
        )
        .with(names::EXT_SEQUENCE_ID, "2060647406105530368");
    for (name, value) in [
        (names::EXT_RESOURCE_VERSION, version),
        (names::EXT_DELETION_TIMESTAMP, deletion),
        (names::EXT_METADATA, metadata),
        (names::EXT_LOG_TRACING, logs),
    ] {
        if !value.is_empty() {
            event.set(name, std::str::from_utf8(value).ok()?);
        }
    }
    Some(event.with_json(payload.to_vec()))
}

/// What is before and after the first `mark`; without one, nothing is after.
fn halves<'a>(data: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    let at = data.windows(mark.len()).position(|window| window == mark);
    at.map_or((data, &[]), |at| (&data[..at], &data[at + mark.len()..]))
}

fn stamp(source: &str) -> Stamp<'_> {
    Stamp {
        id: "id".to_owned(),
        time: Timestamp::UNIX_EPOCH,
        source,
        sequence: Some("2060647406105530368".to_owned()),
    }
}
