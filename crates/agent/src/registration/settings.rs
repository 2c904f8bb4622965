//! What the managed cluster says of how its agent shall be: secrets that let it join hubs, and a Klusterlet where there is one.
//!
//! A secret in the agent's namespace counts when the Klusterlet lists it, or, where no Klusterlet lists any, when it has the
//! label [`BOOTSTRAP_LABEL`], whose value is its place in the order. Such secrets count instead of the hubs that the agent was
//! started with: to move a cluster, apply a secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_api::operator::v1::Klusterlet;
use drover_core::registration::klusterlet::{self, Settings};
use drover_runtime::backoff::Backoff;
use drover_runtime::mirror::mirror;
use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::endpoint::Bootstrap;
use super::identity::SecretStore;

/// The label of a secret that lets the agent join a hub; its value is a number, the lowest is the first.
pub const BOOTSTRAP_LABEL: &str = "agent.drover.dev/bootstrap";
/// The Klusterlet that an agent honours (ocm: the default name).
const KLUSTERLET: &str = "klusterlet";

/// Waits between looks for a Klusterlet where there is none.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(2);

/// What the cluster says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// What the Klusterlet wants.
    pub settings: Settings,
    /// The secrets that let the agent join hubs, in order.
    secrets: Vec<(String, BTreeMap<String, ByteString>)>,
}

impl Local {
    /// Reads what there is now.
    pub async fn read(store: &SecretStore) -> Result<Self, kube::Error> {
        let client = store.client();
        let klusterlets: Api<Klusterlet> = Api::all(client.clone());
        let found = shown(klusterlets.get(KLUSTERLET).await)?;
        let settings = match found.map(|found| klusterlet::settings(&found.spec)) {
            Some(Ok(settings)) => settings,
            Some(Err(error)) => {
                tracing::warn!(%error, "the cluster's Klusterlet is not honoured");
                Settings::default()
            }
            None => Settings::default(),
        };
        let api: Api<Secret> = Api::namespaced(client.clone(), store.namespace());
        let all = shown(api.list(&ListParams::default()).await)?;
        let all = all.map(|list| list.items).unwrap_or_default();
        let secrets = if settings.bootstrap_secrets.is_empty() {
            labelled(all)
        } else {
            let find = |name: &String| all.iter().find(|one| one.name_any() == *name).cloned();
            settings.bootstrap_secrets.iter().filter_map(find).collect()
        };
        let named = |secret: Secret| (secret.name_any(), secret.data.unwrap_or_default());
        Ok(Self {
            settings,
            secrets: secrets.into_iter().map(named).collect(),
        })
    }

    /// The hubs to join, in order. What cannot be read is left out, with a line in the log.
    pub fn bootstraps(&self) -> Vec<Bootstrap> {
        let read = |(name, data): &(String, BTreeMap<String, ByteString>)| {
            Bootstrap::from_secret(data)
                .inspect_err(|error| tracing::warn!(%error, secret = name, "a bootstrap secret is of no use"))
                .ok()
        };
        self.secrets.iter().filter_map(read).collect()
    }

    /// Tells whenever the cluster says something else, until `cancel`.
    pub async fn follow(
        store: SecretStore,
        told: watch::Sender<Arc<Self>>,
        cancel: CancellationToken,
    ) {
        let client = store.client();
        let again = Arc::new(Notify::new());
        let (one, other) = (again.clone(), again.clone());
        let (_, secrets) = mirror(
            Api::<Secret>::namespaced(client.clone(), store.namespace()),
            watcher::Config::default(),
            cancel.clone(),
            move |_| one.notify_one(),
        );
        let klusterlets = klusterlets(client, &other, &cancel);
        let read = async {
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = again.notified() => {}
                }
                match Self::read(&store).await {
                    Ok(local) => {
                        told.send_if_modified(|known| {
                            let changed = **known != local;
                            if changed {
                                *known = Arc::new(local);
                            }
                            changed
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "failed to read the agent's settings");
                        tokio::time::sleep(super::SETTINGS_AGAIN).await;
                        again.notify_one();
                    }
                }
            }
        };
        tokio::join!(secrets, klusterlets, read);
    }
}

/// Tells of changes of the Klusterlet. Most clusters do not know such a thing, which is looked at again now and then.
async fn klusterlets(client: &Client, told: &Notify, cancel: &CancellationToken) {
    let only = watcher::Config::default().fields(&format!("metadata.name={KLUSTERLET}"));
    let events = watcher::watcher(Api::<Klusterlet>::all(client.clone()), only);
    futures::pin_mut!(events);
    let mut backoff = Backoff::new(MIN_WAIT, MAX_WAIT);
    loop {
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init | Event::InitApply(_))) => {}
            Some(Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_))) => {
                backoff.reset();
                told.notify_one();
            }
            Some(Err(error)) => {
                tracing::trace!(%error, "there is no Klusterlet");
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(backoff.next_wait()) => {}
                }
            }
            None => return,
        }
    }
}

fn labelled(all: Vec<Secret>) -> Vec<Secret> {
    let mut ordered: Vec<(u32, String, Secret)> = all
        .into_iter()
        .filter_map(|secret| {
            let order = secret.labels().get(BOOTSTRAP_LABEL)?.parse();
            Some((order.unwrap_or(u32::MAX), secret.name_any(), secret))
        })
        .collect();
    ordered.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    ordered.into_iter().map(|(_, _, secret)| secret).collect()
}

/// What a cluster does not know, or does not show its agent, it has not.
fn shown<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => Ok(None),
        Err(error) => Err(error),
    }
}
