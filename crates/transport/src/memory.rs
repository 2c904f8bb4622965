//! The same inside one process: sources and agents on a bus, for tests, simulations and `--ephemeral` fleets.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drover_protocol::{CloudEvent, EventType, names};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::link::{Link, Publisher, Subscription, Transport, TransportError};

/// Events that may wait for one subscriber; one that is slower loses its link.
const QUEUE: usize = 4096;

/// A bus. Clones are the same bus.
#[derive(Clone, Default)]
pub struct MemoryBus(Arc<Bus>);

#[derive(Default)]
struct Bus {
    next: AtomicU64,
    down: AtomicBool,
    members: Mutex<Vec<Member>>,
}

struct Member {
    number: u64,
    role: Subscription,
    events: mpsc::Sender<Result<CloudEvent, TransportError>>,
}

struct MemoryPublisher {
    bus: Arc<Bus>,
    number: u64,
    role: Subscription,
}

impl MemoryBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts every link; `false` lets new ones be opened again.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
        if down {
            self.0.members().clear();
        }
    }
}

impl Bus {
    fn members(&self) -> std::sync::MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for MemoryBus {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        let bus = Arc::clone(&self.0);
        Box::pin(async move {
            if bus.down.load(Ordering::SeqCst) {
                return Err(TransportError::Connect {
                    to: "memory".to_owned(),
                    why: "the bus is down".to_owned(),
                });
            }
            let number = bus.next.fetch_add(1, Ordering::SeqCst);
            let (sender, receiver) = mpsc::channel(QUEUE);
            let events = if subscription == Subscription::PublishOnly {
                stream::pending().boxed()
            } else {
                bus.members().push(Member {
                    number,
                    role: subscription.clone(),
                    events: sender,
                });
                ReceiverStream::new(receiver).boxed()
            };
            Ok(Link {
                publisher: Arc::new(MemoryPublisher {
                    bus,
                    number,
                    role: subscription,
                }),
                events,
            })
        })
    }
}

impl Publisher for MemoryPublisher {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            if self.bus.down.load(Ordering::SeqCst) {
                return Err(TransportError::Lost("the bus is down".to_owned()));
            }
            let Ok(event_type) = event.event_type.parse::<EventType>() else {
                return Ok(());
            };
            self.bus.members().retain(|member| {
                member.number == self.number
                    || !member.wants(&self.role, &event, &event_type)
                    || member.events.try_send(Ok(event.clone())).is_ok()
            });
            Ok(())
        })
    }
}

impl Member {
    fn wants(&self, sender: &Subscription, event: &CloudEvent, event_type: &EventType) -> bool {
        let from_source = matches!(sender, Subscription::Source { .. });
        match &self.role {
            Subscription::Agent { cluster, data_type } => {
                let to = event.cluster().unwrap_or_default();
                from_source
                    && event_type.data_type == *data_type
                    && (to.is_empty() || to == cluster)
            }
            Subscription::Source { source, data_type } => {
                let to = event.text(names::EXT_ORIGINAL_SOURCE).unwrap_or_default();
                !from_source
                    && event_type.data_type == *data_type
                    && (to.is_empty() || to == source)
            }
            Subscription::PublishOnly => false,
        }
    }
}
