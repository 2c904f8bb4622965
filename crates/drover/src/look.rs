//! Reads what a fleet looks like from its hubs: once, or from then on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use drover_api::cluster::v1::ManagedCluster;
use drover_api::work::v1::ManifestWork;
use futures::StreamExt as _;
use futures::future::join_all;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use kube::runtime::watcher::{self, Config, Error, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::cli::Global;
use crate::connect;
use crate::view::{self, Hub};

/// Objects for each list request.
const PAGE: u32 = 500;

/// The hubs to look at, and at which cluster; all when none is named.
pub struct Look {
    hubs: Vec<(String, Result<Client>)>,
    cluster: Option<String>,
}

impl Look {
    /// The hubs that `drover up` wrote, or the one context that was asked for.
    pub async fn new(global: &Global, cluster: Option<String>) -> Result<Self> {
        let kubeconfig = connect::kubeconfig(global)?;
        let mut hubs = Vec::new();
        for context in contexts(&kubeconfig, global.context.as_deref()) {
            let client = connect::client(&kubeconfig, context.as_deref()).await;
            let current = kubeconfig.current_context.as_ref();
            let name = context.as_ref().or(current).cloned().unwrap_or_default();
            hubs.push((name, client));
        }
        Ok(Self { hubs, cluster })
    }

    /// What is there now. A hub that does not answer says why.
    pub async fn once(&self) -> Vec<Hub> {
        let hubs = self.hubs.iter().map(|(name, client)| async move {
            let mut hub = Hub {
                name: name.clone(),
                ..Hub::default()
            };
            let read = match client {
                Ok(client) => self.read(client, &mut hub).await,
                Err(error) => Err(format!("{error:#}")),
            };
            hub.problem = read.err();
            hub
        });
        join_all(hubs).await
    }

    async fn read(&self, client: &Client, hub: &mut Hub) -> Result<(), String> {
        let (clusters, works) = self.apis(client);
        let params = ListParams {
            field_selector: self.fields(),
            ..ListParams::default()
        };
        each(&clusters, params, |found| {
            hub.clusters.extend([view::cluster(&found)]);
        })
        .await?;
        each(&works, ListParams::default(), |found| {
            hub.works.extend([view::work(&found)]);
        })
        .await
    }

    fn apis(&self, client: &Client) -> (Api<ManagedCluster>, Api<ManifestWork>) {
        let works = match &self.cluster {
            Some(cluster) => Api::namespaced(client.clone(), cluster),
            None => Api::all(client.clone()),
        };
        (Api::all(client.clone()), works)
    }

    fn fields(&self) -> Option<String> {
        let name = self.cluster.as_ref()?;
        Some(format!("metadata.name={name}"))
    }

    /// What is there from now on.
    pub fn follow(self) -> Following {
        let empty = |(name, client): &(String, Result<Client>)| Hub {
            name: name.clone(),
            problem: client.as_ref().err().map(|error| format!("{error:#}")),
            ..Hub::default()
        };
        let shared = Arc::new(Shared {
            hubs: Mutex::new(self.hubs.iter().map(empty).collect()),
            changed: Notify::new(),
            silent: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for (at, (_, client)) in self.hubs.iter().enumerate() {
            let Ok(client) = client else { continue };
            shared.silent.fetch_add(2, Ordering::AcqRel);
            let (clusters, works) = self.apis(client);
            let config = Config {
                field_selector: self.fields(),
                ..Config::default()
            };
            let (shared, mut listed) = (shared.clone(), None);
            tasks.spawn(
                shared
                    .clone()
                    .watch(at, clusters, config, move |hub, event| {
                        view::hear(&mut hub.clusters, &mut listed, event, view::cluster);
                    }),
            );
            let mut listed = None;
            tasks.spawn(
                shared.watch(at, works, Config::default(), move |hub, event| {
                    view::hear(&mut hub.works, &mut listed, event, view::work);
                }),
            );
        }
        Following {
            shared,
            _tasks: tasks,
        }
    }
}

/// Hubs that are followed until this is dropped.
pub struct Following {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Following {
    /// Waits until something is to be seen that was not there the last time. Cancel safe.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Whether every hub that can be reached at all was read once, or said why not.
    pub fn is_complete(&self) -> bool {
        self.shared.silent.load(Ordering::Acquire) == 0
    }

    /// What is there now.
    pub fn hubs(&self) -> Vec<Hub> {
        self.shared.hubs().clone()
    }
}

struct Shared {
    hubs: Mutex<Vec<Hub>>,
    changed: Notify,
    /// Watches that have shown nothing yet.
    silent: AtomicUsize,
}

impl Shared {
    fn hubs(&self) -> MutexGuard<'_, Vec<Hub>> {
        // No code panics while it holds the lock, and the rows are valid after every statement.
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch<K>(
        self: Arc<Self>,
        at: usize,
        api: Api<K>,
        config: watcher::Config,
        mut hear: impl FnMut(&mut Hub, Event<K>),
    ) where
        K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let stream = watch(api, config).default_backoff();
        futures::pin_mut!(stream);
        let mut silent = true;
        while let Some(event) = stream.next().await {
            let mut hubs = self.hubs();
            let Some(hub) = hubs.get_mut(at) else { return };
            match event {
                // Nothing is to be seen before the list is complete.
                Ok(event @ (Event::Init | Event::InitApply(_))) => {
                    hear(hub, event);
                    continue;
                }
                Ok(event) => {
                    hub.problem = None;
                    hear(hub, event);
                }
                Err(error) => hub.problem = Some(explain(&error)),
            }
            drop(hubs);
            if std::mem::take(&mut silent) {
                self.silent.fetch_sub(1, Ordering::AcqRel);
            }
            self.changed.notify_one();
        }
    }
}

fn explain(error: &Error) -> String {
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => connect::explain(error),
        Error::WatchError(status) => status.message.clone(),
        Error::NoResourceVersion => error.to_string(),
    }
}

/// The contexts that `drover up` wrote for its hubs; otherwise the one that was asked for.
fn contexts(kubeconfig: &Kubeconfig, context: Option<&str>) -> Vec<Option<String>> {
    if context.is_some() {
        return vec![context.map(ToOwned::to_owned)];
    }
    let number = |name: &str| {
        name.strip_prefix("hub")
            .and_then(|rest| rest.parse::<u32>().ok())
    };
    let named = kubeconfig.contexts.iter().map(|context| &context.name);
    let mut found: Vec<&String> = named.filter(|name| number(name).is_some()).collect();
    found.sort_by_key(|name| number(name));
    if found.is_empty() {
        vec![None]
    } else {
        found.into_iter().cloned().map(Some).collect()
    }
}

/// Lists everything, a page at a time.
async fn each<K>(
    api: &Api<K>,
    mut params: ListParams,
    mut visit: impl FnMut(K),
) -> Result<(), String>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    params.limit = Some(PAGE);
    loop {
        let page = api.list(&params).await;
        let page = page.map_err(|error| connect::explain(&error))?;
        page.items.into_iter().for_each(&mut visit);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
