//! What can happen in a world, one step at a time, and how it heals.

use drover_protocol::session::{Aspect, Input, Owned, Session as _};
use drover_protocol::{Work, names};

use crate::oracle::{Claim, applied};
use crate::prng::Prng;
use crate::scenario::Network;
use crate::world::{LinkState, NAMES, Party, World, cluster, source_id};

/// Rounds within which a healed world must come to rest.
const PATIENCE: usize = 3000;

impl World {
    /// One thing happens. Each step has numbers of its own, so that a history can be cut down to the steps that matter.
    pub(crate) fn happen(&mut self, step: usize) {
        self.step = step;
        let prng = &mut Prng::new(self.seed, step as u64);
        self.pass(prng.below(900));
        let parties = self.parties();
        let party = parties[prng.below(parties.len())];
        match prng.below(100) {
            0..=13 => self.owner_acts(prng),
            14..=27 => self.agent_acts(prng),
            28..=49 => self.send(prng, party),
            50..=62 => self.land(prng, party),
            63..=89 => self.deliver(prng),
            90..=94 => self.links_change(prng, party),
            95..=96 => self.restart(prng, party),
            97 if self.scenario.clocks => self.set_clock(prng, party),
            98 => self.feed(party, Input::Tick),
            // Only the careless network needs somebody to ask again for no reason.
            _ if self.scenario.network == Network::Careless => self.feed(party, Input::Resync),
            _ => self.set_synced(),
        }
        self.see_cut_offs();
    }

    fn links_change(&mut self, prng: &mut Prng, party: Party) {
        match *self.link(party) {
            LinkState::Up => {
                self.cut(party);
                if prng.chance(50) {
                    self.notice(party);
                }
            }
            LinkState::Cut => {
                self.notice(party);
                if prng.chance(50) {
                    self.come(party);
                }
            }
            LinkState::Down => self.come(party),
        }
    }

    /// Whoever owns works creates, changes or deletes one.
    fn owner_acts(&mut self, prng: &mut Prng) {
        let at = prng.below(self.scenario.clusters);
        let name = NAMES[prng.below(self.scenario.names)];
        let action = [0, 1, 1, 1, 2][prng.below(5)];
        self.values += 1;
        let value = self.values;
        let claim = |owner: &str, life| Claim {
            owner: owner.into(),
            cluster: cluster(at).into(),
            work: name.into(),
            life,
            value,
        };
        if let Some(hub) = &mut self.hub {
            let owner = crate::hub::HUB;
            let life = hub
                .find(cluster(at), name)
                .map(|work| self.oracle.life(&work.metadata.uid));
            if action < 2 {
                let claim = claim(owner, life.unwrap_or(value));
                hub.write(self.now, at, &claim, &mut self.oracle);
            } else {
                hub.delete(self.now, at, cluster(at), name, &mut self.oracle);
            }
            self.note(|| format!("{owner} writes or deletes {}/{name}: {action}", cluster(at)));
            return self.see_cut_offs();
        }
        let index = prng.below(self.scenario.sources);
        let owner = source_id(index);
        self.note(|| {
            let what = ["writes", "writes", "deletes"][action];
            format!("{owner} {what} {}/{name} value {value}", cluster(at))
        });
        let store = self.sources[index].session.store();
        let known = store.get_named(cluster(at), name).cloned();
        match (action, known) {
            (0 | 1, None) => {
                let claim = claim(owner, value);
                let work = claim.to_work();
                let made = self.source(index, None, |s, now, out| s.create(now, work, out));
                if let Ok(work) = made {
                    self.oracle.issued(&work.metadata.uid, &claim);
                }
            }
            (0 | 1, Some(known)) => {
                let claim = claim(owner, self.oracle.life(&known.metadata.uid));
                let work = claim.to_work();
                let made = self.source(index, None, |s, _, out| s.update(work, out));
                if let Ok(work) = made {
                    self.oracle.issued(&work.metadata.uid, &claim);
                }
            }
            (2, Some(known)) if !known.metadata.deleting() => {
                self.oracle.ended(&known.metadata.uid);
                self.source(index, None, |s, now, out| {
                    s.delete(now, cluster(at), name, out);
                });
            }
            _ => (),
        }
    }

    /// What the controllers of an agent do with one of its works.
    pub(crate) fn agent_acts(&mut self, prng: &mut Prng) {
        let index = prng.below(self.scenario.clusters);
        let works: Vec<_> = self.agents[index].session.store().iter().cloned().collect();
        if works.is_empty() {
            return;
        }
        let mut work = Work::clone(&works[prng.below(works.len())]);
        let aspect = if work.metadata.deleting() {
            work.metadata.finalizers.clear();
            Aspect::Metadata
        } else if work.metadata.finalizers.is_empty() {
            work.metadata.finalizers = vec![names::WORK_FINALIZER.into()];
            Aspect::Metadata
        } else {
            work.status.conditions = vec![applied(&work)];
            if !self.healthy && prng.chance(50) {
                self.values += 1;
                work.status.conditions[0].reason = format!("Try{}", self.values);
            }
            Aspect::Status
        };
        self.agent(index, |agent, _, out| {
            drop(agent.update(&work, aspect, out));
        });
    }

    /// A new process in place of the old one: an agent that forgot all; a source that kept what it owns, or lost it too; a hub
    /// that has its API.
    fn restart(&mut self, prng: &mut Prng, party: Party) {
        if self.hub.is_some() && prng.chance(40) {
            for index in 0..self.scenario.clusters {
                self.cut(Party::Agent(index));
            }
            if let Some(hub) = &mut self.hub {
                hub.restart(&mut self.oracle);
            }
            return self.note(|| "the hub starts again".into());
        }
        self.cut(party);
        self.notice(party);
        let seed = prng.next();
        match party {
            Party::Agent(index) => {
                self.note(|| format!("{} starts again, empty", party.name()));
                self.agents[index].session = self.new_agent(index, seed);
                if self.scenario.clocks && prng.chance(50) {
                    self.set_clock(prng, party);
                }
            }
            Party::Source(index) => {
                let old = &self.sources[index].session;
                let objects: Vec<Work> = old.store().iter().map(|work| Work::clone(work)).collect();
                let mut owned = Owned {
                    objects,
                    graves: old.graves().clone(),
                    complete: prng.chance(70),
                };
                self.note(|| format!("{} starts again", party.name()));
                self.oracle.owner_restarted();
                if self.scenario.amnesia && prng.chance(30) {
                    self.note(|| "       and lost what it knew".into());
                    for work in &owned.objects {
                        self.oracle.forgot_status(&work.metadata.uid);
                        self.oracle.ended(&work.metadata.uid);
                    }
                    for uid in owned.graves.keys() {
                        self.oracle.forgot_status(uid);
                    }
                    self.rows[index].clear();
                    owned = Owned::default();
                }
                self.sources[index].session = self.new_source(index, seed, owned);
            }
        }
        if prng.chance(60) {
            self.come(party);
        }
    }

    /// Sources that began with a part of what they own have loaded the rest.
    fn set_synced(&mut self) {
        for source in &mut self.sources {
            source.session.set_synced();
        }
    }

    /// The network is well from now on.
    pub(crate) fn heal(&mut self) {
        self.note(|| "== the network is well".into());
        self.healthy = true;
        self.step = self.scenario.steps;
        let prng = &mut Prng::new(self.seed, u64::MAX - 2);
        self.set_synced();
        if self.scenario.network == Network::Careless {
            for _ in 0..50 {
                self.round(prng);
            }
            for _ in 0..2 {
                for party in self.parties() {
                    self.cut(party);
                    self.notice(party);
                }
                for party in self.parties() {
                    self.come(party);
                }
                self.settle(prng);
            }
            return;
        }
        let mut parties = self.parties();
        while !parties.is_empty() {
            let party = parties.remove(prng.below(parties.len()));
            if *self.link(party) == LinkState::Cut {
                self.notice(party);
            }
            if *self.link(party) == LinkState::Down {
                self.come(party);
            }
            for _ in 0..prng.below(20) {
                self.round(prng);
            }
        }
        self.settle(prng);
    }

    fn round(&mut self, prng: &mut Prng) {
        self.pass(200);
        self.agent_acts(prng);
        self.see_cut_offs();
        for party in self.parties() {
            // Whom a broker cut off for being slow comes back by itself.
            if self.hub.is_some() && *self.link(party) == LinkState::Cut {
                self.notice(party);
                self.come(party);
            }
            self.send(prng, party);
            self.deliver(prng);
            self.deliver(prng);
            self.land(prng, party);
        }
    }

    fn settle(&mut self, prng: &mut Prng) {
        for _ in 0..PATIENCE {
            if self.at_rest() && self.controllers_are_done() {
                return;
            }
            self.round(prng);
        }
        self.oracle
            .violation
            .get_or_insert_with(|| "the world does not come to rest".into());
    }

    fn controllers_are_done(&self) -> bool {
        let done = |work: &Work| {
            !work.metadata.deleting()
                && !work.metadata.finalizers.is_empty()
                && work.status.conditions == [applied(work)]
        };
        let stores = self.agents.iter().map(|agent| agent.session.store());
        stores
            .into_iter()
            .all(|store| store.iter().all(|work| done(work)))
    }
}
