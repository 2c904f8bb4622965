//! The same inside one process: sources and agents on a bus, for tests, simulations and `--ephemeral` fleets.
//!
//! ```
//! use std::time::Duration;
//! use drover_transport::memory::{Faults, MemoryBus};
//!
//! // A tenth of all events is lost, some come twice or too early, and links break.
//! let bus = MemoryBus::with_faults(Faults {
//!     seed: 7,
//!     loss: 0.1,
//!     duplicate: 0.05,
//!     reorder: 0.2,
//!     delay: Duration::from_millis(50),
//!     cut: 0.01,
//! });
//! // … sources and agents live on clones of it; then the network is well again, and they must agree.
//! bus.set_faults(Faults::default());
//! ```

mod faults;

use std::sync::{Arc, Mutex, PoisonError};

use drover_protocol::{CloudEvent, EventType, names};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::faults::{Dice, Parcel};
use crate::link::{Link, Publisher, Subscription, Transport, TransportError};

pub use self::faults::Faults;

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
    /// Without, nothing goes wrong.
    dice: Option<Dice>,
}

struct Member {
    number: u64,
    role: Subscription,
    events: mpsc::Sender<Parcel>,
    /// When the last event in order arrives.
    last: Option<Instant>,
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

    /// A bus that does wrong.
    pub fn with_faults(faults: Faults) -> Self {
        let bus = Self::default();
        bus.set_faults(faults);
        bus
    }

    /// From now on the bus does wrong in this way; the default heals it. What is on its way stays there.
    pub fn set_faults(&self, faults: Faults) {
        let right = Faults {
            seed: faults.seed,
            ..Faults::default()
        };
        self.0.state().dice = (faults != right).then(|| Dice::new(faults));
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
                last: None,
            });
            drop(state);
            Ok(Link {
                publisher: Arc::new(MemoryPublisher {
                    bus,
                    number,
                    role: subscription,
                }),
                events: faults::events(receiver),
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
            let State { members, dice, .. } = &mut *state;
            let sending = dice.as_mut().map(Dice::sending);
            let (holds, arrives) = sending.map_or((true, true), |s| (s.link_holds, s.arrives));
            members.retain_mut(|member| {
                if member.number == self.number {
                    return holds;
                }
                let wants = arrives && member.wants(&self.role, &event, &event_type);
                !wants || member.take(&event, dice.as_mut())
            });
            if !holds {
                return Err(TransportError::Lost("the link broke".to_owned()));
            }
            Ok(())
        })
    }
}

impl Member {
    /// `false` when the subscriber is too slow.
    fn take(&mut self, event: &CloudEvent, dice: Option<&mut Dice>) -> bool {
        let Some(dice) = dice else {
            return self.events.try_send(Parcel::now(event.clone())).is_ok();
        };
        let copies = dice.copies(&mut self.last);
        let mut sent = copies.into_iter().map(|due| {
            let parcel = Parcel::at(due, event.clone());
            self.events.try_send(parcel).is_ok()
        });
        sent.all(|sent| sent)
    }

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
