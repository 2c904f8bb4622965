//! One connection for each identity and broker, shared by all of its messages, closed when nobody needs it any more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_protocol::fedora::Outgoing;
use drover_runtime::clock::Clock;
use drover_transport::amqp::{AmqpError, Destination, Publisher};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use crate::Target;
use crate::secrets::Found;

/// A connection that was not used for so long is closed.
const IDLE: SignedDuration = SignedDuration::from_secs(60);
/// Between two looks for such connections.
const LOOK: Duration = Duration::from_secs(20);

type Key = (String, [u8; 32]);

/// The connections of a publisher.
pub(crate) struct Connections {
    clock: Clock,
    known: Mutex<HashMap<Key, Arc<Slot>>>,
}

struct Slot {
    /// Held while it connects: the others wait for that one attempt.
    connection: AsyncMutex<Option<Arc<Publisher>>>,
    used: Mutex<Timestamp>,
}

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
        let connection = slot.connection(target, found).await?;
        let published = connection
            .publish(&target.exchange, message, patience)
            .await;
        *slot.used.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
        published
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = known.entry(key).or_insert_with(|| {
            Arc::new(Slot {
                connection: AsyncMutex::new(None),
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
                    connection.close().await;
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
    async fn connection(
        &self,
        target: &Target,
        found: &Found,
    ) -> Result<Arc<Publisher>, AmqpError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| open.is_connected()) {
            return Ok(Arc::clone(open));
        }
        let destination = Destination {
            url: target.url.clone(),
            identity: Some(Arc::clone(&found.identity)),
            client_properties: BTreeMap::from([("app".to_owned(), "drover".to_owned())]),
        };
        let fresh = Arc::new(Publisher::connect(&destination).await?);
        *connection = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}
