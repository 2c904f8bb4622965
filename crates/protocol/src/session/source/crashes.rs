//! Seeded worlds in which a source dies at any moment and goes on with the rows that were stored by then.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Row, SourceConfig, SourceSession};
use crate::raw::Raw;
use crate::session::{
    AgentConfig, AgentSession, Aspect, Fate, Input, Output, Session as _, Transmit,
};
use crate::work::Condition;
use crate::{AgentBundleCodec, CloudEvent, SourceBundleCodec, Work, WorkSpec, names};

const NAMES: [&str; 3] = ["a", "b", "c"];

struct World {
    random: u64,
    now: Timestamp,
    source: SourceSession<SourceBundleCodec>,
    agent: AgentSession<AgentBundleCodec>,
    /// Rows in the order in which they were wanted; the first so many are on disk.
    rows: Vec<(String, Row<Work>)>,
    durable: usize,
    /// How many rows must be on disk before what is polled now may leave.
    first: usize,
    held: Vec<(usize, Transmit)>,
    wire: Vec<(bool, CloudEvent)>,
    /// What the owner did, by the number of rows that were wanted then: the value, `None` when deleted.
    deeds: Vec<(usize, &'static str, Option<u64>)>,
}

fn open(rows: &[(String, Row<Work>)], seed: u64) -> SourceSession<SourceBundleCodec> {
    let config = SourceConfig {
        source: "hub-a".into(),
        resync: true,
        seed: seed.into(),
    };
    let last: BTreeMap<_, _> = rows.iter().cloned().collect();
    SourceSession::restored(SourceBundleCodec, config, last)
}

impl World {
    fn new(seed: u64) -> Self {
        let config = AgentConfig {
            agent: "c1-agent".into(),
            cluster: "c1".into(),
            resync: true,
            seed: seed.into(),
        };
        let mut world = Self {
            random: seed,
            now: "2026-05-30T09:00:00Z".parse().unwrap(),
            source: open(&[], seed),
            agent: AgentSession::new(AgentBundleCodec, config),
            rows: Vec::new(),
            durable: 0,
            first: 0,
            held: Vec::new(),
            wire: Vec::new(),
            deeds: Vec::new(),
        };
        world.links();
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn links(&mut self) {
        self.held.clear();
        self.wire.clear();
        for input in [Input::Down, Input::Up] {
            let again = input.clone();
            self.source(|source, now, out| source.handle(now, input, out));
            self.agent.handle(self.now, again, &mut Vec::new());
        }
    }

    fn source<T>(
        &mut self,
        act: impl FnOnce(&mut SourceSession<SourceBundleCodec>, Timestamp, &mut Vec<Output<Work>>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let result = act(&mut self.source, self.now, &mut out);
        for output in out {
            if let Output::Store {
                uid,
                row,
                before_sending,
            } = output
            {
                self.rows.push((uid.to_string(), row));
                if before_sending {
                    self.first = self.rows.len();
                }
            }
        }
        result
    }

    fn owner_acts(&mut self) {
        let (name, deed) = (NAMES[self.below(3)], self.below(3));
        let value = self.random;
        let manifest =
            serde_json::json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "value": value});
        let mut work = Work {
            spec: Arc::new(WorkSpec {
                manifests: vec![Raw::of(&manifest).unwrap()],
                ..WorkSpec::default()
            }),
            ..Work::default()
        };
        (work.metadata.name, work.metadata.namespace) = (name.into(), "c1".into());
        let deleting = |source: &SourceSession<_>| {
            source
                .store()
                .get_named("c1", name)
                .is_some_and(|work: &Arc<Work>| work.metadata.deleting())
        };
        let before = self.rows.len();
        let value = match deed {
            0 => self
                .source(|s, now, out| s.create(now, work, out))
                .ok()
                .map(|_| Some(value)),
            1 if deleting(&self.source) => None,
            1 => self
                .source(|s, _, out| s.update(work, out))
                .ok()
                .map(|_| Some(value)),
            _ => {
                self.source(|s, now, out| s.delete(now, "c1", name, out));
                (self.rows.len() > before).then_some(None)
            }
        };
        if let Some(value) = value {
            self.deeds.push((self.rows.len(), name, value));
        }
    }

    fn agent_acts(&mut self) {
        let works: Vec<_> = self.agent.store().iter().cloned().collect();
        if works.is_empty() {
            return;
        }
        let mut work = Work::clone(&works[self.below(works.len())]);
        let aspect = if work.metadata.deleting() {
            work.metadata.finalizers.clear();
            Aspect::Metadata
        } else if work.metadata.finalizers.is_empty() {
            work.metadata.finalizers = vec![names::WORK_FINALIZER.into()];
            Aspect::Metadata
        } else {
            work.status.conditions = vec![Condition {
                condition_type: "Applied".into(),
                status: "True".into(),
                observed_generation: work.metadata.generation,
                ..Condition::default()
            }];
            Aspect::Status
        };
        drop(self.agent.update(&work, aspect, &mut Vec::new()));
    }

    /// Polls; what is polled leaves when the disk has what it follows from.
    fn send(&mut self, safe: bool) {
        if let Some(transmit) = self.source(super::super::Session::poll_transmit) {
            self.held.push((self.first, transmit));
        }
        let durable = self.durable;
        for (_, transmit) in self.held.extract_if(.., |(first, _)| *first <= durable) {
            let lost = !safe && self.random.is_multiple_of(7);
            let fate = if lost {
                Input::Failed(transmit.ticket, Fate::Retry)
            } else {
                self.wire.push((true, transmit.event));
                Input::Sent(transmit.ticket)
            };
            let mut out = Vec::new();
            self.source.handle(self.now, fate, &mut out);
            for output in out {
                if let Output::Store { uid, row, .. } = output {
                    self.rows.push((uid.to_string(), row));
                }
            }
        }
        if let Some(transmit) = self.agent.poll_transmit(self.now, &mut Vec::new()) {
            self.wire.push((false, transmit.event));
            let sent = Input::Sent(transmit.ticket);
            self.agent.handle(self.now, sent, &mut Vec::new());
        }
    }

    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let (to_agent, event) = self.wire.remove(0);
        if to_agent {
            self.agent
                .handle(self.now, Input::Wire(event), &mut Vec::new());
        } else {
            self.source(|s, now, out| s.handle(now, Input::Wire(event), out));
        }
    }

    /// The disk has exactly what the owner did until then, and no agent has more.
    fn crash(&mut self) {
        self.rows.truncate(self.durable);
        let seed = self.random;
        self.source = open(&self.rows, seed);
        self.first = 0;
        self.deeds.retain(|(number, ..)| *number <= self.durable);
        let mut wanted = BTreeMap::new();
        for (_, name, value) in &self.deeds {
            wanted.insert(*name, *value);
        }
        for name in NAMES {
            let stored = self.source.store().get_named("c1", name);
            let stored = stored.filter(|work| !work.metadata.deleting());
            let value = stored.map(|work| {
                let manifest: serde_json::Value = work.spec.manifests[0].parse().unwrap();
                manifest["value"].as_u64().unwrap()
            });
            assert_eq!(value, wanted.get(name).copied().flatten(), "{name}");
        }
        for work in self.agent.store().iter() {
            let uid = &work.metadata.uid;
            let alive = self
                .source
                .store()
                .get(uid)
                .map(|work| work.metadata.generation);
            let known = alive.or_else(|| self.source.graves().get(uid).copied());
            // What is deleted may be held again for a while after its end was confirmed and its grave was given up.
            assert!(
                work.metadata.deleting()
                    || known.is_none_or(|known| work.metadata.generation <= known),
                "{uid} left before it was stored"
            );
        }
        self.links();
    }

    fn step(&mut self) {
        self.now = self
            .now
            .checked_add(SignedDuration::from_millis(200))
            .unwrap();
        match self.below(20) {
            0..=3 => self.owner_acts(),
            4..=6 => self.agent_acts(),
            7..=11 => self.send(false),
            12..=15 => self.deliver(),
            16..=18 => {
                let waiting = self.rows.len() - self.durable;
                self.durable += self.below(waiting + 1);
            }
            _ => self.crash(),
        }
    }

    fn heal(&mut self) {
        self.durable = self.rows.len();
        self.crash();
        for _ in 0..400 {
            self.now = self
                .now
                .checked_add(SignedDuration::from_millis(200))
                .unwrap();
            self.agent_acts();
            self.durable = self.rows.len();
            self.send(true);
            self.deliver();
            self.deliver();
        }
    }

    fn check_converged(&self) {
        let held = |work: &Arc<Work>| {
            (
                work.metadata.name.clone(),
                work.metadata.generation,
                work.spec.clone(),
                work.status.clone(),
            )
        };
        let owned: Vec<_> = self.source.store().iter().map(held).collect();
        let kept: Vec<_> = self.agent.store().iter().map(held).collect();
        assert_eq!(owned, kept);
        let last: BTreeMap<_, _> = self.rows.iter().cloned().collect();
        for (uid, row) in last {
            let unsent = match row {
                Row::Owned { unsent, .. } => unsent.is_some(),
                Row::Buried { unsent, .. } => unsent.is_some(),
                Row::Nothing => false,
            };
            assert!(!unsent, "{uid} is marked as unsent for ever");
        }
    }
}

/// `SIM_SEED` runs one seed alone, `SIM_SEEDS` that many.
#[test]
fn nothing_stored_is_lost_and_nothing_deleted_comes_back() {
    let given = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let seeds = match given("SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=given("SIM_SEEDS").unwrap_or(300),
    };
    for seed in seeds {
        let run = || {
            let mut world = World::new(seed);
            for _ in 0..200 {
                world.step();
            }
            world.heal();
            world.check_converged();
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
