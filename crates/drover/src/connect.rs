//! Clients for the clusters that a kubeconfig names.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
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
    let config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
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
