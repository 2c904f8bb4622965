//! How far a change came in one cluster, as its work tells.

use drover_api::conditions::{Status, find};
use drover_api::names::work as names;
use drover_api::work::v1::{ManifestWork, ManifestWorkSpec};
use drover_api::{Condition, Time};
use jiff::Timestamp;
use serde_json::Value;

use crate::rollout::State;

/// How far the work came that says what it should.
///
/// Where the conditions Progressing and Degraded are computed from the objects they decide, as in OCM. OCM knows them from rules
/// alone, so a template without such rules never gets on there; here Applied, Available and Healthy decide then.
pub fn state(work: &ManifestWork, now: Timestamp) -> State {
    let generation = work.metadata.generation;
    let conditions = work
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let get = |type_: &str| find(conditions, type_);
    let current = |condition: &&Condition| condition.observed_generation == generation;
    let sent = sent(work);
    // A condition that was true before the last change is true of that change only since it was sent.
    let since = |condition: &Condition| {
        let time = condition.last_transition_time.0;
        sent.map_or(time, |sent| time.max(sent))
    };
    let waits = State::ToApply {
        sent: Some(sent.unwrap_or(now)),
    };
    let degraded = get(names::DEGRADED);
    if degraded.is_some_and(|degraded| !current(&degraded)) {
        return waits;
    }
    let degraded = degraded.filter(|degraded| degraded.status == Status::True.as_str());
    let Some(applied) = get(names::APPLIED).filter(current) else {
        return waits;
    };
    let Some(progressing) = get(names::PROGRESSING) else {
        if has_progressing_rule(&work.spec) {
            return waits;
        }
        let parts = Parts {
            applied,
            degraded,
            available: get(names::AVAILABLE).filter(current),
            healthy: get(names::HEALTHY).filter(current),
        };
        return parts.state(since);
    };
    if !current(&progressing) || Status::read(&applied.status) != Status::True {
        return waits;
    }
    match (Status::read(&progressing.status), degraded) {
        (Status::False, _) => State::Succeeded {
            since: since(progressing),
        },
        (Status::True, Some(degraded)) => State::Failed {
            since: since(degraded),
        },
        (Status::True | Status::Unknown, _) => State::Progressing {
            since: since(progressing),
        },
    }
}

/// What is known of a work without rules.
struct Parts<'a> {
    applied: &'a Condition,
    degraded: Option<&'a Condition>,
    available: Option<&'a Condition>,
    healthy: Option<&'a Condition>,
}

impl Parts<'_> {
    fn state(&self, since: impl Fn(&Condition) -> Timestamp) -> State {
        if Status::read(&self.applied.status) != Status::True {
            return State::Failed {
                since: since(self.applied),
            };
        }
        if let Some(degraded) = self.degraded {
            return State::Failed {
                since: since(degraded),
            };
        }
        match self
            .available
            .filter(|available| available.status == Status::True.as_str())
        {
            None => State::Progressing {
                since: since(self.applied),
            },
            Some(available) => match self
                .healthy
                .map(|healthy| (healthy, Status::read(&healthy.status)))
            {
                None => State::Succeeded {
                    since: since(available),
                },
                Some((healthy, Status::True)) => State::Succeeded {
                    since: since(available).max(since(healthy)),
                },
                Some((healthy, Status::False)) => State::Failed {
                    since: since(healthy),
                },
                Some((healthy, Status::Unknown)) => State::Progressing {
                    since: since(healthy),
                },
            },
        }
    }
}

fn has_progressing_rule(spec: &ManifestWorkSpec) -> bool {
    let mut rules = spec
        .manifest_configs
        .iter()
        .flat_map(|config| &config.condition_rules);
    rules.any(|rule| rule.condition == names::PROGRESSING)
}

/// When the work got the spec that it has, as far as the API kept that.
fn sent(work: &ManifestWork) -> Option<Timestamp> {
    let writes = work
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            entry.subresource.as_deref().unwrap_or_default().is_empty()
                && fields
                    .and_then(Value::as_object)
                    .is_some_and(|fields| fields.contains_key("f:spec"))
        });
    let written = writes
        .filter_map(|entry| entry.time.as_ref())
        .map(|Time(time)| *time)
        .max();
    let created = work
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|Time(time)| *time);
    written.or(created.filter(|_| work.metadata.generation == Some(1)))
}
