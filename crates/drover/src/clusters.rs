//! `drover clusters`: who asked to join a hub, and letting them in or not.

use anyhow::{Context, Result, bail};
use drover_api::cluster::v1::ManagedCluster;
use drover_core::registration::request::{self, Consent};
use drover_runtime::clock::Clock;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::cli::{self, Global};
use crate::{connect, print, status};

/// The manager of the fields that this command writes.
const FIELD_MANAGER: &str = "drover-clusters";

/// Does what was asked.
pub async fn run(args: cli::Clusters, global: &Global) -> Result<()> {
    match args.command {
        Some(cli::ClustersCommand::Accept(accept)) => {
            self::accept(&client(global).await?, &accept).await
        }
        Some(cli::ClustersCommand::Deny(deny)) => {
            self::deny(&client(global).await?, &deny.names).await
        }
        Some(cli::ClustersCommand::List(list)) => status::clusters(list, global).await,
        None => status::clusters(args.list, global).await,
    }
}

async fn client(global: &Global) -> Result<Client> {
    connect::client(&connect::kubeconfig(global)?, global.context.as_deref()).await
}

/// Lets clusters in: approves what their agents asked for, then says so in the cluster.
async fn accept(client: &Client, args: &cli::ClustersAccept) -> Result<()> {
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let requests = requests
        .list(&ListParams::default())
        .await
        .context("failed to read the certificate requests of the hub")?;
    let mut missing = Vec::new();
    for name in &args.names {
        if !decide(client, name, true).await? {
            missing.push(name.as_str());
            continue;
        }
        for found in &requests.items {
            match request::consent(found, name, &args.requester) {
                Consent::No => {}
                Consent::Approve => {
                    approve(client, found).await?;
                    print::line(&format!(
                        "certificatesigningrequest {} approved",
                        found.name_any()
                    ))?;
                }
                Consent::Doubt { requester } => print::note(&format!(
                    "Certificate request {} for {name} was made by {requester}, who does not hold a bootstrap token: \
                     add --requester {requester} if that is right",
                    found.name_any()
                )),
            }
        }
    }
    complain(&missing)
}

/// Shuts clusters out. What they run stays until they are accepted again or deleted.
async fn deny(client: &Client, names: &[String]) -> Result<()> {
    let mut missing = Vec::new();
    for name in names {
        if !decide(client, name, false).await? {
            missing.push(name.as_str());
        }
    }
    complain(&missing)
}

/// Writes the decision; whether the hub knows the cluster.
async fn decide(client: &Client, name: &str, accepts: bool) -> Result<bool> {
    let api: Api<ManagedCluster> = Api::all(client.clone());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"spec": {"hubAcceptsClient": accepts}}));
    match api.patch(name, &params, &patch).await {
        Ok(_) => {
            let said = if accepts { "accepted" } else { "denied" };
            print::line(&format!("managedcluster {name} {said}"))?;
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => bail!(
            "failed to change cluster {name}: {}",
            connect::explain(&error)
        ),
    }
}

async fn approve(client: &Client, found: &CertificateSigningRequest) -> Result<()> {
    let name = found.name_any();
    let approved = request::approved_by_hand(found, Clock::system().now());
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = json!({
        "metadata": {"resourceVersion": found.resource_version()}, "status": {"conditions": approved},
    });
    api.patch_approval(&name, &params, &Patch::Merge(patch))
        .await
        .map(drop)
        .with_context(|| format!("failed to approve certificate request {name}"))
}

fn complain(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "the hub knows no cluster {}; its agent must ask to join first, see `drover get managedclusters`",
        missing.join(", ")
    )
}
