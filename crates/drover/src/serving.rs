//! Certificates and limits of a hub's event service that come from files.

use std::time::Duration;

use anyhow::{Context, Result};
use drover_hub::Hub;
use drover_runtime::supervise::Tasks;
use drover_transport::broker::ServerOptions;
use drover_transport::tls::{ServerTls, TlsFiles, TlsPolicy};

use crate::cli;

/// Between two looks at certificates that are named by flags (sdk-go: `cert_watch_interval`).
const WATCH: Duration = Duration::from_mins(1);

impl cli::Serving {
    /// Makes the hub serve as the flags say; `authority` are the hub's own authorities, whose clients are always
    /// believed.
    pub async fn apply(&self, hub: &mut Hub, authority: Vec<u8>, tasks: &mut Tasks) -> Result<()> {
        let (mut files, policy, every) = if let Some(path) = &self.server_config {
            std::fs::metadata(path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            let options = ServerOptions::read(path)?;
            let found = (
                options.files(),
                options.policy()?,
                options.cert_watch_interval,
            );
            hub.serving = Some(options);
            found
        } else if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            let files = TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: self.client_ca.clone(),
                more_client_ca: None,
            };
            (files, TlsPolicy::default(), WATCH)
        } else {
            return Ok(());
        };
        files.more_client_ca = Some(authority);
        let used = files.read().await?;
        let tls = ServerTls::with_policy(&used, policy)?;
        hub.tls = Some(tls.clone());
        let cancel = tasks.cancel_token();
        tasks.run("certificates of the event service", async move {
            cancel
                .run_until_cancelled(tls.follow(&files, used, every))
                .await;
        });
        Ok(())
    }
}
