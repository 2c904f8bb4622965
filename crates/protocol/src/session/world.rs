//! Seeded worlds: two sources, two agents, and a network. After it heals, both sides must agree, whatever happened before.
//!
//! One network loses, doubles and reorders, and heals by a new link for everybody. The other keeps its word as real brokers
//! do: what it took reaches everybody who is there, in order, and nobody who is away; it heals by those coming back who are
//! away, and by nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    AgentConfig, AgentSession, Aspect, Change, Fate, Input, Output, Owned, Session, SourceConfig,
    SourceSession,
};
use crate::raw::Raw;
use crate::work::Condition;
use crate::{AgentBundleCodec, CloudEvent, SourceBundleCodec, Work, WorkSpec, names};

const CLUSTERS: [&str; 2] = ["c1", "c2"];
const NAMES: [&str; 3] = ["a", "b", "c"];
const SOURCES: [&str; 2] = ["hub-a", "hub-b"];

struct Prng(u64);

impl Prng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[derive(Clone)]
struct Letter {
    to: Party,
    event: CloudEvent,
}

/// Which end, and which of the two there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Party {
    is_source: bool,
    index: usize,
}

const PARTIES: [Party; 4] = [
    Party {
        is_source: true,
        index: 0,
    },
    Party {
        is_source: true,
        index: 1,
    },
    Party {
        is_source: false,
        index: 0,
    },
    Party {
        is_source: false,
        index: 1,
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Careless,
    Honest,
}

struct Flying {
    from: Party,
    input: Input,
}

struct World {
    prng: Prng,
    now: Timestamp,
    sources: Vec<SourceSession<SourceBundleCodec>>,
    agents: Vec<AgentSession<AgentBundleCodec>>,
    wire: Vec<Letter>,
    /// Sendings whose fate the sender does not know yet.
    flying: Vec<Flying>,
    network: Network,
    healthy: bool,
    away: Vec<Party>,
    /// Highest sequence id that a source accepted, by source and uid.
    accepted: BTreeMap<(usize, String), i64>,
}

fn new_agent(index: usize, seed: u64) -> AgentSession<AgentBundleCodec> {
    let cluster = CLUSTERS[index];
    let config = AgentConfig {
        agent: format!("{cluster}-agent"),
        cluster: cluster.into(),
        resync: true,
        seed: seed.into(),
    };
    AgentSession::new(AgentBundleCodec, config)
}

fn new_source(index: usize, seed: u64, owned: Owned<Work>) -> SourceSession<SourceBundleCodec> {
    let config = SourceConfig {
        source: SOURCES[index].into(),
        resync: true,
        seed: seed.into(),
    };
    SourceSession::new(SourceBundleCodec, config, owned)
}

impl World {
    fn new(seed: u64, network: Network) -> Self {
        let mut world = Self {
            prng: Prng(seed),
            now: "2026-05-30T09:00:00Z".parse().unwrap(),
            sources: (0..2)
                .map(|index| new_source(index, seed ^ 1, Owned::default()))
                .collect(),
            agents: (0..2).map(|index| new_agent(index, seed ^ 2)).collect(),
            wire: Vec::new(),
            flying: Vec::new(),
            network,
            healthy: false,
            away: Vec::new(),
            accepted: BTreeMap::new(),
        };
        world.links(&Input::Up);
        world
    }

    fn links(&mut self, input: &Input) {
        self.flying.clear();
        for party in PARTIES {
            self.feed(party, input.clone());
        }
    }

    fn feed(&mut self, party: Party, input: Input) {
        if party.is_source {
            self.source(party.index, |s, now, out| s.handle(now, input, out));
        } else {
            self.agent(party.index, |a, now, out| a.handle(now, input, out));
        }
    }

    /// Loses the link: what is on its way to the party does not arrive, what it sent may have.
    fn leave(&mut self, party: Party) {
        self.flying.retain(|flying| flying.from != party);
        if self.network == Network::Honest {
            self.wire.retain(|letter| letter.to != party);
            self.away.push(party);
        }
        self.feed(party, Input::Down);
    }

    fn come(&mut self, party: Party) {
        self.away.retain(|other| *other != party);
        self.feed(party, Input::Up);
    }

    /// A new process in place of the old one: an agent that forgot all, a source that kept what it owns.
    fn restart(&mut self, party: Party) {
        self.leave(party);
        let (index, seed) = (party.index, self.prng.next());
        if party.is_source {
            let old = &self.sources[index];
            let owned = Owned {
                objects: old.store().iter().map(|work| Work::clone(work)).collect(),
                graves: old.graves().clone(),
                complete: true,
            };
            self.sources[index] = new_source(index, seed, owned);
        } else {
            self.agents[index] = new_agent(index, seed);
        }
        if self.network == Network::Careless {
            self.come(party);
        }
    }

    fn source<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut SourceSession<SourceBundleCodec>, Timestamp, &mut Vec<Output<Work>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let result = act(&mut self.sources[index], self.now, &mut out);
        for output in &out {
            if let Output::Change(Change::StatusModified(work)) = output {
                let sequence: i64 = work.metadata.annotations[names::ANNOTATION_SEQUENCE_ID]
                    .parse()
                    .unwrap();
                let before = self
                    .accepted
                    .insert((index, work.metadata.uid.clone()), sequence);
                assert!(
                    before.is_none_or(|before| before < sequence),
                    "a status went backwards"
                );
            }
        }
        result
    }

    fn agent<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut AgentSession<AgentBundleCodec>, Timestamp, &mut Vec<Output<Work>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let before: Vec<Arc<Work>> = self.agents[index].store().iter().cloned().collect();
        let result = act(&mut self.agents[index], self.now, &mut out);
        for old in before {
            if let Some(new) = self.agents[index].store().get(&old.metadata.uid) {
                let source =
                    |work: &Work| work.metadata.labels[names::LABEL_ORIGINAL_SOURCE].clone();
                assert_eq!(source(&old), source(new), "a work changed its owner");
                assert!(
                    !old.metadata.deleting() || new.metadata.deleting(),
                    "a deletion was taken back"
                );
            }
        }
        result
    }

    fn step(&mut self) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_millis(self.prng.below(900) as i64))
            .unwrap();
        match self.prng.below(100) {
            0..=14 => self.owner_acts(),
            15..=29 => self.agent_acts(),
            30..=49 => self.send(),
            50..=64 => self.land(),
            65..=94 => self.deliver(),
            95..=96 if self.network == Network::Honest => {
                let party = PARTIES[self.prng.below(4)];
                if self.away.contains(&party) {
                    self.come(party);
                } else {
                    self.leave(party);
                }
            }
            95..=96 => {
                self.links(&Input::Down);
                self.wire.clear();
                self.links(&Input::Up);
            }
            97..=98 => {
                let party = PARTIES[self.prng.below(4)];
                self.restart(party);
            }
            // Only the careless network needs somebody to ask again for no reason.
            _ if self.network == Network::Honest => (),
            _ => {
                let index = self.prng.below(2);
                self.agent(index, |a, now, out| a.handle(now, Input::Resync, out));
                self.source(index, |s, now, out| s.handle(now, Input::Resync, out));
            }
        }
    }

    fn owner_acts(&mut self) {
        let (index, cluster, name) = (
            self.prng.below(2),
            CLUSTERS[self.prng.below(2)],
            NAMES[self.prng.below(3)],
        );
        let value = self.prng.next();
        let manifest =
            serde_json::json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "value": value});
        let spec = WorkSpec {
            manifests: vec![Raw::of(&manifest).unwrap()],
            ..WorkSpec::default()
        };
        let mut work = Work {
            spec: Arc::new(spec),
            ..Work::default()
        };
        (work.metadata.name, work.metadata.namespace) = (name.into(), cluster.into());
        let action = self.prng.below(3);
        self.source(index, |source, now, out| match action {
            0 => drop(source.create(now, work, out)),
            1 => drop(source.update(work, out)),
            _ => source.delete(now, cluster, name, out),
        });
    }

    /// What the controllers of an agent do with one of its works.
    fn agent_acts(&mut self) {
        let index = self.prng.below(2);
        let works: Vec<_> = self.agents[index].store().iter().cloned().collect();
        if works.is_empty() {
            return;
        }
        let mut work = Work::clone(&works[self.prng.below(works.len())]);
        let aspect = if work.metadata.deleting() {
            work.metadata.finalizers.clear();
            Aspect::Metadata
        } else if work.metadata.finalizers.is_empty() {
            work.metadata.finalizers = vec![names::WORK_FINALIZER.into()];
            Aspect::Metadata
        } else {
            work.status.conditions = vec![applied(&work)];
            Aspect::Status
        };
        self.agent(index, |agent, _, out| {
            drop(agent.update(&work, aspect, out));
        });
    }

    fn send(&mut self) {
        let (from_source, index) = (self.prng.chance(50), self.prng.below(2));
        let transmit = if from_source {
            self.source(index, Session::poll_transmit)
        } else {
            self.agent(index, Session::poll_transmit)
        };
        let Some(transmit) = transmit else { return };
        let failed = !self.healthy && self.prng.chance(10);
        let input = if failed {
            Input::Failed(transmit.ticket, Fate::Retry)
        } else {
            Input::Sent(transmit.ticket)
        };
        let from = Party {
            is_source: from_source,
            index,
        };
        self.flying.push(Flying { from, input });
        // A sending that failed for the sender may have arrived all the same.
        let copies = match self.network {
            Network::Honest if failed => self.prng.below(2),
            Network::Honest => 1,
            Network::Careless if self.healthy => 1,
            Network::Careless => [0, 1, 1, 1, 1, 2][self.prng.below(6)],
        };
        for to in PARTIES {
            if to.is_source == from_source || self.away.contains(&to) {
                continue;
            }
            for _ in 0..copies {
                self.wire.push(Letter {
                    to,
                    event: transmit.event.clone(),
                });
            }
        }
    }

    /// A sender learns the fate of one of its sendings.
    fn land(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.prng.below(self.flying.len());
        let Flying { from, input } = self.flying.remove(at);
        self.feed(from, input);
    }

    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let at = if self.healthy {
            0
        } else {
            self.prng.below(self.wire.len().min(8))
        };
        let at = match self.network {
            Network::Careless => Some(at),
            // Everybody's own letters stay in order.
            Network::Honest => {
                let to = self.wire[at].to;
                self.wire.iter().position(|letter| letter.to == to)
            }
        };
        let Some(Letter { to, event }) = at.map(|at| self.wire.remove(at)) else {
            return;
        };
        // The wire carries bytes.
        let event = CloudEvent::from_json(&event.to_json()).unwrap();
        self.feed(to, Input::Wire(event));
    }

    fn quiesce(&mut self) {
        for _ in 0..1500 {
            self.now = self
                .now
                .checked_add(SignedDuration::from_millis(200))
                .unwrap();
            self.agent_acts();
            for _ in 0..2 {
                self.send();
                self.deliver();
                self.deliver();
                self.land();
            }
        }
        assert!(self.wire.is_empty(), "the world does not come to rest");
    }

    fn heal(&mut self) {
        self.healthy = true;
        if self.network == Network::Honest {
            while !self.away.is_empty() {
                let party = self.away[self.prng.below(self.away.len())];
                self.come(party);
                for _ in 0..self.prng.below(20) {
                    self.send();
                    self.deliver();
                    self.land();
                }
            }
            return self.quiesce();
        }
        for _ in 0..2 {
            self.links(&Input::Down);
            self.links(&Input::Up);
            self.quiesce();
        }
    }

    fn check_converged(&self) {
        for source in &self.sources {
            for work in source.store().iter() {
                assert!(
                    !work.metadata.deleting(),
                    "{} is deleted for ever",
                    work.metadata.name
                );
            }
        }
        for (index, agent) in self.agents.iter().enumerate() {
            let mut wanted = 0;
            for source in &self.sources {
                for work in source.store().in_namespace(CLUSTERS[index]) {
                    wanted += 1;
                    let held = agent
                        .store()
                        .get(&work.metadata.uid)
                        .expect("the agent misses a work");
                    assert_eq!(held.metadata.generation, work.metadata.generation);
                    assert_eq!(held.spec, work.spec);
                    assert_eq!(held.status, work.status, "statuses differ");
                    assert_eq!(
                        work.status.conditions[0].observed_generation,
                        work.metadata.generation
                    );
                }
            }
            assert_eq!(
                agent.store().len(),
                wanted,
                "the agent holds what nobody wants"
            );
        }
    }
}

fn applied(work: &Work) -> Condition {
    Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        observed_generation: work.metadata.generation,
        ..Condition::default()
    }
}

fn run(seed: u64, network: Network) {
    let mut world = World::new(seed, network);
    for _ in 0..300 {
        world.step();
    }
    world.heal();
    world.check_converged();
}

/// `SIM_SEED` runs one seed alone, `SIM_SEEDS` that many.
#[track_caller]
fn check_worlds(network: Network) {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        return run(seed.parse().unwrap(), network);
    }
    let seeds = std::env::var("SIM_SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed, network)) {
            eprintln!("SIM_SEED={seed} {network:?}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn worlds_heal_by_new_links() {
    check_worlds(Network::Careless);
}

#[test]
fn worlds_heal_when_those_who_were_away_are_back() {
    check_worlds(Network::Honest);
}
