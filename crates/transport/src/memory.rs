//! The same inside one process: sources and agents on a bus, for tests, simulations and `--ephemeral` fleets.

use std::sync::{Arc, Mutex, PoisonError};

use drover_protocol::{CloudEvent, EventType, names};
use futures::future::BoxFuture;
use futures::stream::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::link::{Link, Publisher, Subscription, Transport, TransportError};

/// Events that may wait for one subscriber; one that is slower loses its link.
const QUEUE: usize = 4096;

/// A bus. Clones are the same bus.
#[derive(Clone, Default)]
pub struct MemoryBus(Arc<Bus>);

#[derive(Default)]
struct Bus(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    down: bool,
    /// The links that are alive.
    members: Vec<Member>,
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

    /// Cuts every link; `false` lets new ones be opened again. A link that was cut never takes an event again.
    pub fn set_down(&self, down: bool) {
        let mut state = self.0.state();
        state.down = down;
        if down {
            state.members.clear();
        }
    }

    /// Cuts the links of one subscription.
    pub fn cut(&self, subscription: &Subscription) {
        let mut state = self.0.state();
        state.members.retain(|member| member.role != *subscription);
    }
}

impl Bus {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for MemoryBus {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        let bus = Arc::clone(&self.0);
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let mut state = bus.state();
            if state.down {
                return Err(TransportError::Connect {
                    to: "memory".to_owned(),
                    why: "the bus is down".to_owned(),
                });
            }
            state.next += 1;
            let number = state.next;
            state.members.push(Member {
                number,
                role: subscription.clone(),
                events: sender,
            });
            drop(state);
            Ok(Link {
                publisher: Arc::new(MemoryPublisher {
                    bus,
                    number,
                    role: subscription,
                }),
                events: ReceiverStream::new(receiver).boxed(),
            })
        })
    }
}

impl Publisher for MemoryPublisher {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            let mut state = self.bus.state();
            // A link that was cut must not take what its owner will believe to be sent: who should have got it may be gone.
            let alive =
                |member: &Member| member.number == self.number && !member.events.is_closed();
            if !state.members.iter().any(alive) {
                return Err(TransportError::Lost("the link was cut".to_owned()));
            }
            let Ok(event_type) = event.event_type.parse::<EventType>() else {
                return Ok(());
            };
            state.members.retain(|member| {
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
