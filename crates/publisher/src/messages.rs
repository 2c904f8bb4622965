//! Does what [`drover_core::publish`] plans for each message.

mod unread;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drover_api::fedora::v1alpha1::{FedoraMessage, FedoraMessageStatus, SecretRef};
use drover_api::names::fedora as names;
use drover_core::publish::pod::{self, Mounted};
use drover_core::publish::{self, Fault, Place, Step, Verdict};
use drover_protocol::fedora::Outgoing;
use drover_runtime::controller::Next;
use drover_transport::amqp::{self, AmqpError};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::connections::Connections;
use crate::events::Events;
use crate::metrics::Tally;
use crate::places::Places;
use crate::pods::{self, Pods};
use crate::secrets::{Found, Secrets};
use crate::stored::Stored;
use crate::{Publisher, PublisherError, Target};

/// Between two looks at a secret that cannot be used: nobody tells when it changes.
const SECRET_POLL: Duration = Duration::from_secs(15);
/// Between two looks at a pod: its end is told, its silence is not.
const LOOK: Duration = Duration::from_secs(30);
/// How often the end of an attempt is written before it is left to the next round.
const WRITES: u32 = 8;

pub(crate) struct Messages {
    pub settings: Publisher,
    pub messages: Store<Stored>,
    pub secrets: Secrets,
    pub connections: Connections,
    pub pods: Option<Pods>,
    pub events: Events,
    pub tally: Tally,
    /// Ends of attempts that could not be written yet, by the keys of their messages: only this process knows them.
    pub unwritten: Mutex<HashMap<String, End>>,
    /// For what this process sends itself, by broker and secret.
    pub places: Places,
}

/// A message as it was when an attempt began, and what became of the attempt.
type End = (FedoraMessage, Result<(), Fault>);

impl Messages {
    /// One round for one message.
    pub(crate) async fn reconcile(&self, key: &str) -> Result<Next, PublisherError> {
        let outcome = self.round(key).await;
        self.places.release(key);
        if let Some(pods) = &self.pods {
            pods.places.settle(key);
        }
        outcome
    }

    async fn round(&self, key: &str) -> Result<Next, PublisherError> {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let unwritten = self.unwritten().remove(key);
        let Some(stored) = self.messages.get(&ObjectRef::new(name).within(namespace)) else {
            return Ok(Next::OnChange);
        };
        if let Some((begun, outcome)) = unwritten {
            self.conclude(begun, outcome).await?;
            return Ok(Next::OnChange);
        }
        let now = self.settings.clock.now();
        let message = &stored.message;
        if let Some(why) = &stored.unreadable {
            return self.end_unread(message, why, now).await;
        }
        let target = self.settings.targets.get(&message.spec.env);
        if let Some((pods, name)) = self.pod_at_work(message) {
            return self.watch_pod(pods, message, target, &name, now).await;
        }
        let tidied = match &self.pods {
            Some(pods) => pods.tidy(message, now).await?,
            None => None,
        };
        let next = self.step(message, target, now).await?;
        Ok(match (next, tidied) {
            (Next::OnChange, Some(wait)) => Next::After(wait),
            (Next::After(one), Some(other)) => Next::After(one.min(other)),
            (next, None) => next,
        })
    }

    async fn step(
        &self,
        message: &FedoraMessage,
        target: Option<&Target>,
        now: Timestamp,
    ) -> Result<Next, PublisherError> {
        let place = target.map(Target::place);
        match publish::next(message, place.as_ref(), now) {
            Step::Rest => Ok(Next::OnChange),
            Step::WakeAt(time) => {
                let wait = time.duration_since(now).unsigned_abs();
                Ok(Next::After(wait + Duration::from_millis(1)))
            }
            Step::Write(status) => {
                self.write(message, *status).await?;
                Ok(Next::OnChange)
            }
            Step::Mark(id) => {
                self.mark(message, &id).await?;
                Ok(Next::OnChange)
            }
            Step::Delete => {
                self.delete(message).await?;
                Ok(Next::OnChange)
            }
            Step::Identify(secret) => match (target, &place) {
                (Some(target), Some(place)) => self.send(message, target, place, &secret).await,
                // `next` wants no secret where there is no place.
                _ => Ok(Next::OnChange),
            },
        }
    }

    /// The pod that the last attempt was left to, if nobody wrote its end yet.
    fn pod_at_work(&self, message: &FedoraMessage) -> Option<(&Pods, String)> {
        let status = message.status.as_ref()?;
        let name = status.sender_pod.clone()?;
        let pods = self.pods.as_ref()?;
        let waits = publish::interrupted(message) && message.metadata.deletion_timestamp.is_none();
        waits.then_some((pods, name))
    }

    async fn watch_pod(
        &self,
        pods: &Pods,
        message: &FedoraMessage,
        target: Option<&Target>,
        name: &str,
        now: Timestamp,
    ) -> Result<Next, PublisherError> {
        pods.places
            .take_over(&key_of(message), &message.namespace().unwrap_or_default());
        match pods.look(message, name, now).await? {
            pods::Found::Running => Ok(Next::After(LOOK)),
            pods::Found::Ended(outcome) => {
                let begun = message.status.as_ref();
                let begun = begun.and_then(|status| status.last_attempt_time.as_ref());
                if let (Some(begun), true) = (begun, outcome.is_ok()) {
                    let time = now.duration_since(begun.0).unsigned_abs();
                    self.tally.took(message, time);
                }
                self.end(pods, message, outcome).await
            }
            pods::Found::Gone(fault) => {
                let next = self.end(pods, message, Err(fault)).await?;
                pods.forget(message, name).await?;
                Ok(next)
            }
            pods::Found::Unmade => {
                let Some(target) = target else {
                    return Ok(Next::After(LOOK));
                };
                let again = publish::attempt(message, &target.place(), now);
                let (found, again) = match (self.find(message, now).await, again) {
                    (Ok(found), Ok(again)) => (found, again),
                    (Err(fault), _) | (_, Err(fault)) => {
                        return self.end(pods, message, Err(fault)).await;
                    }
                };
                let secret = mounted(message, &found);
                let made = pods
                    .make(message, name, &again.message, target, &secret)
                    .await?;
                self.watched(pods, message, made).await
            }
        }
    }

    /// After a pod was made, or could not be.
    async fn watched(
        &self,
        pods: &Pods,
        message: &FedoraMessage,
        made: Result<(), Fault>,
    ) -> Result<Next, PublisherError> {
        match made {
            Ok(()) => Ok(Next::After(LOOK)),
            Err(fault) => self.end(pods, message, Err(fault)).await,
        }
    }

    /// Writes the end of an attempt that was left to a pod, and gives its place back.
    async fn end(
        &self,
        pods: &Pods,
        message: &FedoraMessage,
        outcome: Result<(), Fault>,
    ) -> Result<Next, PublisherError> {
        self.conclude(message.clone(), outcome).await?;
        pods.places.leave(&key_of(message));
        Ok(Next::OnChange)
    }

    async fn find(&self, message: &FedoraMessage, now: Timestamp) -> Result<Found, Fault> {
        let secret = message.spec.authentication.secret();
        let secret = secret.cloned().unwrap_or_default();
        let namespace = message.namespace().unwrap_or_default();
        let find = self.secrets.find(
            &secret,
            &namespace,
            &message.spec.message.topic,
            self.settings.cross_namespace,
            now,
        );
        find.await
    }

    async fn send(
        &self,
        message: &FedoraMessage,
        target: &Target,
        place: &Place,
        secret: &SecretRef,
    ) -> Result<Next, PublisherError> {
        let settings = &self.settings;
        let now = settings.clock.now();
        let namespace = message.namespace();
        let own = secret.namespace.is_none() || secret.namespace == namespace;
        let pods = self.pods.as_ref().filter(|_| own);
        let owner = secret.namespace.clone().or(namespace).unwrap_or_default();
        let (places, team) = match pods {
            Some(pods) => (&pods.places, owner),
            None => (
                &self.places,
                format!("{} {owner} {}", target.url, secret.name),
            ),
        };
        if !places.enter(&key_of(message), &team) {
            // It is woken when it has a place; then it may be too late.
            let rest = publish::deadline(message).duration_since(now);
            return Ok(Next::After(rest.unsigned_abs() + Duration::from_millis(1)));
        }
        let begun = self.begin(message, place, pods.is_some(), now).await;
        let (begun, found, outgoing) = match begun {
            Ok(Some(ready)) => ready,
            other => {
                if let Some(pods) = pods {
                    pods.places.leave(&key_of(message));
                }
                return other.map(|_| Next::After(SECRET_POLL));
            }
        };
        if let Some(pods) = pods {
            let name = begun.status.as_ref().and_then(|it| it.sender_pod.clone());
            let secret = mounted(&begun, &found);
            let made = pods
                .make(
                    &begun,
                    &name.unwrap_or_default(),
                    &outgoing,
                    target,
                    &secret,
                )
                .await?;
            return self.watched(pods, &begun, made).await;
        }
        let start = Instant::now();
        let sent = self
            .connections
            .publish(target, &found, &outgoing, settings.patience)
            .await;
        match &sent {
            Ok(()) => self.tally.took(message, start.elapsed()),
            Err(error) => {
                tracing::debug!(%error, id = outgoing.message_id, "an attempt failed");
            }
        }
        self.conclude(begun, sent.map_err(|error| fault_of(&error)))
            .await?;
        Ok(Next::OnChange)
    }

    /// Finds the identity and writes down that an attempt begins; `None` when there is none now, which is written too. Who comes
    /// too late, or twice, fails here and sends nothing.
    async fn begin(
        &self,
        message: &FedoraMessage,
        place: &Place,
        by_pod: bool,
        now: Timestamp,
    ) -> Result<Option<(FedoraMessage, Found, Outgoing)>, PublisherError> {
        let found = match self.find(message, now).await {
            Ok(found) => found,
            Err(fault) => {
                self.unidentified(message, &fault).await?;
                return Ok(None);
            }
        };
        let mut attempt = match publish::attempt(message, place, now) {
            Ok(attempt) => attempt,
            Err(fault) => {
                self.unidentified(message, &fault).await?;
                return Ok(None);
            }
        };
        attempt.status.sender_pod = by_pod.then(|| pod::pod_name(message, attempt.status.attempts));
        let begun = self.write(message, attempt.status).await?;
        Ok(Some((begun, found, attempt.message)))
    }

    async fn unidentified(
        &self,
        message: &FedoraMessage,
        fault: &Fault,
    ) -> Result<(), PublisherError> {
        let status = publish::unidentified(message, fault, self.settings.clock.now());
        if message.status.as_ref() != Some(&status) {
            self.write(message, status).await?;
        }
        Ok(())
    }

    /// Writes what became of an attempt, whatever else was written meanwhile: only here is it known.
    async fn conclude(
        &self,
        begun: FedoraMessage,
        outcome: Result<(), Fault>,
    ) -> Result<(), PublisherError> {
        let api = self.api(&begun);
        let mut message = begun.clone();
        let mut tries = 0;
        loop {
            let now = self.settings.clock.now();
            let Some(status) = publish::conclude(&message, &begun, outcome.clone(), now) else {
                return Ok(());
            };
            let Err(error) = self.write(&message, status).await else {
                return Ok(());
            };
            tries += 1;
            if tries >= WRITES {
                self.unwritten().insert(key_of(&begun), (begun, outcome));
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(20) * 2_u32.pow(tries)).await;
            match api.get_opt(&message.name_any()).await {
                // Another resource of the same name: what was sent was not its message.
                Ok(Some(found)) if found.uid() == message.uid() => message = found,
                Ok(_) => return Ok(()),
                Err(problem) => tracing::debug!(%problem, "the message cannot be read again"),
            }
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, HashMap<String, End>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(
        &self,
        message: &FedoraMessage,
        status: FedoraMessageStatus,
    ) -> Result<FedoraMessage, PublisherError> {
        let name = message.name_any();
        let changed = FedoraMessage {
            status: Some(status),
            ..message.clone()
        };
        let written = self
            .api(message)
            .replace_status(&name, &PostParams::default(), &changed)
            .await
            .map_err(|source| PublisherError::Write {
                kind: "status of message",
                name,
                source: Box::new(source),
            })?;
        self.events.written(message.status.as_ref(), &written);
        Ok(written)
    }

    /// Leaves a mark that copies of the resource carry, so that a restored one is not sent again.
    async fn mark(&self, message: &FedoraMessage, id: &str) -> Result<(), PublisherError> {
        let patch = json!({"metadata": {"uid": message.uid(), "annotations": {names::SENT_ID_ANNOTATION: id}}});
        let name = message.name_any();
        let params = PatchParams::default();
        match self
            .api(message)
            .patch(&name, &params, &Patch::Merge(patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(PublisherError::Write {
                kind: "message",
                name,
                source: Box::new(source),
            }),
        }
    }

    async fn delete(&self, message: &FedoraMessage) -> Result<(), PublisherError> {
        let name = message.name_any();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: message.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api(message).delete(&name, &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(source) => Err(PublisherError::Write {
                kind: "message",
                name,
                source: Box::new(source),
            }),
        }
    }

    fn api(&self, message: &FedoraMessage) -> Api<FedoraMessage> {
        let namespace = message.namespace().unwrap_or_default();
        Api::namespaced(self.settings.client.clone(), &namespace)
    }
}

/// The key of a message in the queue.
pub(crate) fn key_of(message: &impl kube::ResourceExt) -> String {
    format!(
        "{}/{}",
        message.namespace().unwrap_or_default(),
        message.name_any()
    )
}

fn mounted<'a>(message: &'a FedoraMessage, found: &Found) -> Mounted<'a> {
    let secret = message.spec.authentication.secret();
    Mounted {
        secret: secret.map_or("", |secret| secret.name.as_str()),
        keys: found.keys,
    }
}

/// The reason and the remedy of what the broker said.
pub fn fault_of(error: &AmqpError) -> Fault {
    let reason = match error {
        AmqpError::Url(_) | AmqpError::Unreachable(_) | AmqpError::Blocked => {
            names::REASON_CONNECTION_FAILED
        }
        AmqpError::NoIdentity | AmqpError::Identity(_) => names::REASON_SECRET_INVALID,
        AmqpError::Invalid(_) => names::REASON_INVALID,
        AmqpError::Tls(_) => names::REASON_TLS_FAILED,
        AmqpError::Login(_) => names::REASON_LOGIN_REFUSED,
        AmqpError::Forbidden(_) => names::REASON_FORBIDDEN,
        AmqpError::NoExchange(_) => names::REASON_NO_EXCHANGE,
        AmqpError::Rejected => names::REASON_REJECTED,
        AmqpError::Uncertain(_) => names::REASON_UNCERTAIN,
    };
    let verdict = match error.verdict() {
        amqp::Verdict::Never => Verdict::Never,
        amqp::Verdict::AfterChange => Verdict::AfterChange,
        amqp::Verdict::Later => Verdict::Later,
        amqp::Verdict::Again => Verdict::Again,
    };
    Fault::new(reason, verdict, error.to_string())
}
