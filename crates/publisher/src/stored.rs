//! Messages as the API has them, of which one may be unreadable: an API server takes deeper JSON than readers here do, and a list
//! that fails because of one message is no list for all the others.

use std::borrow::Cow;

use drover_api::fedora::v1alpha1::{Environment, FedoraMessage, FedoraMessageSpec};
use drover_api::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A message of the API.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// All of it, or what can be read.
    pub message: FedoraMessage,
    /// Why the rest cannot be read.
    pub unreadable: Option<String>,
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is passed over may be as deep as it likes.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let (message, unreadable) = match serde_json::from_str(raw.get()) {
            Ok(message) => (message, None),
            Err(error) => {
                let rest = serde_json::from_str(raw.get()).map(Rest::into_message);
                let rest = rest.map_err(serde::de::Error::custom)?;
                (rest, Some(error.to_string()))
            }
        };
        Ok(Self {
            message,
            unreadable,
        })
    }
}

/// What a message is known by, and what is needed to end it; everything else is passed over.
#[derive(Deserialize)]
struct Rest {
    metadata: Meta,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    env: Environment,
    #[serde(alias = "ttlSecondsAfterFinished")]
    ttl_seconds_after_finished: Option<u32>,
}

impl Rest {
    fn into_message(self) -> FedoraMessage {
        let Meta {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            creation_timestamp,
            deletion_timestamp,
        } = self.metadata;
        let spec: Option<Spec> = self.spec.and_then(|raw| read(&raw));
        let Spec {
            env,
            ttl_seconds_after_finished,
        } = spec.unwrap_or_default();
        FedoraMessage {
            metadata: ObjectMeta {
                name,
                namespace,
                uid,
                resource_version,
                generation,
                creation_timestamp,
                deletion_timestamp,
                ..ObjectMeta::default()
            },
            spec: FedoraMessageSpec {
                env,
                ttl_seconds_after_finished,
                ..FedoraMessageSpec::default()
            },
            status: self.status.and_then(|raw| read(&raw)),
        }
    }
}

/// A part, unless it is what makes the message unreadable.
fn read<T: for<'de> Deserialize<'de>>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

impl Resource for Stored {
    type DynamicType = ();
    type Scope = <FedoraMessage as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        FedoraMessage::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        FedoraMessage::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        FedoraMessage::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        FedoraMessage::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.message.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.message.metadata
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    /// A message with a body of so many levels, as an API server writes it.
    fn text(name: &str, levels: usize) -> String {
        let body = format!("{}{}", r#"{"x":"#.repeat(levels), "}".repeat(levels));
        let body = body.replacen(":}", ":{}}", 1);
        format!(
            r#"{{"apiVersion":"apps.fedoraproject.org/v1alpha1","kind":"FedoraMessage","metadata":{{"name":"{name}","namespace":"team","uid":"u","resourceVersion":"7","generation":2,"managedFields":[{{"manager":"m","fieldsV1":{body}}}]}},"spec":{{"env":"prod","message":{{"topic":"a","body":{body}}},"authentication":{{}},"ttl_seconds_after_finished":9}},"status":{{"reason":"Suspended","observedGeneration":1}}}}"#
        )
    }

    #[test]
    fn one_message_that_is_too_deep_spoils_no_list() {
        let items = [text("a", 2), text("deep", 9_000), text("c", 3)].join(",");
        let list = format!(
            r#"{{"kind":"FedoraMessageList","apiVersion":"apps.fedoraproject.org/v1alpha1","metadata":{{"resourceVersion":"9"}},"items":[{items}]}}"#
        );
        let list: ObjectList<Stored> = serde_json::from_str(&list).expect("it is a list");
        let found: Vec<_> = list.items.iter().collect();
        assert_eq!(found.len(), 3);
        for (stored, name) in [(found[0], "a"), (found[2], "c")] {
            assert_eq!(stored.unreadable, None);
            assert_eq!(stored.meta().name.as_deref(), Some(name));
            assert_eq!(stored.message.spec.message.topic, "a");
        }
        let why = found[1].unreadable.clone().unwrap_or_default();
        assert!(why.contains("recursion limit"), "{why}");
    }

    #[test]
    fn what_is_needed_to_end_a_message_is_read_however_deep_it_is() {
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            let event = format!(r#"{{"type":"{kind}","object":{}}}"#, text("deep", 9_000));
            let event: WatchEvent<Stored> = serde_json::from_str(&event).expect("it is an event");
            let (WatchEvent::Added(stored)
            | WatchEvent::Modified(stored)
            | WatchEvent::Deleted(stored)) = event
            else {
                panic!("{kind}: {event:?}");
            };
            assert!(stored.unreadable.is_some(), "{kind}");
            let FedoraMessage {
                metadata,
                spec,
                status,
            } = stored.message;
            assert_eq!(metadata.namespace.as_deref(), Some("team"));
            assert_eq!(metadata.resource_version.as_deref(), Some("7"));
            assert_eq!(metadata.generation, Some(2));
            assert_eq!(spec.env, Environment::Prod);
            assert_eq!(spec.ttl_seconds_after_finished, Some(9));
            let status = status.unwrap_or_default();
            assert_eq!(status.reason.as_deref(), Some("Suspended"));
        }
    }

    #[test]
    fn a_part_of_the_wrong_kind_makes_one_message_unreadable() {
        let text = text("odd", 2).replace(r#""reason":"Suspended""#, r#""attempts":"many""#);
        let stored: Stored = serde_json::from_str(&text).expect("the rest can be read");
        assert!(stored.unreadable.is_some());
        assert_eq!(stored.message.status, None);
    }
}
