//! Sends by pods: makes one for each attempt, reads its end, and removes it when nobody needs it any more.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_api::names::fedora as names;
use drover_core::publish::pod::{self, Missing, Mounted, PodSettings, Route};
use drover_core::publish::{Fault, Verdict};
use drover_protocol::fedora::Outgoing;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
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
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.contains(key) || (busy.len() < MOST && busy.insert(key.to_owned()))
    }

    /// Gives the place back.
    pub(crate) fn leave(&self, key: &str) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(key);
    }

    /// Makes the ConfigMap and the pod of an attempt. A pod that was made before is taken as it is, and judged when it is looked at; a
    /// ConfigMap must be the same.
    pub(crate) async fn make(
        &self,
        message: &FedoraMessage,
        outgoing: &Outgoing,
        number: u32,
        target: &Target,
        secret: &Mounted<'_>,
    ) -> Result<Result<(), Fault>, PublisherError> {
        let route = Route {
            url: &target.url,
            topic_prefix: &target.topic_prefix,
            exchange: &target.exchange,
        };
        let map = pod::map(message, outgoing, &route);
        if !self.create(message, &map).await? {
            let (namespace, name) = (message.namespace().unwrap_or_default(), map.name_any());
            let found = self.read::<ConfigMap>(&namespace, &name).await?;
            if found.is_none_or(|found| found.data != map.data || found.binary_data.is_some()) {
                let text = format!("ConfigMap {name} is not the message's; delete it");
                return Ok(Err(Fault::new(
                    names::REASON_POD_FAILED,
                    Verdict::Later,
                    text,
                )));
            }
        }
        let pod = pod::pod(message, number, &route, secret, &self.settings);
        self.create(message, &pod).await?;
        Ok(Ok(()))
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
            return Ok(match pod::missing(message, now) {
                Missing::Make => Found::Unmade,
                Missing::Gone(fault) => Found::Ended(Err(fault)),
            });
        };
        if !pod::made_for(message, &found.metadata) {
            let text =
                format!("pod {name} is somebody else's; delete it, or name the message anew");
            let fault = Fault::new(names::REASON_POD_FAILED, Verdict::Later, text);
            return Ok(Found::Ended(Err(fault)));
        }
        let outcome = pod::outcome(message, &found, self.settings.program, now);
        Ok(outcome.map_or(Found::Running, Found::Ended))
    }

    /// Removes the pods of a message that nobody needs any more; the answer is when to look again.
    pub(crate) async fn tidy(
        &self,
        message: &FedoraMessage,
        now: Timestamp,
    ) -> Result<Option<Duration>, PublisherError> {
        let uid = message.uid().unwrap_or_default();
        let namespace = message.namespace().unwrap_or_default();
        let Some(status) = message.status.as_ref().filter(|status| status.attempts > 0) else {
            return Ok(None);
        };
        let mut next = None;
        for number in 1..=status.attempts {
            let name = pod::pod_name(message, number);
            let Some(found) = self.seen.get(&ObjectRef::new(&name).within(&namespace)) else {
                continue;
            };
            let mine = pod::made_for(message, &found.metadata);
            let Some(at) = pod::removable_at(message, &found.metadata).filter(|_| mine) else {
                continue;
            };
            if at > now {
                let wait = at.duration_since(now).unsigned_abs() + Duration::from_millis(1);
                next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
                continue;
            }
            self.delete::<Pod>(&namespace, &name, found.uid()).await?;
            if next.is_none() && status.completion_time.is_some() {
                let maps = self.maps(&namespace, &uid).await?;
                for map in maps {
                    self.delete::<ConfigMap>(&namespace, &map.name_any(), map.uid())
                        .await?;
                }
            }
        }
        Ok(next)
    }

    async fn maps(&self, namespace: &str, uid: &str) -> Result<Vec<ConfigMap>, PublisherError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let selector = format!("{}={uid}", names::MESSAGE_UID_LABEL);
        let list = api.list(&ListParams::default().labels(&selector)).await;
        Ok(list
            .map_err(|source| read_error("configmaps", uid, source))?
            .items)
    }

    /// Whether it was made now; otherwise one of its name is there.
    async fn create<K>(&self, message: &FedoraMessage, object: &K) -> Result<bool, PublisherError>
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
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
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

fn read_error(kind: &'static str, name: &str, source: kube::Error) -> PublisherError {
    PublisherError::Read {
        kind,
        name: name.to_owned(),
        source: Box::new(source),
    }
}
