//! Clients for the clusters that a kubeconfig names.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use drover_agent::registration::endpoint::proxy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::Global;

/// The kubeconfig that the command is meant for.
pub fn kubeconfig(global: &Global) -> Result<Kubeconfig> {
    if let Some(path) = &global.kubeconfig {
        return Kubeconfig::read_from(path)
            .with_context(|| format!("failed to read kubeconfig {}", path.display()));
    }
    if std::env::var_os("KUBECONFIG").is_some() {
        return Kubeconfig::read().context("failed to read the kubeconfig that $KUBECONFIG names");
    }
    let own = data_folder()?.join("kubeconfig");
    if own.exists() {
        return Kubeconfig::read_from(&own)
            .with_context(|| format!("failed to read kubeconfig {}", own.display()));
    }
    Kubeconfig::read().with_context(|| {
        format!("no kubeconfig: {} is not there either; start a fleet with `drover up`, or name one with --kubeconfig", own.display())
    })
}

/// Credentials of a role that runs for long.
#[derive(Debug, PartialEq, Eq)]
enum Credentials {
    /// Of a kubeconfig.
    Kubeconfig,
    /// Of the service account of the pod that this process runs in.
    InCluster,
}

/// A kubeconfig that somebody named wins over the pod's own account; what `drover up` wrote is for people.
fn credentials(named: bool, in_pod: bool) -> Credentials {
    if in_pod && !named {
        Credentials::InCluster
    } else {
        Credentials::Kubeconfig
    }
}

/// A client for a role: with the kubeconfig that is named, else with the service account of the pod, the token of which is read
/// anew before it runs out.
pub async fn role(global: &Global) -> Result<Client> {
    let named = global.kubeconfig.is_some() || std::env::var_os("KUBECONFIG").is_some();
    let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    match credentials(named, in_pod) {
        Credentials::Kubeconfig => client(&kubeconfig(global)?, global.context.as_deref()).await,
        Credentials::InCluster => {
            let config = Config::incluster().context(
                "failed to read the service account of this pod; let it mount its token (automountServiceAccountToken), or name a kubeconfig with --kubeconfig",
            )?;
            Ok(Client::try_from(config)?)
        }
    }
}

/// The namespace of the pod that this process runs in.
pub fn own_namespace() -> Option<String> {
    const FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    let text = std::fs::read_to_string(FILE).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// A client for one context; for the current one when none is named.
pub async fn client(kubeconfig: &Kubeconfig, context: Option<&str>) -> Result<Client> {
    if let Some(name) = context
        && !kubeconfig.contexts.iter().any(|known| known.name == name)
    {
        let known: Vec<&str> = kubeconfig
            .contexts
            .iter()
            .map(|context| context.name.as_str())
            .collect();
        bail!(
            "context {name:?} is not in the kubeconfig; it has {}",
            known.join(", ")
        );
    }
    let options = KubeConfigOptions {
        context: context.map(ToOwned::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
    config.proxy_url = proxy(kubeconfig, context, &config.cluster_url);
    Ok(Client::try_from(config)?)
}

/// Where `drover up` keeps its fleet when it is not told otherwise (XDG base directories).
pub fn data_folder() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME")
        .filter(|base| !base.is_empty())
        .map(PathBuf::from);
    let base = base
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let base = base.context("neither XDG_DATA_HOME nor HOME is set: name a folder with --data")?;
    Ok(base.join("drover/fleet"))
}

/// One line about why an API cannot be used.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(source) => {
            format!("the API does not answer: {}", innermost(source.as_ref()))
        }
        kube::Error::HyperError(source) => {
            format!("the API does not answer: {}", innermost(source))
        }
        other => other.to_string(),
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::{Credentials, credentials};

    #[test]
    fn a_named_kubeconfig_wins_over_the_pod() {
        for (named, in_pod, expected) in [
            (false, false, Credentials::Kubeconfig),
            (true, false, Credentials::Kubeconfig),
            (true, true, Credentials::Kubeconfig),
            (false, true, Credentials::InCluster),
        ] {
            assert_eq!(credentials(named, in_pod), expected);
        }
    }
}
