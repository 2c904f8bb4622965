use serde_json::json;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("small seconds are valid")
}

fn cluster(version: &str) -> ManagedCluster {
    let mut cluster: ManagedCluster = serde_json::from_value(json!({
        "metadata": {"name": "c1", "resourceVersion": version, "generation": 2},
        "spec": {"hubAcceptsClient": true},
    }))
    .expect("it is a cluster");
    let accepted = condition(
        words::HUB_ACCEPTED,
        Status::True,
        "R",
        "",
        None,
        &Time(at(1)),
    );
    cluster.status = Some(ManagedClusterStatus {
        conditions: vec![accepted],
        ..Default::default()
    });
    cluster
}

fn report(available: Result<(), &str>) -> Report {
    Report {
        available: available.map_err(str::to_owned),
        version: "v1.36.3".to_owned(),
        capacity: BTreeMap::from([("cpu".to_owned(), Quantity("4".to_owned()))]),
        allocatable: BTreeMap::new(),
        claims: Vec::new(),
    }
}

const LIFE: Validity = Validity {
    from: Timestamp::UNIX_EPOCH,
    until: Timestamp::MAX,
};

fn planned(
    cluster: &ManagedCluster,
    report: Option<&Report>,
    sent: Option<&Sent>,
    now: i64,
) -> Step {
    plan(
        cluster,
        Some(Certificate {
            held: &LIFE,
            problem: None,
        }),
        report,
        sent,
        at(now),
    )
}

#[track_caller]
fn told(step: Step) -> ManagedClusterStatus {
    match step {
        Step::Send(status) => *status,
        Step::Nothing | Step::Wait(_) => panic!("expected a report, got {step:?}"),
    }
}

fn words_of(status: &ManagedClusterStatus) -> Vec<(&str, &str, &str)> {
    status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
        .collect()
}

#[test]
fn an_accepted_cluster_tells_everything_once() {
    let status = told(planned(&cluster("1"), Some(&report(Ok(()))), None, 10));
    assert_eq!(
        words_of(&status),
        [
            ("HubAcceptedManagedCluster", "True", "R"),
            ("ManagedClusterJoined", "True", "ManagedClusterJoined"),
            (
                "ClusterCertificateRotated",
                "True",
                "ClientCertificateUpdated"
            ),
            (
                "ManagedClusterConditionAvailable",
                "True",
                "ManagedClusterAvailable"
            ),
        ]
    );
    assert_eq!(status.version.kubernetes, "v1.36.3");

    let sent = Sent {
        version: Some("1".to_owned()),
        status: status.clone(),
        at: at(10),
    };
    assert_eq!(
        planned(&cluster("1"), Some(&report(Ok(()))), Some(&sent), 12),
        Step::Wait(at(25)),
        "not shown yet"
    );
    let again = told(planned(
        &cluster("1"),
        Some(&report(Ok(()))),
        Some(&sent),
        25,
    ));
    assert_eq!(again, status, "sent again as it was");

    let mut shown = cluster("2");
    shown.status = Some(status);
    shown.metadata.generation = Some(3);
    assert_eq!(
        planned(&shown, Some(&report(Ok(()))), Some(&sent), 99),
        Step::Nothing,
        "the hub shows it"
    );
}

#[test]
fn what_is_not_observed_stays_as_it_was() {
    let mut known = cluster("1");
    known.status = Some(told(planned(&known, Some(&report(Ok(()))), None, 10)));
    let status = told(planned(
        &known,
        Some(&report(Err("status code 500"))),
        None,
        20,
    ));
    assert_eq!(status.version.kubernetes, "v1.36.3");
    let available = conditions::find(&status.conditions, words::AVAILABLE).expect("it is told");
    assert_eq!(
        (available.status.as_str(), available.last_transition_time.0),
        ("False", at(20))
    );
    assert!(available.message.contains("status code 500"));
    // Without a look at the cluster nothing is said of it.
    let fresh = told(planned(&cluster("1"), None, None, 10));
    assert!(conditions::find(&fresh.conditions, words::AVAILABLE).is_none());
}

#[test]
fn the_availability_that_the_hub_gave_up_is_told_again() {
    let mut known = cluster("1");
    known.status = Some(told(planned(&known, Some(&report(Ok(()))), None, 10)));
    let status = known.status.as_mut().expect("it has one");
    conditions::set(
        &mut status.conditions,
        condition(
            words::AVAILABLE,
            Status::Unknown,
            words::REASON_LEASE_STOPPED,
            "",
            None,
            &Time(at(400)),
        ),
    );
    let status = told(planned(&known, Some(&report(Ok(()))), None, 500));
    assert!(conditions::is_true(&status.conditions, words::AVAILABLE));
}

#[test]
fn nothing_is_told_by_whom_the_hub_does_not_want_or_cannot_trust_in_time() {
    let mut denied = cluster("1");
    denied.spec.hub_accepts_client = false;
    assert_eq!(
        planned(&denied, Some(&report(Ok(()))), None, 10),
        Step::Nothing
    );

    let mut askew = cluster("1");
    let clocks = condition(
        words::CLOCK_SYNCED,
        Status::False,
        words::REASON_CLOCK_OUT_OF_SYNC,
        "",
        None,
        &Time(at(1)),
    );
    conditions::set(&mut askew.status.get_or_insert_default().conditions, clocks);
    assert_eq!(
        planned(&askew, Some(&report(Ok(()))), None, 10),
        Step::Nothing
    );
    askew.metadata.annotations = Some(BTreeMap::from([(
        names::SKIP_CLOCK_SYNC_CHECK_ANNOTATION.to_owned(),
        String::new(),
    )]));
    assert!(matches!(
        planned(&askew, Some(&report(Ok(()))), None, 10),
        Step::Send(_)
    ));
}

#[test]
fn a_failed_renewal_is_told() {
    let step = plan(
        &cluster("1"),
        Some(Certificate {
            held: &LIFE,
            problem: Some("denied"),
        }),
        None,
        None,
        at(10),
    );
    let status = told(step);
    let rotated =
        conditions::find(&status.conditions, words::CERTIFICATE_ROTATED).expect("it is told");
    assert_eq!(
        (
            rotated.status.as_str(),
            rotated.reason.as_str(),
            rotated.message.as_str()
        ),
        ("False", "ClientCertificateUpdateFailed", "denied")
    );
}

#[test]
fn the_api_server_is_unavailable_after_twenty_seconds() {
    let mut state = Health::Well;
    let checks = [
        (0, true, Health::Well),
        (60, false, Health::Failing(at(60))),
        (65, false, Health::Failing(at(60))),
        (79, false, Health::Failing(at(60))),
        (80, false, Health::Unavailable(at(60))),
        (85, false, Health::Unavailable(at(60))),
        (90, true, Health::Well),
        (95, false, Health::Failing(at(95))),
    ];
    for (now, well, expected) in checks {
        state = health(state, well, at(now));
        assert_eq!(state, expected, "at {now}");
    }
}

#[test]
fn nodes_add_up() {
    let node = |cpu: &str, memory: &str, unschedulable: bool| -> Node {
        let amounts = json!({"cpu": cpu, "memory": memory});
        serde_json::from_value(json!({"spec": {"unschedulable": unschedulable}, "status": {"capacity": amounts, "allocatable": amounts}}))
            .expect("it is a node")
    };
    let mut resources = Resources::default();
    for node in [
        node("1500m", "1Gi", false),
        node("500m", "512Mi", false),
        node("2", "1Gi", true),
    ] {
        resources.count(&node);
    }
    let amounts = |cpu: &str, memory: &str| {
        BTreeMap::from(
            [("cpu", cpu), ("memory", memory)]
                .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))),
        )
    };
    assert_eq!(resources.capacity, amounts("4", "2560Mi"));
    assert_eq!(resources.allocatable, amounts("2", "1536Mi"));
}

#[test]
fn claims_come_in_order_and_not_too_many() {
    let claim = |name: &str, label: Option<&str>| -> ClusterClaim {
        let labels: BTreeMap<_, _> = label.into_iter().map(|label| (label, "")).collect();
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": {"value": format!("{name}!")}})).expect("it is a claim")
    };
    let found = [
        claim("b", None),
        claim("product.open-cluster-management.io", None),
        claim("c", None),
        claim("secret", Some(names::SPOKE_ONLY_LABEL)),
        claim("a", None),
        claim("id.k8s.io", None),
    ];
    let (kept, dropped) = claims(&found, &limits(2, &[]));
    let kept: Vec<_> = kept.iter().map(|claim| claim.name.as_str()).collect();
    assert_eq!(
        kept,
        ["id.k8s.io", "product.open-cluster-management.io", "a", "b"]
    );
    assert_eq!(
        (
            dropped,
            claims(&found, &ClaimLimits::default()).0[2].value.as_str()
        ),
        (1, "a!")
    );
}

fn limits(max_custom: usize, suffixes: &[&str]) -> ClaimLimits {
    ClaimLimits {
        max_custom,
        reserved_suffixes: suffixes.iter().map(|one| (*one).to_owned()).collect(),
    }
}

#[test]
fn claims_with_reserved_ends_are_always_reported() {
    let claim = |name: &str| ClusterClaim {
        metadata: drover_api::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        ..ClusterClaim::default()
    };
    let names = [
        "b.reserved.io",
        "a",
        "platform.open-cluster-management.io",
        "z",
        "a.reserved.io",
    ];
    let found: Vec<ClusterClaim> = names.into_iter().map(claim).collect();
    let (kept, dropped) = claims(&found, &limits(1, &["reserved.io", "other"]));
    let kept: Vec<&str> = kept.iter().map(|claim| claim.name.as_str()).collect();
    let expected = [
        "a.reserved.io",
        "b.reserved.io",
        "platform.open-cluster-management.io",
        "a",
    ];
    assert_eq!((kept.as_slice(), dropped), (&expected[..], 1));
}
