use super::*;

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
        messaging_in_process: false,
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
