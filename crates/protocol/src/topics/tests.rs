use jiff::Timestamp;

use super::*;

const SPEC: &str = "io.open-cluster-management.works.v1alpha1.manifestbundles.spec";
const STATUS: &str = "io.open-cluster-management.works.v1alpha1.manifestbundles.status";

fn names(source_events: &str, agent_events: &str, broadcasts: [&str; 2]) -> TopicNames {
    TopicNames {
        source_events: source_events.to_owned(),
        agent_events: agent_events.to_owned(),
        source_broadcast: broadcasts[0].to_owned(),
        agent_broadcast: broadcasts[1].to_owned(),
    }
}

fn topics(source_events: &str, agent_events: &str, broadcasts: [&str; 2]) -> Topics {
    Topics::new(&names(source_events, agent_events, broadcasts)).unwrap()
}

fn usual() -> Topics {
    topics(
        "sources/hub-a/clusters/+/sourceevents",
        "sources/hub-a/clusters/+/agentevents",
        ["sources/+/sourcebroadcast", "clusters/+/agentbroadcast"],
    )
}

fn event(event_type: &str, cluster: &str, source: &str) -> CloudEvent {
    CloudEvent::new("1", "x", event_type, Timestamp::UNIX_EPOCH)
        .with(names::EXT_CLUSTER_NAME, cluster)
        .with(names::EXT_ORIGINAL_SOURCE, source)
}

#[test]
fn names_are_checked() {
    fn check(source_events: &str, agent_events: &str, broadcasts: [&str; 2], expected: &str) {
        let result = Topics::new(&names(source_events, agent_events, broadcasts));
        let text = result.map_or_else(|e| e.to_string(), |_| "ok".to_owned());
        assert_eq!(
            text, expected,
            "{source_events} {agent_events} {broadcasts:?}"
        );
    }
    let (se, ae) = (
        "sources/hub1/clusters/+/sourceevents",
        "sources/hub1/clusters/+/agentevents",
    );
    let bad_source = r"it should match `^(\$share/[a-z0-9-]+/)?([a-z]+)/([a-z0-9-]+|\+)/([a-z]+)/([a-z0-9-]+|\+)/sourceevents$`";
    let bad_broadcast =
        r"it should match `^(\$share/[a-z0-9-]+/)?([a-z]+)/([a-z0-9-]+|\+)/agentbroadcast$`";
    check(se, ae, ["", ""], "ok");
    check(
        "$share/g-1/sources/+/clusters/+/sourceevents",
        ae,
        ["", ""],
        "ok",
    );
    check(
        se,
        "$share/g/sources/+/consumers/c-1/agentevents",
        [
            "$share/g/sources/+/sourcebroadcast",
            "clusters/c1/agentbroadcast",
        ],
        "ok",
    );
    for wrong in [
        "",
        "sources/hub1/clusters/+",
        "sources/hub1/clusters/+/agentevents",
        "sources/hub.1/clusters/+/sourceevents",
        "sources/Hub1/clusters/+/sourceevents",
        "sources//clusters/+/sourceevents",
        "sources/hub1/clusters/#/sourceevents",
        "s0urces/hub1/clusters/+/sourceevents",
        "/hub1/clusters/+/sourceevents",
        "sources/hub1/clusters/+/x/sourceevents",
        "$share//sources/hub1/clusters/+/sourceevents",
        "$share/G/sources/hub1/clusters/+/sourceevents",
        "$queue/g/sources/hub1/clusters/+/sourceevents",
        "$share/g/sources/hub1/clusters/+/sourceevents ",
    ] {
        check(
            wrong,
            ae,
            ["", ""],
            &format!("invalid source events topic {wrong:?}, {bad_source}"),
        );
    }
    check(
        "x",
        ae,
        ["", "clusters/agentbroadcast"],
        &format!(
            "[invalid source events topic \"x\", {bad_source}, invalid agent broadcast topic \"clusters/agentbroadcast\", {bad_broadcast}]"
        ),
    );
}

#[test]
fn subscriptions() {
    fn check(result: Result<Vec<String>, TopicError>, expected: &[&str]) {
        let got = result.unwrap_or_else(|error| vec![error.to_string()]);
        assert_eq!(got, expected);
    }
    // C39, C40, C41.
    check(
        usual().agent_filters("edge-7"),
        &[
            "sources/hub-a/clusters/edge-7/sourceevents",
            "sources/+/sourcebroadcast",
        ],
    );
    check(
        usual().source_filters("hub-a"),
        &[
            "sources/hub-a/clusters/+/agentevents",
            "clusters/+/agentbroadcast",
        ],
    );
    let wild = topics(
        "sources/+/clusters/+/sourceevents",
        "sources/+/clusters/+/agentevents",
        ["", ""],
    );
    check(
        wild.source_filters("hub-a"),
        &["the topic source \"+\" does not match the client sourceID \"hub-a\""],
    );
    check(
        usual().source_filters("hub-b"),
        &["the topic source \"hub-a\" does not match the client sourceID \"hub-b\""],
    );
    check(
        wild.agent_filters("edge-7"),
        &["sources/+/clusters/edge-7/sourceevents"],
    );
    check(
        usual().agent_filters("a/b"),
        &["failed to put \"a/b\" into a topic: the name of a cluster has no '/', '+' or '#'"],
    );
    let shared = topics(
        "sources/hub-a/clusters/+/sourceevents",
        "$share/statussubscribers/sources/hub-a/clusters/+/agentevents",
        ["", "$share/statussubscribers/clusters/+/agentbroadcast"],
    );
    check(
        shared.source_filters("hub-a"),
        &[
            "$share/statussubscribers/sources/hub-a/clusters/+/agentevents",
            "$share/statussubscribers/clusters/+/agentbroadcast",
        ],
    );
    let one = topics(
        "sources/+/clusters/edge-7/sourceevents",
        "sources/hub-a/clusters/edge-7/agentevents",
        ["", ""],
    );
    check(
        one.agent_filters("edge-7"),
        &["sources/+/clusters/edge-7/sourceevents"],
    );
}

#[test]
fn agents_publish() {
    fn check(topics: &Topics, event: &CloudEvent, expected: &str) {
        let got = topics.agent_topic(Some("edge-7"), event);
        assert_eq!(got.unwrap_or_else(|error| error.to_string()), expected);
    }
    let status = |source| event(&format!("{STATUS}.update_request"), "edge-7", source);
    let resync = |source| event(&format!("{SPEC}.resync_request"), "edge-7", source);
    let fixed = "sources/hub-a/clusters/edge-7/agentevents";
    check(&usual(), &status("hub-a"), fixed);
    check(&usual(), &status(""), fixed);
    check(&usual(), &resync("hub-a"), fixed);
    check(&usual(), &resync(""), "clusters/edge-7/agentbroadcast");
    let narrow = topics(
        "sources/hub-a/clusters/edge-7/sourceevents",
        "$share/g/sources/hub-a/clusters/edge-7/agentevents",
        ["", ""],
    );
    check(&narrow, &resync(""), fixed);
    check(&narrow, &status("hub-b"), fixed);
    let wild = topics(
        "sources/+/clusters/+/sourceevents",
        "sources/+/clusters/+/agentevents",
        ["", ""],
    );
    check(
        &wild,
        &status("hub-b"),
        "sources/hub-b/clusters/edge-7/agentevents",
    );
    check(
        &wild,
        &resync(""),
        "failed to choose a topic: sources/+/clusters/+/agentevents needs the name of a source, the event has none; set it in the topic or in the extension originalsource",
    );
    check(
        &wild,
        &status("a/#"),
        "failed to put \"a/#\" into a topic: the name of a source has no '/', '+' or '#'",
    );
    check(
        &usual(),
        &event("a.b.spec.d", "edge-7", ""),
        "unsupported event type \"a.b.spec.d\", unsupported cloudevents type format: a.b.spec.d",
    );
    let bare = CloudEvent::new("1", "x", format!("{STATUS}.x"), Timestamp::UNIX_EPOCH);
    check(&usual(), &bare, "originalsource extension must be a string");
    let of_event = usual().agent_topic(None, &event(&format!("{SPEC}.x"), "edge-9", ""));
    assert_eq!(
        of_event.unwrap(),
        "sources/hub-a/clusters/edge-9/agentevents"
    );
}

#[test]
fn sources_publish() {
    fn check(topics: &Topics, event: &CloudEvent, expected: &str) {
        let got = topics.source_topic("hub-a", event);
        assert_eq!(got.unwrap_or_else(|error| error.to_string()), expected);
    }
    let spec = |cluster| event(&format!("{SPEC}.create_request"), cluster, "");
    let resync = |cluster| event(&format!("{STATUS}.resync_request"), cluster, "");
    let to = "sources/hub-a/clusters/edge-7/sourceevents";
    check(&usual(), &spec("edge-7"), to);
    check(&usual(), &resync("edge-7"), to);
    check(&usual(), &resync(""), "sources/hub-a/sourcebroadcast");
    let wild = topics(
        "$share/g/sources/+/clusters/+/sourceevents",
        "sources/hub-a/clusters/+/agentevents",
        ["", ""],
    );
    check(&wild, &spec("edge-7"), to);
    check(&wild, &resync(""), "the source broadcast topic not set");
    check(
        &wild,
        &spec(""),
        "failed to choose a topic: $share/g/sources/+/clusters/+/sourceevents needs the name of a cluster, the event has none; set it in the topic or in the extension clustername",
    );
    let bare = CloudEvent::new("1", "x", format!("{SPEC}.x"), Timestamp::UNIX_EPOCH);
    check(&usual(), &bare, "clustername extension must be a string");
}
