//! Brings one cluster into its hub and keeps it there: each round observes, plans and does, and a failed step is planned anew.

use std::sync::Arc;
use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::names::CLUSTER_NAME_LABEL;
use drover_core::registration::agent::certificate::{self, Pending, Step, Validity, usable};
use drover_core::registration::agent::status::{self, Report, Sent};
use drover_core::registration::agent::{self, Standing, standing};
use drover_core::registration::request::Agent;
use drover_protocol::DataType;
use drover_runtime::backoff::Backoff;
use drover_runtime::supervise::{TaskFailed, Tasks};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::background::Background;
use super::endpoint::Bootstrap;
use super::identity::{Identity, Kept, Key, SecretStore, Stored};
use super::link::Credentials;
use super::member::Member;
use super::way::{Changes, HubObjects, Way, WayError, Which};
use super::{AgentError, AgentOptions, random_suffix};
use crate::work::Config;

/// A cluster that the hub does not show after it was created is created again after this long.
const CREATE_AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// How long a round waits for a link that is being opened.
const LINK_WAIT: Duration = Duration::from_secs(1);
/// A round is made at least this often, though nothing was heard.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// What went wrong in a round; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("failed to {0}: {1}")]
    Hub(&'static str, #[source] WayError),
    #[error("failed to keep the agent's identity in its cluster: {0}")]
    Store(#[source] Box<kube::Error>),
    #[error(transparent)]
    Fatal(#[from] AgentError),
}

impl From<kube::Error> for RoundError {
    fn from(error: kube::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

/// The certificate in use.
struct Held {
    identity: Identity,
    validity: Validity,
    jitter: f64,
}

/// The key that waits for its certificate.
struct Asking {
    key: Key,
    pending: Pending,
}

/// The requests of the cluster, followed only while there is one to wait for.
struct Requests {
    client: HubObjects<CertificateSigningRequest>,
    changes: Changes,
    background: Background,
}

/// Where a registrar stands, for who decides whether it is at the right hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// By the hub's copy of the cluster.
    pub standing: Standing,
    /// Until when the certificate of this hub is good, if there is one.
    pub certified: Option<Timestamp>,
    /// When the hub was last heard of.
    pub heard: Timestamp,
}

/// What a registrar works with.
pub struct Setting {
    /// The agent.
    pub options: AgentOptions,
    /// Who it is.
    pub me: Agent,
    /// By what applied works know it.
    pub agent_id: String,
    /// Its hub.
    pub hub: Bootstrap,
    /// The way there.
    pub way: Way,
    /// The cluster on the hub.
    pub clusters: HubObjects<ManagedCluster>,
    /// Where its identity is kept.
    pub store: SecretStore,
    /// What is seen of the managed cluster.
    pub reports: watch::Receiver<Option<Arc<Report>>>,
    /// Where it tells how it stands.
    pub view: watch::Sender<View>,
}

/// Brings one cluster into its hub and keeps it there.
pub struct Registrar {
    options: AgentOptions,
    me: Agent,
    agent_id: String,
    hub: Bootstrap,
    way: Way,
    store: SecretStore,
    clusters: HubObjects<ManagedCluster>,
    changes: Changes,
    reports: watch::Receiver<Option<Arc<Report>>>,
    view: watch::Sender<View>,
    held: Option<Held>,
    /// Key and certificate of another hub, which stay stored until there are those of this one.
    others: Option<(Identity, Bootstrap)>,
    asking: Option<Asking>,
    requests: Option<Requests>,
    member: Option<Member>,
    created: Option<Timestamp>,
    hold: Option<Timestamp>,
    problem: Option<String>,
    sent: Option<Sent>,
    standing: Standing,
    backoff: Backoff,
}

impl Registrar {
    /// Starts from what is stored.
    pub async fn new(setting: Setting, stored: Stored) -> Result<Self, AgentError> {
        let now = setting.options.clock.now();
        let address = setting.hub.endpoint.address().to_owned();
        let pending = stored.pending.clone().filter(|(_, hub)| *hub == address);
        let mut registrar = Self {
            backoff: setting.options.tuning.backoff(),
            changes: setting.clusters.changes(),
            asking: pending.map(|(key, _)| Asking {
                // It may have been asked for: the hub gets the time to show that.
                pending: Pending {
                    public_key: key.public().to_vec(),
                    asked: Some(now),
                },
                key,
            }),
            options: setting.options,
            me: setting.me,
            agent_id: setting.agent_id,
            hub: setting.hub,
            way: setting.way,
            store: setting.store,
            clusters: setting.clusters,
            reports: setting.reports,
            view: setting.view,
            held: None,
            others: None,
            requests: None,
            member: None,
            created: None,
            hold: None,
            problem: None,
            sent: None,
            standing: Standing::Unknown,
        };
        registrar.others = match (&stored.identity, &stored.hub) {
            (Some(identity), Some(hub)) => Some((identity.clone(), hub.clone())),
            (Some(_) | None, _) => None,
        };
        match registrar.judge(stored, now) {
            Ok(held) => {
                tracing::info!(agent = registrar.me.agent, hub = address, until = %held.validity.until, "uses its certificate");
                let own = Credentials::Own(held.identity.clone());
                registrar.way.show(&own).await?;
                registrar.held = Some(held);
                registrar.others = None;
            }
            Err(why) => registrar.bootstrap(&why).await?,
        }
        Ok(registrar)
    }

    fn judge(&self, stored: Stored, now: Timestamp) -> Result<Held, String> {
        let for_this_hub = stored.is_for(&self.hub.endpoint);
        let identity = stored.identity.ok_or("it has no certificate yet")?;
        if !for_this_hub {
            return Err("its certificate is for another hub".to_owned());
        }
        let validity = usable(&identity.certificate, identity.key.public(), &self.me, now)?;
        Ok(Held {
            identity,
            validity,
            jitter: rand::random(),
        })
    }

    /// Falls back to what lets anybody ask to join.
    async fn bootstrap(&mut self, why: &str) -> Result<(), AgentError> {
        let credentials = self.hub.endpoint.bootstrap();
        let credentials = credentials.ok_or_else(|| AgentError::NoCredentials(why.to_owned()))?;
        tracing::info!(
            agent = self.me.agent,
            hub = self.hub.endpoint.address(),
            why,
            "asks to join with the bootstrap token"
        );
        self.way.show(&credentials).await?;
        self.held = None;
        Ok(())
    }

    /// Runs until `cancel`, and ends what it started.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), AgentError> {
        let outcome = self.rounds(&cancel).await;
        self.forget_requests().await;
        if let Some(member) = self.member.take() {
            member.stop().await;
        }
        outcome
    }

    async fn rounds(&mut self, cancel: &CancellationToken) -> Result<(), AgentError> {
        loop {
            let round = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                round = self.round() => round,
            };
            let wait = match round {
                Ok(wake) => {
                    self.backoff.reset();
                    wake
                }
                Err(RoundError::Fatal(error)) => return Err(error),
                Err(RoundError::Hub(what, error)) if error.is_not_ready() => {
                    // The driver says why.
                    tracing::debug!(what, "there is no link to the hub yet");
                    self.options.tuning.min_backoff
                }
                Err(error) => {
                    let wait = self.backoff.next_wait();
                    // What a new member may do takes a moment to be written down; what lasts deserves attention.
                    if wait >= Duration::from_secs(1) {
                        tracing::warn!(%error, ?wait, "will try again");
                    } else {
                        tracing::info!(%error, ?wait, "will try again");
                    }
                    wait
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
                heard = self.heard() => heard?,
            }
        }
    }

    /// Waits for news.
    async fn heard(&mut self) -> Result<(), AgentError> {
        let (requests, member) = (&mut self.requests, &mut self.member);
        tokio::select! {
            change = self.changes.next() => match change {
                Some(()) => Ok(()),
                None => Err(ended("the watch of the cluster")),
            },
            Ok(()) = self.reports.changed() => Ok(()),
            changed = async { match requests { Some(requests) => requests.changed().await, None => std::future::pending().await } } => Ok(changed?),
            changed = async { match member { Some(member) => member.changed().await, None => std::future::pending().await } } => Ok(changed?),
        }
    }

    /// One round; the answer is how long to wait when nothing is heard.
    async fn round(&mut self) -> Result<Duration, RoundError> {
        let now = self.options.clock.now();
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.validity.until <= now)
        {
            self.bootstrap("its certificate expired").await?;
        }
        let read = self.clusters.get("", &self.me.cluster);
        let cluster = read.map_err(|error| RoundError::Hub("read the cluster", error))?;
        // One step that fails does not keep the others from their turn.
        let mut steps = vec![
            self.join(cluster.as_ref(), now).await,
            self.certify(now).await,
        ];
        self.belong(cluster.as_ref()).await?;
        let mut heard = self.clusters.is_connected().then_some(now);
        if let (Some(cluster), Some(member)) = (&cluster, &mut self.member) {
            let renewed = member.renew(cluster, now).await;
            // Only what a member may do shows that its hub still takes it.
            heard = if matches!(renewed, Ok(None)) {
                heard
            } else {
                member.renewed()
            };
            steps.push(renewed.map_err(|error| RoundError::Hub("renew the lease", error)));
            steps.push(self.report(cluster, now).await);
        }
        self.tell(heard);
        let wakes = together(steps)?;
        let wake = wakes.into_iter().min().unwrap_or(Timestamp::MAX);
        let wait = wake
            .duration_since(self.options.clock.now())
            .min(LONGEST_WAIT);
        Ok(Duration::try_from(wait).unwrap_or_default())
    }

    /// Tells how it stands.
    fn tell(&self, heard: Option<Timestamp>) {
        let before = *self.view.borrow();
        let view = View {
            standing: self.standing,
            certified: self.held.as_ref().map(|held| held.validity.until),
            heard: heard.unwrap_or(before.heard).max(before.heard),
        };
        if view != before {
            self.view.send_replace(view);
        }
    }

    /// Creates the cluster on the hub. Only the bootstrap token may do that.
    async fn join(
        &mut self,
        cluster: Option<&ManagedCluster>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, RoundError> {
        if cluster.is_some() || self.held.is_some() {
            return Ok(None);
        }
        let again = self
            .created
            .map(|at| at.saturating_add(CREATE_AGAIN).unwrap_or(Timestamp::MAX));
        if again.is_some_and(|again| again > now) {
            return Ok(again);
        }
        let wanted = agent::cluster(
            &self.me.cluster,
            self.options.labels.clone(),
            self.options.annotations.clone(),
        );
        soon(self.clusters.connected()).await;
        match self.clusters.create(&wanted).await {
            Ok(()) => tracing::info!("created the cluster on the hub"),
            Err(error) if error.already_exists() => {
                tracing::debug!("the cluster is on the hub already");
                self.clusters.resync();
            }
            Err(error) => return Err(RoundError::Hub("create the cluster on the hub", error)),
        }
        self.created = Some(now);
        Ok(now.saturating_add(CREATE_AGAIN).ok())
    }

    /// Gets the first certificate, or the next one in time.
    async fn certify(&mut self, now: Timestamp) -> Result<Option<Timestamp>, RoundError> {
        let requests = match &self.requests {
            Some(requests) => {
                let list = requests.client.list();
                list.map_err(|error| RoundError::Hub("read the certificate requests", error))?
            }
            None => Vec::new(),
        };
        let (validity, jitter) = self
            .held
            .as_ref()
            .map_or((None, 0.0), |held| (Some(held.validity), held.jitter));
        let pending = self.asking.as_ref().map(|asking| &asking.pending);
        let step = certificate::plan(
            validity.as_ref(),
            pending,
            &requests,
            self.hold,
            jitter,
            now,
        );
        if self.asking.is_some() && self.requests.is_none() {
            self.requests = Some(self.follow_requests()?);
        }
        match step {
            Step::Wait(until) => Ok(until),
            Step::Crowded(until) => {
                self.problem = Some(
                    "too many certificate requests of the cluster wait for a decision on the hub"
                        .to_owned(),
                );
                tracing::warn!("{}", self.problem.as_deref().unwrap_or_default());
                Ok(Some(until))
            }
            Step::NewKey => {
                let key = Key::generate().map_err(AgentError::Key)?;
                self.save(None, Some(&key)).await?;
                let pending = Pending {
                    public_key: key.public().to_vec(),
                    asked: None,
                };
                self.asking = Some(Asking { key, pending });
                // The next step is planned at once.
                Ok(Some(now))
            }
            Step::Ask => self.ask(now).await.map(Some),
            Step::Take(pem) => self.take(pem, now).await.map(Some),
            Step::GiveUp(why) => self.give_up(why, now).await.map(Some),
        }
    }

    fn follow_requests(&self) -> Result<Requests, RoundError> {
        let options = drover_client::AgentOptions {
            driver: self.options.driver(),
            ..drover_client::AgentOptions::new(
                format!("{}-{}", self.me.cluster, self.me.agent),
                self.me.cluster.as_str(),
            )
        };
        let mut tasks = Tasks::new(CancellationToken::new());
        let label = format!("{CLUSTER_NAME_LABEL}={}", self.me.cluster);
        let client = HubObjects::follow(
            &self.way,
            &DataType::CSRS,
            options,
            Api::all,
            &Which::Labelled(&label),
            &mut tasks,
        );
        let client = client.map_err(AgentError::Client)?;
        Ok(Requests {
            changes: client.changes(),
            client,
            background: Background::start("certificate requests", tasks),
        })
    }

    async fn forget_requests(&mut self) {
        if let Some(requests) = self.requests.take() {
            requests.background.stop().await;
        }
    }

    async fn ask(&mut self, now: Timestamp) -> Result<Timestamp, RoundError> {
        let (Some(asking), Some(requests)) = (&mut self.asking, &self.requests) else {
            return Ok(now);
        };
        let pem = asking.key.request(&self.me).map_err(AgentError::Key)?;
        let request = certificate::request(
            &self.me,
            self.way.signer(),
            pem,
            &random_suffix(),
            self.options.tuning.certificate_seconds,
        );
        soon(requests.client.connected()).await;
        let asked = requests.client.create(&request).await;
        asked.map_err(|error| RoundError::Hub("ask for a certificate", error))?;
        asking.pending.asked = Some(now);
        let name = request.metadata.name.as_deref().unwrap_or_default();
        tracing::info!(
            request = name,
            "asked the hub for a certificate; somebody there must approve it unless it does so itself"
        );
        Ok(now)
    }

    async fn take(&mut self, pem: Vec<u8>, now: Timestamp) -> Result<Timestamp, RoundError> {
        let Some(key) = self.asking.as_ref().map(|asking| asking.key.clone()) else {
            return Ok(now);
        };
        let validity = match usable(&pem, key.public(), &self.me, now) {
            Ok(validity) => validity,
            Err(why) => return self.give_up(why, now).await,
        };
        let identity = Identity {
            key,
            certificate: pem,
        };
        self.save(Some(&identity), None).await?;
        tracing::info!(until = %validity.until, "has a certificate of the hub");
        self.forget_requests().await;
        let own = Credentials::Own(identity.clone());
        self.way.show(&own).await.map_err(AgentError::Endpoint)?;
        self.others = None;
        self.held = Some(Held {
            identity,
            validity,
            jitter: rand::random(),
        });
        self.asking = None;
        self.hold = None;
        self.problem = None;
        Ok(now)
    }

    async fn give_up(&mut self, why: String, now: Timestamp) -> Result<Timestamp, RoundError> {
        tracing::warn!(why, wait = ?self.options.tuning.denied_wait, "got no certificate from the hub; will ask again later");
        self.save(None, None).await?;
        self.asking = None;
        self.forget_requests().await;
        self.problem = Some(why);
        let wait = SignedDuration::try_from(self.options.tuning.denied_wait)
            .unwrap_or(SignedDuration::MAX);
        let until = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.hold = Some(until);
        Ok(until)
    }

    /// Stores a new identity, or the one that is stored already, and the key that waits.
    async fn save(
        &self,
        identity: Option<&Identity>,
        pending: Option<&Key>,
    ) -> Result<(), RoundError> {
        let held = self.held.as_ref().map(|held| &held.identity);
        let own = identity.or(held).map(|identity| (identity, &self.hub));
        let others = self.others.as_ref().map(|(identity, hub)| (identity, hub));
        let kept = Kept {
            me: &self.me,
            agent_id: &self.agent_id,
            identity: own.or(others),
            pending: pending.map(|key| (key, self.hub.endpoint.address())),
        };
        Ok(self.store.save(&kept).await?)
    }

    /// Renews and works only while the hub lets the cluster in.
    async fn belong(&mut self, cluster: Option<&ManagedCluster>) -> Result<(), AgentError> {
        let standing = standing(cluster);
        if standing != self.standing {
            self.standing = standing;
            match standing {
                Standing::Unknown => tracing::warn!(
                    "the cluster is not on the hub any more, or about to go; works on what is left of its works, creates nothing, and goes on when the cluster is there again"
                ),
                Standing::Waiting => {
                    tracing::info!("waits for the hub's administrator to accept the cluster");
                }
                Standing::Denied => tracing::warn!(
                    "the hub's administrator denied the cluster; stays connected, but neither reports nor works"
                ),
                Standing::Accepted => tracing::info!("the hub accepted the cluster"),
            }
        }
        // A hub that lets a cluster go waits for the end of its works: its agent must see to that, though it is shown no
        // cluster any more.
        let leaves = standing == Standing::Unknown && self.member.is_some();
        let belongs = (standing == Standing::Accepted || leaves) && self.held.is_some();
        if belongs && self.member.is_none() {
            let work = Config {
                identity: work_identity(&self.hub.identity, &self.agent_id),
                ..self.options.work.clone()
            };
            let started = Member::start(&self.options, &self.me.agent, &self.way, work);
            self.member = Some(started?);
        } else if !belongs && let Some(member) = self.member.take() {
            member.stop().await;
            tracing::info!("stopped renewing the lease and working");
        }
        Ok(())
    }

    /// Tells the hub what it does not know yet.
    async fn report(
        &mut self,
        cluster: &ManagedCluster,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, RoundError> {
        let seen = self.reports.borrow().clone();
        let held = self.held.as_ref().map(|held| status::Certificate {
            held: &held.validity,
            problem: self.problem.as_deref(),
        });
        let told = match status::plan(cluster, held, seen.as_deref(), self.sent.as_ref(), now) {
            status::Step::Nothing => return Ok(None),
            status::Step::Wait(until) => return Ok(Some(until)),
            status::Step::Send(told) => *told,
        };
        let report = ManagedCluster {
            status: Some(told.clone()),
            ..cluster.clone()
        };
        soon(self.clusters.connected()).await;
        if let Err(error) = self.clusters.update_status(&report).await {
            if error.is_conflict() {
                self.clusters.resync();
            }
            return Err(RoundError::Hub("report the status of the cluster", error));
        }
        tracing::debug!("reported the status of the cluster");
        self.sent = Some(Sent {
            version: cluster.metadata.resource_version.clone(),
            status: told,
            at: now,
        });
        // To look whether it arrived.
        Ok(now.saturating_add(SignedDuration::from_secs(15)).ok())
    }
}

impl Requests {
    async fn changed(&mut self) -> Result<(), TaskFailed> {
        tokio::select! {
            Some(()) = self.changes.next() => Ok(()),
            failed = self.background.failed() => Err(failed),
        }
    }
}

/// As which hub's works the agent looks after works.
fn work_identity(hub: &str, agent_id: &str) -> drover_core::work::plan::Identity {
    drover_core::work::plan::Identity {
        agent_id: agent_id.to_owned(),
        ..crate::work::identity_for(hub)
    }
}

/// The times to wake at, or one of the failures, the fatal one before others; the others are logged.
fn together(
    steps: Vec<Result<Option<Timestamp>, RoundError>>,
) -> Result<Vec<Timestamp>, RoundError> {
    let mut wakes = Vec::new();
    let mut failed: Option<RoundError> = None;
    for step in steps {
        match (step, &failed) {
            (Ok(wake), _) => wakes.extend(wake),
            (Err(error @ RoundError::Fatal(_)), _) | (Err(error), None) => failed = Some(error),
            (Err(error), Some(_)) => tracing::debug!(%error, "failed as well"),
        }
    }
    failed.map_or(Ok(wakes), Err)
}

/// Waits a moment for a link that is being opened.
async fn soon(connected: impl Future<Output = ()>) {
    if tokio::time::timeout(LINK_WAIT, connected).await.is_err() {
        tracing::debug!("there is no link to the hub yet");
    }
}

fn ended(what: &str) -> AgentError {
    AgentError::Task(TaskFailed {
        task: what.to_owned(),
        why: "it ended by itself".to_owned(),
    })
}
