//! Keeps the certificates and the configurations, beside other replicas that do the same.

use std::sync::Arc;
use std::time::Duration;

use drover_core::admission::Policy;
use drover_core::admission::certificates::{Lives, Step, plan};
use drover_core::admission::webhooks::{self, Target};
use drover_runtime::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use super::state::Pair;
use super::state::State;
use crate::HubError;
use crate::clusters::{apply_all, dynamic};

/// The usual time between two looks at what is kept.
pub const PERIOD: Duration = Duration::from_secs(30);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(2);
/// Attempts against other replicas that write at the same time.
const ATTEMPTS: usize = 5;
/// Steps of one look: a bound for what ends by itself after a few.
const STEPS: usize = 16;

/// Makes certificates.
pub trait Pki: Send + Sync {
    /// An authority with this name.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn authority(&self, name: &str, life: SignedDuration, now: Timestamp) -> Result<Pair, String>;

    /// The certificate of a server with these names, signed by an authority.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn serving(
        &self,
        authority: &Pair,
        names: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Pair, String>;
}

/// An object by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is needed to keep the webhooks of a hub known and trusted.
pub struct Keeper {
    /// The hub's API.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// Where the API server finds the webhook server.
    pub target: Target,
    /// The names and addresses by which it does.
    pub names: Vec<String>,
    /// The Secret that holds the certificates.
    pub secret: Place,
    /// How long certificates live.
    pub lives: Lives,
    /// Between two looks at what is kept.
    pub period: Duration,
    /// What is judged, and how.
    pub policy: Policy,
    /// Makes certificates.
    pub pki: Arc<dyn Pki>,
}

impl Keeper {
    /// Keeps everything until `cancel`. The socket shows what is given to `show`, which is done before any API
    /// server is told to ask it.
    pub async fn run(
        self,
        mut show: impl FnMut(&Pair) -> Result<(), String> + Send,
        cancel: CancellationToken,
    ) {
        let (mut shown, mut failing) = (State::default(), false);
        loop {
            let round = self.round(&mut shown, &mut show);
            let outcome = tokio::select! {
                outcome = round => outcome,
                () = cancel.cancelled() => return,
            };
            if let (Err(error), false) = (&outcome, failing) {
                tracing::warn!(%error, "the webhooks are not kept up to date; trying again");
            }
            failing = outcome.is_err();
            let pause = if failing { RETRY } else { self.period };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => return,
            }
        }
    }

    /// Looks once at everything and does what is to be done. `shown` is what the socket shows.
    async fn round(
        &self,
        shown: &mut State,
        show: &mut (impl FnMut(&Pair) -> Result<(), String> + Send),
    ) -> Result<(), HubError> {
        let published = self.published().await?;
        let state = self.agree(shown, &published).await?;
        if let Some(serving) = &state.serving
            && shown.serving != state.serving
        {
            show(serving).map_err(|why| {
                HubError::Internal(format!("the webhook certificate cannot be used: {why}"))
            })?;
        }
        let owner = self.owner().await?;
        let wanted =
            webhooks::configurations(&self.target, &state.bundle(), &self.policy, owner.as_ref());
        *shown = state;
        for (wanted, found) in wanted.into_iter().zip(&published) {
            if !found
                .as_ref()
                .is_some_and(|found| webhooks::has(found, &wanted))
            {
                apply_all(&self.client, &[wanted]).await?;
            }
        }
        Ok(())
    }

    /// The configurations that the API has: mutating, validating.
    async fn published(&self) -> Result<[Option<Value>; 2], HubError> {
        let read = async |kind: &str| {
            let version = "admissionregistration.k8s.io/v1";
            let api: Api<DynamicObject> = dynamic(&self.client, version, kind, None)?;
            let found = api.get_opt(webhooks::NAME).await;
            let found = found.map_err(|error| HubError::read(kind, webhooks::NAME, error))?;
            found
                .map(serde_json::to_value)
                .transpose()
                .map_err(|error| HubError::Internal(error.to_string()))
        };
        Ok([
            read("MutatingWebhookConfiguration").await?,
            read("ValidatingWebhookConfiguration").await?,
        ])
    }

    /// What the Secret says, once it says what is good now.
    async fn agree(
        &self,
        shown: &State,
        published: &[Option<Value>; 2],
    ) -> Result<State, HubError> {
        let bundles: Vec<String> = published
            .iter()
            .flat_map(|found| match found {
                Some(found) => webhooks::bundles(found),
                None => vec![String::new()],
            })
            .collect();
        let Place { namespace, name } = &self.secret;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        for _ in 0..ATTEMPTS {
            let found = api.get_opt(name).await;
            let found = found.map_err(|error| HubError::read("Secret", name, error))?;
            // One that was taken away comes back as it was: others still trust it.
            let kept = found
                .as_ref()
                .map_or_else(|| Ok(shown.clone()), State::read);
            let kept = kept.unwrap_or_else(|why| {
                tracing::warn!(secret = %name, why, "the certificates of the webhooks are damaged; making new ones");
                shown.clone()
            });
            let next = self.renewed(kept.clone(), &bundles);
            let next = next.map_err(|why| {
                HubError::Internal(format!("failed to renew the webhook certificates: {why}"))
            })?;
            let written = match &found {
                Some(found) if State::read(found).as_ref() == Ok(&next) => return Ok(next),
                Some(found) => {
                    let secret = next.secret(name, found.metadata.resource_version.clone());
                    api.replace(name, &PostParams::default(), &secret).await
                }
                None => {
                    let secret = next.secret(name, None);
                    api.create(&PostParams::default(), &secret).await
                }
            };
            match written {
                Ok(_) => return Ok(next),
                // Another replica was first.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(HubError::write("Secret", name.clone(), error)),
            }
        }
        Err(HubError::Internal(format!(
            "the Secret {namespace}/{name} changed all the time"
        )))
    }

    fn renewed(&self, mut state: State, bundles: &[String]) -> Result<State, String> {
        let now = self.clock.now();
        for _ in 0..STEPS {
            let authorities = state.authorities(bundles)?;
            let serving = state.serving(&self.names)?;
            match plan(&authorities, serving, &self.lives, now) {
                None => return Ok(state),
                Some(Step::AddAuthority) => {
                    let name = format!("drover-hub-webhooks-{}", now.as_second());
                    let made = self.pki.authority(&name, self.lives.authority, now)?;
                    state.authorities.push(made);
                }
                Some(Step::Forget(index)) => {
                    state.authorities.remove(index);
                }
                Some(Step::Sign(index)) => {
                    let authority = &state.authorities[index];
                    let life = self.lives.serving;
                    let signed = self.pki.serving(authority, &self.names, life, now)?;
                    state.serving = Some(signed);
                }
            }
            tracing::info!("the certificates of the webhooks were renewed");
        }
        Err("it does not come to an end; is the clock right?".to_owned())
    }

    /// The namespace of the Secret: with it goes all that would ask a hub that is not there any more.
    async fn owner(&self) -> Result<Option<Value>, HubError> {
        let name = &self.secret.namespace;
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_opt(name).await;
        let found = found.map_err(|error| HubError::read("namespace", name, error))?;
        let uid = found.and_then(|namespace| namespace.metadata.uid);
        Ok(uid
            .map(|uid| json!({"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid})))
    }
}
