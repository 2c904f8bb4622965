//! What the rules of a hub do to its users, on whatever API: every request is made as somebody who may do
//! some things and not others.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use drover_testkit::eventually;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::world::{LONG, api, apply, config_map, work};

const SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";
/// Bytes of manifests that a work may have.
const LIMIT: usize = 500 * 1024;

/// An API whose administrator may speak for others.
pub(crate) struct Judged {
    kubeconfig: PathBuf,
    pub(crate) admin: Client,
}

impl Judged {
    /// With the kinds of a hub, and users `ann` (may do what the rules ask for), `bob` (may only write).
    pub(crate) async fn prepare(kubeconfig: &Path) -> Self {
        let mut judged = Self {
            kubeconfig: kubeconfig.to_owned(),
            admin: user(kubeconfig, None).await.unwrap(),
        };
        judged.admin = user(kubeconfig, None).await.unwrap();
        drover_hub::install::definitions(&judged.admin, &drover_api::crds::hub())
            .await
            .unwrap();
        let write = json!({
            "apiGroups": ["cluster.open-cluster-management.io", "work.open-cluster-management.io"],
            "resources": ["managedclusters", "managedclustersetbindings", "manifestworks", "manifestworkreplicasets"],
            "verbs": ["get", "list", "create", "update", "patch", "delete"],
        });
        judged.allow("writers", &["ann", "bob"], vec![write]).await;
        let rights = vec![
            json!({"apiGroups": ["register.open-cluster-management.io"], "resources": ["managedclusters/accept"], "verbs": ["update"]}),
            json!({"apiGroups": ["cluster.open-cluster-management.io"], "resources": ["managedclustersets/join"],
                "resourceNames": ["default", "blue"], "verbs": ["create"]}),
            json!({"apiGroups": ["cluster.open-cluster-management.io"], "resources": ["managedclustersets/bind"],
                "resourceNames": ["blue"], "verbs": ["create"]}),
            json!({"apiGroups": ["work.open-cluster-management.io"], "resources": ["manifestworks"],
                "resourceNames": ["system:serviceaccount:shop:runner"], "verbs": ["execute-as"]}),
        ];
        judged.allow("trusted", &["ann"], rights).await;
        for namespace in ["one", "gone"] {
            let made =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            let namespaces = api(&judged.admin, "v1/Namespace", None);
            apply(&namespaces, &made).await.unwrap();
        }
        judged
    }

    /// Lets users do what the rules of a role say.
    pub(crate) async fn allow(&self, role: &str, users: &[&str], rules: Vec<Value>) {
        let group = "rbac.authorization.k8s.io";
        let made = json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": role}, "rules": rules,
        });
        let roles = api(
            &self.admin,
            "rbac.authorization.k8s.io/v1/ClusterRole",
            None,
        );
        apply(&roles, &made).await.unwrap();
        let subjects: Vec<Value> = users
            .iter()
            .map(|user| json!({"apiGroup": group, "kind": "User", "name": user}))
            .collect();
        let bound = json!({
            "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role}, "subjects": subjects,
        });
        let bindings = api(
            &self.admin,
            "rbac.authorization.k8s.io/v1/ClusterRoleBinding",
            None,
        );
        apply(&bindings, &bound).await.unwrap();
    }

    /// A client for somebody.
    pub(crate) async fn as_user(&self, name: &str) -> Client {
        user(&self.kubeconfig, Some(name)).await.unwrap()
    }

    /// Waits until the rules are asked: an API server learns late whom to ask.
    pub(crate) async fn wait_until_judged(&self) {
        let clusters = clusters(&self.admin);
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let check = async || {
            let bad = json!({"managedClusterClientConfigs": [{"url": "http://h"}]});
            let refused = clusters.create(&dry, &cluster("probe", bad)).await;
            ensure!(refused.is_err(), "it is taken");
            let works = works(&self.admin, "one");
            let refused = works.create(&dry, &object(work("probe", "one", &[]))).await;
            ensure!(refused.is_err(), "it is taken");
            let bindings = bindings(&self.admin, "one");
            let refused = bindings.create(&dry, &binding("probe", "other")).await;
            ensure!(refused.is_err(), "it is taken");
            let made = clusters.create(&dry, &cluster("probe", json!({}))).await?;
            ensure!(
                made.metadata
                    .labels
                    .is_some_and(|labels| labels.contains_key(SET_LABEL)),
                "it got no set"
            );
            Ok(())
        };
        eventually("writes to be judged", LONG, check)
            .await
            .unwrap();
    }
}

async fn user(kubeconfig: &Path, name: Option<&str>) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.auth_info.impersonate = name.map(ToOwned::to_owned);
    Ok(Client::try_from(config)?)
}

pub(crate) fn clusters(client: &Client) -> Api<DynamicObject> {
    api(
        client,
        "cluster.open-cluster-management.io/v1/ManagedCluster",
        None,
    )
}

fn bindings(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = "cluster.open-cluster-management.io/v1beta2/ManagedClusterSetBinding";
    api(client, kind, Some(namespace))
}

pub(crate) fn works(client: &Client, namespace: &str) -> Api<DynamicObject> {
    crate::world::works(client, namespace)
}

pub(crate) fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn cluster(name: &str, spec: Value) -> DynamicObject {
    object(json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": name}, "spec": spec,
    }))
}

fn binding(name: &str, set: &str) -> DynamicObject {
    object(json!({
        "apiVersion": "cluster.open-cluster-management.io/v1beta2", "kind": "ManagedClusterSetBinding",
        "metadata": {"name": name}, "spec": {"clusterSet": set},
    }))
}

async fn create(
    api: &Api<DynamicObject>,
    made: &DynamicObject,
) -> Result<DynamicObject, kube::Error> {
    api.create(&PostParams::default(), made).await
}

pub(crate) async fn merge(
    api: &Api<DynamicObject>,
    name: &str,
    patch: Value,
) -> Result<DynamicObject, kube::Error> {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
}

/// Expects a refusal by the webhook of this kind: code, reason, and a part of what is said.
fn refused(outcome: Result<DynamicObject, kube::Error>, code: u16, webhook: &str, part: &str) {
    let Err(kube::Error::Api(status)) = outcome else {
        panic!("{outcome:?}, not a refusal: {part}");
    };
    let reason = if code == 403 {
        "Forbidden"
    } else {
        "BadRequest"
    };
    assert_eq!(
        (status.code, status.reason.as_str()),
        (code, reason),
        "{}",
        status.message
    );
    let begin = format!("admission webhook \"{webhook}");
    assert!(
        status.message.starts_with(&begin),
        "{} does not begin with {begin}",
        status.message
    );
    assert!(
        status.message.contains("denied the request: "),
        "{}",
        status.message
    );
    assert!(
        status.message.contains(part),
        "{} does not say {part}",
        status.message
    );
}

/// Everything that users see of the rules.
pub(crate) async fn scenario(judged: &Judged) {
    clusters_are_judged(judged).await;
    taints_are_stamped(judged).await;
    acceptance_waits_for_the_namespace(judged).await;
    bindings_are_judged(judged).await;
    works_are_judged(judged).await;
}

async fn clusters_are_judged(judged: &Judged) {
    const WEBHOOK: &str = "managedclustervalidators.";
    let (ann, bob) = (
        clusters(&judged.as_user("ann").await),
        clusters(&judged.as_user("bob").await),
    );
    let no_403 = |outcome, part: &str| refused(outcome, 403, WEBHOOK, part);
    no_403(
        create(&bob, &cluster("one", json!({}))).await,
        "set \"default\"",
    );
    let made = create(&ann, &cluster("one", json!({}))).await.unwrap();
    assert_eq!(
        made.metadata
            .labels
            .unwrap_or_default()
            .get(SET_LABEL)
            .map(String::as_str),
        Some("default")
    );
    let accept = json!({"spec": {"hubAcceptsClient": true}});
    no_403(
        merge(&bob, "one", accept.clone()).await,
        "user \"bob\" may not let clusters in",
    );
    merge(&ann, "one", accept).await.unwrap();
    // It stays accepted whoever writes, and anybody who writes may shut it out.
    merge(&bob, "one", json!({"spec": {"leaseDurationSeconds": 30}}))
        .await
        .unwrap();
    merge(&bob, "one", json!({"spec": {"hubAcceptsClient": false}}))
        .await
        .unwrap();
    let into = |set: Value| json!({"metadata": {"labels": {SET_LABEL: set}}});
    no_403(
        merge(&bob, "one", into(json!("blue"))).await,
        "set \"default\"",
    );
    merge(&ann, "one", into(json!("blue"))).await.unwrap();
    no_403(merge(&ann, "one", into(json!("red"))).await, "set \"red\"");
    // Out of all sets means into the default one.
    no_403(merge(&bob, "one", into(Value::Null)).await, "set \"blue\"");
    let moved = merge(&ann, "one", into(Value::Null)).await.unwrap();
    assert_eq!(
        moved
            .metadata
            .labels
            .unwrap_or_default()
            .get(SET_LABEL)
            .map(String::as_str),
        Some("default")
    );
    let url = |url: &str| json!({"spec": {"managedClusterClientConfigs": [{"url": url}]}});
    refused(
        merge(&ann, "one", url("http://h")).await,
        400,
        WEBHOOK,
        "no https URL",
    );
    merge(&bob, "one", url("https://h:6443")).await.unwrap();
    refused(
        create(&ann, &cluster("dotted.name", json!({}))).await,
        400,
        WEBHOOK,
        "name of a namespace",
    );
}

async fn taints_are_stamped(judged: &Judged) {
    let ann = clusters(&judged.as_user("ann").await);
    let taint = |added: Option<&str>| {
        let mut taint = json!({"key": "k", "effect": "NoSelect", "value": "v"});
        if let Some(added) = added {
            taint["timeAdded"] = added.into();
        }
        json!({"spec": {"taints": [taint]}})
    };
    let added = |found: &DynamicObject| {
        found.data["spec"]["taints"][0]["timeAdded"]
            .as_str()
            .map(ToOwned::to_owned)
    };
    let made = merge(&ann, "one", taint(None)).await.unwrap();
    let since = added(&made).unwrap();
    let mut changed = taint(Some(&since));
    merge(&ann, "one", changed.clone()).await.unwrap();
    let webhook = "managedclustermutators.";
    refused(
        merge(&ann, "one", taint(Some("2020-01-01T00:00:00Z"))).await,
        400,
        webhook,
        "timeAdded of k",
    );
    changed["spec"]["taints"][0]["value"] = "w".into();
    refused(
        merge(&ann, "one", changed).await,
        400,
        webhook,
        "timeAdded of k",
    );
    // On a new cluster it is not believed.
    let mut old = cluster("two", taint(Some("2020-01-01T00:00:00Z"))["spec"].clone());
    old.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let made = create(&ann, &old).await.unwrap();
    assert!(
        added(&made).is_some_and(|time| time.as_str() > "2026"),
        "{:?}",
        made.data["spec"]
    );
    assert_eq!(made.metadata.labels.unwrap_or_default().len(), 2);
}

async fn acceptance_waits_for_the_namespace(judged: &Judged) {
    let ann = clusters(&judged.as_user("ann").await);
    let maps = api(&judged.admin, "v1/ConfigMap", Some("gone"));
    let mut held = config_map("held", "1");
    held["metadata"] =
        json!({"name": "held", "namespace": "gone", "finalizers": ["example.com/held"]});
    apply(&maps, &held).await.unwrap();
    let namespaces = api(&judged.admin, "v1/Namespace", None);
    namespaces
        .delete("gone", &DeleteParams::default())
        .await
        .unwrap();
    let accepted = cluster("gone", json!({"hubAcceptsClient": true}));
    refused(
        create(&ann, &accepted).await,
        403,
        "managedclustervalidators.",
        "being deleted",
    );
    create(&ann, &cluster("gone", json!({}))).await.unwrap();
}

async fn bindings_are_judged(judged: &Judged) {
    const WEBHOOK: &str = "managedclustersetbindingvalidators.";
    let (ann, bob) = (
        bindings(&judged.as_user("ann").await, "one"),
        bindings(&judged.as_user("bob").await, "one"),
    );
    refused(
        create(&ann, &binding("blue", "red")).await,
        400,
        WEBHOOK,
        "the name of the set",
    );
    refused(
        create(&bob, &binding("blue", "blue")).await,
        403,
        WEBHOOK,
        "may not bind the set \"blue\"",
    );
    create(&ann, &binding("blue", "blue")).await.unwrap();
    refused(
        merge(&ann, "blue", json!({"spec": {"clusterSet": "red"}})).await,
        400,
        WEBHOOK,
        "the name of the set",
    );
    merge(&bob, "blue", json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .unwrap();
}

async fn works_are_judged(judged: &Judged) {
    const WEBHOOK: &str = "manifestworkvalidators.";
    let (ann, bob) = (
        works(&judged.as_user("ann").await, "one"),
        works(&judged.as_user("bob").await, "one"),
    );
    let of = |manifests: &[Value]| object(work("w", "one", manifests));
    let no = |outcome, part: &str| refused(outcome, 400, WEBHOOK, part);
    no(create(&bob, &of(&[])).await, "no manifests");
    let map = config_map("a", "1");
    no(
        create(&bob, &of(&[map.clone(), map.clone()])).await,
        "is in the work already",
    );
    let mut nameless = map.clone();
    nameless["metadata"] = json!({"generateName": "a-"});
    no(
        create(&bob, &of(&[nameless])).await,
        "metadata.name is missing",
    );
    let filled = |size: usize| config_map("a", &"<".repeat(size / 6));
    no(
        create(&bob, &of(&[filled(LIMIT)])).await,
        "make several works",
    );
    create(&bob, &of(&[filled(LIMIT - 1000)])).await.unwrap();
    let name = json!({"namespace": "shop", "name": "runner"});
    let executor = json!({"spec": {"executor": {"subject": {"type": "ServiceAccount", "serviceAccount": name}}}});
    no(
        merge(&bob, "w", executor.clone()).await,
        "user \"bob\" may not have works applied",
    );
    merge(&ann, "w", executor).await.unwrap();
    // Whoever may write the work may change it, all but in whose name.
    let changed = json!({"spec": {"workload": {"manifests": [map]}}});
    merge(&bob, "w", changed).await.unwrap();
    let other = json!({"spec": {"executor": {"subject": {"serviceAccount": {"name": "root"}}}}});
    no(merge(&ann, "w", other).await, "shop/root");
    merge(&bob, "w", json!({"spec": {"executor": null}}))
        .await
        .unwrap();
}
