use drover_api::Time;
use drover_api::cluster::v1::ManagedClusterStatus;
use drover_api::conditions::condition;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("small seconds are valid")
}

#[track_caller]
fn stands(accepts: bool, condition_status: Option<Status>, expected: Standing) {
    let mut found = cluster("c1", BTreeMap::new(), BTreeMap::new());
    found.spec.hub_accepts_client = accepts;
    let conditions = condition_status
        .map(|status| condition(words::HUB_ACCEPTED, status, "R", "", None, &Time(at(1))));
    found.status = Some(ManagedClusterStatus {
        conditions: conditions.into_iter().collect(),
        ..Default::default()
    });
    assert_eq!(standing(Some(&found)), expected);
}

#[test]
fn acceptance_counts_when_the_roles_are_there() {
    assert_eq!(standing(None), Standing::Unknown);
    stands(false, None, Standing::Waiting);
    stands(true, None, Standing::Waiting);
    stands(true, Some(Status::True), Standing::Accepted);
    // The denial is newer than the condition.
    stands(false, Some(Status::True), Standing::Denied);
    stands(false, Some(Status::False), Standing::Denied);
    stands(true, Some(Status::False), Standing::Waiting);
}

#[test]
fn leases_are_renewed_by_the_clusters_own_period_and_late_by_a_quarter_at_most() {
    let cases = [
        (None, 0.0, 60),
        (Some(0), 0.0, 60),
        (Some(8), 0.0, 8),
        (Some(8), 1.0, 10),
        (Some(8), 7.0, 10),
        (Some(-3), 0.0, 1),
    ];
    for (seconds, jitter, expected) in cases {
        let mut found = cluster("c1", BTreeMap::new(), BTreeMap::new());
        found.spec.lease_duration_seconds = seconds;
        assert_eq!(
            next_renewal(&found, at(100), jitter),
            at(100 + expected),
            "{seconds:?} {jitter}"
        );
    }
}

#[test]
fn a_renewal_changes_the_time_alone() {
    let lease: Lease = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "managed-cluster-lease", "namespace": "c1", "resourceVersion": "7"},
        "spec": {"holderIdentity": "managed-cluster-lease", "renewTime": "1970-01-01T00:00:01.000000Z"},
    }))
    .expect("it is a lease");
    let mut expected = lease.clone();
    expected.spec.as_mut().expect("it has one").renew_time = Some(MicroTime(at(9)));
    assert_eq!(renewed(&lease, at(9)), expected);
}
