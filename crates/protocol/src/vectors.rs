//! The conformance vectors of the protocol: what the Go implementation was observed to write and accept.

mod envelope;
mod agent;
mod source;
mod fuzz;

use std::sync::Arc;

use jiff::Timestamp;

use crate::session::{
    AgentConfig, AgentSession, Input, Output, Owned, Session, SourceConfig, SourceSession,
};
use crate::{AgentBundleCodec, CloudEvent, SourceBundleCodec, Work};

pub(crate) const E1: &str = include_str!("vectors/e1.json");
pub(crate) const E4: &str = include_str!("vectors/e4.json");
pub(crate) const E5: &str = include_str!("vectors/e5.json");
pub(crate) const WEB: &str = "44ab9d86-d31e-5fb6-8c8a-848cd98801ea";
pub(crate) const API: &str = "fc104b8e-2115-57db-bdd9-e8c682739fa3";

pub(crate) fn event(json: &str) -> CloudEvent {
    CloudEvent::from_json(json.as_bytes()).unwrap()
}

pub(crate) fn now() -> Timestamp {
    "2026-05-30T09:00:01.25Z".parse().unwrap()
}

pub(crate) type Outs = Vec<Output<Work>>;

pub(crate) fn agent() -> AgentSession<AgentBundleCodec> {
    let config = AgentConfig {
        agent: "edge-7-work-agent".into(),
        cluster: "edge-7".into(),
        resync: true,
        seed: 7,
    };
    AgentSession::new(AgentBundleCodec, config)
}

pub(crate) fn source(owned: Vec<Work>) -> SourceSession<SourceBundleCodec> {
    let config = SourceConfig {
        source: "hub-a".into(),
        resync: true,
        seed: 8,
    };
    SourceSession::new(
        SourceBundleCodec,
        config,
        Owned {
            objects: owned,
            ..Owned::default()
        },
    )
}

pub(crate) fn feed<S: Session<Object = Work>>(session: &mut S, event: CloudEvent) -> Outs {
    let mut out = Vec::new();
    session.handle(now(), Input::Wire(event), &mut out);
    out
}

/// Everything the session sends until it owes nothing; each sending succeeds.
pub(crate) fn drain<S: Session<Object = Work>>(session: &mut S) -> Vec<CloudEvent> {
    let mut out = Vec::new();
    let mut sent = Vec::new();
    while let Some(transmit) = session.poll_transmit(now(), &mut out) {
        session.handle(now(), Input::Sent(transmit.ticket), &mut out);
        sent.push(transmit.event);
    }
    sent
}

/// Outputs in short words.
pub(crate) fn words(out: &Outs) -> Vec<String> {
    let name = |work: &Arc<Work>| work.metadata.name.clone();
    out.iter()
        .map(|output| match output {
            Output::Change(change) => {
                let text = format!("{change:?}");
                let kind = text.split('(').next().unwrap_or_default().to_owned();
                format!("{kind} {}", name(change.object()))
            }
            Output::Dropped(dropped) => format!("{}: {}", dropped.cause.as_str(), dropped.why),
            Output::WakeAt(time) => format!("wake {time}"),
            Output::Store { uid, .. } => format!("store {uid}"),
        })
        .collect()
}
