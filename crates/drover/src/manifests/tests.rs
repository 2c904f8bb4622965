use super::*;
use crate::cli::{Environment, Messaging, PodProgram, SenderPods};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/manifests/golden");

fn args(role: ManifestRole) -> Manifests {
    let agent = role == ManifestRole::Agent;
    Manifests {
        role,
        namespace: None,
        image: "example.com/drover:1".to_owned(),
        replicas: None,
        host_name: Vec::new(),
        cluster: agent.then(|| "north".to_owned()),
        hub: agent.then(|| "hub.example.com:8443".to_owned()),
        hub_identity: None,
        message_namespace: (role == ManifestRole::Publisher)
            .then(|| "team".to_owned())
            .into_iter()
            .collect(),
        network_policy: false,
        api_port: vec![443, 6443],
        messaging: Messaging {
            messaging_url: Vec::new(),
            messaging_topic_prefix: Vec::new(),
            messaging_exchange: Vec::new(),
            messaging_environments: vec![Environment::Stg, Environment::Prod],
            messaging_cross_namespace: false,
            messaging_in_process: false,
        },
        pods: SenderPods::default(),
    }
}

/// What a role prints, without the definitions: those have golden files of their own.
fn printed(args: &Manifests) -> String {
    let text = render(args).expect("it is printed");
    text.split_inclusive("---\n")
        .filter(|document| !document.contains("kind: CustomResourceDefinition"))
        .collect()
}

#[track_caller]
fn check(name: &str, args: &Manifests) {
    let (path, text) = (format!("{GOLDEN}/{name}.yaml"), printed(args));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(GOLDEN).expect("the folder can be made");
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == text,
        "{path} differs from what is printed; look at the difference, and write it with UPDATE_GOLDEN=1:\n{text}"
    );
}

#[test]
fn what_is_printed_is_known() {
    check("hub", &args(ManifestRole::Hub));
    check("agent", &args(ManifestRole::Agent));
    check("publisher", &args(ManifestRole::Publisher));
}

#[test]
fn a_publisher_reaches_only_what_its_flags_name() {
    let mut publisher = args(ManifestRole::Publisher);
    publisher.network_policy = true;
    publisher.messaging.messaging_url = vec![
        ("stg".to_owned(), "amqps://broker.example:5673/v".to_owned()),
        ("prod".to_owned(), "amqps://broker.example/v".to_owned()),
    ];
    publisher.messaging.messaging_environments = vec![Environment::Stg, Environment::Prod];
    let policies = |args: &Manifests| -> Vec<(String, Vec<u64>, Vec<u64>)> {
        let objects = publisher::objects(args).expect("it is printed");
        let ports = |rules: &Value| -> Vec<u64> {
            let rules = rules.as_array().into_iter().flatten();
            let ports = rules.flat_map(|rule| rule["ports"].as_array().into_iter().flatten());
            ports.filter_map(|port| port["port"].as_u64()).collect()
        };
        let policies = objects.iter().filter(|one| one["kind"] == "NetworkPolicy");
        let shown = policies.map(|one| {
            let namespace = one["metadata"]["namespace"].as_str().unwrap_or_default();
            let spec = &one["spec"];
            (
                namespace.to_owned(),
                ports(&spec["ingress"]),
                ports(&spec["egress"]),
            )
        });
        shown.collect()
    };
    let names = [53, 53, 5353, 5353];
    let to = |more: &[u64]| [&names[..], more].concat();
    let own = (
        "drover-publisher".to_owned(),
        vec![8081, 8082],
        to(&[443, 5671, 5673, 6443]),
    );
    let pods = ("team".to_owned(), vec![], to(&[5671, 5673]));
    assert_eq!(policies(&publisher), [own, pods]);
    publisher.messaging.messaging_in_process = true;
    publisher.messaging.messaging_environments = vec![Environment::Stg];
    publisher.api_port = vec![16443];
    let own = (
        "drover-publisher".to_owned(),
        vec![8081, 8082],
        to(&[5673, 16443]),
    );
    assert_eq!(policies(&publisher), [own]);
    publisher.network_policy = false;
    assert!(policies(&publisher).is_empty());
}

#[test]
fn what_a_publisher_is_told_is_printed() {
    let mut publisher = args(ManifestRole::Publisher);
    publisher.messaging.messaging_url = vec![("stg".to_owned(), "amqps://b:1/v".to_owned())];
    publisher.messaging.messaging_environments = vec![Environment::Stg];
    publisher.messaging.messaging_cross_namespace = true;
    let all = |args: &Manifests, flags: &[&str]| {
        let text = printed(args);
        for flag in flags {
            assert!(text.contains(flag), "{flag}\n{text}");
        }
    };
    let messaging = [
        "--messaging-url=stg=amqps://b:1/v",
        "--messaging-environments=stg",
        "--messaging-cross-namespace",
    ];
    all(&publisher, &messaging);
    all(&publisher, &["--pod-image=example.com/drover:1\n"]);
    publisher.pods = SenderPods {
        pod_image: Some("example.com/python:3".to_owned()),
        pod_program: PodProgram::FedoraMessaging,
        pod_pull_secret: Some("pull".to_owned()),
    };
    let pods = [
        "--pod-image=example.com/python:3",
        "--pod-program=fedora-messaging",
        "--pod-pull-secret=pull",
    ];
    all(&publisher, &messaging);
    all(&publisher, &pods);
    publisher.messaging.messaging_in_process = true;
    assert!(!printed(&publisher).contains("--pod-"));
}

#[test]
fn printing_twice_prints_the_same() {
    for role in [
        ManifestRole::Hub,
        ManifestRole::Agent,
        ManifestRole::Publisher,
    ] {
        let (first, second) = (render(&args(role)), render(&args(role)));
        assert_eq!(first.expect("printed"), second.expect("printed"));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |args: &Manifests| render(args).expect_err("it makes no sense").to_string();
    let mut hub = args(ManifestRole::Hub);
    hub.cluster = Some("north".to_owned());
    assert!(refused(&hub).contains("a hub waits for its clusters"));
    let mut agent = args(ManifestRole::Agent);
    agent.replicas = Some(2);
    assert!(refused(&agent).contains("an agent runs once"));
    let mut hub = args(ManifestRole::Hub);
    hub.network_policy = true;
    assert!(refused(&hub).contains("is for a publisher"));
}

#[test]
fn nothing_is_granted_by_a_wildcard() {
    for role in [
        ManifestRole::Hub,
        ManifestRole::Agent,
        ManifestRole::Publisher,
    ] {
        let text = printed(&args(role));
        assert!(!text.contains('*'), "{text}");
    }
}
