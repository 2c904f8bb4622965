//! Which clusters a change may reach next: the same answer for everything that is rolled out over decision groups.
//!
//! The rules are those of OCM's rollout handler (sdk-go: pkg/apis/cluster/v1alpha1/rollout.go); docs/replica-sets.md lists where
//! the answers differ, and why. Whoever rolls something out says what he has in which cluster, does what the answer says, and asks
//! again when a state changes or [`Outcome::recheck_at`] has come.

mod groups;
mod strategy;

pub use groups::{BadGroup, GroupKey, Groups};
pub use strategy::{Amount, BadStrategy, Limits, Pace, Strategy, duration};

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// How far a change came in one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was heard of it from the cluster.
    ToApply {
        /// Since when the change stands where the cluster takes it from; absent: it was not sent yet.
        sent: Option<Timestamp>,
    },
    /// It is on its way.
    Progressing {
        /// Since when.
        since: Timestamp,
    },
    /// It is there and well.
    Succeeded {
        /// Since when.
        since: Timestamp,
    },
    /// It is there and not well. Until the deadline it may recover.
    Failed {
        /// Since when.
        since: Timestamp,
    },
    /// It did not succeed in time.
    TimedOut,
    /// It is not meant for this cluster now.
    Skip,
}

impl State {
    /// Whether it counts as a failure.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed { .. } | Self::TimedOut)
    }
}

/// What is known of the change in one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Existing {
    /// The name of the cluster.
    pub cluster: String,
    /// How far it came.
    pub state: State,
}

/// One cluster of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of the cluster.
    pub cluster: String,
    /// Its group; absent when no group has it any more.
    pub group: Option<GroupKey>,
    /// How far the change came.
    pub state: State,
    /// When time alone changes that.
    pub recheck_at: Option<Timestamp>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The clusters that the change may reach now: those that it is on its way to, and those that come next (ToApply).
    pub rollout: Vec<Step>,
    /// The clusters that did not succeed in time.
    pub timed_out: Vec<Step>,
    /// The clusters that no group has any more.
    pub removed: Vec<Step>,
    /// More clusters failed than may: no further one is reached.
    pub breached: bool,
    /// When to ask again even if nothing changes.
    pub recheck_at: Option<Timestamp>,
}

/// Decides. `existing` names each cluster at most once; the order does not matter. All lists of the answer are sorted by cluster.
pub fn plan(
    strategy: &Strategy,
    groups: &Groups,
    existing: &[Existing],
    now: Timestamp,
) -> Outcome {
    let of = groups.by_cluster();
    let (present, removed): (Vec<_>, Vec<_>) =
        (existing.iter()).partition(|known| of.contains_key(known.cluster.as_str()));
    let present: BTreeMap<&str, State> = (present.into_iter())
        .map(|known| (known.cluster.as_str(), known.state))
        .collect();
    let round = Round {
        of: &of,
        present,
        limits: strategy.limits,
        now,
    };
    let mut answer = round.decide(strategy, groups);
    answer.removed = (removed.into_iter())
        .map(|known| Step {
            cluster: known.cluster.clone(),
            group: None,
            state: known.state,
            recheck_at: None,
        })
        .collect();
    for list in [
        &mut answer.rollout,
        &mut answer.timed_out,
        &mut answer.removed,
    ] {
        list.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    }
    let times = answer.rollout.iter().filter_map(|step| step.recheck_at);
    answer.recheck_at = times.filter(|time| *time > now).min();
    answer
}

/// What does not change while one answer is found.
struct Round<'a> {
    of: &'a BTreeMap<&'a str, &'a GroupKey>,
    present: BTreeMap<&'a str, State>,
    limits: Limits,
    now: Timestamp,
}

/// What becomes of one cluster.
enum Verdict {
    /// The change is on its way, or may be.
    Moving(Option<Timestamp>),
    /// It was not there in time.
    TimedOut,
    /// There is nothing to do or to wait for.
    Settled,
}

impl Round<'_> {
    fn decide(&self, strategy: &Strategy, groups: &Groups) -> Outcome {
        let mandatory = groups.select(&strategy.mandatory);
        if !mandatory.is_empty() {
            let mut first = self.per_group(&mandatory, Amount::Number(0));
            if !first.rollout.is_empty() || !first.timed_out.is_empty() || first.breached {
                // Nothing new starts elsewhere; what is on its way there goes on.
                let others = groups.without(&mandatory);
                self.judge_all(&others.by_cluster(), &mut first);
                return first;
            }
        }
        let rest = groups.without(&mandatory);
        match strategy.pace {
            Pace::Clusters { at_once } => {
                let failures = strategy.max_failures.of(groups.cluster_count(), 0);
                let count = rest.cluster_count();
                self.per_cluster(&rest, at_once.of(count, count), failures)
            }
            Pace::Groups => self.per_group(&rest, strategy.max_failures),
        }
    }

    /// Fills up to `at_once` places. Whatever the change is on its way to keeps its place.
    fn per_cluster(&self, groups: &Groups, at_once: usize, max_failures: usize) -> Outcome {
        let mut answer = Outcome::default();
        let mut failures = 0;
        for (cluster, state) in &self.present {
            if *state == (State::ToApply { sent: None }) {
                continue;
            }
            let state = self.judge(cluster, *state, &mut answer);
            failures += usize::from(state.is_failure());
        }
        answer.breached = failures > max_failures;
        if answer.breached {
            return answer;
        }
        let waiting = groups.clusters().into_iter().filter(|cluster| {
            let state = self.present.get(cluster);
            state.is_none_or(|state| *state == State::ToApply { sent: None })
        });
        let places = at_once.saturating_sub(answer.rollout.len());
        answer
            .rollout
            .extend(waiting.take(places).map(|cluster| self.next(cluster)));
        answer
    }

    /// Reaches the first group that is not done, and stays at it until it is.
    fn per_group(&self, groups: &Groups, max_failures: Amount) -> Outcome {
        let mut answer = Outcome::default();
        let after = self.judge_all(&groups.by_cluster(), &mut answer);
        for clusters in groups.iter() {
            let mut failures = 0;
            let mut next = Vec::new();
            for cluster in clusters {
                let state = match (
                    after.get(cluster.as_str()),
                    self.present.get(cluster.as_str()),
                ) {
                    (Some(state), _) => *state,
                    (None, Some(state @ State::ToApply { sent: Some(_) })) => {
                        self.judge(cluster, *state, &mut answer)
                    }
                    (None, _) => {
                        next.push(self.next(cluster));
                        continue;
                    }
                };
                failures += usize::from(state.is_failure());
            }
            answer.breached = failures > max_failures.of(clusters.len(), 0);
            if answer.breached {
                return answer;
            }
            answer.rollout.append(&mut next);
            // A cluster that failed may recover, but nobody waits for that.
            if answer.rollout.iter().any(|step| !step.state.is_failure()) {
                return answer;
            }
        }
        answer
    }

    /// Judges the members that said something; the others are looked at when it is their group's turn.
    fn judge_all(
        &self,
        members: &BTreeMap<&str, &GroupKey>,
        answer: &mut Outcome,
    ) -> BTreeMap<&str, State> {
        let said = self.present.iter().filter(|(cluster, state)| {
            members.contains_key(*cluster) && !matches!(state, State::ToApply { .. })
        });
        said.map(|(cluster, state)| (*cluster, self.judge(cluster, *state, answer)))
            .collect()
    }

    fn next(&self, cluster: &str) -> Step {
        self.step(cluster, State::ToApply { sent: None }, None)
    }

    fn step(&self, cluster: &str, state: State, recheck_at: Option<Timestamp>) -> Step {
        let group = self.of.get(cluster).map(|key| (*key).clone());
        Step {
            cluster: cluster.to_owned(),
            group,
            state,
            recheck_at,
        }
    }

    /// Puts the cluster where it belongs in the answer; the state may have become TimedOut.
    fn judge(&self, cluster: &str, state: State, answer: &mut Outcome) -> State {
        match self.verdict(state) {
            Verdict::Moving(recheck_at) => {
                answer.rollout.push(self.step(cluster, state, recheck_at));
                state
            }
            Verdict::TimedOut => {
                answer
                    .timed_out
                    .push(self.step(cluster, State::TimedOut, None));
                State::TimedOut
            }
            Verdict::Settled => state,
        }
    }

    fn verdict(&self, state: State) -> Verdict {
        match state {
            State::ToApply { sent: None } => Verdict::Moving(None),
            State::Succeeded { since } => {
                let end = later(since, self.limits.soak);
                if self.now < end {
                    Verdict::Moving(Some(end))
                } else {
                    Verdict::Settled
                }
            }
            State::TimedOut | State::Skip => Verdict::Settled,
            State::ToApply { sent: Some(since) }
            | State::Progressing { since }
            | State::Failed { since } => {
                match self.limits.deadline.map(|deadline| later(since, deadline)) {
                    Some(end) if self.now >= end => Verdict::TimedOut,
                    end => Verdict::Moving(end),
                }
            }
        }
    }
}

/// A time that is too late to be written is the end of time.
fn later(since: Timestamp, duration: SignedDuration) -> Timestamp {
    since.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
