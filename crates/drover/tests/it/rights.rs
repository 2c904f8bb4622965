//! What the agent of a cluster may do on its hub's API, tried with its own certificate.

use std::collections::BTreeMap;

use drover_agent::Bootstrap;
use drover_testkit::eventually;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::world::{LONG, api};

const NAMESPACE: &str = "open-cluster-management-agent";

/// What the agent keeps in its cluster, as soon as it has a certificate of the hub at this address.
pub(crate) async fn identity(cluster: &Client, hub: &str) -> BTreeMap<String, ByteString> {
    let secrets: Api<Secret> = Api::namespaced(cluster.clone(), NAMESPACE);
    let check = async || {
        let secret = secrets.get("hub-kubeconfig-secret").await?;
        let data = secret.data.unwrap_or_default();
        let known = Bootstrap::from_secret(&data)?;
        anyhow::ensure!(known.endpoint.address() == hub, "it is for {known:?}");
        anyhow::ensure!(data.contains_key("tls.crt"), "no certificate");
        Ok(data)
    };
    eventually("an identity", LONG, check).await.unwrap()
}

/// A client of the hub with the certificate of the agent.
pub(crate) async fn own_client(identity: &BTreeMap<String, ByteString>) -> Client {
    let text = String::from_utf8(identity["kubeconfig"].0.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::fs::write(folder.path().join(name), &identity[name].0).unwrap();
    }
    // As OCM's agent would have it: the files lie beside the kubeconfig.
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, text).unwrap();
    let kubeconfig = Kubeconfig::read_from(&file).unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

/// The agent of `cluster` may do what it must, and nothing in another cluster's namespace or beyond its kinds.
pub(crate) async fn only_its_own(agent: &Client, cluster: &str, other: &str) {
    let work = "work.open-cluster-management.io/v1/ManifestWork";
    let managed = "cluster.open-cluster-management.io/v1/ManagedCluster";
    let lease = "coordination.k8s.io/v1/Lease";
    let addon = "addon.open-cluster-management.io/v1alpha1/ManagedClusterAddOn";
    let all = ListParams::default();
    for kind in [work, lease, addon] {
        let own = api(agent, kind, Some(cluster)).list(&all).await;
        own.unwrap_or_else(|error| panic!("{kind}: {error}"));
        forbidden(kind, api(agent, kind, Some(other)).list(&all).await);
        forbidden(kind, api(agent, kind, None).list(&all).await);
    }
    let clusters = api(agent, managed, None);
    clusters.get(cluster).await.unwrap();
    forbidden("another cluster", clusters.get(other).await);
    forbidden("all clusters", clusters.list(&all).await);
    let params = DeleteParams::default();
    forbidden("deletion", clusters.delete(cluster, &params).await);
    let leases = api(agent, lease, Some(cluster));
    forbidden(
        "a lease",
        leases.delete("managed-cluster-lease", &params).await,
    );
    let made = |kind: &str, name: &str| {
        let (version, kind) = kind.rsplit_once('/').unwrap();
        serde_json::from_value(json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": cluster}, "spec": {},
        }))
        .unwrap()
    };
    for kind in [work, lease, addon] {
        let one = api(agent, kind, Some(cluster));
        forbidden(
            kind,
            one.create(&PostParams::default(), &made(kind, "mine"))
                .await,
        );
    }
    for (kind, namespace) in [
        ("v1/Secret", Some(cluster)),
        ("v1/ConfigMap", Some(cluster)),
        ("v1/Namespace", None),
        ("rbac.authorization.k8s.io/v1/ClusterRole", None),
        ("rbac.authorization.k8s.io/v1/RoleBinding", Some(cluster)),
    ] {
        forbidden(kind, api(agent, kind, namespace).list(&all).await);
    }
    let everything: Value =
        json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let role = format!("open-cluster-management:managedcluster:{cluster}");
    let roles = api(agent, "rbac.authorization.k8s.io/v1/ClusterRole", None);
    let patch = Patch::Merge(everything);
    forbidden(
        "its role",
        roles.patch(&role, &PatchParams::default(), &patch).await,
    );
}

#[track_caller]
pub(crate) fn forbidden<T: std::fmt::Debug>(what: &str, answer: Result<T, kube::Error>) {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        answer => panic!("{what}: it is allowed, or fails otherwise: {answer:?}"),
    }
}
