//! Which topic, which group, which key, and what a reader takes from a topic.

use drover_protocol::{CloudEvent, DataType, names};

/// Written by sources, read by agents.
pub(super) const SOURCE_EVENTS: &str = "sourceevents";
/// Written by agents, read by sources.
pub(super) const AGENT_EVENTS: &str = "agentevents";

/// Whose transport it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Agent,
    Source,
}

impl Side {
    pub(super) fn writes(self) -> &'static str {
        match self {
            Self::Agent => AGENT_EVENTS,
            Self::Source => SOURCE_EVENTS,
        }
    }

    pub(super) fn reads(self) -> &'static str {
        match self {
            Self::Agent => SOURCE_EVENTS,
            Self::Source => AGENT_EVENTS,
        }
    }
}

/// The consumer group of one subscription. Each data type is read by a consumer of its own: in one group they would share
/// the partitions, and each would see only some of its events.
pub(super) fn group(configured: Option<&str>, id: &str, data_type: &DataType) -> String {
    let base = configured.filter(|group| !group.is_empty()).unwrap_or(id);
    if data_type.group() == DataType::MANIFEST_BUNDLES.group() {
        base.to_owned()
    } else {
        format!("{base}.{data_type}")
    }
}

/// The key of an event: events of one source and one cluster stay in order.
pub(super) fn key(event: &CloudEvent, topic: &str) -> String {
    let cluster = event.cluster().unwrap_or_default();
    let source = if topic == SOURCE_EVENTS {
        &event.source
    } else {
        event.text(names::EXT_ORIGINAL_SOURCE).unwrap_or_default()
    };
    match (source.is_empty(), cluster.is_empty()) {
        (true, _) => cluster.to_owned(),
        (_, true) => source.to_owned(),
        _ => format!("{source}@{cluster}"),
    }
}

/// What a reader takes from its topic.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Event types start so.
    prefix: String,
    /// Extension that says whom an event is for.
    to: &'static str,
    /// The reader.
    me: String,
}

impl Filter {
    pub(super) fn agent(data_type: &DataType, cluster: String) -> Self {
        Self {
            prefix: format!("{data_type}."),
            to: names::EXT_CLUSTER_NAME,
            me: cluster,
        }
    }

    pub(super) fn source(data_type: &DataType, source: String) -> Self {
        Self {
            prefix: format!("{data_type}."),
            to: names::EXT_ORIGINAL_SOURCE,
            me: source,
        }
    }

    /// Whether to take an event, by its attributes. One that is for nobody is for all.
    pub(super) fn takes<'a>(&self, attribute: impl Fn(&str) -> Option<&'a str>) -> bool {
        let to = attribute(self.to).unwrap_or_default();
        (to.is_empty() || to == self.me)
            && attribute("type").is_some_and(|event_type| event_type.starts_with(&self.prefix))
    }

    /// The same of a decoded event.
    pub(super) fn takes_event(&self, event: &CloudEvent) -> bool {
        self.takes(|name| match name {
            "type" => Some(&event.event_type),
            name => event.text(name).ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use drover_protocol::{CloudEvent, DataType};
    use jiff::Timestamp;

    use super::{AGENT_EVENTS, Filter, SOURCE_EVENTS, group, key};

    const CREATE: &str =
        "io.open-cluster-management.works.v1alpha1.manifestbundles.spec.create_request";

    fn event(cluster: &str, original: &str) -> CloudEvent {
        CloudEvent::new("1", "hub-a", CREATE, Timestamp::UNIX_EPOCH)
            .with("clustername", cluster)
            .with("originalsource", original)
    }

    #[test]
    fn groups() {
        let check = |configured: Option<&str>, data_type: &DataType, expected: &str| {
            assert_eq!(group(configured, "edge-7-agent", data_type), expected);
        };
        check(None, &DataType::MANIFEST_BUNDLES, "edge-7-agent");
        check(Some(""), &DataType::MANIFEST_BUNDLES, "edge-7-agent");
        check(Some("mine"), &DataType::MANIFEST_BUNDLES, "mine");
        let leases = "mine.coordination.k8s.io.v1.leases";
        check(Some("mine"), &DataType::LEASES, leases);
    }

    #[test]
    fn keys() {
        let check = |cluster: &str, original: &str, topic: &str, expected: &str| {
            assert_eq!(key(&event(cluster, original), topic), expected);
        };
        check("edge-7", "", SOURCE_EVENTS, "hub-a@edge-7");
        check("", "", SOURCE_EVENTS, "hub-a");
        check("edge-7", "hub-b", AGENT_EVENTS, "hub-b@edge-7");
        check("edge-7", "", AGENT_EVENTS, "edge-7");
    }

    #[test]
    fn readers_take_what_is_for_them_and_what_is_for_all() {
        let bundles = &DataType::MANIFEST_BUNDLES;
        let agent = Filter::agent(bundles, "edge-7".to_owned());
        let source = Filter::source(bundles, "hub-a".to_owned());
        let check = |filter: &Filter, cluster: &str, original: &str, expected: bool| {
            let event = event(cluster, original);
            assert_eq!(filter.takes_event(&event), expected, "{filter:?} {event:?}");
        };
        check(&agent, "edge-7", "hub-b", true);
        check(&agent, "", "", true);
        check(&agent, "edge-70", "", false);
        check(&source, "edge-9", "hub-a", true);
        check(&source, "edge-9", "", true);
        check(&source, "edge-9", "hub-b", false);
        let leases = Filter::agent(&DataType::LEASES, "edge-7".to_owned());
        check(&leases, "edge-7", "", false);
    }
}
