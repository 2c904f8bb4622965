//! The publisher of Fedora messages of a cluster: several copies, one of which sends.

use anyhow::Result;
use drover_publisher::install;
use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::Value;

use super::network;
use super::pod::{METRICS, PROBES, Program, budget, rolling};
use super::rbac::{Account, only, rule};
use super::{namespace, object};
use crate::cli::Manifests;
use crate::publisher::LEASE;

/// The namespace, the service account, and the name of all that is the publisher's own.
pub const NAME: &str = "drover-publisher";
const ROLE: &str = "drover:publisher";
const REPLICAS: u8 = 2;

/// Everything, in order.
pub fn objects(args: &Manifests) -> Result<Vec<Value>> {
    let own = args.namespace.as_deref().unwrap_or(NAME);
    let account = Account {
        name: NAME,
        namespace: own,
    };
    let mut all = vec![object(&namespace(own))?];
    for definition in install::definitions() {
        all.push(object(&definition)?);
    }
    for policy in install::policies() {
        all.push(serde_json::to_value(policy)?);
    }
    all.push(account.object()?);
    all.extend(account.cluster_role(ROLE, cluster_rules(args))?);
    all.extend(account.role(NAME, own_rules())?);
    let pods = !args.messaging.messaging_in_process;
    for namespace in &args.message_namespace {
        all.extend(account.role_in(namespace, ROLE, install::namespace_rules(pods))?);
    }
    if args.network_policy {
        all.extend(network::policies(args, own)?);
    }
    let replicas = args.replicas.unwrap_or(REPLICAS);
    if replicas > 1 {
        all.push(object(&budget(NAME, own))?);
    }
    all.push(object(&program(args, account, replicas).deployment())?);
    Ok(all)
}

fn cluster_rules(args: &Manifests) -> Vec<PolicyRule> {
    let mut rules = install::rules(!args.messaging.messaging_in_process);
    // Who asks for metrics, and whether he may see them.
    rules.push(rule(
        &["authentication.k8s.io"],
        &["tokenreviews"],
        &["create"],
    ));
    rules.push(rule(
        &["authorization.k8s.io"],
        &["subjectaccessreviews"],
        &["create"],
    ));
    rules
}

/// In its own namespace: the lease of the copy that sends.
fn own_rules() -> Vec<PolicyRule> {
    let leases = |verbs: &[&str]| rule(&["coordination.k8s.io"], &["leases"], verbs);
    vec![
        leases(&["create"]),
        only(leases(&["get", "patch"]), &[LEASE]),
    ]
}

fn program<'a>(args: &'a Manifests, account: Account<'a>, replicas: u8) -> Program<'a> {
    let mut flags = vec![
        "publisher".to_owned(),
        "--no-install".to_owned(),
        format!("--health=0.0.0.0:{PROBES}"),
        format!("--metrics=0.0.0.0:{METRICS}"),
        format!("--namespace={}", account.namespace),
        "--log=info".to_owned(),
        "--log-format=json".to_owned(),
    ];
    flags.extend(args.messaging.flags());
    if !args.messaging.messaging_in_process {
        flags.extend(args.pods.flags(&args.image));
    }
    Program {
        name: NAME,
        account,
        image: &args.image,
        args: flags,
        ports: vec![("metrics", METRICS)],
        replicas,
        requests: ("20m", "32Mi"),
        mounts: Vec::new(),
        strategy: rolling(),
    }
}
