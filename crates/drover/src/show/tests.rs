use super::*;

const NOW: &str = "2026-01-01T00:05:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("it is a time")
}

fn problem(severity: Severity, text: &str) -> Problem {
    Problem {
        severity,
        text: text.to_owned(),
        since: "2026-01-01T00:00:00Z".parse().ok(),
    }
}

fn cluster(name: &str, problems: Vec<Problem>) -> Cluster {
    Cluster {
        name: name.to_owned(),
        accepted: true,
        joined: true,
        available: if problems.is_empty() {
            "True"
        } else {
            "Unknown"
        }
        .to_owned(),
        kubernetes: "v1.36.0".to_owned(),
        created: "2025-12-31T00:00:00Z".parse().ok(),
        cluster_set: String::new(),
        taints: Vec::new(),
        capacity: [("cpu".to_owned(), "8".to_owned())].into(),
        problems,
    }
}

fn work(name: &str, problems: Vec<Problem>) -> Work {
    Work {
        name: name.to_owned(),
        manifests: 2,
        generation: 3,
        applied: "True".to_owned(),
        available: if problems.is_empty() { "True" } else { "False" }.to_owned(),
        healthy: problems.is_empty().then(|| "True".to_owned()),
        created: None,
        problems,
        feedback: vec!["Deployment shop/web: replicas=2".to_owned()],
    }
}

fn hub() -> Hub {
    let lost = problem(Severity::Failing, "Lease: no\nnews");
    let clusters = [
        cluster("cluster1", Vec::new()),
        cluster("cluster2", vec![lost]),
    ];
    let missing = problem(Severity::Failing, "Deployment shop/web: not found");
    let works = [
        ("cluster1", work("api", Vec::new())),
        ("cluster1", work("web", vec![missing.clone(), missing])),
    ];
    let keyed = |cluster: Cluster| (cluster.name.clone(), cluster);
    let work = |(of, work): (&str, Work)| ((of.to_owned(), work.name.clone()), work);
    Hub {
        name: "hub1".to_owned(),
        problem: None,
        clusters: clusters.into_iter().map(keyed).collect(),
        works: works.into_iter().map(work).collect(),
    }
}

#[test]
fn a_tree_shows_the_worst_first() {
    assert_eq!(
        tree(&[hub()], Much::Brief, now()).join("\n"),
        "\
hub1  2 clusters (1 failing), 2 works (1 failing)
├─ ✗ cluster2  Lease: no news (for 5m)  v1.36.0  0 works
└─ ✓ cluster1  Available  v1.36.0  2 works (1 failing)
   ├─ ✗ web  2 manifests, Applied=True Available=False
   │  Deployment shop/web: not found (for 5m)
   │  Deployment shop/web: not found (for 5m)
   └─ ✓ api  2 manifests, Applied=True Available=True Healthy=True"
    );
    let everything = tree(&[hub()], Much::Everything, now()).join("\n");
    assert!(everything.contains("\n   cpu: 8\n"), "{everything}");
    assert!(
        everything.ends_with("\n      Deployment shop/web: replicas=2"),
        "{everything}"
    );
}

#[test]
fn a_hub_that_cannot_be_read_says_why() {
    let silent = Hub {
        name: "hub2".to_owned(),
        problem: Some("refused".to_owned()),
        ..Hub::default()
    };
    assert_eq!(tree(&[silent], Much::Brief, now()), ["hub2  ✗ refused"]);
    let old = Hub {
        problem: Some("refused".to_owned()),
        ..hub()
    };
    let lines = tree(&[old], Much::Brief, now());
    assert_eq!(
        lines[0],
        "hub1  ✗ refused; last seen: 2 clusters (1 failing), 2 works (1 failing)"
    );
}

#[test]
fn many_clusters_and_works_are_counted() {
    let mut many = hub();
    for number in 3..=100 {
        let name = format!("cluster{number}");
        many.clusters
            .insert(name.clone(), cluster(&name, Vec::new()));
    }
    for number in 0..100 {
        let name = format!("work{number}");
        let key = ("cluster2".to_owned(), name.clone());
        many.works.insert(key, work(&name, Vec::new()));
    }
    let lines = tree(&[many.clone()], Much::Brief, now());
    assert_eq!(
        lines[0],
        "hub1  100 clusters (1 failing), 102 works (1 failing)"
    );
    assert_eq!(
        lines[1],
        "├─ ✗ cluster2  Lease: no news (for 5m)  v1.36.0  100 works"
    );
    assert_eq!(lines[10], "│  └─ and 92 works, all good; --all shows them");
    assert!(lines[11].starts_with("├─ ✓ cluster1 "), "{}", lines[11]);
    assert_eq!(
        lines.last().map(|line| &**line),
        Some("└─ and 80 clusters, all good; --all shows them")
    );
    assert_eq!(tree(&[many], Much::All, now()).len(), 1 + 100 + 102 + 2);
}

#[test]
fn lists_are_tables() {
    let clusters = clusters(&[hub()], false, Some(now())).lines();
    assert_eq!(
        clusters.join("\n"),
        "\
NAME       HUB    ACCEPTED   JOINED   AVAILABLE   AGE   KUBERNETES   WORKS   PROBLEM
cluster2   hub1   True       True     Unknown     24h   v1.36.0      0/0     Lease: no news (for 5m)
cluster1   hub1   True       True     True        24h   v1.36.0      1/2"
    );
    let works = works(&[hub()], true, None).lines();
    assert_eq!(
        works.join("\n"),
        "\
CLUSTER    NAME   APPLIED   AVAILABLE   HEALTHY   HUB    GENERATION   MANIFESTS   FEEDBACK                          PROBLEM
cluster1   web    True      False                 hub1   3            2           Deployment shop/web: replicas=2   Deployment shop/web: not found; Deployment shop/web: not found
cluster1   api    True      True        True      hub1   3            2           Deployment shop/web: replicas=2"
    );
    let short = works_of_one_problem();
    assert!(
        short.ends_with("Deployment shop/web: not found (and 1 more)"),
        "{short}"
    );
}

fn works_of_one_problem() -> String {
    works(&[hub()], false, None).lines().swap_remove(1)
}

#[test]
fn only_what_changed_is_told_again() {
    let before = states(&[hub()]);
    assert!(before.since(&before).is_empty());
    let mut after = hub();
    after
        .clusters
        .insert("cluster2".to_owned(), cluster("cluster2", Vec::new()));
    after
        .works
        .remove(&("cluster1".to_owned(), "web".to_owned()));
    assert_eq!(
        states(&[after]).since(&before),
        [
            vec!["hub1", "cluster2", "", "Good", ""],
            vec!["hub1", "cluster1", "web", "gone"],
        ]
    );
}

#[test]
fn programs_get_everything() {
    let all = document(&[hub()]);
    assert_eq!(
        all["hubs"][0]["clusters"][0]["problems"][0]["severity"],
        "failing"
    );
    assert_eq!(all["hubs"][0]["clusters"][1]["works"][0]["name"], "web");
    assert_eq!(cluster_list(&[hub()])["clusters"][0]["hub"], "hub1");
    assert_eq!(work_list(&[hub()])["works"][1]["cluster"], "cluster1");
}
