//! Sends by pods: makes one for each attempt, reads its end, and removes it when nobody needs it any more.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_api::names::fedora as names;
use drover_core::publish::pod::{self, Missing, Mounted, PodSettings, Route};
use drover_core::publish::{Fault, Verdict};
use drover_protocol::fedora::Outgoing;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::{PublisherError, Target};

/// Pods that may run at once; further messages wait.
const MOST: usize = 64;
/// Between two looks for a free place.
pub(crate) const WAIT: Duration = Duration::from_secs(1);

/// The pods of a publisher.
pub(crate) struct Pods {
    pub client: Client,
    pub settings: PodSettings,
    pub seen: Store<Pod>,
    /// Keys of the messages whose pod was begun and not concluded.
    busy: Mutex<HashSet<String>>,
}

/// What the API said to a new object.
enum Created {
    /// It is there now.
    New,
    /// One of its name was there before.
    There,
    /// It may not be, and why.
    Refused(String),
}

/// What a look at the pod of an attempt found.
pub(crate) enum Found {
    /// It is over.
    Ended(Result<(), Fault>),
    /// It is not.
    Running,
    /// There is none, and there has not been any.
    Unmade,
}

impl Pods {
    pub(crate) fn new(client: Client, settings: PodSettings, seen: Store<Pod>) -> Self {
        Self {
            client,
            settings,
            seen,
            busy: Mutex::default(),
        }
    }

    /// Takes one of the places, unless all are taken.
    pub(crate) fn enter(&self, key: &str) -> bool {
        let mut busy = self.busy();
        busy.contains(key) || (busy.len() < MOST && busy.insert(key.to_owned()))
    }

    /// Takes a place for a pod that was begun before, by another process perhaps.
    pub(crate) fn take_over(&self, key: &str) {
        self.busy().insert(key.to_owned());
    }

    /// Gives the place back.
    pub(crate) fn leave(&self, key: &str) {
        self.busy().remove(key);
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the ConfigMap and the pod of an attempt, in that order. A pod that was made before is taken as it is, and judged when it
    /// is looked at; a ConfigMap must be the same.
    pub(crate) async fn make(
        &self,
        message: &FedoraMessage,
        name: &str,
        outgoing: &Outgoing,
        target: &Target,
        secret: &Mounted<'_>,
    ) -> Result<Result<(), Fault>, PublisherError> {
        let route = Route {
            url: &target.url,
            topic_prefix: &target.topic_prefix,
            exchange: &target.exchange,
        };
        let map = pod::map(message, name, outgoing, &route);
        match self.create(message, &map).await? {
            Created::New => {}
            Created::There => {
                let namespace = message.namespace().unwrap_or_default();
                let found = self.read::<ConfigMap>(&namespace, name).await?;
                if found.is_none_or(|found| found.data != map.data || found.binary_data.is_some()) {
                    return Ok(Err(failed(format!(
                        "ConfigMap {name} is not the message's; delete it"
                    ))));
                }
            }
            Created::Refused(why) => return Ok(Err(failed(why))),
        }
        let pod = pod::pod(message, name, &route, secret, &self.settings);
        Ok(match self.create(message, &pod).await? {
            Created::New | Created::There => Ok(()),
            Created::Refused(why) => Err(failed(why)),
        })
    }

    /// Looks at the pod that the status names.
    pub(crate) async fn look(
        &self,
        message: &FedoraMessage,
        name: &str,
        now: Timestamp,
    ) -> Result<Found, PublisherError> {
        let namespace = message.namespace().unwrap_or_default();
        let seen = self.seen.get(&ObjectRef::new(name).within(&namespace));
        let found = match seen {
            Some(found) => Some((*found).clone()),
            // The cache may be late; the API knows.
            None => self.read::<Pod>(&namespace, name).await?,
        };
        let Some(found) = found else {
            let map = self.read::<ConfigMap>(&namespace, name).await?;
            return Ok(match pod::missing(message, map.as_ref(), now) {
                Missing::Make => Found::Unmade,
                Missing::Gone(fault) => Found::Ended(Err(fault)),
            });
        };
        if !pod::made_for(message, &found.metadata) {
            let text =
                format!("pod {name} is somebody else's; delete it, or name the message anew");
            return Ok(Found::Ended(Err(failed(text))));
        }
        let outcome = pod::outcome(message, &found, self.settings.program, now);
        Ok(outcome.map_or(Found::Running, Found::Ended))
    }

    /// Removes the pods of a message that nobody needs any more, and their ConfigMaps; the answer is when to look again.
    pub(crate) async fn tidy(
        &self,
        message: &FedoraMessage,
        now: Timestamp,
    ) -> Result<Option<Duration>, PublisherError> {
        if message.status.as_ref().is_none_or(|it| it.attempts == 0) {
            return Ok(None);
        }
        let namespace = message.namespace().unwrap_or_default();
        let mut next = None;
        for found in self.seen.state() {
            let mine = found.namespace().as_ref() == Some(&namespace)
                && pod::made_for(message, &found.metadata)
                && found.metadata.deletion_timestamp.is_none();
            let Some(at) = pod::removable_at(message, &found).filter(|_| mine) else {
                continue;
            };
            if at > now {
                let wait = at.duration_since(now).unsigned_abs() + Duration::from_millis(1);
                next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
                continue;
            }
            let name = found.name_any();
            let map = self.read::<ConfigMap>(&namespace, &name).await?;
            if let Some(map) = map.filter(|map| pod::made_for(message, &map.metadata)) {
                self.delete::<ConfigMap>(&namespace, &name, map.uid())
                    .await?;
            }
            self.delete::<Pod>(&namespace, &name, found.uid()).await?;
        }
        Ok(next)
    }

    async fn create<K>(
        &self,
        message: &FedoraMessage,
        object: &K,
    ) -> Result<Created, PublisherError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let namespace = message.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        match api.create(&PostParams::default(), object).await {
            Ok(_) => Ok(Created::New),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Created::There),
            // Quotas, policies, rights, broken webhooks: certainly not made. What passes by itself is tried again.
            Err(kube::Error::Api(status))
                if (400..=500).contains(&status.code) && ![401, 408].contains(&status.code) =>
            {
                let name = object.name_any();
                let text = format!("the API refused {name}: {}", status.message);
                Ok(Created::Refused(text))
            }
            Err(source) => Err(PublisherError::Write {
                kind: "sender",
                name: object.name_any(),
                source: Box::new(source),
            }),
        }
    }

    async fn read<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, PublisherError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        found.map_err(|source| read_error("sender", name, source))
    }

    async fn delete<K>(
        &self,
        namespace: &str,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), PublisherError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(PublisherError::Write {
                kind: "sender",
                name: name.to_owned(),
                source: Box::new(source),
            }),
        }
    }
}

fn failed(text: String) -> Fault {
    Fault::new(names::REASON_POD_FAILED, Verdict::Later, text)
}

fn read_error(kind: &'static str, name: &str, source: kube::Error) -> PublisherError {
    PublisherError::Read {
        kind,
        name: name.to_owned(),
        source: Box::new(source),
    }
}
