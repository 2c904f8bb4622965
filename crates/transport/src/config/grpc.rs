//! `grpc`: address, token, pings, heartbeats.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::duration::{self, refresh};
use super::{CertConfig, ConfigError, keys};
use crate::grpc::GrpcConfig;
use crate::identity::Pem;

/// The configuration of the Go clients for gRPC.
#[derive(Clone, Debug)]
pub struct GrpcFile {
    config: GrpcConfig,
}

/// When to ping.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeepAlive {
    /// Ping at all.
    pub enable: bool,
    /// After this long without traffic; 30 s.
    #[serde(deserialize_with = "duration::optional")]
    pub time: Option<Duration>,
    /// How long the answer may take; 10 s.
    #[serde(deserialize_with = "duration::optional")]
    pub timeout: Option<Duration>,
    /// Ping also while nothing is subscribed.
    pub permit_without_stream: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    url: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    keep_alive_config: Option<KeepAlive>,
    #[serde(deserialize_with = "duration::optional")]
    server_healthiness_timeout: Option<Duration>,
}

impl GrpcFile {
    pub(super) fn read(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        /// Servers take pings more often than this as an attack.
        const SHORTEST: Duration = Duration::from_secs(10);
        let given: Keys = keys(text)?;
        let certs = CertConfig::read(text, file);
        let url = given.url.filter(|url| !url.is_empty());
        let mut config = GrpcConfig::new(url.ok_or(ConfigError::Missing("url"))?);
        let certs = certs?;
        (config.ca, config.identity) = (certs.ca, certs.identity);
        let token = given.token.filter(|token| !token.is_empty());
        let token_file = given.token_file.filter(|file| !file.as_os_str().is_empty());
        config.token = match (token, token_file) {
            (Some(token), _) => Some(Pem::Inline(token.into_bytes())),
            (None, file) => file.map(Pem::File),
        };
        if config.token.is_some() && config.ca.is_none() {
            return Err(ConfigError::Wrong(
                "setting token requires authority certificates".to_owned(),
            ));
        }
        let keep_alive = given.keep_alive_config.unwrap_or_default();
        config.keepalive = keep_alive.enable.then(|| {
            let time = keep_alive.time.unwrap_or(Duration::from_secs(30));
            let patience = keep_alive.timeout.unwrap_or(Duration::from_secs(10));
            (time.max(SHORTEST), patience)
        });
        config.heartbeat_timeout = given.server_healthiness_timeout;
        config.refresh = refresh();
        Ok(Self { config })
    }

    /// The configuration of the transport.
    pub fn config(&self) -> GrpcConfig {
        self.config.clone()
    }
}
