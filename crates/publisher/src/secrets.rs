//! Finds the identity that a message names, if its owner lets the message have it. What is in a secret leaves this module only
//! inside an [`Identity`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drover_api::fedora::v1alpha1::SecretRef;
use drover_api::names::fedora as names;
use drover_core::publish::{Fault, Verdict};
use drover_transport::amqp::Identity;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex as AsyncMutex;

/// The names of authority, certificate and key, in the order in which they are looked for; the first complete set is used.
const SETS: [[&str; 3]; 3] = [
    ["ca", "cert", "key"],
    ["ca.crt", "tls.crt", "tls.key"],
    ["cacert.pem", "cert.pem", "key.pem"],
];

/// An identity, and what tells it from others.
#[derive(Clone)]
pub(crate) struct Found {
    pub identity: Arc<Identity>,
    /// Hash of all that it is made of.
    pub fingerprint: [u8; 32],
    /// What authority, certificate and key are called in the secret.
    pub keys: [&'static str; 3],
}

/// The secrets of messages. One read serves all attempts that asked for it before it began: what a secret's owner takes back is not
/// used by an attempt that begins later.
pub(crate) struct Secrets {
    client: Client,
    reads: Mutex<HashMap<(String, String), Arc<Reads>>>,
}

/// The reads of one secret.
#[derive(Default)]
struct Reads {
    begun: AtomicU64,
    /// The last one, and which it was.
    last: AsyncMutex<Option<(u64, Answer)>>,
}

type Answer = Result<Arc<Content>, Failure>;

/// A secret as it was read.
struct Content {
    notes: BTreeMap<String, String>,
    identity: Result<Found, Fault>,
}

#[derive(Clone)]
enum Failure {
    Missing,
    Forbidden,
    Other(Arc<kube::Error>),
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            reads: Mutex::default(),
        }
    }

    /// Finds the identity for a message of a namespace. Every fault is one of the message's status; none tells more than its author
    /// may know.
    pub(crate) async fn find(
        &self,
        wanted: &SecretRef,
        namespace: &str,
        topic: &str,
        cross_namespace: bool,
        now: Timestamp,
    ) -> Result<Found, Fault> {
        let owner = wanted.namespace.as_deref().unwrap_or(namespace);
        let foreign = owner != namespace;
        if foreign && !cross_namespace {
            return Err(not_permitted(wanted, owner));
        }
        let content = match self.content(owner, &wanted.name, now).await {
            Ok(content) => content,
            Err(Failure::Missing) if !foreign => {
                let text = format!(
                    "There is no secret {:?} in namespace {owner:?}; it must hold ca, cert and key",
                    wanted.name
                );
                return Err(fault(names::REASON_SECRET_NOT_FOUND, text));
            }
            Err(Failure::Forbidden) if !foreign => return Err(not_readable(wanted, owner)),
            Err(Failure::Missing | Failure::Forbidden) => return Err(not_permitted(wanted, owner)),
            Err(Failure::Other(error)) => {
                let text = format!("Failed to read secret {:?}: {error}", wanted.name);
                return Err(Fault::new(
                    names::REASON_SECRET_NOT_FOUND,
                    Verdict::Later,
                    text,
                ));
            }
        };
        let notes = &content.notes;
        if foreign
            && !allows(notes, names::ALLOWED_NAMESPACES_ANNOTATION, |entry| {
                entry == "*" || entry == namespace
            })
        {
            return Err(not_permitted(wanted, owner));
        }
        if notes.contains_key(names::ALLOWED_TOPICS_ANNOTATION)
            && !allows(notes, names::ALLOWED_TOPICS_ANNOTATION, |entry| {
                covers(entry, topic)
            })
        {
            let text = format!(
                "The secret's annotation {} does not allow the topic {topic:?}",
                names::ALLOWED_TOPICS_ANNOTATION
            );
            return Err(fault(names::REASON_SECRET_NOT_PERMITTED, text));
        }
        content.identity.clone()
    }

    async fn content(&self, namespace: &str, name: &str, now: Timestamp) -> Answer {
        let key = (namespace.to_owned(), name.to_owned());
        let reads = {
            let mut known = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(key.clone()).or_default())
        };
        let answer = reads.after_now(|| self.read(namespace, name, now)).await;
        drop(reads);
        let mut known = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(&key)
            .is_some_and(|reads| Arc::strong_count(reads) == 1)
        {
            known.remove(&key);
        }
        answer
    }

    async fn read(&self, namespace: &str, name: &str, now: Timestamp) -> Answer {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(Some(secret)) => Ok(Arc::new(Content {
                notes: secret.metadata.annotations.unwrap_or_default(),
                identity: read(&secret.data.unwrap_or_default(), now),
            })),
            Ok(None) => Err(Failure::Missing),
            Err(kube::Error::Api(status)) if status.code == 403 => Err(Failure::Forbidden),
            Err(error) => Err(Failure::Other(Arc::new(error))),
        }
    }
}

impl Reads {
    /// The answer of a read that begins after this call.
    async fn after_now<F: Future<Output = Answer>>(&self, read: impl FnOnce() -> F) -> Answer {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, answer)) = last.as_ref().filter(|(number, _)| *number > asked) {
            tracing::trace!(
                number,
                "another attempt's read of the secret serves this one"
            );
            return answer.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = read().await;
        *last = Some((number, answer.clone()));
        answer
    }
}

fn fault(reason: &'static str, text: String) -> Fault {
    Fault::new(reason, Verdict::AfterChange, text)
}

/// One text for "no such secret" and for "not for you": who may not read it shall not find out whether it is there.
fn not_permitted(wanted: &SecretRef, owner: &str) -> Fault {
    let text = format!(
        "Messages of this namespace may not use secret {:?} of namespace {owner:?}; its owner can allow it with the annotation {}",
        wanted.name,
        names::ALLOWED_NAMESPACES_ANNOTATION
    );
    fault(names::REASON_SECRET_NOT_PERMITTED, text)
}

/// The API does not let the publisher read secrets in the message's own namespace.
fn not_readable(wanted: &SecretRef, owner: &str) -> Fault {
    let text = format!(
        "The publisher may not read secret {:?}: it has no right to secrets of namespace {owner:?}; its operator gives it by listing the namespace with --message-namespace",
        wanted.name
    );
    fault(names::REASON_SECRET_NOT_PERMITTED, text)
}

fn allows(notes: &BTreeMap<String, String>, name: &str, matches: impl Fn(&str) -> bool) -> bool {
    notes
        .get(name)
        .is_some_and(|list| list.split(',').map(str::trim).any(matches))
}

/// Whether an entry of the list of topics covers a topic: itself, or with `.` or `*` at its end everything that begins so.
fn covers(entry: &str, topic: &str) -> bool {
    let start = entry
        .strip_suffix('*')
        .or_else(|| entry.ends_with('.').then_some(entry));
    match start {
        Some(start) => topic.starts_with(start),
        None => topic == entry,
    }
}

fn read(data: &BTreeMap<String, ByteString>, now: Timestamp) -> Result<Found, Fault> {
    let get = |name: &str| data.get(name).map(|bytes| bytes.0.as_slice());
    let complete = SETS
        .iter()
        .find_map(|names @ [ca, cert, key]| Some((*names, [get(ca)?, get(cert)?, get(key)?])));
    let Some((keys, [ca, cert, key])) = complete else {
        let missing: Vec<_> = SETS[0].iter().filter(|name| get(name).is_none()).collect();
        let text = format!(
            "The secret lacks {missing:?}; it must hold ca, cert and key (or ca.crt, tls.crt and tls.key)"
        );
        return Err(fault(names::REASON_SECRET_KEY_MISSING, text));
    };
    let invalid = |error: &dyn std::fmt::Display| {
        fault(
            names::REASON_SECRET_INVALID,
            format!("The secret cannot be used: {error}"),
        )
    };
    let identity = Identity::from_pem(ca, cert, key).map_err(|error| invalid(&error))?;
    identity.check(now).map_err(|error| invalid(&error))?;
    let mut hash = Sha256::new();
    for part in [ca, cert, key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Ok(Found {
        identity: Arc::new(identity),
        fingerprint: hash.finalize().into(),
        keys,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_topics_covers_what_is_below() {
        for (entry, topic, expected) in [
            ("app.created", "app.created", true),
            ("app.created", "app.created.x", false),
            ("app.", "app.created", true),
            ("app.*", "app.created", true),
            ("app.", "application", false),
            ("*", "anything", true),
            ("", "anything", false),
        ] {
            assert_eq!(covers(entry, topic), expected, "{entry} {topic}");
        }
    }

    #[tokio::test]
    async fn one_read_serves_all_who_asked_before_it_began() {
        let reads = Reads::default();
        let count = AtomicU64::new(0);
        let one = || {
            reads.after_now(|| async {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Err(Failure::Missing)
            })
        };
        // The first read had begun when the others asked: they share a second one.
        futures::future::join_all((0..100).map(|_| one())).await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // Who asks later gets what is there later.
        assert!(one().await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn who_can_help_is_named() {
        let wanted = SecretRef {
            name: "fm".to_owned(),
            namespace: None,
        };
        let own = not_readable(&wanted, "team");
        assert_eq!(own.reason, "SecretNotPermitted");
        assert!(own.text.contains("--message-namespace"), "{}", own.text);
        assert!(!own.text.contains("annotation"), "{}", own.text);
        let foreign = not_permitted(&wanted, "other");
        assert!(
            foreign.text.contains("allowed-namespaces"),
            "{}",
            foreign.text
        );
    }

    #[test]
    fn a_secret_names_what_it_lacks() {
        let data = [("cert", "x"), ("tls.crt", "y")]
            .map(|(name, text)| (name.to_owned(), ByteString(text.into())))
            .into();
        let fault = read(&data, Timestamp::UNIX_EPOCH)
            .err()
            .expect("it is incomplete");
        assert_eq!(fault.reason, "SecretKeyMissing");
        assert!(
            fault.text.contains(r#"lacks ["ca", "key"]"#),
            "{}",
            fault.text
        );
        let junk = ["ca", "cert", "key"]
            .map(|name| (name.to_owned(), ByteString("SECRET-TEXT".into())))
            .into();
        let fault = read(&junk, Timestamp::UNIX_EPOCH)
            .err()
            .expect("it is junk");
        assert_eq!(fault.reason, "SecretInvalid");
        assert!(!fault.text.contains("SECRET-TEXT"), "{}", fault.text);
    }
}
