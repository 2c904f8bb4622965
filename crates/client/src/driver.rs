//! Runs a session on a transport: opens links, feeds events, sends what is owed, and comes back after every loss.

use std::sync::Arc;
use std::time::Duration;

use drover_protocol::session::{Fate, Input, Session, Ticket};
use drover_transport::{Link, Remedy, Subscription, Transport, TransportError};
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use rand::Rng as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::handle::Shared;
use crate::rate::{Bucket, RateLimit};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How a driver behaves.
#[derive(Clone)]
pub struct DriverConfig {
    /// First wait after a failed connection; doubles, with jitter.
    pub min_backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
    /// Limit on events sent; `None` = none.
    pub rate: Option<RateLimit>,
    /// Resync also without a reconnect, this often.
    pub resync_every: Option<Duration>,
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
            resync_every: None,
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

type Flying = BoxFuture<'static, (Ticket, Result<(), TransportError>)>;

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
                Err(error) => error,
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
                        Some(error) => error,
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
        let Link {
            publisher,
            mut events,
        } = link;
        self.shared
            .publisher
            .send_replace(Some(Arc::clone(&publisher)));
        self.shared.feed(Input::Up);
        let mut bucket = Bucket::new(self.config.rate, Instant::now());
        let mut flying: Option<Flying> = None;
        let mut resync_at = self.config.resync_every.map(|every| Instant::now() + every);
        loop {
            let mut wake = self.session_wake();
            if flying.is_none() {
                match bucket.take(Instant::now()) {
                    Err(later) => wake = Some(wake.map_or(later, |wake| wake.min(later))),
                    Ok(()) => match self.shared.poll_transmit() {
                        None => bucket.put_back(),
                        Some(transmit) => {
                            let publisher = Arc::clone(&publisher);
                            let send = async move {
                                (transmit.ticket, publisher.publish(transmit.event).await)
                            };
                            flying = Some(send.boxed());
                        }
                    },
                }
            }
            let timer = [wake, resync_at].into_iter().flatten().min();
            tokio::select! {
                () = stop.cancelled() => return None,
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        self.shared.count(|stats| stats.received += 1);
                        self.shared.feed(Input::Wire(event));
                    }
                    Some(Err(error)) => return Some(error),
                    None => return Some(TransportError::Lost("the stream ended".to_owned())),
                },
                (ticket, result) = landed(&mut flying) => {
                    flying = None;
                    if let Some(error) = self.settle(ticket, result) {
                        return Some(error);
                    }
                }
                () = self.shared.work.notified() => (),
                () = until(timer) => {
                    self.shared.clear_wake();
                    self.shared.feed(Input::Tick);
                    if let (Some(at), Some(every)) = (resync_at, self.config.resync_every) && at <= Instant::now() {
                        self.shared.feed(Input::Resync);
                        resync_at = Some(Instant::now() + every);
                    }
                }
            }
        }
    }

    /// Tells the session what became of an event; an error means that the link is of no use any more.
    fn settle(&self, ticket: Ticket, result: Result<(), TransportError>) -> Option<TransportError> {
        let Err(error) = result else {
            self.shared.count(|stats| stats.sent += 1);
            self.shared.feed(Input::Sent(ticket));
            return None;
        };
        let remedy = error.remedy();
        tracing::debug!(%error, ?remedy, "an event was not taken");
        let fate = if remedy == Remedy::DropAndReport {
            Fate::Drop
        } else {
            Fate::Retry
        };
        if fate == Fate::Retry {
            self.shared.count(|stats| stats.retried += 1);
        }
        self.shared.feed(Input::Failed(ticket, fate));
        (remedy == Remedy::Reconnect).then_some(error)
    }

    fn session_wake(&self) -> Option<Instant> {
        let at = self.shared.wake_at()?;
        let wait = at.duration_since((self.config.clock)());
        Some(Instant::now() + Duration::try_from(wait).unwrap_or_default())
    }
}

async fn landed(flying: &mut Option<Flying>) -> (Ticket, Result<(), TransportError>) {
    match flying {
        Some(flying) => flying.await,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
