//! What a bus may do wrong, from a seed, in the time of the runtime.

use std::collections::BTreeMap;
use std::time::Duration;

use drover_protocol::CloudEvent;
use futures::stream::{self, BoxStream, StreamExt as _};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, sleep_until};

use crate::link::TransportError;

/// What a bus does wrong. All chances are between 0 and 1; the default does everything right.
///
/// With one seed, one sequence of calls and a paused runtime (`tokio::time::pause`) the same goes wrong every time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Where chance comes from.
    pub seed: u64,
    /// Chance that an event does not reach a subscriber, though its sender is told that the bus took it. Only a resync
    /// repairs that: by a new link, or by `DriverConfig::resync_every` of the client.
    pub loss: f64,
    /// Chance that a subscriber gets an event twice.
    pub duplicate: f64,
    /// Chance that an event may be overtaken by later ones, or overtake.
    pub reorder: f64,
    /// Longest time that an event takes.
    pub delay: Duration,
    /// Chance that the sender's link breaks while it sends; the event arrives all the same, or not.
    pub cut: f64,
}

/// An event on its way to one subscriber.
pub(super) struct Parcel {
    due: Instant,
    event: CloudEvent,
}

/// The dice of a bus.
pub(super) struct Dice {
    faults: Faults,
    random: SmallRng,
}

/// Whether a sender's link holds, and whether what it sends arrives.
pub(super) struct Sending {
    pub(super) link_holds: bool,
    pub(super) arrives: bool,
}

impl Dice {
    pub(super) fn new(faults: Faults) -> Self {
        let random = SmallRng::seed_from_u64(faults.seed);
        Self { faults, random }
    }

    fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.random.random_bool(chance.clamp(0.0, 1.0))
    }

    pub(super) fn sending(&mut self) -> Sending {
        let link_holds = !self.chance(self.faults.cut);
        Sending {
            link_holds,
            arrives: link_holds || self.chance(0.5),
        }
    }

    /// When the copies of an event reach a subscriber. `last` is when the one before does: order is kept unless it is not.
    pub(super) fn copies(&mut self, last: &mut Option<Instant>) -> Vec<Instant> {
        let mut due = Vec::new();
        let loss = self.faults.loss;
        if self.chance(loss) {
            return due;
        }
        let copies = 1 + usize::from(self.chance(self.faults.duplicate));
        for _ in 0..copies {
            let longest = u64::try_from(self.faults.delay.as_micros()).unwrap_or(u64::MAX);
            let takes = Duration::from_micros(self.random.random_range(0..=longest));
            let mut at = Instant::now() + takes;
            if !self.chance(self.faults.reorder) {
                at = last.map_or(at, |last| last.max(at));
                *last = Some(at);
            }
            due.push(at);
        }
        due
    }
}

impl Parcel {
    pub(super) fn now(event: CloudEvent) -> Self {
        Self::at(Instant::now(), event)
    }

    pub(super) fn at(due: Instant, event: CloudEvent) -> Self {
        Self { due, event }
    }
}

struct Waiting {
    parcels: mpsc::Receiver<Parcel>,
    /// By time, then in the order of sending.
    waiting: BTreeMap<(Instant, u64), CloudEvent>,
    count: u64,
}

impl Waiting {
    fn keep(&mut self, Parcel { due, event }: Parcel) {
        self.count += 1;
        self.waiting.insert((due, self.count), event);
    }

    /// The next event when it is due; `None` when the link was cut, with which what is not due yet is lost.
    async fn next(&mut self) -> Option<CloudEvent> {
        loop {
            let cut = loop {
                match self.parcels.try_recv() {
                    Ok(parcel) => self.keep(parcel),
                    Err(error) => break error == TryRecvError::Disconnected,
                }
            };
            let first = self.waiting.keys().next().map(|(due, _)| *due);
            if first.is_some_and(|due| due <= Instant::now()) {
                return self.waiting.pop_first().map(|(_, event)| event);
            }
            if cut {
                return None;
            }
            tokio::select! {
                parcel = self.parcels.recv() => parcel.into_iter().for_each(|parcel| self.keep(parcel)),
                () = until(first) => (),
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The events of a link, each when it is due.
pub(super) fn events(
    parcels: mpsc::Receiver<Parcel>,
) -> BoxStream<'static, Result<CloudEvent, TransportError>> {
    let waiting = Waiting {
        parcels,
        waiting: BTreeMap::new(),
        count: 0,
    };
    stream::unfold(waiting, async |mut waiting| {
        let event = waiting.next().await?;
        Some((Ok(event), waiting))
    })
    .boxed()
}
