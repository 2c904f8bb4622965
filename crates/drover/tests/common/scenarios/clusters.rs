//! Clusters that are shut out or leave.

use anyhow::ensure;
use drover_testkit::eventually;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;

use super::super::Ground;
use super::placements::forget;
use crate::placing::Place;
use crate::world::{LONG, api, apply, gone, works};

const REVIEW: &str = "authorization.k8s.io/v1";

/// Whether the agent of a cluster may do something to the works in its namespace.
async fn may(hub: &Client, cluster: &str, verb: &str) -> anyhow::Result<bool> {
    let group = format!("system:open-cluster-management:{cluster}");
    let attributes = json!({
        "group": "work.open-cluster-management.io", "resource": "manifestworks", "namespace": cluster, "verb": verb,
    });
    let review: SubjectAccessReview = serde_json::from_value(json!({
        "apiVersion": REVIEW, "kind": "SubjectAccessReview", "metadata": {},
        "spec": {"user": format!("{group}:agent"), "groups": [group], "resourceAttributes": attributes},
    }))?;
    let reviews: Api<SubjectAccessReview> = Api::all(hub.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn turns(hub: &Client, cluster: &str, expected: bool) {
    let check = async || {
        for verb in ["list", "patch"] {
            ensure!(may(hub, cluster, verb).await? == expected, "{verb}");
        }
        Ok(())
    };
    let what = format!("the agent's rights to be {expected}");
    eventually(&what, LONG, check).await.unwrap();
}

/// A cluster whose name the hub knows is let in by the hub itself.
pub(super) async fn a_cluster_is_let_in_by_its_name(ground: Ground) {
    let hub = &ground.fleet.hub;
    let place = Place::new(hub, &ground.space).await;
    let (name, clusters) = (ground.own("welcome"), place.clusters());
    let own = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": name}, "spec": {"hubAcceptsClient": false},
    });
    apply(&clusters, &own).await.unwrap();
    let accepted = "HubAcceptedManagedCluster=True/HubClusterAdminAccepted";
    place.says(&clusters, &name, accepted).await;
    turns(hub, &name, true).await;
    forget(&place, &[name], None).await;
}

/// Who is let in has rights in its namespace, who is shut out has none while its works stay, and who leaves takes add-ons, works and
/// roles along.
pub(super) async fn a_cluster_that_is_denied_loses_its_rights_and_one_that_leaves_all(
    ground: Ground,
) {
    let hub = &ground.fleet.hub;
    let place = Place::new(hub, &ground.space).await;
    let (name, clusters) = (ground.own("guest"), place.clusters());
    let own = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": name}, "spec": {"hubAcceptsClient": true},
    });
    apply(&clusters, &own).await.unwrap();
    turns(hub, &name, true).await;
    let shop = works(hub, &name);
    let work = crate::world::work("w", &name, &[ground.config_map("guest", "1")]);
    apply(&shop, &work).await.unwrap();
    let kind = "addon.open-cluster-management.io/v1alpha1/ManagedClusterAddOn";
    let addons = api(hub, kind, Some(&name));
    let addon = json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn",
        "metadata": {"name": "extra", "namespace": name}, "spec": {},
    });
    apply(&addons, &addon).await.unwrap();

    let accepts = async |yes: bool| {
        let patch = json!({"spec": {"hubAcceptsClient": yes}});
        place.patch(&clusters, &name, patch).await;
    };
    accepts(false).await;
    let denied = "HubAcceptedManagedCluster=False/HubClusterAdminDenied";
    place.says(&clusters, &name, denied).await;
    turns(hub, &name, false).await;
    let bindings = "rbac.authorization.k8s.io/v1/RoleBinding";
    let bindings = api(hub, bindings, Some(&name));
    let role = format!("open-cluster-management:managedcluster:{name}");
    gone(&bindings, &format!("{role}:work")).await;
    gone(&bindings, &format!("{role}:registration")).await;
    shop.get("w").await.unwrap();

    accepts(true).await;
    turns(hub, &name, true).await;
    let params = DeleteParams::default();
    clusters.delete(&name, &params).await.unwrap();
    gone(&clusters, &name).await;
    gone(&addons, "extra").await;
    gone(&shop, "w").await;
    for kind in ["ClusterRole", "ClusterRoleBinding"] {
        let kind = format!("rbac.authorization.k8s.io/v1/{kind}");
        gone(&api(hub, &kind, None), &role).await;
    }
    gone(&bindings, &format!("{role}:work")).await;
    turns(hub, &name, false).await;
}
