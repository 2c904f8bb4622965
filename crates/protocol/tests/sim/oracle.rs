//! What must be true after every step, whatever happened, and what must be true at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drover_protocol::raw::Raw;
use drover_protocol::session::{Change, Output, Store};
use drover_protocol::work::Condition;
use drover_protocol::{CloudEvent, ExtensionValue, Work, WorkSpec, names};
use serde::{Deserialize, Serialize};

/// What a work of this world says about itself in its only manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) owner: String,
    pub(crate) cluster: String,
    pub(crate) work: String,
    /// Number of the creation that began this life of the work.
    pub(crate) life: u64,
    /// Number of the change.
    pub(crate) value: u64,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    kind: String,
    metadata: BTreeMap<String, String>,
    claim: Claim,
}

impl Claim {
    pub(crate) fn to_work(&self) -> Work {
        let manifest = Manifest {
            kind: "ConfigMap".into(),
            metadata: [("name".into(), "m".into())].into(),
            claim: self.clone(),
        };
        let spec = WorkSpec {
            manifests: vec![Raw::of(&manifest).expect("a manifest is JSON")],
            ..WorkSpec::default()
        };
        let mut work = Work {
            spec: Arc::new(spec),
            ..Work::default()
        };
        work.metadata.name.clone_from(&self.work);
        work.metadata.namespace.clone_from(&self.cluster);
        work
    }

    /// `None` when the work has no manifest: the deletion of something unknown.
    pub(crate) fn of(work: &Work) -> Option<Self> {
        let manifest: Manifest = work.spec.manifests.first()?.parse().expect("ours");
        Some(manifest.claim)
    }
}

/// The status that the controllers of this world give a copy.
pub(crate) fn applied(work: &Work) -> Condition {
    Condition {
        condition_type: "Applied".into(),
        status: "True".into(),
        observed_generation: work.metadata.generation,
        message: Claim::of(work).map_or(0, |claim| claim.value).to_string(),
        ..Condition::default()
    }
}

/// The part of a letter that judgements are based on, as its sender wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    cluster: String,
    original: String,
    sequence: i64,
    generation: i64,
}

impl Facts {
    pub(crate) fn of(event: &CloudEvent) -> Self {
        let text = |name| event.text(name).unwrap_or_default().to_owned();
        let generation = match event.extension(names::EXT_RESOURCE_VERSION) {
            Some(ExtensionValue::Integer(number)) => i64::from(*number),
            _ => 0,
        };
        Self {
            cluster: text(names::EXT_CLUSTER_NAME),
            original: text(names::EXT_ORIGINAL_SOURCE),
            sequence: text(names::EXT_SEQUENCE_ID).parse().unwrap_or(0),
            generation,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Accepted {
    sequence: i64,
    generation: i64,
    observed: i64,
}

/// Watches everybody and remembers the first thing that must not be.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) violation: Option<String>,
    /// Whether the network keeps the order of what it carries.
    ordered: bool,
    /// The last status that an owner took, by uid.
    accepted: BTreeMap<String, Accepted>,
    /// Uids that their owner deleted or forgot at least once.
    ended: BTreeSet<String>,
    /// The newest life of each uid.
    lives: BTreeMap<String, u64>,
    /// By agent and uid: the last life that an agent saw the end of.
    buried: BTreeMap<(usize, String), u64>,
}

impl Oracle {
    pub(crate) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            ..Self::default()
        }
    }

    fn ensure(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// An owner created or changed a work.
    pub(crate) fn issued(&mut self, uid: &str, claim: &Claim) {
        self.lives.insert(uid.to_owned(), claim.life);
    }

    /// The life that a change of a work continues.
    pub(crate) fn life(&self, uid: &str) -> u64 {
        self.lives.get(uid).copied().unwrap_or(0)
    }

    /// An owner deleted or forgot a work.
    pub(crate) fn ended(&mut self, uid: &str) {
        self.ended.insert(uid.to_owned());
    }

    /// An owner forgot what it was told of a work.
    pub(crate) fn forgot_status(&mut self, uid: &str) {
        self.accepted.remove(uid);
    }

    /// An owner was restarted: it knows sequence ids, but not of which generation they spoke.
    pub(crate) fn owner_restarted(&mut self) {
        if !self.ordered {
            for accepted in self.accepted.values_mut() {
                accepted.generation = 0;
            }
        }
    }

    /// A hub was restarted: its API keeps no sequence ids.
    pub(crate) fn hub_restarted(&mut self) {
        for accepted in self.accepted.values_mut() {
            accepted.sequence = 0;
        }
    }

    /// An owner took a status.
    pub(crate) fn took_status(&mut self, who: &str, work: &Work, facts: &Facts) {
        let uid = work.metadata.uid.clone();
        let observed = work.status.conditions.first();
        let observed = observed.map_or(0, |condition| condition.observed_generation);
        let before = self.accepted.get(&uid).copied().unwrap_or_default();
        self.ensure(facts.cluster == work.metadata.namespace, || {
            format!(
                "{who} took a status of {uid} from cluster {}",
                facts.cluster
            )
        });
        self.ensure(facts.original == who, || {
            format!("{who} took a status for {}", facts.original)
        });
        self.ensure(facts.sequence > before.sequence, || {
            format!(
                "{who}: the status of {uid} went back from sequence {} to {}",
                before.sequence, facts.sequence
            )
        });
        self.ensure(facts.generation >= before.generation, || {
            format!(
                "{who}: the status of {uid} went back from generation {} to {}",
                before.generation, facts.generation
            )
        });
        self.ensure(!self.ordered || observed >= before.observed, || {
            format!(
                "{who}: the status of {uid} was about generation {}, now {observed}",
                before.observed
            )
        });
        let accepted = Accepted {
            sequence: facts.sequence,
            generation: facts.generation,
            observed,
        };
        self.accepted.insert(uid, accepted);
    }

    /// A source did something.
    pub(crate) fn source(&mut self, who: &str, out: &[Output<Work>], facts: Option<&Facts>) {
        for output in out {
            match output {
                Output::Change(Change::Added(work) | Change::Deleted(work)) => {
                    self.forgot_status(&work.metadata.uid);
                }
                Output::Change(Change::StatusModified(work)) => match facts {
                    Some(facts) => self.took_status(who, work, facts),
                    None => self.ensure(false, || format!("{who} made up a status")),
                },
                _ => (),
            }
        }
    }

    /// An agent did something.
    pub(crate) fn agent(
        &mut self,
        index: usize,
        cluster: &str,
        before: &[Arc<Work>],
        after: &Store<Work>,
    ) {
        for new in after.iter() {
            let old = before
                .iter()
                .find(|old| old.metadata.uid == new.metadata.uid);
            if old.is_none_or(|old| !Arc::ptr_eq(old, new)) {
                self.copy(index, cluster, old, new);
            }
        }
        for old in before {
            let uid = &old.metadata.uid;
            if after.get(uid).is_some() {
                continue;
            }
            if old.metadata.deleting() {
                if let Some(claim) = Claim::of(old) {
                    self.buried.insert((index, uid.clone()), claim.life);
                }
                continue;
            }
            let replaced = after
                .named(&old.metadata.namespace, &old.metadata.name)
                .any(|new| owner(new) == owner(old));
            self.ensure(replaced, || format!("{cluster}: {uid} vanished alive"));
        }
    }

    fn copy(&mut self, index: usize, cluster: &str, old: Option<&Arc<Work>>, new: &Work) {
        let uid = &new.metadata.uid;
        let claim = Claim::of(new);
        let ended = self.ended.contains(uid);
        match &claim {
            Some(claim) => self.ensure(
                claim.cluster == cluster
                    && claim.owner == owner(new)
                    && claim.work == new.metadata.name,
                || format!("{cluster}: {uid} of {:?} holds {claim:?}", owner(new)),
            ),
            None => self.ensure(new.metadata.deleting(), || {
                format!("{cluster}: {uid} lives without manifests")
            }),
        }
        self.ensure(new.metadata.namespace == cluster, || {
            format!("{cluster} holds {uid} of {}", new.metadata.namespace)
        });
        let Some(old) = old else {
            self.ensure(ended || !new.metadata.deleting(), || {
                format!("{cluster}: {uid} came as deleted, by nobody")
            });
            let buried = self.buried.get(&(index, uid.clone())).copied();
            let life = claim.map_or(0, |claim| claim.life);
            let back = self.ordered && !new.metadata.deleting() && buried >= Some(life);
            return self.ensure(!back, || format!("{cluster}: {uid} came back"));
        };
        self.ensure(owner(old) == owner(new), || {
            format!("{cluster}: {uid} changed its owner")
        });
        self.ensure(!old.metadata.deleting() || new.metadata.deleting(), || {
            format!("{cluster}: the deletion of {uid} was taken back")
        });
        self.ensure(
            old.metadata.deleting() || !new.metadata.deleting() || ended,
            || format!("{cluster}: {uid} was deleted by nobody"),
        );
        if let (Some(old), Some(new)) = (Claim::of(old), claim) {
            let comparable = self.ordered || old.life == new.life;
            self.ensure(!comparable || old.value <= new.value, || {
                format!(
                    "{cluster}: the spec of {uid} went back from {} to {}",
                    old.value, new.value
                )
            });
        }
    }

    /// What is owed must be bounded by the number of resources and of partners.
    pub(crate) fn owed(&mut self, who: &str, owed: usize, bound: usize) {
        self.ensure(owed <= bound, || {
            format!("{who} owes {owed} events, {bound} at most expected")
        });
    }

    /// At the end: what an owner wants is what the agent has, and what the agent says is what the owner knows.
    pub(crate) fn converged(&mut self, wanted: &[&Arc<Work>], held: &Store<Work>, cluster: &str) {
        for work in wanted {
            let uid = &work.metadata.uid;
            self.ensure(!work.metadata.deleting(), || {
                format!("{uid} is being deleted for ever")
            });
            let Some(copy) = held.get(uid) else {
                self.ensure(false, || format!("{cluster} misses {uid}"));
                continue;
            };
            self.ensure(copy.spec == work.spec, || {
                format!(
                    "{cluster}: the spec of {uid} is {:?}, wanted {:?}",
                    Claim::of(copy),
                    Claim::of(work)
                )
            });
            self.ensure(copy.metadata.generation == work.metadata.generation, || {
                format!(
                    "{cluster}: {uid} has generation {}, wanted {}",
                    copy.metadata.generation, work.metadata.generation
                )
            });
            self.ensure(copy.status == work.status, || {
                format!(
                    "{uid}: the owner knows status {:?}, {cluster} has {:?}",
                    work.status.conditions, copy.status.conditions
                )
            });
            self.ensure(work.status.conditions == [applied(work)], || {
                format!("{uid}: the status {:?} is old", work.status.conditions)
            });
        }
        for copy in held.iter() {
            let uid = &copy.metadata.uid;
            let known = wanted.iter().any(|work| work.metadata.uid == *uid);
            self.ensure(known, || format!("{cluster} holds {uid}, unwanted"));
        }
    }
}

fn owner(work: &Work) -> &str {
    let label = work.metadata.labels.get(names::LABEL_ORIGINAL_SOURCE);
    label.map_or("", String::as_str)
}
