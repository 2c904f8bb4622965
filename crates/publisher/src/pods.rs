//! Sends by pods: makes one for each attempt, reads its end, and removes it when nobody needs it any more.

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

use crate::places::{Bounds, Places};
use crate::{PublisherError, Target};

/// Before the second and each further try to make something that the API does not take now.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(900),
];

/// Pods that may run at once, and those of one namespace.
pub(crate) const BOUNDS: Bounds = Bounds {
    most: 64,
    share: 32,
};

/// The pods of a publisher.
pub(crate) struct Pods {
    pub client: Client,
    pub settings: PodSettings,
    pub seen: Store<Pod>,
    /// Of the messages whose pod was begun and not concluded.
    pub places: Places,
}

/// What the API said to a new object.
enum Created {
    /// It is there now.
    New,
    /// One of its name was there before.
    There,
    /// It may not be, and why.
    Refused(String),
    /// Not now, and whether it is certain that it was not made.
    Late(bool, PublisherError),
}

/// What a look at the pod of an attempt found.
pub(crate) enum Found {
    /// It is over.
    Ended(Result<(), Fault>),
    /// There is none of this message any more; its ConfigMap may go when that is written.
    Gone(Fault),
    /// It is not over.
    Running,
    /// There is none, and there has not been any.
    Unmade,
}

impl Pods {
    pub(crate) fn new(
        client: Client,
        settings: PodSettings,
        seen: Store<Pod>,
        places: Places,
    ) -> Self {
        Self {
            client,
            settings,
            seen,
            places,
        }
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
        let new = match self.create(message, &map).await {
            Created::New => true,
            Created::There => {
                let namespace = message.namespace().unwrap_or_default();
                let found = self.read::<ConfigMap>(&namespace, name).await?;
                if found.is_none_or(|found| found.data != map.data || found.binary_data.is_some()) {
                    return Ok(Err(failed(format!(
                        "ConfigMap {name} is not the message's; delete it"
                    ))));
                }
                false
            }
            Created::Refused(why) => return Ok(Err(failed(why))),
            Created::Late(_, error) => {
                // It may be there, and no pod was asked for.
                self.take_back(message, name).await;
                return Err(error);
            }
        };
        let pod = pod::pod(message, name, &route, secret, &self.settings);
        match self.create(message, &pod).await {
            Created::New | Created::There => Ok(Ok(())),
            Created::Refused(why) => {
                self.take_back(message, name).await;
                Ok(Err(failed(why)))
            }
            Created::Late(certain, error) => {
                // Without its ConfigMap the next round knows that there was no pod.
                if certain && new {
                    self.take_back(message, name).await;
                }
                Err(error)
            }
        }
    }

    /// Removes a ConfigMap whose pod was not made. One that stays makes the next round believe in a pod that went: the attempt is
    /// uncertain then, which is no lie.
    async fn take_back(&self, message: &FedoraMessage, name: &str) {
        if let Err(error) = self.forget(message, name).await {
            tracing::debug!(%error, "a ConfigMap stays until its message goes");
        }
    }

    /// Removes the message's ConfigMap of this name.
    pub(crate) async fn forget(
        &self,
        message: &FedoraMessage,
        name: &str,
    ) -> Result<(), PublisherError> {
        let namespace = message.namespace().unwrap_or_default();
        let map = self.read::<ConfigMap>(&namespace, name).await?;
        match map.filter(|map| pod::made_for(message, &map.metadata)) {
            Some(map) => self.delete::<ConfigMap>(&namespace, name, map.uid()).await,
            None => Ok(()),
        }
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
                Missing::Gone(fault) => Found::Gone(fault),
            });
        };
        if !pod::made_for(message, &found.metadata) {
            let text =
                format!("pod {name} is somebody else's; delete it, or name the message anew");
            return Ok(Found::Gone(failed(text)));
        }
        match pod::outcome(message, &found, self.settings.program, now) {
            None => Ok(Found::Running),
            // A node may take it at any moment: it sends nothing only when it is gone.
            Some(Err(fault)) if pod::untaken(&found) => {
                let withdrawn = self.withdraw(&namespace, name, &found).await?;
                Ok(if withdrawn {
                    Found::Gone(fault)
                } else {
                    Found::Running
                })
            }
            Some(outcome) => Ok(Found::Ended(outcome)),
        }
    }

    /// Removes a pod if it still is as it was judged. One that changed is judged anew.
    async fn withdraw(
        &self,
        namespace: &str,
        name: &str,
        found: &Pod,
    ) -> Result<bool, PublisherError> {
        let as_judged = Preconditions {
            uid: found.uid(),
            resource_version: found.resource_version(),
        };
        self.remove::<Pod>(namespace, name, as_judged).await
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
            self.forget(message, &name).await?;
            self.delete::<Pod>(&namespace, &name, found.uid()).await?;
        }
        Ok(next)
    }

    /// Makes an object. What passes by itself is tried again a few times.
    async fn create<K>(&self, message: &FedoraMessage, object: &K) -> Created
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let namespace = message.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        let name = object.name_any();
        let mut certain = true;
        let mut pauses = PAUSES.iter();
        loop {
            let Err(source) = api.create(&PostParams::default(), object).await else {
                return Created::New;
            };
            let answer = Answer::of(&source);
            let last = match (answer, pauses.next()) {
                (Answer::There, _) => return Created::There,
                (Answer::Never, _) | (Answer::Broken, None) => true,
                (_, Some(pause)) => {
                    certain &= answer != Answer::Unclear;
                    tokio::time::sleep(*pause).await;
                    continue;
                }
                (_, None) => false,
            };
            certain &= answer != Answer::Unclear;
            // After an answer that says nothing it may be there all the same: admission refuses before anybody looks.
            return if last && certain {
                Created::Refused(refusal(&name, &source))
            } else {
                let error = PublisherError::Write {
                    kind: "sender",
                    name,
                    source: Box::new(source),
                };
                Created::Late(certain, error)
            };
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
        let same = Preconditions {
            uid,
            resource_version: None,
        };
        self.remove::<K>(namespace, name, same).await.map(drop)
    }

    /// Removes an object; `false` when it is gone already, or another one than it was.
    async fn remove<K>(
        &self,
        namespace: &str,
        name: &str,
        preconditions: Preconditions,
    ) -> Result<bool, PublisherError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(source) => Err(PublisherError::Write {
                kind: "sender",
                name: name.to_owned(),
                source: Box::new(source),
            }),
        }
    }
}

/// What the failure to make an object says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// One of its name is there.
    There,
    /// Quotas, policies, rights: it was not made, and trying again changes nothing.
    Never,
    /// It was not made, for a webhook does not answer: that may pass soon, or last.
    Broken,
    /// It was not made, for a reason that passes: a race for a quota, or too much to do.
    NotNow,
    /// It may have been made.
    Unclear,
}

impl Answer {
    /// Reads it in the status of Kubernetes (apimachinery: `pkg/api/errors`).
    fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else {
            return Self::Unclear;
        };
        match (status.code, status.reason.as_str()) {
            (409, "AlreadyExists") => Self::There,
            (401 | 409 | 429, _) | (503, "ServiceUnavailable") => Self::NotNow,
            (500, _) if status.message.contains("failed calling webhook") => Self::Broken,
            (408, _) => Self::Unclear,
            (400..=499, _) => Self::Never,
            _ => Self::Unclear,
        }
    }
}

/// Why the API refused an object, and what helps.
fn refusal(name: &str, error: &kube::Error) -> String {
    let (code, said) = match error {
        kube::Error::Api(status) => (status.code, status.message.clone()),
        other => (0, other.to_string()),
    };
    let mut text = format!("the API refused {name}: {said}");
    if code == 403 && said.contains("cannot create resource") {
        text.push_str(
            "; the publisher may make pods and ConfigMaps only in the namespaces that were given to it (drover manifests --message-namespace)",
        );
    }
    text
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

#[cfg(test)]
mod tests;
