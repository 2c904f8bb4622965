//! Bytes that the Go implementation was observed to write, and what it reads.

use drover_protocol::{CloudEvent, DataType, ExtensionValue};
use prost::Message as _;

use super::{from_proto, to_proto};
use crate::grpc::proto::{self, PublishRequest, SubscriptionRequest};

fn hex(message: &impl prost::Message) -> String {
    let bytes = message.encode_to_vec();
    let texts: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    texts.concat()
}

#[test]
fn messages_have_the_bytes_of_peers() {
    let request = SubscriptionRequest {
        cluster_name: "edge-7".into(),
        data_type: DataType::MANIFEST_BUNDLES.to_string(),
        ..SubscriptionRequest::default()
    };
    assert!(hex(&request).starts_with("1206656467652d371a39"));
    let mut event =
        CloudEvent::new("a", "s", "t", jiff::Timestamp::UNIX_EPOCH).with("resourceversion", 7);
    event.time = None;
    event.data = Some("{}".into());
    let request = PublishRequest {
        event: Some(to_proto(&event)),
    };
    assert_eq!(
        hex(&request),
        "0a2c0a01611201731a03312e302201742a180a1263652d7265736f7572636576657273696f6e1202100732027b7d"
    );
}

#[test]
fn events_survive_both_ways() {
    let e1 = include_bytes!("../../../../protocol/src/vectors/e1.json");
    let e1 = CloudEvent::from_json(e1).unwrap();
    let message = to_proto(&e1);
    assert_eq!(
        from_proto(proto::CloudEvent::decode(&*message.encode_to_vec()).unwrap()).unwrap(),
        e1
    );
    let early = CloudEvent::new("a", "s", "t", "1969-12-31T23:59:59.5Z".parse().unwrap());
    assert_eq!(from_proto(to_proto(&early)).unwrap(), early);
}

#[test]
fn keys_without_prefix_are_no_extensions() {
    let mut message = to_proto(
        &CloudEvent::new("a", "s", "t", jiff::Timestamp::UNIX_EPOCH).with("clustername", "c"),
    );
    let value = message.attributes.remove("ce-clustername").unwrap();
    message.attributes.insert("clustername".into(), value);
    assert!(from_proto(message.clone()).unwrap().extensions.is_empty());
    message.attributes.clear();
    assert_eq!(
        from_proto(message).unwrap_err().to_string(),
        "unknown Message encoding"
    );
}

#[test]
fn typed_attributes_keep_their_types() {
    let mut message =
        to_proto(&CloudEvent::new("a", "s", "t", jiff::Timestamp::UNIX_EPOCH).with("x", 7));
    assert_eq!(
        from_proto(message.clone()).unwrap().extension("x"),
        Some(&ExtensionValue::Integer(7))
    );
    message.attributes.insert(
        "ce-y".into(),
        proto::CloudEventAttributeValue { attr: None },
    );
    assert_eq!(
        from_proto(message).unwrap_err().to_string(),
        "failed to read the attribute y: unsupported attribute type"
    );
}
