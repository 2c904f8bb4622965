//! Runs a session on a transport: opens links, feeds events, sends what is owed, and comes back after every loss.

use std::sync::Arc;
use std::time::Duration;

use drover_protocol::session::{Fate, Input, Session, Ticket, Transmit};
use drover_protocol::{CloudEvent, TraceContext};
use drover_transport::{Link, Remedy, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use rand::Rng as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::handle::Shared;
use crate::rate::{Bucket, RateLimit};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Says which trace the running code is part of.
pub type TraceSource = Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>;

/// How a driver behaves.
#[derive(Clone)]
pub struct DriverConfig {
    /// First wait after a failed connection; doubles, with jitter.
    pub min_backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
    /// Limit on events sent; `None` = none.
    pub rate: Option<RateLimit>,
    /// Events that may be on their way to the broker at once, each about another resource.
    pub window: usize,
    /// Resync also without a reconnect, this often.
    pub resync_every: Option<Duration>,
    /// The trace that a change is part of, asked where the change is made; without an answer each change begins its own.
    pub trace: TraceSource,
    /// Time of events.
    pub clock: Clock,
    /// Seed of event ids.
    pub seed: u128,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_mins(1),
            rate: Some(RateLimit::default()),
            window: 64,
            resync_every: None,
            trace: Arc::new(|| None),
            clock: Arc::new(Timestamp::now),
            seed: rand::random(),
        }
    }
}

/// Keeps a session running. It does nothing until it is [run](Self::run).
pub struct Driver<S: Session> {
    pub(crate) shared: Arc<Shared<S>>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) subscription: Subscription,
    pub(crate) config: DriverConfig,
}

/// Received events that are fed to the session at one go.
const CHUNK: usize = 64;

type Landed = (Ticket, Result<(), TransportError>);

/// After this long on a link the next loss starts with the shortest wait again.
const STEADY: Duration = Duration::from_mins(1);

impl<S: Session> Driver<S> {
    /// Runs until `stop`.
    ///
    /// # Guarantees
    /// Every loss of the link is noticed by the transport, retried with growing waits, and followed by a resync. What is
    /// owed is sent at least once.
    ///
    /// # Cancel safety
    /// Dropping the future is the same as `stop`: the link closes, local copies stay readable.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0_u32;
        let mut links = 0_u64;
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.transport.open(self.subscription.clone()) => opened,
            };
            let error = match opened {
                Err(error) => {
                    self.shared.count(|stats| stats.refused_links += 1);
                    error
                }
                Ok(link) => {
                    links += 1;
                    self.shared.count(|stats| stats.reconnects = links - 1);
                    let since = Instant::now();
                    let lost = self.drive(link, &stop).await;
                    self.shared.publisher.send_replace(None);
                    self.shared.feed(Input::Down);
                    if since.elapsed() > STEADY {
                        failures = 0;
                    }
                    match lost {
                        // Nothing is wrong that time would cure.
                        Some(error @ TransportError::Replaced) => {
                            tracing::debug!(%error, subscription = ?self.subscription, "opens a new one");
                            continue;
                        }
                        Some(error) => {
                            self.shared.count(|stats| stats.lost_links += 1);
                            error
                        }
                        None => break,
                    }
                }
            };
            let wait = self.backoff(failures, error.remedy());
            failures = failures.saturating_add(1);
            // A link that comes back at once is nobody's concern: certificates rotate, brokers roll.
            if failures > 2 {
                tracing::warn!(%error, subscription = ?self.subscription, ?wait, "no link to the event service; will try again");
            } else {
                tracing::info!(%error, subscription = ?self.subscription, ?wait, "no link to the event service; will try again");
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => (),
            }
        }
    }

    fn backoff(&self, failures: u32, remedy: Remedy) -> Duration {
        let config = &self.config;
        // What only a change of the configuration can cure is looked at more rarely.
        let exponent = if remedy == Remedy::FixConfig {
            failures.saturating_add(1)
        } else {
            failures
        };
        let full = config
            .min_backoff
            .saturating_mul(1_u32 << exponent.min(16))
            .min(config.max_backoff);
        full.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// Works on one link until it is lost (with the reason) or the driver shall stop (`None`).
    async fn drive(&self, link: Link, stop: &CancellationToken) -> Option<TransportError> {
        let Link { publisher, events } = link;
        self.shared
            .publisher
            .send_replace(Some(Arc::clone(&publisher)));
        self.shared.feed(Input::Up);
        let mut bucket = Bucket::new(self.config.rate, Instant::now());
        let mut flying = FuturesUnordered::new();
        let mut events = events.ready_chunks(CHUNK);
        let mut resync_at = self.config.resync_every.map(|every| Instant::now() + every);
        loop {
            let room = self.config.window.max(1).saturating_sub(flying.len());
            let (allowed, more_at) = bucket.allows(Instant::now(), room);
            let (transmits, gate) = self.shared.poll_transmit(allowed);
            bucket.take(transmits.len());
            // Only whoever used all that was allowed wants more.
            let more_at = more_at.filter(|_| transmits.len() == allowed);
            for Transmit { ticket, event } in transmits {
                let (publisher, gate) = (Arc::clone(&publisher), gate.clone());
                let span = crate::span::publish(&event);
                let flight = async move {
                    if let Some(gate) = gate {
                        gate.opened().await;
                    }
                    (ticket, publisher.publish(event).await)
                };
                flying.push(flight.instrument(span));
            }
            let timer = [self.session_wake(), more_at, resync_at]
                .into_iter()
                .flatten()
                .min();
            let mut landed = (&mut flying).ready_chunks(CHUNK);
            tokio::select! {
                () = stop.cancelled() => return None,
                arrived = events.next() => {
                    let Some(arrived) = arrived else {
                        return Some(TransportError::Lost("the stream ended".to_owned()));
                    };
                    if let Some(error) = self.receive(arrived) {
                        return Some(error);
                    }
                }
                Some(landed) = landed.next() => {
                    if let Some(error) = self.settle(landed) {
                        return Some(error);
                    }
                }
                () = self.shared.work.notified() => (),
                () = until(timer) => {
                    self.shared.tick();
                    if let (Some(at), Some(every)) = (resync_at, self.config.resync_every) && at <= Instant::now() {
                        self.shared.feed(Input::Resync);
                        resync_at = Some(Instant::now() + every);
                    }
                }
            }
        }
    }

    /// Feeds events; an error means that the link is of no use any more.
    fn receive(&self, arrived: Vec<Result<CloudEvent, TransportError>>) -> Option<TransportError> {
        let mut lost = None;
        let events = arrived
            .into_iter()
            .map_while(|event| event.map_err(|error| lost = Some(error)).ok());
        self.shared.feed_all(events.map(Input::Wire));
        lost
    }

    /// Tells the session what became of events; an error means that the link is of no use any more.
    fn settle(&self, landed: Vec<Landed>) -> Option<TransportError> {
        let mut lost = None;
        let inputs = landed.into_iter().map(|(ticket, result)| {
            let Err(error) = result else {
                return Input::Sent(ticket);
            };
            let remedy = error.remedy();
            tracing::debug!(%error, ?remedy, "an event was not taken");
            if remedy == Remedy::Reconnect {
                lost = Some(error);
            }
            match remedy {
                Remedy::DropAndReport => Input::Failed(ticket, Fate::Drop),
                Remedy::FixConfig | Remedy::RetryLater | Remedy::Reconnect => {
                    Input::Failed(ticket, Fate::Retry)
                }
            }
        });
        self.shared.feed_all(inputs);
        lost
    }

    fn session_wake(&self) -> Option<Instant> {
        let at = self.shared.wake_at()?;
        let wait = at.duration_since((self.config.clock)());
        Some(Instant::now() + Duration::try_from(wait).unwrap_or_default())
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
