//! What kind of world a seed makes.

use crate::prng::Prng;

/// What lies between sources and agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// A bus that loses, doubles, delays and reorders, and heals by a new link for everybody.
    Careless,
    /// A bus that keeps its word as real brokers do: what it took reaches everybody who is there, in order (some of it
    /// twice), and nobody who is away. It heals by those coming back who are away, and by nothing else.
    Orderly,
    /// A hub behind a broker: a bounded queue for each subscriber, who is cut off when it overflows; calls are answered in any
    /// order.
    Broker,
}

/// A rule that a world undoes from outside, to show that it would notice its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// Every status looks like the newest: as if sequence ids were not compared.
    StatusesLookNew,
    /// Every spec looks at least as new as the copy: as if generations were not compared.
    SpecsLookNew,
    /// Whoever speaks is taken for the owner: as if sources were not told apart.
    EverybodyOwns,
    /// Events look as if they were for whoever gets them.
    EverybodyIsMeant,
    /// Agents do not ask for what they missed.
    NobodyAsks,
    /// The transport says that it took what it did not take.
    LyingTransport,
    /// An agent is not told which sequence ids it used in an earlier life.
    ForgottenSequences,
}

/// The size and the nature of a world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) network: Network,
    pub(crate) sabotage: Sabotage,
    pub(crate) sources: usize,
    pub(crate) clusters: usize,
    pub(crate) names: usize,
    pub(crate) steps: usize,
    /// Events that an end may have in flight at once.
    pub(crate) window: usize,
    /// Events that may wait for a subscriber of the broker.
    pub(crate) queue: usize,
    /// Percent of sendings that fail for the sender.
    pub(crate) failing: u64,
    /// Percent of deliveries that a bus makes twice.
    pub(crate) doubled: u64,
    /// Percent that a careless bus loses.
    pub(crate) lost: u64,
    /// Percent that a careless bus keeps back for long.
    pub(crate) late: u64,
    /// How far a careless bus reorders.
    pub(crate) reordered: usize,
    /// Whether clocks are wrong and jump.
    pub(crate) clocks: bool,
    /// Whether sources store rows, which say what was sent.
    pub(crate) stores: bool,
    /// Whether sources may lose what they kept.
    pub(crate) amnesia: bool,
}

impl Scenario {
    pub(crate) fn of(seed: u64, sabotage: Sabotage) -> Self {
        let mut prng = Prng::new(seed, u64::MAX);
        let network = [Network::Careless, Network::Orderly, Network::Broker][prng.below(3)];
        let amnesia = prng.chance(25);
        Self {
            network,
            sabotage,
            sources: if network == Network::Broker {
                0
            } else {
                1 + prng.below(3)
            },
            clusters: 1 + prng.below(3),
            names: [1, 1, 2, 3][prng.below(4)],
            steps: [60, 150, 300][prng.below(3)],
            window: [1, 3, 8][prng.below(3)],
            queue: [2, 3, 8][prng.below(3)],
            failing: [0, 5, 20][prng.below(3)],
            doubled: [0, 5, 20][prng.below(3)],
            lost: [0, 5, 20][prng.below(3)],
            late: [0, 5, 25][prng.below(3)],
            reordered: [1, 3, 12][prng.below(3)],
            clocks: prng.chance(50),
            stores: amnesia || prng.chance(50),
            amnesia,
        }
    }
}
