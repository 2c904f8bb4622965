//! The agent of a managed cluster.

use anyhow::{Context, Result, bail};
use drover_agent::registration::identity;
use k8s_openapi::api::apps::v1::DeploymentStrategy;
use k8s_openapi::api::core::v1::{SecretVolumeSource, Volume, VolumeMount};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::ResourceExt;
use serde_json::Value;

use super::pod::{METRICS, PROBES, Program};
use super::rbac::{Account, only, rule};
use super::{named, namespace, object};
use crate::cli::Manifests;

/// The service account of the agent, and the name of all that is its own.
pub const NAME: &str = "drover-agent";
/// What an agent needs to join: `ca.crt` and `token`. Whoever installs the agent makes it.
const BOOTSTRAP: &str = "bootstrap-hub";
const FOLDER: &str = "/var/run/drover/bootstrap";
/// Roles with this label are the agent's too (ocm: manifests/klusterlet/managed).
const AGGREGATE: &str = "open-cluster-management.io/aggregate-to-work";

const WORKS: &str = "work.open-cluster-management.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Everything, in order.
pub fn objects(args: &Manifests) -> Result<Vec<Value>> {
    let own = args.namespace.as_deref().unwrap_or(identity::NAMESPACE);
    if args.replicas.is_some_and(|count| count > 1) {
        bail!(
            "an agent runs once: a second one would have the same certificate and the same works"
        );
    }
    let account = Account {
        name: NAME,
        namespace: own,
    };
    let mut all = vec![object(&namespace(own))?];
    for definition in drover_api::crds::managed() {
        all.push(object(&definition)?);
    }
    all.push(account.object()?);
    all.extend(account.cluster_role("drover:agent", cluster_rules())?);
    all.extend(account.role(NAME, own_rules())?);
    all.push(execution()?);
    all.extend(account.aggregate("drover:agent:works", AGGREGATE)?);
    all.push(account.bind("drover:agent:execution-admin", "admin")?);
    all.push(object(&program(args, account)?.deployment())?);
    Ok(all)
}

fn program<'a>(args: &'a Manifests, account: Account<'a>) -> Result<Program<'a>> {
    let cluster = args
        .cluster
        .as_deref()
        .context("an agent needs --cluster")?;
    let hub = args.hub.as_deref().context("an agent needs --hub")?;
    let mut flags = vec![
        "agent".to_owned(),
        format!("--cluster={cluster}"),
        format!("--hub={hub}"),
        format!("--hub-ca={FOLDER}/ca.crt"),
        format!("--bootstrap-token-file={FOLDER}/token"),
        format!("--namespace={}", account.namespace),
        format!("--health=0.0.0.0:{PROBES}"),
        format!("--metrics=0.0.0.0:{METRICS}"),
        "--log=info".to_owned(),
        "--log-format=json".to_owned(),
    ];
    if let Some(identity) = &args.hub_identity {
        flags.push(format!("--hub-identity={identity}"));
    }
    let volume = Volume {
        name: BOOTSTRAP.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(BOOTSTRAP.to_owned()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mount = VolumeMount {
        name: BOOTSTRAP.to_owned(),
        mount_path: FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    Ok(Program {
        name: NAME,
        account,
        image: &args.image,
        args: flags,
        ports: vec![("metrics", METRICS)],
        replicas: 1,
        requests: ("20m", "32Mi"),
        mounts: vec![(volume, mount)],
        // Never two at once.
        strategy: DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        },
    })
}

/// Without these the agent cannot run.
fn cluster_rules() -> Vec<PolicyRule> {
    let definitions: Vec<String> = drover_api::crds::managed()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    let definitions: Vec<&str> = definitions.iter().map(String::as_str).collect();
    vec![
        only(
            rule(
                &["apiextensions.k8s.io"],
                &["customresourcedefinitions"],
                &["get"],
            ),
            &definitions,
        ),
        rule(&[""], &["nodes"], &["list", "watch"]),
        // What another product says of this agent, where it is installed.
        rule(
            &["operator.open-cluster-management.io"],
            &["klusterlets"],
            &["get", "list"],
        ),
        rule(
            &["cluster.open-cluster-management.io"],
            &["clusterclaims"],
            &["list", "watch"],
        ),
        rule(
            &[WORKS],
            &["appliedmanifestworks"],
            &["list", "watch", "create", "patch", "delete"],
        ),
        rule(&[WORKS], &["appliedmanifestworks/status"], &["patch"]),
        // Who asks for metrics; whether he may see them is asked as below.
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        // Works with an executor: what it may do is asked first.
        rule(
            &["authorization.k8s.io"],
            &["subjectaccessreviews"],
            &["create"],
        ),
        rule(&[""], &["serviceaccounts"], &["impersonate"]),
        // An account is in groups: a review in its name names them.
        rule(&[""], &["groups"], &["impersonate"]),
    ]
}

/// In its own namespace: its identity.
fn own_rules() -> Vec<PolicyRule> {
    vec![
        rule(&[""], &["secrets"], &["create"]),
        only(
            rule(&[""], &["secrets"], &["get", "patch"]),
            &[identity::SECRET],
        ),
    ]
}

/// What works may hold beyond what Kubernetes' own role `admin` allows, as upstream has it. Whoever sends other kinds adds a role with
/// the label.
fn execution() -> Result<Value> {
    let all = &[
        "get", "list", "watch", "create", "update", "patch", "delete",
    ];
    let mut metadata = named("drover:agent:execution", None);
    metadata
        .labels
        .get_or_insert_default()
        .insert(AGGREGATE.to_owned(), "true".to_owned());
    let mut roles = all.to_vec();
    roles.extend(["escalate", "bind"]);
    object(&ClusterRole {
        metadata,
        rules: Some(vec![
            rule(
                &["apiextensions.k8s.io"],
                &["customresourcedefinitions"],
                all,
            ),
            rule(
                &[""],
                &["namespaces"],
                &["create", "update", "patch", "delete"],
            ),
            rule(&[RBAC], &["clusterrolebindings", "rolebindings"], all),
            rule(&[RBAC], &["clusterroles", "roles"], &roles),
            rule(&["scheduling.k8s.io"], &["priorityclasses"], all),
            rule(
                &["admissionregistration.k8s.io"],
                &[
                    "mutatingwebhookconfigurations",
                    "validatingwebhookconfigurations",
                ],
                all,
            ),
        ]),
        ..ClusterRole::default()
    })
}
