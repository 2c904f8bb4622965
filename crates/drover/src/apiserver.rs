//! `drover apiserver`: one embedded Kubernetes API and nothing else.

use std::time::Duration;

use anyhow::{Context, Result};
use drover_apiserver::auth::ca::write_private;
use drover_apiserver::store::Database;
use drover_runtime::supervise::Tasks;
use tokio_util::sync::CancellationToken;

use crate::up::folder::Folder;
use crate::up::member::{Member, kubeconfig};
use crate::up::ports::Ports;
use crate::{cli, print, up};

/// Serves until it is told to stop.
pub async fn run(args: cli::Apiserver) -> Result<()> {
    let temporary = up::Place::choose(args.data.clone(), args.data.is_none())?;
    let path = temporary.path().to_owned();
    let database = if args.data.is_some() {
        Database::open(&path)?
    } else {
        Database::memory()
    };
    let mut folder = Folder::open(&path)?;
    let cancel = CancellationToken::new();
    let mut tasks = Tasks::new(cancel.clone());
    let listener = Ports::new(args.listen)
        .listen("apiserver", &mut folder)
        .await?;
    let member = Member::start("apiserver", &database, &mut folder, listener, &mut tasks).await?;
    folder.save()?;
    let file = match (&args.write_kubeconfig, &args.data) {
        (Some(file), _) => file.clone(),
        (None, Some(data)) => data.join("kubeconfig"),
        (None, None) => "kubeconfig".into(),
    };
    write_private(
        &file,
        &serde_json::to_string_pretty(&kubeconfig(&[&member], &member.name))?,
    )
    .context("failed to write the kubeconfig")?;
    print::line(&format!(
        "https://{} serves; kubectl --kubeconfig {} get namespaces",
        member.address,
        file.display()
    ))?;
    up::stop_on_signal(cancel);
    let outcome = tasks.wait(Duration::from_secs(10)).await;
    database.close()?;
    Ok(outcome?)
}
