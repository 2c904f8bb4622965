//! TLS for clients: whom to trust, who one is, and noticing when certificates were renewed.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::link::TransportError;

/// How often files are looked at unless told otherwise, as the Go clients do it.
pub const REFRESH: Duration = Duration::from_mins(5);
/// Variable that sets another interval, as a Go duration; for tests.
pub const REFRESH_VARIABLE: &str = "CERT_CALLBACK_REFRESH_DURATION";

/// A PEM text, given or in a file. Files are read anew at every connect, so that renewed ones are used.
#[derive(Clone)]
pub enum Pem {
    /// The text.
    Inline(Vec<u8>),
    /// Where the text is.
    File(PathBuf),
    /// Something else that has the text, such as a field of a configuration file.
    Other(Arc<dyn PemSource>),
}

/// Where a PEM text comes from.
pub trait PemSource: Send + Sync + 'static {
    /// The newest text. Called rarely, may read a small file.
    fn read(&self) -> std::io::Result<Vec<u8>>;
    /// Where it is, for people.
    fn place(&self) -> String;
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // It may be a key.
            Self::Inline(_) => f.write_str("Inline(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Other(other) => f.debug_tuple("Other").field(&other.place()).finish(),
        }
    }
}

impl Pem {
    /// The text as it is now.
    pub async fn read(&self) -> Result<Vec<u8>, TransportError> {
        let (read, place) = match self {
            Self::Inline(text) => return Ok(text.clone()),
            Self::File(path) => (tokio::fs::read(path).await, path.display().to_string()),
            Self::Other(other) => (other.read(), other.place()),
        };
        read.map_err(|e| TransportError::Config(format!("failed to read {place}: {e}")))
    }
}

/// TLS as a client. Any of it turns TLS on.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Issuers to trust beside those of the system.
    pub ca: Option<Pem>,
    /// Certificate chain and key to show.
    pub identity: Option<(Pem, Pem)>,
    /// Name in the server's certificate, if it is not the host.
    pub server_name: Option<String>,
    /// How often to look whether the certificate was renewed.
    pub refresh: Duration,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self {
            ca: None,
            identity: None,
            server_name: None,
            refresh: REFRESH,
        }
    }
}

/// The texts at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// Issuers.
    pub ca: Option<Vec<u8>>,
    /// Chain and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl ClientTls {
    /// Reads everything.
    pub async fn load(&self) -> Result<Material, TransportError> {
        let ca = match &self.ca {
            Some(ca) => Some(ca.read().await?),
            None => None,
        };
        let identity = match &self.identity {
            Some((chain, key)) => Some((chain.read().await?, key.read().await?)),
            None => None,
        };
        Ok(Material { ca, identity })
    }

    /// Whether the certificate or the key may be renewed while it is in use.
    pub fn can_change(&self) -> bool {
        let fixed = |pem: &Pem| matches!(pem, Pem::Inline(_));
        let identity = self.identity.as_ref();
        identity.is_some_and(|(chain, key)| !(fixed(chain) && fixed(key)))
    }

    /// Waits until there is another usable certificate or key than in `used`. Never returns for what cannot change.
    ///
    /// While somebody is writing the files they may not fit each other: that is waited out.
    pub async fn renewed(&self, used: &Material) {
        if !self.can_change() {
            return std::future::pending().await;
        }
        let mut complained = false;
        loop {
            tokio::time::sleep(self.refresh).await;
            let error = match self.load().await {
                Ok(now) if now.identity == used.identity => {
                    complained = false;
                    continue;
                }
                Ok(now) => match now.client_config(&[]) {
                    Ok(_) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !complained {
                tracing::warn!(%error, "the renewed certificate cannot be used; keeping the old one");
            }
            complained = true;
        }
    }
}

impl Material {
    /// The configuration of a TLS 1.3 client.
    pub fn client_config(&self, protocols: &[&[u8]]) -> Result<ClientConfig, TransportError> {
        let wrong = |e: rustls::Error| TransportError::Config(format!("failed to set up TLS: {e}"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = system_roots().clone();
        for issuer in certificates("CA", self.ca.as_deref().unwrap_or_default())? {
            roots.add(issuer).map_err(wrong)?;
        }
        if roots.is_empty() {
            return Err(TransportError::Config(
                "failed to set up TLS: the system has no certificate authorities and none are given".to_owned(),
            ));
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|e| TransportError::Config(format!("failed to set up TLS: {e}")))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(wrong)?
            .with_webpki_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates("client certificate", chain)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| {
                    TransportError::Config(format!("failed to read the client key: {e}"))
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    TransportError::Config(format!("failed to use the client certificate: {e}"))
                })?
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// The issuers that the system trusts, read once.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        if let Some(error) = found.errors.first() {
            tracing::debug!(%error, "failed to read some certificate authorities of the system");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TransportError::Config(format!("failed to read the {what}: {e}")))?;
    if certificates.is_empty() && !pem.is_empty() {
        return Err(TransportError::Config(format!(
            "failed to read the {what}: no certificate in PEM form found"
        )));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
