//! Who listens where.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use super::folder::Folder;

/// Gives out listeners: from a first port on, or those of last time, or whatever is free.
#[derive(Debug)]
pub struct Ports {
    base: SocketAddr,
    given: u16,
}

impl Ports {
    /// `base` is the first address; port 0 lets the system choose.
    pub fn new(base: SocketAddr) -> Self {
        Self { base, given: 0 }
    }

    /// A listener for `name`.
    pub async fn listen(&mut self, name: &str, folder: &mut Folder) -> Result<TcpListener> {
        let listener = if self.base.port() == 0 {
            self.last_time(name, folder).await?
        } else {
            let port = self.base.port().checked_add(self.given);
            let port = port.context("the fleet needs more ports than there are behind the first; choose a lower one with --listen")?;
            self.given += 1;
            let address = SocketAddr::new(self.base.ip(), port);
            TcpListener::bind(address).await.with_context(|| {
                format!("{name} cannot listen on {address}; stop what does, or choose another address with --listen")
            })?
        };
        folder.keep_port(name, listener.local_addr()?.port());
        Ok(listener)
    }

    async fn last_time(&self, name: &str, folder: &Folder) -> Result<TcpListener> {
        if let Some(port) = folder.port(name) {
            match TcpListener::bind(SocketAddr::new(self.base.ip(), port)).await {
                Ok(listener) => return Ok(listener),
                Err(error) => {
                    tracing::warn!(name, port, %error, "the port of last time is not free; another one is used");
                }
            }
        }
        TcpListener::bind(self.base)
            .await
            .with_context(|| format!("{name} cannot listen on {}", self.base.ip()))
    }
}
