//! Agents and hubs by seed: hubs vanish, deny and dawdle, the list changes, the agent is killed between any two steps.
//!
//! - `INV-HUB-1`: the certificate of one hub is replaced only by that of another, never by nothing.
//! - `INV-HUB-2`: an agent never asks a hub to take its cluster that is not listed.
//! - `INV-HUB-3`: once the world is quiet, an agent is a member of a listed hub if one takes it, and stays there.

use super::*;

const HUBS: [&str; 3] = ["https://a", "https://b", "https://c"];
const STEP: i64 = 20;

/// Small, and the same everywhere (splitmix64).
struct Prng(u64);

impl Prng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

#[derive(Clone, Copy, Debug)]
struct Hub {
    up: bool,
    /// Whether the cluster is there, and whether it is accepted.
    cluster: Option<bool>,
    /// Whether clusters that ask are accepted and get a certificate.
    welcoming: bool,
    /// Whether it was accepted and is not any more.
    denied: bool,
}

/// What one process knows.
struct Process {
    at: Option<(usize, Timestamp, Timestamp)>,
    verdicts: BTreeMap<String, (Verdict, Timestamp)>,
}

struct World {
    prng: Prng,
    now: Timestamp,
    hubs: [Hub; 3],
    listed: Vec<String>,
    /// The hub of the stored certificate.
    kept: Option<usize>,
    process: Process,
    moves: usize,
}

fn index(hub: &str) -> usize {
    HUBS.iter().position(|known| *known == hub).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let hub = Hub {
            up: true,
            cluster: None,
            welcoming: true,
            denied: false,
        };
        Self {
            prng: Prng(seed),
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            hubs: [hub; 3],
            listed: vec![HUBS[0].to_owned()],
            kept: None,
            process: Self::start(),
            moves: 0,
        }
    }

    fn start() -> Process {
        Process {
            at: None,
            verdicts: BTreeMap::new(),
        }
    }

    fn standing(&self, hub: usize) -> Standing {
        match self.hubs[hub] {
            Hub { cluster: None, .. } => Standing::Unknown,
            Hub {
                cluster: Some(true),
                ..
            } => Standing::Accepted,
            Hub { denied: true, .. } => Standing::Denied,
            Hub { .. } => Standing::Waiting,
        }
    }

    /// One thing goes wrong, or right.
    fn fate(&mut self) {
        let hub = (self.prng.next() % 3) as usize;
        match self.prng.next() % 12 {
            0 => self.hubs[hub].up = false,
            1 | 2 => self.hubs[hub].up = true,
            3 if self.hubs[hub].cluster == Some(true) => {
                self.hubs[hub].cluster = Some(false);
                self.hubs[hub].denied = true;
            }
            4 if self.hubs[hub].cluster.is_some() => self.accept(hub),
            5 => self.hubs[hub].cluster = None,
            6 => self.hubs[hub].welcoming = !self.hubs[hub].welcoming,
            7 => self.relist(),
            8 | 9 => self.process = Self::start(),
            _ => {}
        }
    }

    fn accept(&mut self, hub: usize) {
        self.hubs[hub].cluster = Some(true);
        self.hubs[hub].denied = false;
    }

    fn relist(&mut self) {
        let mut listed: Vec<String> = Vec::new();
        for _ in 0..=self.prng.next() % 3 {
            let hub = HUBS[(self.prng.next() % 3) as usize].to_owned();
            if !listed.contains(&hub) {
                listed.push(hub);
            }
        }
        self.listed = listed;
    }

    fn plan(&self) -> Step {
        let at = self.process.at.map(|(hub, since, heard)| At {
            hub: HUBS[hub],
            since,
            standing: if heard < self.now {
                Standing::Unknown
            } else {
                self.standing(hub)
            },
            certified: self.kept == Some(hub),
            heard,
        });
        let seen = Seen {
            listed: &self.listed,
            kept: self.kept.map(|hub| HUBS[hub]),
            at,
            verdicts: &self.process.verdicts,
            timeout: DEFAULT_TIMEOUT,
        };
        plan(&seen, self.now)
    }

    /// The agent does one step, and what it does at its hub.
    fn step(&mut self) {
        match self.plan() {
            Step::Try(hub) => {
                let verdict = self.look(index(&hub));
                self.process.verdicts.insert(hub, (verdict, self.now));
            }
            Step::Go { hub, .. } => {
                self.process.at = Some((index(&hub), self.now, self.now));
                self.moves += 1;
            }
            Step::Wait(_) => self.now += SignedDuration::from_secs(STEP),
        }
        // A hub accepts by policy who asked, whether the agent is there or not.
        for hub in 0..HUBS.len() {
            let one = self.hubs[hub];
            if one.up && one.welcoming && one.cluster == Some(false) && !one.denied {
                self.accept(hub);
            }
        }
        self.belong();
    }

    fn look(&self, hub: usize) -> Verdict {
        let certified = self.kept == Some(hub);
        let listed = self.listed.iter().any(|known| known == HUBS[hub]);
        match (self.hubs[hub], self.standing(hub)) {
            (Hub { up: false, .. }, _) => Verdict::Unreachable,
            (_, Standing::Accepted) => Verdict::Accepted,
            (_, Standing::Denied) => Verdict::Denied,
            (_, Standing::Waiting) => Verdict::Undecided,
            // Its certificate alone lets nobody make a cluster.
            (_, Standing::Unknown) if certified && !listed => Verdict::Refused,
            (_, Standing::Unknown) => Verdict::Absent,
        }
    }

    /// What the registration at one hub does: make the cluster, wait for the certificate, renew the lease.
    fn belong(&mut self) {
        let Some((hub, since, _)) = self.process.at else {
            return;
        };
        if !self.hubs[hub].up {
            return;
        }
        self.process.at = Some((hub, since, self.now));
        let listed = self.listed.iter().any(|known| known == HUBS[hub]);
        if self.hubs[hub].cluster.is_none() && listed {
            self.hubs[hub].cluster = Some(false);
            self.hubs[hub].denied = false;
        }
        if self.hubs[hub].welcoming && self.hubs[hub].cluster == Some(true) && listed {
            self.kept = Some(hub);
        }
    }

    fn is_member(&self) -> bool {
        let Some((hub, ..)) = self.process.at else {
            return false;
        };
        let listed = self.listed.iter().any(|known| known == HUBS[hub]);
        self.kept == Some(hub) && self.hubs[hub].cluster == Some(true) && listed
    }
}

fn run(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    for _ in 0..400 {
        if world.prng.one_in(3) {
            world.fate();
        }
        let (kept, hubs) = (world.kept, world.hubs);
        world.step();
        if kept.is_some() && world.kept.is_none() {
            return Err("INV-HUB-1: the certificate is lost".to_owned());
        }
        for (hub, before) in hubs.iter().enumerate() {
            let made = before.cluster.is_none() && world.hubs[hub].cluster.is_some();
            if made && !world.listed.iter().any(|known| known == HUBS[hub]) {
                return Err(format!("INV-HUB-2: made the cluster on {}", HUBS[hub]));
            }
        }
    }
    // All is well again: every hub answers, and those that did not deny the cluster take it.
    for hub in &mut world.hubs {
        hub.up = true;
        hub.welcoming = true;
    }
    let takes = |world: &World| {
        let mut listed = world.listed.iter().map(|hub| index(hub));
        listed.any(|hub| !matches!(world.standing(hub), Standing::Denied))
    };
    for _ in 0..600 {
        world.step();
    }
    if takes(&world) && !world.is_member() {
        return Err(format!(
            "INV-HUB-3: at {:?}, listed {:?}, hubs {:?}",
            world.process.at, world.listed, world.hubs
        ));
    }
    let moves = world.moves;
    for _ in 0..300 {
        world.step();
    }
    if takes(&world) && world.moves != moves {
        return Err(format!(
            "INV-HUB-3: it does not come to rest: {:?}",
            world.listed
        ));
    }
    Ok(())
}

#[test]
fn an_agent_is_never_lost_between_hubs() {
    let seeds = std::env::var("SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(1..=1500, |seed: u64| seed..=seed);
    for seed in seeds {
        if let Err(broken) = run(seed) {
            panic!("SIM_SEED={seed}: {broken}");
        }
    }
}
