//! Keeps the agent at the right one of its hubs: does what [`drover_core::registration::agent::hubs`] plans.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drover_api::cluster::v1::ManagedCluster;
use drover_core::registration::agent::certificate::usable;
use drover_core::registration::agent::hubs::{self, At, Seen, Step, Verdict};
use drover_core::registration::agent::status::{ClaimLimits, Report};
use drover_core::registration::agent::{Standing, standing};
use drover_core::registration::klusterlet::Grace;
use drover_core::registration::request::Agent;
use drover_protocol::DataType;
use drover_runtime::supervise::Tasks;
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::background::Background;
use super::endpoint::Bootstrap;
use super::identity::{Identity, SecretStore};
use super::link::Credentials;
use super::registrar::{Registrar, Setting, View};
use super::settings::Local;
use super::way::{HubObjects, Way, WayError, Which};
use super::{AgentError, AgentOptions};

/// How long a hub may take to answer a try.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a hub's event service may take to show the cluster, once there is a link.
const SHOW: Duration = Duration::from_secs(3);
/// A plan is made at least this often.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Keeps the agent at the right hub.
pub struct Hubs {
    pub(super) options: AgentOptions,
    pub(super) me: Agent,
    pub(super) agent_id: String,
    pub(super) store: SecretStore,
    pub(super) local: watch::Receiver<Arc<Local>>,
    pub(super) reports: watch::Receiver<Option<Arc<Report>>>,
    pub(super) limits: watch::Sender<ClaimLimits>,
    pub(super) kept: Option<Kept>,
}

/// The stored certificate that is good for a hub.
#[derive(Clone)]
pub struct Kept {
    /// The hub.
    pub hub: Bootstrap,
    /// Until when it is good.
    pub until: Timestamp,
}

/// Where the agent is.
struct Here {
    hub: Bootstrap,
    since: Timestamp,
    view: watch::Receiver<View>,
    background: Background,
}

impl Hubs {
    /// Runs until `cancel`, and ends what it started.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), AgentError> {
        let mut here: Option<Here> = None;
        let outcome = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            outcome = self.rounds(&mut here) => outcome,
        };
        if let Some(here) = here {
            here.background.stop().await;
        }
        outcome
    }

    async fn rounds(&mut self, here: &mut Option<Here>) -> Result<(), AgentError> {
        let mut verdicts: BTreeMap<String, (Verdict, Timestamp)> = BTreeMap::new();
        loop {
            let local = self.local.borrow_and_update().clone();
            let listed = self.listed(&local);
            let now = self.options.clock.now();
            self.limit(&local);
            match self.plan(&listed, here.as_ref(), &verdicts, &local, now) {
                Step::Try(address) => {
                    let verdict = self.look(&listed, &address).await;
                    tracing::info!(hub = address, ?verdict, "tried another hub");
                    verdicts.insert(address, (verdict, now));
                }
                Step::Go { hub, why } => {
                    if let Some(left) = here.take() {
                        tracing::warn!(
                            from = left.hub.endpoint.address(),
                            to = hub,
                            why,
                            "goes to another hub"
                        );
                        left.background.stop().await;
                    }
                    match self.join(&listed, &hub, &local, now).await {
                        Ok(joined) => *here = Some(joined),
                        Err(error) if listed.len() > 1 => {
                            tracing::warn!(%error, hub, "cannot join the hub");
                            verdicts.insert(hub, (Verdict::Refused, now));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Step::Wait(until) => {
                    if self.wait(here, until, now).await? == Woken::Settings
                        && let Some(left) =
                            here.take_if(|_| self.local.borrow().settings.differs(&local.settings))
                    {
                        // The same hub, with other settings.
                        let hub = left.hub.endpoint.address().to_owned();
                        left.background.stop().await;
                        let local = self.local.borrow().clone();
                        *here = Some(self.join(&self.listed(&local), &hub, &local, now).await?);
                    }
                }
            }
            if let Some(here) = here {
                self.remember(here);
            }
        }
    }

    /// Tells which claims are reported.
    fn limit(&self, local: &Local) {
        let (wanted, own) = (&local.settings, &self.options.tuning.claims);
        let mut reserved_suffixes = own.reserved_suffixes.clone();
        reserved_suffixes.extend(wanted.reserved_claim_suffixes.iter().cloned());
        let limits = ClaimLimits {
            max_custom: wanted.max_custom_claims.unwrap_or(own.max_custom),
            reserved_suffixes,
        };
        self.limits.send_if_modified(|known| {
            let changed = *known != limits;
            *known = limits;
            changed
        });
    }

    /// The hubs to join: those that the cluster names, else those that the agent was started with.
    fn listed(&self, local: &Local) -> Vec<Bootstrap> {
        let named = local.bootstraps();
        if named.is_empty() {
            self.options.hubs.clone()
        } else {
            named
        }
    }

    fn plan(
        &self,
        listed: &[Bootstrap],
        here: Option<&Here>,
        verdicts: &BTreeMap<String, (Verdict, Timestamp)>,
        local: &Local,
        now: Timestamp,
    ) -> Step {
        let addresses: Vec<String> = listed
            .iter()
            .map(|hub| hub.endpoint.address().to_owned())
            .collect();
        let kept = self.kept.as_ref().filter(|kept| kept.until > now);
        if addresses.is_empty() && kept.is_none() && here.is_none() {
            tracing::warn!("there is no hub to join yet");
        }
        let timeout = local.settings.hub_timeout;
        let seen = Seen {
            listed: &addresses,
            kept: kept.map(|kept| kept.hub.endpoint.address()),
            at: here.map(|here| {
                let view = *here.view.borrow();
                At {
                    hub: here.hub.endpoint.address(),
                    since: here.since,
                    standing: view.standing,
                    certified: view.certified.is_some(),
                    heard: view.heard,
                }
            }),
            verdicts,
            timeout: timeout.map_or(self.options.tuning.hub_timeout, |timeout| {
                SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX)
            }),
        };
        hubs::plan(&seen, now)
    }

    /// The hub at an address: a listed one, or that of the certificate.
    fn find(&self, listed: &[Bootstrap], address: &str) -> Option<Bootstrap> {
        let kept = self.kept.as_ref().map(|kept| &kept.hub);
        let mut all = listed.iter().chain(kept);
        all.find(|hub| hub.endpoint.address() == address).cloned()
    }

    async fn join(
        &self,
        listed: &[Bootstrap],
        address: &str,
        local: &Local,
        now: Timestamp,
    ) -> Result<Here, AgentError> {
        let hub = self.find(listed, address).ok_or_else(|| {
            AgentError::NoCredentials(format!("hub {address} is not known any more"))
        })?;
        let stored = self.store.load().await.map_err(AgentError::store)?;
        let options = self.configured(local);
        let way = Way::new(&hub.endpoint, &options.tuning);
        let mut tasks = Tasks::new(CancellationToken::new());
        let clusters = self.clusters(&options, &way, &mut tasks)?;
        let (view, seen) = watch::channel(View {
            standing: Standing::Unknown,
            certified: None,
            heard: now,
        });
        let setting = Setting {
            options,
            me: self.me.clone(),
            agent_id: self.agent_id.clone(),
            hub: hub.clone(),
            way,
            clusters,
            store: self.store.clone(),
            reports: self.reports.clone(),
            view,
        };
        let started = Registrar::new(setting, stored).await;
        let stop = tasks.cancel_token();
        match started {
            Ok(registrar) => tasks.spawn("registration", registrar.run(stop)),
            Err(error) => {
                stop.cancel();
                tasks.wait(super::GRACE).await?;
                return Err(error);
            }
        }
        Ok(Here {
            hub,
            since: now,
            view: seen,
            background: Background::start("registration", tasks),
        })
    }

    /// The options, with what the cluster says instead.
    fn configured(&self, local: &Local) -> AgentOptions {
        let mut options = self.options.clone();
        let wanted = &local.settings;
        options.labels.extend(wanted.labels.clone());
        options.annotations.extend(wanted.annotations.clone());
        let seconds = wanted.certificate_seconds;
        options.tuning.certificate_seconds = seconds.or(options.tuning.certificate_seconds);
        if let Some(interval) = wanted.status_sync_interval {
            options.work.poll = interval;
        }
        match wanted.eviction_grace {
            Some(Grace::For(grace)) => options.work.eviction_grace = Some(grace),
            Some(Grace::Forever) => options.work.eviction_grace = None,
            None => {}
        }
        options
    }

    fn clusters(
        &self,
        options: &AgentOptions,
        way: &Way,
        tasks: &mut Tasks,
    ) -> Result<HubObjects<ManagedCluster>, AgentError> {
        let client = drover_client::AgentOptions {
            driver: options.driver(),
            ..drover_client::AgentOptions::new(
                format!("{}-{}", self.me.cluster, self.me.agent),
                self.me.cluster.as_str(),
            )
        };
        let which = Which::Named(&self.me.cluster);
        Ok(HubObjects::follow(
            way,
            &DataType::MANAGED_CLUSTERS,
            client,
            Api::all,
            &which,
            tasks,
        )?)
    }

    /// Remembers which hub the stored certificate is for.
    fn remember(&mut self, here: &Here) {
        if let Some(until) = here.view.borrow().certified {
            let same = self.kept.as_ref().is_some_and(|kept| {
                kept.until == until && kept.hub.endpoint.is_same(&here.hub.endpoint)
            });
            if !same {
                self.kept = Some(Kept {
                    hub: here.hub.clone().without_asking(),
                    until,
                });
            }
        }
    }

    async fn wait(
        &mut self,
        here: &mut Option<Here>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Woken, AgentError> {
        let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let sleep = tokio::time::sleep(wait.min(LONGEST_WAIT));
        let Some(at) = here else {
            tokio::select! {
                () = sleep => {}
                _ = self.local.changed() => {}
            }
            return Ok(Woken::Other);
        };
        tokio::select! {
            () = sleep => Ok(Woken::Other),
            Ok(()) = self.local.changed() => Ok(Woken::Settings),
            Ok(()) = at.view.changed() => Ok(Woken::Other),
            failed = at.background.failed() => Err(failed.into()),
        }
    }

    /// Sees whether a hub takes the agent: with its certificate of that hub if it has one, else with what lets it ask.
    async fn look(&self, listed: &[Bootstrap], address: &str) -> Verdict {
        let Some(hub) = self.find(listed, address) else {
            return Verdict::Refused;
        };
        let own = self.own(&hub).await.map(Credentials::Own);
        let asking = listed
            .iter()
            .find(|one| one.endpoint.address() == address)
            .and_then(|one| one.endpoint.bootstrap());
        let mut verdict = Verdict::Refused;
        for credentials in [own, asking].into_iter().flatten() {
            let may_ask = matches!(credentials, Credentials::Bootstrap(_));
            let seen = tokio::time::timeout(PATIENCE, self.ask(&hub, &credentials)).await;
            verdict = match seen.unwrap_or(Verdict::Unreachable) {
                // A certificate lets nobody make the cluster anew.
                Verdict::Absent if !may_ask => Verdict::Refused,
                verdict => verdict,
            };
            if !matches!(verdict, Verdict::Refused) {
                break;
            }
        }
        verdict
    }

    async fn own(&self, hub: &Bootstrap) -> Option<Identity> {
        let stored = self.store.load().await.ok()?;
        let good = stored.is_for(&hub.endpoint);
        let identity = stored.identity.filter(|_| good)?;
        let now = self.options.clock.now();
        usable(&identity.certificate, identity.key.public(), &self.me, now).ok()?;
        Some(identity)
    }

    async fn ask(&self, hub: &Bootstrap, credentials: &Credentials) -> Verdict {
        let way = Way::new(&hub.endpoint, &self.options.tuning);
        if let Err(error) = way.show(credentials).await {
            tracing::warn!(%error, hub = hub.endpoint.address(), "the hub cannot be tried");
            return Verdict::Refused;
        }
        if let Way::Kube(link) = &way {
            let api: Api<ManagedCluster> = Api::all(link.client());
            return match api.get_opt(&self.me.cluster).await {
                Ok(found) => judge(found.as_ref()),
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    Verdict::Refused
                }
                Err(_) => Verdict::Unreachable,
            };
        }
        let mut tasks = Tasks::new(CancellationToken::new());
        let verdict = match self.clusters(&self.options, &way, &mut tasks) {
            Ok(clusters) => self.shown(&clusters).await,
            Err(_) => Verdict::Refused,
        };
        Background::start("a try", tasks).stop().await;
        verdict
    }

    /// What an event service shows of the cluster. It says nothing of a cluster that it does not know.
    async fn shown(&self, clusters: &HubObjects<ManagedCluster>) -> Verdict {
        let mut changes = clusters.changes();
        if tokio::time::timeout(PATIENCE / 2, clusters.connected())
            .await
            .is_err()
        {
            return Verdict::Unreachable;
        }
        let found = async {
            loop {
                let found: Result<Option<ManagedCluster>, WayError> =
                    clusters.get("", &self.me.cluster);
                if let Ok(Some(found)) = found {
                    return Some(found);
                }
                changes.next().await?;
            }
        };
        let found = tokio::time::timeout(SHOW, found).await;
        judge(found.ok().flatten().as_ref())
    }
}

/// Why waiting ended.
#[derive(PartialEq, Eq)]
enum Woken {
    /// The cluster says something else of its agent.
    Settings,
    Other,
}

fn judge(found: Option<&ManagedCluster>) -> Verdict {
    match (found, standing(found)) {
        (None, _) => Verdict::Absent,
        (Some(cluster), _) if cluster.spec.hub_accepts_client => Verdict::Accepted,
        (Some(_), Standing::Denied) => Verdict::Denied,
        (Some(_), _) => Verdict::Undecided,
    }
}
