//! Topics of message brokers: which ones an agent and a source listen to, and where an event goes.
//!
//! A topic names its source and its cluster by place: `sources/SOURCE/clusters/CLUSTER/sourceevents`. Either may be `+`: in a
//! subscription it stands for all of them, in a publication the missing name is put in. The words `sources` and `clusters` are
//! conventions only.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cloudevent::CloudEvent;
use crate::eventtype::{Action, EventType};
use crate::names;

const SOURCE_EVENTS: &str = "sourceevents";
const AGENT_EVENTS: &str = "agentevents";
const SOURCE_BROADCAST: &str = "sourcebroadcast";
const AGENT_BROADCAST: &str = "agentbroadcast";

/// The topics as configurations have them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicNames {
    /// What sources send to clusters.
    pub source_events: String,
    /// What agents send to sources.
    pub agent_events: String,
    /// What a source sends to all clusters; empty = not used.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_broadcast: String,
    /// What an agent sends to all sources; empty = not used.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent_broadcast: String,
}

/// Topics that were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    source_events: Topic,
    agent_events: Topic,
    source_broadcast: Option<Topic>,
    agent_broadcast: Option<Topic>,
}

/// Why topics cannot be used. The texts are the ones that peers print, where peers have the error too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// One or more topics are not of the expected form.
    #[error("{0}")]
    Invalid(String),
    /// The events topic is that of another source.
    #[error("the topic source {topic:?} does not match the client sourceID {client:?}")]
    OtherSource {
        /// In the topic.
        topic: String,
        /// Of the client.
        client: String,
    },
    /// A source asks all agents and has no topic for it.
    #[error("the source broadcast topic not set")]
    NoSourceBroadcast,
    /// The type of the event cannot be read.
    #[error("unsupported event type {event_type:?}, {why}")]
    EventType {
        /// Type of the event.
        event_type: String,
        /// What is wrong with it.
        why: String,
    },
    /// The event does not say where it goes.
    #[error("{0} extension must be a string")]
    Extension(&'static str),
    /// The topic has `+` and the event no name to put there.
    #[error(
        "failed to choose a topic: {topic} needs the name of a {what}, the event has none; set it in the topic or in the extension {extension}"
    )]
    NoName {
        /// The topic.
        topic: String,
        /// `source` or `cluster`.
        what: &'static str,
        /// Where the name comes from.
        extension: &'static str,
    },
    /// A name cannot be a level of a topic.
    #[error("failed to put {name:?} into a topic: the name of a {what} has no '/', '+' or '#'")]
    BadName {
        /// The name.
        name: String,
        /// `source` or `cluster`.
        what: &'static str,
    },
}

/// One topic in its parts. A broadcast has no cluster (from sources) or no source (from agents).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Topic {
    share: Option<String>,
    source: Option<(String, Level)>,
    cluster: Option<(String, Level)>,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Any,
    Name(String),
}

impl Topics {
    /// Checks the names. Every wrong one is in the error.
    pub fn new(names: &TopicNames) -> Result<Self, TopicError> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, text: &str, kind| {
            let topic = Topic::parse(text, kind);
            if topic.is_none() {
                let pattern = pattern(kind);
                wrong.push(format!(
                    "invalid {what} topic {text:?}, it should match `{pattern}`"
                ));
            }
            topic
        };
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let source_events = check("source events", &names.source_events, SOURCE_EVENTS);
        let agent_events = check("agent events", &names.agent_events, AGENT_EVENTS);
        let source_broadcast = given(&names.source_broadcast)
            .and_then(|text| check("source broadcast", &text, SOURCE_BROADCAST));
        let agent_broadcast = given(&names.agent_broadcast)
            .and_then(|text| check("agent broadcast", &text, AGENT_BROADCAST));
        match (source_events, agent_events) {
            (Some(source_events), Some(agent_events)) if wrong.is_empty() => Ok(Self {
                source_events,
                agent_events,
                source_broadcast,
                agent_broadcast,
            }),
            _ => Err(TopicError::Invalid(match wrong.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            })),
        }
    }

    /// What the agent of a cluster subscribes to. `+` in the place of the source means every source.
    pub fn agent_filters(&self, cluster: &str) -> Result<Vec<String>, TopicError> {
        let mut filters = vec![self.source_events.filter(None, Some(cluster))?];
        if let Some(topic) = &self.source_broadcast {
            filters.push(topic.filter(None, None)?);
        }
        Ok(filters)
    }

    /// What a source subscribes to.
    pub fn source_filters(&self, source: &str) -> Result<Vec<String>, TopicError> {
        let named = self
            .agent_events
            .source
            .as_ref()
            .map(|(_, level)| level.text());
        if named != Some(source) {
            return Err(TopicError::OtherSource {
                topic: named.unwrap_or_default().to_owned(),
                client: source.to_owned(),
            });
        }
        let mut filters = vec![self.agent_events.filter(None, None)?];
        if let Some(topic) = &self.agent_broadcast {
            filters.push(topic.filter(None, None)?);
        }
        Ok(filters)
    }

    /// Where an event of the agent of `cluster` goes; without a cluster, to the one that the event names.
    ///
    /// Where the topic leaves the source open, the event's `originalsource` is put in: so one agent can serve many sources.
    pub fn agent_topic(
        &self,
        cluster: Option<&str>,
        event: &CloudEvent,
    ) -> Result<String, TopicError> {
        let resync = is_resync_request(event)?;
        let source = name(event, names::EXT_ORIGINAL_SOURCE)?;
        let cluster = match cluster {
            Some(cluster) => cluster,
            None => name(event, names::EXT_CLUSTER_NAME)?,
        };
        match &self.agent_broadcast {
            Some(broadcast) if resync && source.is_empty() => broadcast.address("", cluster),
            _ => self.agent_events.address(source, cluster),
        }
    }

    /// Where an event of a source goes.
    pub fn source_topic(&self, source: &str, event: &CloudEvent) -> Result<String, TopicError> {
        let resync = is_resync_request(event)?;
        let cluster = name(event, names::EXT_CLUSTER_NAME)?;
        if resync && cluster.is_empty() {
            let broadcast = self.source_broadcast.as_ref();
            return broadcast
                .ok_or(TopicError::NoSourceBroadcast)?
                .address(source, "");
        }
        self.source_events.address(source, cluster)
    }
}

impl Topic {
    fn parse(text: &str, kind: &'static str) -> Option<Self> {
        let (share, topic) = match text.strip_prefix("$share/") {
            None => (None, text),
            Some(rest) => {
                let (group, topic) = rest.split_once('/')?;
                (is_name(group).then(|| Some(group.to_owned()))?, topic)
            }
        };
        let levels: Vec<&str> = topic.split('/').collect();
        let (last, pairs) = levels.split_last()?;
        if *last != kind {
            return None;
        }
        let pair = |word: &str, level: &str| {
            let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
            let level = match level {
                "+" => Level::Any,
                name if is_name(name) => Level::Name(name.to_owned()),
                _ => return None,
            };
            is_word.then(|| (word.to_owned(), level))
        };
        let (source, cluster) = match (kind, pairs) {
            (SOURCE_BROADCAST, [word, level]) => (Some(pair(word, level)?), None),
            (AGENT_BROADCAST, [word, level]) => (None, Some(pair(word, level)?)),
            (SOURCE_EVENTS | AGENT_EVENTS, [word, level, word2, level2]) => {
                (Some(pair(word, level)?), Some(pair(word2, level2)?))
            }
            _ => return None,
        };
        Some(Self {
            share,
            source,
            cluster,
            kind,
        })
    }

    /// The topic as one subscribes to it, with the names that are known.
    fn filter(&self, source: Option<&str>, cluster: Option<&str>) -> Result<String, TopicError> {
        let mut text = String::with_capacity(64);
        if let Some(group) = &self.share {
            // Writing to a string cannot fail.
            write!(text, "$share/{group}/").ok();
        }
        for (level, name, what) in [
            (&self.source, source, "source"),
            (&self.cluster, cluster, "cluster"),
        ] {
            let Some((word, level)) = level else { continue };
            let level = match (level, name) {
                (Level::Any, Some(name)) => checked(name, what)?,
                (level, _) => level.text(),
            };
            write!(text, "{word}/{level}/").ok();
        }
        text.push_str(self.kind);
        Ok(text)
    }

    /// The topic as one publishes to it: every name is known, and nothing is shared.
    fn address(&self, source: &str, cluster: &str) -> Result<String, TopicError> {
        let open = |level: &Option<(String, Level)>, name: &str, what, extension| match level {
            Some((_, Level::Any)) if name.is_empty() => Err(TopicError::NoName {
                topic: self.filter(None, None)?,
                what,
                extension,
            }),
            _ => Ok(()),
        };
        open(&self.source, source, "source", names::EXT_ORIGINAL_SOURCE)?;
        open(&self.cluster, cluster, "cluster", names::EXT_CLUSTER_NAME)?;
        let mut text = self.filter(Some(source), Some(cluster))?;
        if let Some(group) = &self.share {
            text.drain(..group.len() + "$share//".len());
        }
        Ok(text)
    }
}

impl Level {
    fn text(&self) -> &str {
        match self {
            Self::Any => "+",
            Self::Name(name) => name,
        }
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(allowed)
}

fn checked<'a>(name: &'a str, what: &'static str) -> Result<&'a str, TopicError> {
    if name.is_empty() || name.contains(['/', '+', '#', '\0']) {
        return Err(TopicError::BadName {
            name: name.to_owned(),
            what,
        });
    }
    Ok(name)
}

fn name<'a>(event: &'a CloudEvent, extension: &'static str) -> Result<&'a str, TopicError> {
    event
        .text(extension)
        .map_err(|_| TopicError::Extension(extension))
}

fn is_resync_request(event: &CloudEvent) -> Result<bool, TopicError> {
    let parsed: EventType = event
        .event_type
        .parse()
        .map_err(|why| TopicError::EventType {
            event_type: event.event_type.clone(),
            why: format!("{why}"),
        })?;
    Ok(parsed.action == Action::ResyncRequest)
}

fn pattern(kind: &str) -> String {
    let cluster = match kind {
        SOURCE_EVENTS | AGENT_EVENTS => r"([a-z]+)/([a-z0-9-]+|\+)/",
        _ => "",
    };
    format!(r"^(\$share/[a-z0-9-]+/)?([a-z]+)/([a-z0-9-]+|\+)/{cluster}{kind}$")
}

#[cfg(test)]
mod tests;
