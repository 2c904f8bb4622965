//! What the tests share: a broker, secrets, messages, and looks at them.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus};
use drover_testkit::rabbitmq::{CAPTURE, PUBLISHER, Reader};
use drover_testkit::{RabbitMq, eventually};
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt};
use lapin::message::BasicGetMessage;
use lapin::types::AMQPValue;
use serde_json::{Value, json};

/// The machine may be busy with other tests.
pub(crate) const LONG: Duration = Duration::from_mins(3);

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_drover"))
}

/// The request's own example, as it is in the examples.
pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fedora/message.yaml")
}

/// `ca`, `cert` and `key` of a user.
pub(crate) fn secret(broker: &RabbitMq, name: &str, user: &str) -> Secret {
    let pair = broker.client(user).unwrap();
    let files = [
        ("ca", broker.authority().ca()),
        ("cert", pair.cert),
        ("key", pair.key),
    ];
    let data = files.map(|(key, path)| (key.to_owned(), ByteString(std::fs::read(path).unwrap())));
    Secret {
        metadata: kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            ..kube::api::ObjectMeta::default()
        },
        data: Some(data.into()),
        ..Secret::default()
    }
}

pub(crate) async fn give_secret(client: &Client, namespace: &str, secret: &Secret) {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), secret).await.unwrap();
}

pub(crate) async fn namespace(client: &Client, name: &str) {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    let api: Api<Namespace> = Api::all(client.clone());
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => panic!("{error}"),
    }
}

/// A message for stg in the name of the secret `fm`, with further fields in its spec.
pub(crate) fn message(name: &str, topic: &str, more: &Value) -> FedoraMessage {
    let mut spec = json!({
        "env": "stg", "message": {"topic": topic, "body": {"name": name}},
        "authentication": {"secret_ref": {"name": "fm"}},
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let object = json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
        "metadata": {"name": name}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

pub(crate) async fn create(
    client: &Client,
    namespace: &str,
    message: &FedoraMessage,
) -> FedoraMessage {
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), namespace);
    let check = async || Ok(api.create(&PostParams::default(), message).await?);
    eventually("a message can be made", LONG, check)
        .await
        .unwrap()
}

/// Waits until the status of a message has this reason.
pub(crate) async fn reason(
    client: &Client,
    namespace: &str,
    name: &str,
    expected: &str,
) -> FedoraMessageStatus {
    let api: Api<FedoraMessage> = Api::namespaced(client.clone(), namespace);
    let check = async || {
        let status = api.get(name).await?.status.unwrap_or_default();
        if status.reason.as_deref() != Some(expected) {
            bail!("{name}: {status:?}");
        }
        Ok(status)
    };
    eventually(expected, LONG, check).await.unwrap()
}

/// Sees every status that a message has for however short a time, without asking for each.
#[derive(Clone)]
pub(crate) struct Witness(Arc<Mutex<Vec<FedoraMessage>>>);

impl Witness {
    /// Looks from now on.
    pub(crate) fn of(client: &Client) -> Self {
        let witness = Self(Arc::default());
        let seen = Arc::clone(&witness.0);
        let api: Api<FedoraMessage> = Api::all(client.clone());
        tokio::spawn(async move {
            let mut changes = pin!(watcher(api, watcher::Config::default()).applied_objects());
            while let Some(change) = changes.next().await {
                // A watch that breaks begins anew.
                if let Ok(found) = change {
                    seen.lock().unwrap().push(found);
                }
            }
        });
        witness
    }

    /// The first status of a message with this reason.
    pub(crate) async fn reason(
        &self,
        namespace: &str,
        name: &str,
        expected: &str,
    ) -> FedoraMessageStatus {
        let check = async || {
            let seen = self.0.lock().unwrap();
            let all = seen.iter().filter(|one| {
                one.namespace().as_deref() == Some(namespace) && one.name_any() == name
            });
            let all: Vec<_> = all.filter_map(|one| one.status.as_ref()).collect();
            let found = all
                .iter()
                .find(|status| status.reason.as_deref() == Some(expected));
            let found = found.with_context(|| format!("{namespace}/{name}: {:?}", all.last()))?;
            Ok(FedoraMessageStatus::clone(found))
        };
        eventually(expected, LONG, check).await.unwrap()
    }
}

/// The next message of the queue that gets all.
pub(crate) async fn take(reader: &Reader) -> BasicGetMessage {
    let check = async || {
        reader
            .take(CAPTURE)
            .await?
            .ok_or_else(|| anyhow!("nothing came"))
    };
    eventually("a message", LONG, check).await.unwrap()
}

pub(crate) fn id_of(message: &BasicGetMessage) -> String {
    message
        .properties
        .message_id()
        .as_ref()
        .unwrap()
        .to_string()
}

pub(crate) fn header(message: &BasicGetMessage, name: &str) -> String {
    let headers = message.properties.headers().clone().unwrap_or_default();
    match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => format!("{other:?}"),
    }
}

/// The secret of the publisher under the name that messages use here.
pub(crate) fn fm(broker: &RabbitMq) -> Secret {
    secret(broker, "fm", PUBLISHER)
}

/// What nobody but the secret's readers may see: lines of the key that say something.
pub(crate) fn traces(secret: &Secret) -> Vec<String> {
    let data = secret.data.clone().unwrap_or_default();
    let text = String::from_utf8(data["key"].0.clone()).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('-') && line.len() > 20);
    // In plain text, and as an API writes it.
    let plain: Vec<String> = lines.map(ToOwned::to_owned).collect();
    let encoded = serde_json::to_value(secret).unwrap()["data"]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    plain.into_iter().chain([encoded]).collect()
}

/// Every object of these kinds as text.
pub(crate) async fn everything(client: &Client, kinds: &[&str]) -> Result<String> {
    let mut text = String::new();
    for path in kinds {
        let mut request = http::Request::new(Vec::new());
        *request.uri_mut() = path.parse()?;
        text += &client.request_text(request).await?;
    }
    Ok(text)
}

pub(crate) fn uid(message: &FedoraMessage) -> String {
    message.uid().unwrap()
}
