//! The table of accesses.

use drover_protocol::{CloudEvent, DataType, EventType};
use jiff::Timestamp;

use super::{Access, confine, publishing, subscribing};

fn words(access: Result<Access, String>) -> String {
    access.map_or_else(
        |why| why,
        |a| {
            format!(
                "{} {}/{}/{} {} {:?}",
                a.verb, a.group, a.resource, a.subresource, a.namespace, a.name
            )
        },
    )
}

#[track_caller]
fn check(event_type: &str, data: &str, access: &str, confined: &str) {
    let event = CloudEvent::new("i", "a", event_type, Timestamp::UNIX_EPOCH)
        .with("clustername", "c1")
        .with("metadata", r#"{"namespace":"c1"}"#)
        .with_json(data.to_owned());
    let parsed: EventType = event_type.parse().unwrap();
    assert_eq!(words(publishing(&event, &parsed)), access);
    assert_eq!(
        confine(&event, &parsed).map_or_else(|why| why, |()| "ok".into()),
        confined
    );
}

#[test]
fn publishing_means_an_access() {
    let works = "io.open-cluster-management.works.v1alpha1.manifestbundles";
    check(
        &format!("{works}.status.update_request"),
        "{}",
        "update work.open-cluster-management.io/manifestworks/status c1 \"\"",
        "ok",
    );
    check(
        &format!("{works}.spec.resync_request"),
        "{}",
        "list work.open-cluster-management.io/manifestworks/ c1 \"\"",
        "ok",
    );
    check(
        &format!("{works}.spec.resync_response"),
        "{}",
        "unsupported action resync_response",
        "ok",
    );
    let foreign = "the event is for cluster c1 but speaks of cluster c2";
    check(
        "cluster.open-cluster-management.io.v1.managedclusters.spec.create_request",
        r#"{"metadata":{"name":"c2"}}"#,
        "create cluster.open-cluster-management.io/managedclusters/ c1 \"c1\"",
        foreign,
    );
    check(
        "coordination.k8s.io.v1.leases.spec.update_request",
        r#"{"metadata":{"name":"l","namespace":"c2"}}"#,
        "update coordination.k8s.io/leases/ c1 \"\"",
        foreign,
    );
    check(
        "certificates.k8s.io.v1.certificatesigningrequests.spec.create_request",
        r#"{"metadata":{"name":"x","labels":{"open-cluster-management.io/cluster-name":"c1"}}}"#,
        "create certificates.k8s.io/certificatesigningrequests/ c1 \"\"",
        "ok",
    );
    check(
        "authentication.k8s.io.v1.tokenrequests.spec.create_request",
        r#"{"metadata":{"name":"sa","namespace":"c2"}}"#,
        "create /serviceaccounts/token c1 \"sa\"",
        foreign,
    );
    check(
        "authentication.k8s.io.v1.tokenrequests.spec.update_request",
        "{}",
        "unsupported action update_request",
        "failed to find the cluster of : set metadata.namespace",
    );
    for version in ["v1alpha1", "v1beta1"] {
        check(
            &format!(
                "addon.open-cluster-management.io.{version}.managedclusteraddons.status.update_request"
            ),
            r#"{"metadata":{"name":"a","namespace":"c2"}}"#,
            "update addon.open-cluster-management.io/managedclusteraddons/status c1 \"\"",
            foreign,
        );
    }
    check(
        "events.k8s.io.v1.events.spec.update_request",
        r#"{"metadata":{"name":"e","namespace":"c2"}}"#,
        "update events.k8s.io/events/ c1 \"\"",
        foreign,
    );
    check(
        "certificates.k8s.io.v1.certificatesigningrequests.spec.create_request",
        r#"{"metadata":{"name":"x","labels":{"open-cluster-management.io/cluster-name":"c2"}}}"#,
        "create certificates.k8s.io/certificatesigningrequests/ c1 \"\"",
        foreign,
    );
    check(
        "io.open-cluster-management.works.v1alpha1.manifests.status.update_request",
        "{}",
        "update work.open-cluster-management.io/manifestworks/status c1 \"\"",
        "ok",
    );
    check(
        "a.b.c.spec.create_request",
        r#"{"metadata":{"namespace":"c1"}}"#,
        "unsupported event type a.b.c",
        "ok",
    );
}

#[test]
fn subscribing_means_watching() {
    let check =
        |data_type, expected: &str| assert_eq!(words(subscribing("c1", &data_type)), expected);
    check(
        DataType::MANIFEST_BUNDLES,
        "watch work.open-cluster-management.io/manifestworks/ c1 \"\"",
    );
    check(
        DataType::TOKEN_REQUESTS,
        "subscribe /serviceaccounts/token c1 \"\"",
    );
    check(
        DataType::MANAGED_CLUSTERS,
        "watch cluster.open-cluster-management.io/managedclusters/ c1 \"c1\"",
    );
    check("a.b.c".parse().unwrap(), "unsupported event type a.b.c");
}
