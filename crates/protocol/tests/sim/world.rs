//! One seeded world: its ends, its network, its time.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_protocol::session::{
    AgentConfig, AgentSession, Fate, Input, Output, Owned, Row, Session, SourceConfig,
    SourceSession, Ticket, Transmit,
};
use drover_protocol::{AgentBundleCodec, CloudEvent, SourceBundleCodec, Work};
use jiff::{SignedDuration, Timestamp};

use crate::hub::Hub;
use crate::oracle::{Facts, Oracle};
use crate::prng::Prng;
use crate::sabotage;
use crate::scenario::{Network, Sabotage, Scenario};

/// Names that all sources use.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// An end of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    Source(usize),
    Agent(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    Up,
    /// Cut, and the end has not noticed.
    Cut,
    Down,
}

/// A session and what surrounds it.
pub(crate) struct End<S> {
    pub(crate) session: S,
    pub(crate) link: LinkState,
    /// What its clock is wrong by.
    pub(crate) skew: SignedDuration,
    pub(crate) flying: Vec<Flight>,
}

/// A sending whose fate the sender does not know yet.
pub(crate) struct Flight {
    ticket: Ticket,
    /// What the hub gets when it lands; a bus carries it from the start.
    call: Option<CloudEvent>,
    fate: Option<Fate>,
}

/// What a bus carries.
pub(crate) struct Letter {
    to: Party,
    event: CloudEvent,
    /// Kept back until this step.
    until: usize,
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) step: usize,
    pub(crate) now: Timestamp,
    pub(crate) sources: Vec<End<SourceSession<SourceBundleCodec>>>,
    pub(crate) agents: Vec<End<AgentSession<AgentBundleCodec>>>,
    /// What each source stored.
    pub(crate) rows: Vec<BTreeMap<String, Row<Work>>>,
    pub(crate) hub: Option<Hub>,
    pub(crate) wire: Vec<Letter>,
    pub(crate) oracle: Oracle,
    pub(crate) healthy: bool,
    /// Numbers of changes.
    pub(crate) values: u64,
    /// What happened, if somebody wants to read it.
    pub(crate) trace: Option<Vec<String>>,
    /// Sequence ids for statuses that shall look new.
    pub(crate) forged: i64,
}

pub(crate) fn cluster(index: usize) -> &'static str {
    ["c1", "c2", "c3"][index]
}

pub(crate) fn source_id(index: usize) -> &'static str {
    ["hub-a", "hub-b", "hub-c"][index]
}

impl Party {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source(index) => source_id(index),
            Self::Agent(index) => cluster(index),
        }
    }

    pub(crate) fn is_source(self) -> bool {
        matches!(self, Self::Source(_))
    }
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario, traced: bool) -> Self {
        let mut prng = Prng::new(seed, u64::MAX - 1);
        let mut world = Self {
            scenario,
            seed,
            step: 0,
            now: "2026-05-30T09:00:00Z".parse().expect("a time"),
            sources: Vec::new(),
            agents: Vec::new(),
            rows: vec![BTreeMap::new(); scenario.sources],
            hub: None,
            wire: Vec::new(),
            oracle: Oracle::new(scenario.network != Network::Careless),
            healthy: false,
            values: 0,
            trace: traced.then(Vec::new),
            forged: 1 << 60,
        };
        if scenario.network == Network::Broker {
            world.hub = Some(Hub::new(seed, scenario.queue));
        }
        for index in 0..scenario.sources {
            let session = world.new_source(index, prng.next(), Owned::default());
            world.sources.push(end(session));
        }
        for index in 0..scenario.clusters {
            let session = world.new_agent(index, prng.next());
            world.agents.push(end(session));
        }
        for party in world.parties() {
            if scenario.clocks {
                world.set_clock(&mut prng, party);
            }
            world.come(party);
        }
        world
    }

    /// A source as it starts: with the rows that it stored, or with what its owner kept in a way of its own, which does not say
    /// what was sent.
    pub(crate) fn new_source(
        &self,
        index: usize,
        seed: u64,
        owned: Owned<Work>,
    ) -> SourceSession<SourceBundleCodec> {
        let config = SourceConfig {
            source: source_id(index).into(),
            resync: true,
            seed: seed.into(),
        };
        if self.scenario.stores {
            SourceSession::restored(SourceBundleCodec, config, self.rows[index].clone())
        } else {
            SourceSession::new(SourceBundleCodec, config, owned)
        }
    }

    pub(crate) fn new_agent(&self, index: usize, seed: u64) -> AgentSession<AgentBundleCodec> {
        let config = AgentConfig {
            agent: format!("{}-agent", cluster(index)),
            cluster: cluster(index).into(),
            resync: self.scenario.sabotage != Sabotage::NobodyAsks,
            seed: seed.into(),
        };
        AgentSession::new(AgentBundleCodec, config)
    }

    pub(crate) fn parties(&self) -> Vec<Party> {
        let sources = (0..self.scenario.sources).map(Party::Source);
        sources
            .chain((0..self.scenario.clusters).map(Party::Agent))
            .collect()
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace
            && self.oracle.violation.is_none()
        {
            trace.push(format!("{:>4} {}", self.step, what()));
        }
    }

    pub(crate) fn link(&mut self, party: Party) -> &mut LinkState {
        match party {
            Party::Source(index) => &mut self.sources[index].link,
            Party::Agent(index) => &mut self.agents[index].link,
        }
    }

    pub(crate) fn flying(&mut self, party: Party) -> &mut Vec<Flight> {
        match party {
            Party::Source(index) => &mut self.sources[index].flying,
            Party::Agent(index) => &mut self.agents[index].flying,
        }
    }

    /// Sets a clock wrong, back or forth, by up to five days.
    pub(crate) fn set_clock(&mut self, prng: &mut Prng, party: Party) {
        let most = [1_000, 3_600_000, 5 * 86_400_000][prng.below(3)];
        let skew = SignedDuration::from_millis(prng.below(2 * most) as i64 - most as i64);
        match party {
            Party::Source(index) => self.sources[index].skew = skew,
            Party::Agent(index) => self.agents[index].skew = skew,
        }
        self.note(|| format!("the clock of {} is wrong by {skew:?}", party.name()));
    }

    pub(crate) fn clock(&self, party: Party) -> Timestamp {
        let skew = match party {
            Party::Source(index) => self.sources[index].skew,
            Party::Agent(index) => self.agents[index].skew,
        };
        self.now.checked_add(skew).unwrap_or(self.now)
    }

    pub(crate) fn pass(&mut self, milliseconds: usize) {
        let time = SignedDuration::from_millis(milliseconds as i64);
        self.now = self.now.checked_add(time).unwrap_or(self.now);
    }

    /// Lets a source do something, and looks at what came of it.
    pub(crate) fn source<T>(
        &mut self,
        index: usize,
        facts: Option<&Facts>,
        act: impl FnOnce(&mut SourceSession<SourceBundleCodec>, Timestamp, &mut Vec<Output<Work>>) -> T,
    ) -> T {
        let now = self.clock(Party::Source(index));
        let mut out = Vec::new();
        let result = act(&mut self.sources[index].session, now, &mut out);
        self.note_outputs(Party::Source(index), &out);
        for output in &out {
            if let Output::Store { uid, row, .. } = output {
                self.rows[index].insert(uid.to_string(), row.clone());
            }
        }
        self.oracle.source(source_id(index), &out, facts);
        let session = &self.sources[index].session;
        let resources = NAMES.len() * self.scenario.clusters;
        // Agents list the works of all sources: each may be ordered to be deleted, which agents ignore.
        let listed = resources * self.scenario.sources;
        let bound = listed + self.scenario.clusters + 1 + self.scenario.window;
        let who = source_id(index);
        self.oracle.owed(who, session.owed(), bound);
        self.oracle.owed(who, session.graves().len(), resources);
        result
    }

    /// Lets an agent do something, and looks at what came of it.
    pub(crate) fn agent<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut AgentSession<AgentBundleCodec>, Timestamp, &mut Vec<Output<Work>>) -> T,
    ) -> T {
        let now = self.clock(Party::Agent(index));
        let mut out = Vec::new();
        let before: Vec<Arc<Work>> = self.agents[index].session.store().iter().cloned().collect();
        let result = act(&mut self.agents[index].session, now, &mut out);
        self.note_outputs(Party::Agent(index), &out);
        let session = &self.agents[index].session;
        self.oracle
            .agent(index, cluster(index), &before, session.store());
        let resources = NAMES.len() * self.scenario.sources.max(1) + before.len();
        let bound = resources + self.scenario.sources + 1;
        self.oracle.owed(cluster(index), session.owed(), bound);
        result
    }

    fn note_outputs(&mut self, party: Party, out: &[Output<Work>]) {
        if self.trace.is_none() {
            return;
        }
        for output in out {
            let text = match output {
                Output::Change(change) => {
                    let kind = format!("{change:?}");
                    let kind = kind.split('(').next().unwrap_or_default().to_owned();
                    let work = change.object();
                    let deleting = if work.metadata.deleting() {
                        " deleting"
                    } else {
                        ""
                    };
                    format!(
                        "{kind} {}/{} generation {}{deleting} ({})",
                        work.metadata.namespace,
                        work.metadata.name,
                        work.metadata.generation,
                        &work.metadata.uid[..8]
                    )
                }
                Output::Dropped(dropped) => {
                    format!("drops: {} ({})", dropped.why, dropped.cause.as_str())
                }
                Output::WakeAt(_) | Output::Store { .. } => continue,
            };
            self.note(|| format!("       {}: {text}", party.name()));
        }
    }

    pub(crate) fn feed(&mut self, party: Party, input: Input) {
        match party {
            Party::Source(index) => {
                self.source(index, None, |s, now, out| s.handle(now, input, out));
            }
            Party::Agent(index) => {
                self.agent(index, |a, now, out| a.handle(now, input, out));
            }
        }
    }

    fn poll(&mut self, party: Party) -> Option<Transmit> {
        match party {
            Party::Source(index) => self.source(index, None, Session::poll_transmit),
            Party::Agent(index) => self.agent(index, Session::poll_transmit),
        }
    }

    /// The link of an end breaks. What is on its way to it does not arrive, what it sent may have.
    pub(crate) fn cut(&mut self, party: Party) {
        self.note(|| format!("the link of {} breaks", party.name()));
        *self.link(party) = LinkState::Cut;
        if self.scenario.network == Network::Orderly {
            self.wire.retain(|letter| letter.to != party);
        }
        if let (Some(hub), Party::Agent(index)) = (&mut self.hub, party) {
            hub.unsubscribe(index);
        }
    }

    /// An end sees that its link is broken.
    pub(crate) fn notice(&mut self, party: Party) {
        self.note(|| format!("{} sees that its link is broken", party.name()));
        *self.link(party) = LinkState::Down;
        self.flying(party).clear();
        self.feed(party, Input::Down);
    }

    /// An end gets a new link.
    pub(crate) fn come(&mut self, party: Party) {
        self.note(|| format!("{} has a link", party.name()));
        *self.link(party) = LinkState::Up;
        if let (Some(hub), Party::Agent(index)) = (&mut self.hub, party) {
            hub.subscribe(index);
        }
        self.feed(party, Input::Up);
    }

    /// Links that the broker ended are as good as cut.
    pub(crate) fn see_cut_offs(&mut self) {
        let Some(hub) = &self.hub else { return };
        for (index, agent) in self.agents.iter_mut().enumerate() {
            if agent.link == LinkState::Up && !hub.subscribed(index) {
                agent.link = LinkState::Cut;
            }
        }
    }

    /// Sends one event of an end, if it owes one and may have more in flight.
    pub(crate) fn send(&mut self, prng: &mut Prng, party: Party) {
        if self.flying(party).len() >= self.scenario.window {
            return;
        }
        let Some(Transmit { ticket, event, .. }) = self.poll(party) else {
            return;
        };
        let failed = !self.healthy && prng.chance(self.scenario.failing);
        // A sending that failed for the sender may have arrived all the same.
        let arrives = *self.link(party) == LinkState::Up && (!failed || prng.chance(50));
        let mut fate = failed.then_some(Fate::Retry);
        if self.scenario.sabotage == Sabotage::LyingTransport {
            fate = None;
        }
        let how = match (arrives, failed) {
            (true, false) => "",
            (true, true) => ", fails and arrives",
            (false, _) => ", lost",
        };
        self.note(|| format!("{} sends {}{how}", party.name(), describe(&event)));
        let mut call = None;
        if self.hub.is_some() {
            call = arrives.then_some(event);
        } else if arrives {
            self.carry(prng, party, &event);
        }
        let flight = Flight { ticket, call, fate };
        self.flying(party).push(flight);
    }

    /// The bus takes an event: for everybody on the other side who is there.
    fn carry(&mut self, prng: &mut Prng, from: Party, event: &CloudEvent) {
        let careless = self.scenario.network == Network::Careless;
        for to in self.parties() {
            if to.is_source() == from.is_source() || *self.link(to) != LinkState::Up {
                continue;
            }
            if careless && !self.healthy && prng.chance(self.scenario.lost) {
                continue;
            }
            let copies = 1 + usize::from(!self.healthy && prng.chance(self.scenario.doubled));
            for _ in 0..copies {
                let late = careless && !self.healthy && prng.chance(self.scenario.late);
                let until = if late { self.step + prng.below(200) } else { 0 };
                let event = event.clone();
                self.wire.push(Letter { to, event, until });
            }
        }
    }

    /// A sender learns the fate of one of its sendings; calls to a hub are answered in any order.
    pub(crate) fn land(&mut self, prng: &mut Prng, party: Party) {
        if *self.link(party) != LinkState::Up || self.flying(party).is_empty() {
            return;
        }
        let length = self.flying(party).len();
        let Flight { ticket, call, fate } = self.flying(party).remove(prng.below(length));
        if let (Some(hub), Some(event), Party::Agent(index)) = (&mut self.hub, call, party) {
            let event = CloudEvent::from_json(&event.to_json()).expect("what was written is read");
            hub.receive(self.now, index, cluster(index), &event, &mut self.oracle);
        }
        match fate {
            None => self.feed(party, Input::Sent(ticket)),
            Some(fate) => {
                self.note(|| format!("{} hears that a sending failed", party.name()));
                self.feed(party, Input::Failed(ticket, fate));
            }
        }
        self.see_cut_offs();
    }

    /// Delivers one event.
    pub(crate) fn deliver(&mut self, prng: &mut Prng) {
        if self.hub.is_some() {
            return self.deliver_from_hub(prng);
        }
        let step = self.step;
        let due: Vec<usize> = (0..self.wire.len())
            .filter(|at| self.healthy || self.wire[*at].until <= step)
            .take(self.scenario.reordered.max(8))
            .collect();
        if due.is_empty() {
            return;
        }
        let careless = self.scenario.network == Network::Careless;
        let window = match (careless, self.healthy) {
            (true, true) => 1,
            (true, false) => due.len().min(self.scenario.reordered),
            (false, _) => due.len(),
        };
        let mut at = due[prng.below(window)];
        if !careless {
            // Everybody's own letters stay in order.
            let to = self.wire[at].to;
            at = due
                .iter()
                .copied()
                .find(|at| self.wire[*at].to == to)
                .unwrap_or(at);
        }
        let Letter { to, event, .. } = self.wire.remove(at);
        if *self.link(to) == LinkState::Up {
            self.hand_over(to, event);
        }
    }

    fn deliver_from_hub(&mut self, prng: &mut Prng) {
        let index = prng.below(self.scenario.clusters);
        let party = Party::Agent(index);
        let event = self.hub.as_mut().and_then(|hub| hub.pull(index));
        if let Some(event) = event
            && *self.link(party) == LinkState::Up
        {
            self.hand_over(party, event);
        }
    }

    fn hand_over(&mut self, to: Party, event: CloudEvent) {
        self.note(|| format!("{} gets {}", to.name(), describe(&event)));
        let facts = Facts::of(&event);
        let event = sabotage::tamper(self, to, event);
        // The wire carries bytes.
        let event = CloudEvent::from_json(&event.to_json()).expect("what was written is read");
        match to {
            Party::Source(index) => self.source(index, Some(&facts), |s, now, out| {
                s.handle(now, Input::Wire(event), out);
            }),
            Party::Agent(_) => self.feed(to, Input::Wire(event)),
        }
    }

    /// Nothing is on its way, nobody owes anything.
    pub(crate) fn at_rest(&self) -> bool {
        self.wire.is_empty()
            && self.hub.as_ref().is_none_or(Hub::idle)
            && self
                .sources
                .iter()
                .all(|end| end.flying.is_empty() && end.session.owed() == 0)
            && self
                .agents
                .iter()
                .all(|end| end.flying.is_empty() && end.session.owed() == 0)
    }

    /// Compares everybody with everybody.
    pub(crate) fn check_converged(&mut self) {
        for (index, agent) in self.agents.iter().enumerate() {
            let mut wanted: BTreeMap<String, Arc<Work>> = BTreeMap::new();
            for source in &self.sources {
                for work in source.session.store().in_namespace(cluster(index)) {
                    wanted.insert(work.metadata.uid.clone(), Arc::clone(work));
                }
            }
            let of_hub = self.hub.iter().flat_map(Hub::works);
            for work in of_hub.filter(|work| work.metadata.namespace == cluster(index)) {
                wanted.insert(work.metadata.uid.clone(), Arc::new(work.clone()));
            }
            let wanted: Vec<_> = wanted.values().collect();
            self.oracle
                .converged(&wanted, agent.session.store(), cluster(index));
        }
    }
}

fn end<S>(session: S) -> End<S> {
    End {
        session,
        link: LinkState::Down,
        skew: SignedDuration::ZERO,
        flying: Vec::new(),
    }
}

fn describe(event: &CloudEvent) -> String {
    let kind: Vec<&str> = event.event_type.rsplit('.').take(2).collect();
    let mut text = format!("{}.{} from {}", kind[1], kind[0], event.source);
    for name in [
        "clustername",
        "originalsource",
        "resourceid",
        "resourceversion",
        "sequenceid",
    ] {
        if let Some(value) = event.extension(name) {
            let value = value.to_text();
            if !value.is_empty() {
                let short = if name == "resourceid" {
                    &value[..8]
                } else {
                    &value
                };
                for part in [" ", name, "=", short] {
                    text += part;
                }
            }
        }
    }
    if event.is_deletion() {
        text += " deletion";
    }
    if kind[0] == "resync_request" {
        text += " ";
        text += &String::from_utf8_lossy(event.payload());
    }
    text
}
