//! The publisher of Fedora messages of a cluster.

use anyhow::{Result, bail};
use drover_publisher::install;
use k8s_openapi::api::apps::v1::DeploymentStrategy;
use serde_json::Value;

use super::pod::{PROBES, Program};
use super::rbac::Account;
use super::{namespace, object};
use crate::cli::Manifests;

/// The namespace, the service account, and the name of all that is the publisher's own.
const NAME: &str = "drover-publisher";
const ROLE: &str = "drover:publisher";

/// Everything, in order.
pub fn objects(args: &Manifests) -> Result<Vec<Value>> {
    let own = args.namespace.as_deref().unwrap_or(NAME);
    if args.replicas.is_some_and(|count| count > 1) {
        bail!("a publisher runs once: a second one would send again what the first waits for");
    }
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
    all.extend(account.cluster_role(ROLE, install::rules(!args.messaging_in_process))?);
    for namespace in &args.message_namespace {
        all.extend(account.role_in(namespace, ROLE, install::secret_rules())?);
    }
    all.push(object(&program(args, account).deployment())?);
    Ok(all)
}

fn program<'a>(args: &'a Manifests, account: Account<'a>) -> Program<'a> {
    let mut flags = vec![
        "publisher".to_owned(),
        "--no-install".to_owned(),
        format!("--health=0.0.0.0:{PROBES}"),
        "--log=info".to_owned(),
        "--log-format=json".to_owned(),
    ];
    if args.messaging_in_process {
        flags.push("--messaging-in-process".to_owned());
    } else {
        flags.push(format!("--pod-image={}", args.image));
    }
    Program {
        name: NAME,
        account,
        image: &args.image,
        args: flags,
        ports: Vec::new(),
        replicas: 1,
        requests: ("20m", "32Mi"),
        mounts: Vec::new(),
        // Never two at once.
        strategy: DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            rolling_update: None,
        },
    }
}
