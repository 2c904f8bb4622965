//! Leading among copies of the same process: does what [`drover_core::election`] decides, with a Lease of the API.
//!
//! What only the leader may do runs under the token of a `Term`. The token is cancelled before the lease can be another's, even
//! when the API does not answer; and the lease is given up only after everything under the token has ended.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use drover_core::election::{Act, Candidate, Record, Seen, Timing};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use prometheus_client::metrics::gauge::Gauge;
use rand::Rng as _;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long what only a leader does may take to end when the process stops; then the lease is left to run out.
const DRAIN: Duration = Duration::from_secs(3);
/// How long giving the lease up may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// The time for which this process leads.
#[derive(Clone, Debug)]
struct Term {
    over: CancellationToken,
    /// Dropped by everybody who works under the term when they have ended.
    _held: mpsc::Sender<Infallible>,
}

/// Says when this process leads. Clones are the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    terms: watch::Receiver<Option<Term>>,
    /// Keeps the channel of one that is alone.
    _alone: Option<Arc<watch::Sender<Option<Term>>>>,
}

impl Leadership {
    /// There are no copies: this process always leads.
    pub fn alone() -> Self {
        let term = Term {
            over: CancellationToken::new(),
            _held: mpsc::channel(1).0,
        };
        let (sender, terms) = watch::channel(Some(term));
        Self {
            terms,
            _alone: Some(Arc::new(sender)),
        }
    }

    /// Whether this process leads now.
    pub fn leads(&self) -> bool {
        let term = self.terms.borrow();
        term.as_ref().is_some_and(|term| !term.over.is_cancelled())
    }

    /// Does `work` whenever this process leads, until `stop`; the token that `work` gets ends it.
    ///
    /// # Cancel safety
    /// Work that is dropped where it waits counts as ended.
    pub async fn each_term<F, R>(&self, stop: &CancellationToken, work: F)
    where
        F: Fn(CancellationToken) -> R,
        R: Future<Output = ()>,
    {
        let mut terms = self.terms.clone();
        loop {
            let term = tokio::select! {
                () = stop.cancelled() => return,
                term = next(&mut terms) => term,
            };
            let Some(term) = term else {
                // The election is over, and so is this process.
                return stop.cancelled().await;
            };
            let token = term.over.child_token();
            let ended = async {
                stop.cancelled().await;
                token.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = work(token.clone()) => {}
                () = ended => {}
            }
            let over = term.over.clone();
            drop(term);
            tokio::select! {
                () = stop.cancelled() => return,
                () = over.cancelled() => {}
            }
        }
    }
}

/// The next term, or the one that runs; `None` when there will be none.
async fn next(terms: &mut watch::Receiver<Option<Term>>) -> Option<Term> {
    let runs = |term: &Option<Term>| term.as_ref().is_some_and(|term| !term.over.is_cancelled());
    terms.wait_for(runs).await.ok()?.clone()
}

/// One who wants to lead.
#[derive(Debug)]
pub struct Election {
    leases: Api<Lease>,
    name: String,
    candidate: Candidate,
    timing: Timing,
    clock: Clock,
    terms: watch::Sender<Option<Term>>,
    /// The term that runs, and what tells that nobody works under it any more.
    current: Option<(CancellationToken, mpsc::Receiver<Infallible>)>,
    leading: Gauge<i64, AtomicI64>,
    began: Instant,
    failures: u32,
}

impl Election {
    /// A candidate named `me`, which no other is, for a lease.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        me: &str,
        timing: Timing,
        clock: Clock,
    ) -> (Self, Leadership) {
        let (sender, terms) = watch::channel(None);
        let election = Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            candidate: Candidate::new(me, timing),
            timing,
            clock,
            terms: sender,
            current: None,
            leading: Gauge::default(),
            began: Instant::now(),
            failures: 0,
        };
        let leadership = Leadership {
            terms,
            _alone: None,
        };
        (election, leadership)
    }

    /// Tells Prometheus who leads, by the name that client-go has for it.
    pub fn register(&self, metrics: &Metrics) {
        metrics.labelled("name", &self.name).register(|registry| {
            registry.register(
                "leader_election_master_status",
                "Whether this process leads (1) or not (0)",
                self.leading.clone(),
            );
        });
    }

    /// Runs for the office, and holds it, until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return self.leave().await,
                () = self.round() => {}
            }
        }
    }

    /// One try, and the wait after it.
    async fn round(&mut self) {
        let next = Instant::now()
            + self
                .timing
                .retry
                .mul_f64(rand::rng().random_range(1.0..1.2));
        let limit = self.timing.renew / 2;
        let deadline = self.deadline();
        tokio::select! {
            biased;
            () = at(deadline) => {}
            outcome = timeout(limit, self.attempt()) => self.note(outcome),
        }
        self.settle();
        let deadline = self.deadline();
        tokio::select! {
            () = at(deadline) => self.settle(),
            () = sleep_until(next) => {}
        }
    }

    fn note(&mut self, outcome: Result<Result<(), kube::Error>, tokio::time::error::Elapsed>) {
        let why = match outcome {
            Ok(Ok(())) => {
                self.failures = 0;
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the API does not answer".to_owned(),
        };
        self.failures = self.failures.saturating_add(1);
        // One lost race or one lost answer is nothing.
        if self.failures == 2 {
            tracing::warn!(
                lease = self.name,
                why,
                "failed to use the lease of the leader"
            );
        } else {
            tracing::debug!(
                lease = self.name,
                why,
                "failed to use the lease of the leader"
            );
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When this process must stop leading.
    fn deadline(&self) -> Option<Instant> {
        self.current.as_ref()?;
        let until = self.candidate.leads_until(self.now());
        Some(until.map_or_else(Instant::now, |until| self.began + until))
    }

    /// Begins or ends the term, as the candidate says.
    fn settle(&mut self) {
        let leads = self.candidate.leads_until(self.now()).is_some();
        if leads && self.current.is_none() {
            let over = CancellationToken::new();
            let (held, released) = mpsc::channel(1);
            self.terms.send_replace(Some(Term {
                over: over.clone(),
                _held: held,
            }));
            self.current = Some((over, released));
            self.leading.set(1);
            tracing::info!(
                lease = self.name,
                me = self.candidate.me(),
                "this process leads"
            );
        } else if !leads && let Some((over, _)) = self.current.take() {
            over.cancel();
            self.terms.send_replace(None);
            self.leading.set(0);
            tracing::warn!(
                lease = self.name,
                leader = self.candidate.leader(),
                "this process does not lead any more"
            );
        }
    }

    /// Reads the lease and writes it, if that is decided.
    async fn attempt(&mut self) -> Result<(), kube::Error> {
        let seen = self.leases.get_opt(&self.name).await?;
        let seen = seen.as_ref().map(read);
        let act = self.candidate.decide(seen, self.now(), self.clock.now());
        let sent = self.now();
        let written = match self.write(act).await {
            Ok(written) => written,
            // Somebody else was quicker: the next look shows who.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(written) = written {
            let now = self.now();
            self.candidate.written(read(&written), sent, now);
        }
        Ok(())
    }

    async fn write(&self, act: Act) -> Result<Option<Lease>, kube::Error> {
        let written = match act {
            Act::Wait => return Ok(None),
            Act::Create(record) => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec(&record)),
                };
                self.leases.create(&PostParams::default(), &lease).await?
            }
            Act::Replace(record, version) => {
                let patch =
                    json!({"metadata": {"resourceVersion": version}, "spec": spec(&record)});
                let params = PatchParams::default();
                self.leases
                    .patch(&self.name, &params, &Patch::Merge(patch))
                    .await?
            }
        };
        Ok(Some(written))
    }

    /// Ends the term, and lets the next one begin at once.
    async fn leave(mut self) {
        let Some((over, mut released)) = self.current.take() else {
            return;
        };
        over.cancel();
        self.terms.send_replace(None);
        self.leading.set(0);
        // Nobody ever sends: the end of the channel is what is waited for.
        if timeout(DRAIN, released.recv()).await.is_err() {
            tracing::warn!(
                lease = self.name,
                "what only the leader does did not end in time: the lease is left to run out"
            );
            return;
        }
        let Some(act) = self.candidate.release(self.clock.now()) else {
            return;
        };
        match timeout(FAREWELL, self.write(act)).await {
            Ok(Ok(_)) => tracing::info!(lease = self.name, "the lease is given up"),
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = self.name, "failed to give up the lease");
            }
            Err(_) => tracing::warn!(lease = self.name, "failed to give up the lease in time"),
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn read(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    Seen {
        record: Record {
            holder: spec.holder_identity.unwrap_or_default(),
            seconds: spec.lease_duration_seconds.unwrap_or(0),
            acquired: spec.acquire_time.map(|time| time.0),
            renewed: spec.renew_time.map(|time| time.0),
            transitions: spec.lease_transitions.unwrap_or(0),
        },
        version: lease.resource_version().unwrap_or_default(),
    }
}

fn spec(record: &Record) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.clone()),
        lease_duration_seconds: Some(record.seconds),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(record.transitions),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests;
