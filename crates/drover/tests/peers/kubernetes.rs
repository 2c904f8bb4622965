//! A fleet as it is installed on Kubernetes: kube-apiserver, etcd and kube-controller-manager for the hub and for the cluster; three
//! copies of the hub behind a balancer and one agent as processes that have nothing but the service accounts which `drover manifests`
//! prints.

mod bed;
mod pods;
mod restart;
mod rights;
mod webhooks;

use crate::suite;
use bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_holds_on_kubernetes_with_the_printed_rights() {
    let bed = Bed::start(true).await;
    suite::run(&bed.fleet()).await;
    rights::compare(&bed).await;
    bed.stop().await;
}

/// Nothing is installed that the API server would change, drop or refuse; and installing twice is installing once.
#[tokio::test(flavor = "multi_thread")]
async fn every_manifest_is_valid_on_kubernetes() {
    let api = drover_testkit::KubeApi::start(drover_testkit::KubeOptions::default())
        .await
        .unwrap();
    for (role, namespace) in [
        (bed::HUB, "open-cluster-management-hub"),
        (bed::AGENT, "open-cluster-management-agent"),
    ] {
        let text = bed::manifests(role);
        api.kubectl(&["create", "namespace", namespace], "")
            .unwrap();
        let strict = ["apply", "--server-side", "--validate=strict", "-f", "-"];
        let said = api
            .kubectl(&[&strict[..], &["--dry-run=server"]].concat(), &text)
            .unwrap();
        let count = text.matches("\n---\n").count() + 1;
        assert_eq!(said.lines().count(), count, "{said}");
        assert!(!said.contains("Warning"), "{said}");
        api.kubectl(&strict, &text).unwrap();
        let said = api.kubectl(&["diff", "--server-side", "-f", "-"], &text);
        assert_eq!(said.unwrap(), "", "a second time changes nothing");
    }
}
