//! A hub: several copies behind one service, one of which leads.

use anyhow::Result;
use drover_api::names;
use drover_core::registration::{request, roles};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde_json::Value;

use super::pod::{METRICS, PROBES, Program, app, budget, rolling};
use super::rbac::{Account, only, rule};
use super::{named, namespace, object};
use crate::cli::Manifests;
use crate::hub::authority;

/// Where the components of a hub live (ocm: cluster manager).
pub const NAMESPACE: &str = "open-cluster-management-hub";
/// The service account of the hub, and the name of all that is its own.
pub const NAME: &str = "drover-hub";
/// Whoever has a token of this account may ask to join (ocm: manifests/cluster-manager/hub/addon-manager).
pub const BOOTSTRAP: &str = "agent-registration-bootstrap";
/// Where agents connect.
const BROKER: i32 = 8443;
/// Where the hub's API asks whether it may take a write.
const WEBHOOK: i32 = 9443;
/// The service of that, and the secret with its certificates, which the hub makes.
const WEBHOOK_NAME: &str = "drover-hub-webhook";
/// The configurations of the webhooks, which the hub keeps itself.
const CONFIGURATION: &str = "drover-hub";
const REPLICAS: u8 = 3;

const CLUSTERS: &str = "cluster.open-cluster-management.io";
const WORKS: &str = "work.open-cluster-management.io";
const ADDONS: &str = "addon.open-cluster-management.io";
const REGISTER: &str = "register.open-cluster-management.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Everything, in order.
pub fn objects(args: &Manifests) -> Result<Vec<Value>> {
    let own = args.namespace.as_deref().unwrap_or(NAMESPACE);
    let account = Account {
        name: NAME,
        namespace: own,
    };
    let bootstrap = Account {
        name: BOOTSTRAP,
        namespace: own,
    };
    let mut all = vec![object(&namespace(own))?];
    for definition in definitions() {
        all.push(object(&definition)?);
    }
    all.extend([account.object()?, bootstrap.object()?]);
    all.extend(account.cluster_role("drover:hub", cluster_rules())?);
    all.extend(account.role(NAME, own_rules())?);
    // The hub keeps the role itself.
    let joins = format!("{}:{BOOTSTRAP}", roles::BOOTSTRAP_ROLE);
    all.push(bootstrap.bind(&joins, roles::BOOTSTRAP_ROLE)?);
    let grpc = ServicePort {
        app_protocol: Some("grpc".to_owned()),
        ..port("grpc", BROKER)
    };
    all.push(object(&service(NAME, own, grpc))?);
    all.push(object(&service(WEBHOOK_NAME, own, port("webhook", 443)))?);
    let replicas = args.replicas.unwrap_or(REPLICAS);
    if replicas > 1 {
        all.push(object(&budget(NAME, own))?);
    }
    all.push(object(&program(args, account, replicas).deployment())?);
    Ok(all)
}

/// What a hub serves.
fn definitions() -> Vec<CustomResourceDefinition> {
    let mut all = drover_api::crds::hub();
    all.extend(drover_api::crds::import());
    all
}

fn program<'a>(args: &'a Manifests, account: Account<'a>, replicas: u8) -> Program<'a> {
    let own = account.namespace;
    let mut flags = vec![
        "hub".to_owned(),
        format!("--listen=0.0.0.0:{BROKER}"),
        format!("--health=0.0.0.0:{PROBES}"),
        format!("--metrics=0.0.0.0:{METRICS}"),
        format!("--namespace={own}"),
        // A first certificate for whoever holds a token of this account; a person still lets the cluster in.
        format!("--approve-user=system:serviceaccount:{own}:{BOOTSTRAP}"),
        format!("--webhook-listen=0.0.0.0:{WEBHOOK}"),
        format!("--webhook-service={own}/{WEBHOOK_NAME}"),
        format!("--webhook-secret={own}/{WEBHOOK_NAME}"),
        "--log=info".to_owned(),
        "--log-format=json".to_owned(),
    ];
    let service = [
        format!("{NAME}.{own}.svc"),
        format!("{NAME}.{own}.svc.cluster.local"),
    ];
    for name in service.iter().chain(&args.host_name) {
        flags.push(format!("--host-name={name}"));
    }
    Program {
        name: NAME,
        account,
        image: &args.image,
        args: flags,
        ports: vec![("grpc", BROKER), ("webhook", WEBHOOK), ("metrics", METRICS)],
        replicas,
        requests: ("100m", "128Mi"),
        mounts: Vec::new(),
        strategy: rolling(),
    }
}

/// What the hub does, and what it hands on: nobody can give a right that he does not have himself, so the hub has everything that
/// its agents get, and needs neither `escalate` nor `bind`.
fn cluster_rules() -> Vec<PolicyRule> {
    let definitions: Vec<String> = definitions().iter().map(ResourceExt::name_any).collect();
    let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
    let mut rules = vec![
        // They are printed too: the hub only waits until they are served.
        only(
            rule(
                &["apiextensions.k8s.io"],
                &["customresourcedefinitions"],
                &["get", "list", "watch"],
            ),
            &definitions,
        ),
        rule(
            &[""],
            &["namespaces"],
            &["get", "list", "watch", "create", "patch"],
        ),
        only(
            rule(
                &["admissionregistration.k8s.io"],
                &[
                    "mutatingwebhookconfigurations",
                    "validatingwebhookconfigurations",
                ],
                &["get", "patch", "create"],
            ),
            &[CONFIGURATION],
        ),
        rule(
            &[RBAC],
            &["clusterroles", "clusterrolebindings", "rolebindings"],
            &["create", "patch", "delete"],
        ),
        rule(
            &["coordination.k8s.io"],
            &["leases"],
            &["get", "list", "watch", "create", "update", "patch"],
        ),
        // A cluster leaves.
        only(
            rule(&["coordination.k8s.io"], &["leases"], &["delete"]),
            &[names::CLUSTER_LEASE],
        ),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
            &["create"],
        ),
        rule(
            &["", "events.k8s.io"],
            &["events"],
            &["create", "patch", "update"],
        ),
        rule(
            &[CERTIFICATES],
            &["certificatesigningrequests"],
            &["create", "get", "list", "watch"],
        ),
        rule(
            &[CERTIFICATES],
            &[
                "certificatesigningrequests/approval",
                "certificatesigningrequests/status",
            ],
            &["patch"],
        ),
        only(
            rule(&[CERTIFICATES], &["signers"], &["approve"]),
            &[request::KUBE_SIGNER],
        ),
        only(
            rule(&[CERTIFICATES], &["signers"], &["approve", "sign"]),
            &[request::GRPC_SIGNER],
        ),
        rule(
            &[REGISTER],
            &["managedclusters/clientcertificates"],
            &["renew"],
        ),
        rule(&[REGISTER], &["managedclusters/accept"], &["update"]),
    ];
    rules.extend(fleet_rules());
    rules
}

/// The kinds of a fleet.
fn fleet_rules() -> Vec<PolicyRule> {
    vec![
        rule(
            &[CLUSTERS],
            &["managedclusters"],
            &["get", "list", "watch", "create", "update", "patch"],
        ),
        // Whoever asks to join puts its cluster into the set that everybody is in.
        only(
            rule(&[CLUSTERS], &["managedclustersets/join"], &["create"]),
            &["default"],
        ),
        rule(
            &[CLUSTERS],
            &["managedclusters/status"],
            &["patch", "update"],
        ),
        rule(
            &[ADDONS],
            &["managedclusteraddons"],
            &["get", "list", "watch", "delete"],
        ),
        rule(
            &[ADDONS],
            &["managedclusteraddons/status"],
            &["patch", "update"],
        ),
        rule(
            &[WORKS],
            &["manifestworks"],
            &[
                "get", "list", "watch", "create", "update", "patch", "delete",
            ],
        ),
        rule(&[WORKS], &["manifestworks/status"], &["patch", "update"]),
        // For works with an executor that the hub makes itself.
        rule(&[WORKS], &["manifestworks"], &["execute-as"]),
        rule(
            &[CLUSTERS],
            &["managedclustersets"],
            &["list", "watch", "create", "patch"],
        ),
        rule(
            &[CLUSTERS],
            &[
                "managedclustersetbindings",
                "placements",
                "addonplacementscores",
            ],
            &["list", "watch"],
        ),
        rule(
            &[CLUSTERS],
            &["placementdecisions"],
            &["list", "watch", "create", "patch", "delete"],
        ),
        rule(
            &[CLUSTERS],
            &[
                "managedclustersets/status",
                "managedclustersetbindings/status",
                "placements/status",
                "placementdecisions/status",
            ],
            &["patch"],
        ),
        // Decisions keep their placement until they are gone.
        rule(&[CLUSTERS], &["placements/finalizers"], &["update"]),
        rule(
            &[WORKS],
            &["manifestworkreplicasets"],
            &["list", "watch", "patch"],
        ),
        rule(&[WORKS], &["manifestworkreplicasets/status"], &["patch"]),
    ]
}

/// In its own namespace: the authority of all copies. The lease of the one that leads is covered by the leases of clusters.
fn own_rules() -> Vec<PolicyRule> {
    vec![
        rule(&[""], &["secrets"], &["create"]),
        only(rule(&[""], &["secrets"], &["get"]), &[authority::SECRET]),
        only(
            rule(&[""], &["secrets"], &["get", "update"]),
            &[WEBHOOK_NAME],
        ),
    ]
}

fn service(name: &str, own: &str, port: ServicePort) -> Service {
    Service {
        metadata: named(name, Some(own)),
        spec: Some(ServiceSpec {
            selector: Some(app(NAME)),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// To the port of the pods with the same name.
fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
