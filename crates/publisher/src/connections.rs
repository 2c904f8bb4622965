//! One connection for each identity and broker, shared by all of its messages, closed when nobody needs it any more.
//!
//! A broker that refuses a topic closes the channel under all messages that are on their way there. So a topic goes alone, on a lane
//! for trials, until the broker has taken a message of it: nobody's wrong topic puts others in doubt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drover_protocol::fedora::Outgoing;
use drover_runtime::clock::Clock;
use drover_transport::amqp::{AmqpError, Destination, Lane, Publisher};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::Target;
use crate::secrets::Found;

/// A connection that was not used for so long is closed.
const IDLE: SignedDuration = SignedDuration::from_secs(60);
/// Between two looks for such connections.
const LOOK: Duration = Duration::from_secs(20);
/// Between two attempts to connect where the last one failed; shorter than the wait of the message that made it.
const PAUSE: Duration = Duration::from_secs(3);
/// Lanes for trials. Fedora's broker lets a connection have 128 channels.
const TRIALS: usize = 16;
/// Topics that are remembered as taken; beyond, all are tried anew.
const PROVEN: usize = 4096;

type Key = (String, [u8; 32]);

/// The connections of a publisher.
pub(crate) struct Connections {
    clock: Clock,
    known: Mutex<HashMap<Key, Arc<Slot>>>,
}

struct Slot {
    /// Held while it connects: the others wait for that one attempt.
    connection: AsyncMutex<Option<Arc<Open>>>,
    /// When and why the last attempt to connect failed. A broker that is known to be away is tried by one at a time, and the others
    /// fail at once: nobody waits for it whose broker is another one.
    failure: Mutex<Option<(Instant, AmqpError)>>,
    used: Mutex<Timestamp>,
}

struct Open {
    publisher: Publisher,
    /// Exchanges and topics of which the broker has taken a message.
    proven: Mutex<HashSet<Route>>,
    /// Where the others go, one message at a time on each.
    trials: [AsyncMutex<Lane>; TRIALS],
}

/// Exchange and routing key.
type Route = (String, String);

impl Connections {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            known: Mutex::default(),
        }
    }

    /// Publishes in the name of an identity.
    pub(crate) async fn publish(
        &self,
        target: &Target,
        found: &Found,
        message: &Outgoing,
        patience: Duration,
    ) -> Result<(), AmqpError> {
        let slot = self.slot((target.url.clone(), found.fingerprint));
        let to = || Destination {
            url: target.url.clone(),
            identity: Some(Arc::clone(&found.identity)),
            client_properties: BTreeMap::from([("app".to_owned(), "drover".to_owned())]),
        };
        let connection = slot.connection(to).await?;
        let published = connection
            .publish(&target.exchange, message, patience)
            .await;
        if let Err(AmqpError::Uncertain(_) | AmqpError::Unreachable(_)) = &published {
            slot.doubt(&connection).await;
        }
        *slot.used.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
        published
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = known.entry(key).or_insert_with(|| {
            Arc::new(Slot {
                connection: AsyncMutex::default(),
                failure: Mutex::default(),
                used: Mutex::new(now),
            })
        });
        *slot.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Arc::clone(slot)
    }

    /// Closes what nobody uses, until `stop`, and then everything.
    pub(crate) async fn tidy(&self, stop: CancellationToken) {
        loop {
            let ended = stop
                .run_until_cancelled(tokio::time::sleep(LOOK))
                .await
                .is_none();
            for slot in self.unused(ended) {
                if let Some(connection) = slot.connection.lock().await.take()
                    && let Ok(connection) = Arc::try_unwrap(connection)
                {
                    connection.publisher.close().await;
                }
            }
            if ended {
                return;
            }
        }
    }

    fn unused(&self, all: bool) -> Vec<Arc<Slot>> {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |slot: &Slot| {
            let used = *slot.used.lock().unwrap_or_else(PoisonError::into_inner);
            now.duration_since(used) > IDLE
        };
        let unused: Vec<_> = known
            .iter()
            // One that is being used is in somebody else's hands too.
            .filter(|(_, slot)| all || (old(slot) && Arc::strong_count(slot) == 1))
            .map(|(key, slot)| (key.clone(), Arc::clone(slot)))
            .collect();
        unused
            .into_iter()
            .map(|(key, slot)| {
                known.remove(&key);
                slot
            })
            .collect()
    }
}

impl Slot {
    async fn connection(&self, to: impl FnOnce() -> Destination) -> Result<Arc<Open>, AmqpError> {
        let mut connection = match self.failure() {
            Some((at, failure)) if at.elapsed() < PAUSE => return Err(failure),
            Some((_, failure)) => self.connection.try_lock().map_err(|_| failure)?,
            None => self.connection.lock().await,
        };
        let usable = |open: &&Arc<Open>| open.publisher.is_connected();
        if let Some(open) = connection.as_ref().filter(usable) {
            return Ok(Arc::clone(open));
        }
        // That of the attempt that this one waited for.
        if let Some((_, failure)) = self.failure().filter(|(at, _)| at.elapsed() < PAUSE) {
            return Err(failure);
        }
        let connected = Publisher::connect(&to()).await;
        let failure = connected.as_ref().err().cloned();
        *self.failed() = failure.map(|failure| (Instant::now(), failure));
        let fresh = Arc::new(Open::new(connected?));
        *connection = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Takes a connection out of use that does not answer any more, though nobody said that it ended: the next message has a new one.
    async fn doubt(&self, silent: &Arc<Open>) {
        if silent.publisher.is_blocked() {
            return;
        }
        let mut connection = self.connection.lock().await;
        if connection
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, silent))
        {
            *connection = None;
        }
    }

    fn failure(&self) -> Option<(Instant, AmqpError)> {
        self.failed().clone()
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Instant, AmqpError)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            proven: Mutex::default(),
            trials: std::array::from_fn(|_| AsyncMutex::default()),
        }
    }

    async fn publish(
        &self,
        exchange: &str,
        message: &Outgoing,
        patience: Duration,
    ) -> Result<(), AmqpError> {
        let route = (exchange.to_owned(), message.routing_key.clone());
        if !self.is_proven(&route) {
            let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&route);
            let trial = usize::try_from(hash % TRIALS as u64).unwrap_or_default();
            let lane = timeout(patience, self.trials[trial].lock()).await;
            let Ok(lane) = lane else {
                let why = "it does not confirm what was sent before".to_owned();
                return Err(AmqpError::Unreachable(why));
            };
            // The one before may have been of the same topic.
            if !self.is_proven(&route) {
                let outcome = self
                    .publisher
                    .publish_on(&lane, exchange, message, patience)
                    .await;
                if matches!(outcome, Ok(()) | Err(AmqpError::Rejected)) {
                    self.prove(route);
                }
                return outcome;
            }
        }
        let outcome = self.publisher.publish(exchange, message, patience).await;
        if matches!(
            outcome,
            Err(AmqpError::Forbidden(_) | AmqpError::NoExchange(_))
        ) {
            self.proven().remove(&route);
        }
        outcome
    }

    fn is_proven(&self, route: &Route) -> bool {
        self.proven().contains(route)
    }

    fn prove(&self, route: Route) {
        let mut proven = self.proven();
        if proven.len() >= PROVEN {
            proven.clear();
        }
        proven.insert(route);
    }

    fn proven(&self) -> MutexGuard<'_, HashSet<Route>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn one_finds_out_for_all_that_a_broker_is_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let calls = AtomicU64::new(0);
        let broker = async {
            // One that hangs up on everybody.
            while let Ok((caller, _)) = listener.accept().await {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(caller);
            }
        };
        let slot = Slot {
            connection: AsyncMutex::default(),
            failure: Mutex::default(),
            used: Mutex::new(Timestamp::UNIX_EPOCH),
        };
        let to = || Destination {
            url: format!("amqp://127.0.0.1:{port}/%2F"),
            identity: None,
            client_properties: BTreeMap::new(),
        };
        let all = || futures::future::join_all((0..100).map(|_| slot.connection(to)));
        let past = || {
            let long_ago = Instant::now().checked_sub(PAUSE * 2);
            let mut failed = slot.failed();
            let (at, _) = failed.as_mut().expect("it failed");
            *at = long_ago.expect("the machine runs for longer");
        };
        let rounds = async {
            for expected in 1..=2 {
                assert!(all().await.iter().all(Result::is_err));
                assert_eq!(calls.load(Ordering::SeqCst), expected);
                assert!(slot.connection(to).await.is_err());
                assert_eq!(calls.load(Ordering::SeqCst), expected, "too early");
                past();
            }
        };
        tokio::select! {
            () = rounds => {}
            () = broker => panic!("the listener ended"),
        }
    }
}
