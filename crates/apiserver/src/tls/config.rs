//! What a server shows and whom it believes; may be exchanged while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Certificate and key of a server, and the CA of its clients, as PEM.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and its CA.
    pub certificate: String,
    /// Its key: secret.
    pub key: String,
    /// Certificates of client CAs. With it clients are asked for a certificate, which they need
    /// not have; one that this CA did not sign ends the handshake.
    pub client_ca: Option<String>,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles")
            .field("certificate", &self.certificate)
            .field("client_ca", &self.client_ca)
            .finish_non_exhaustive()
    }
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Something is not PEM, or nothing is in it.
    #[error("failed to read the {what}: {why}")]
    Pem {
        /// Which of the files.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key do not fit, or are of a kind that is not supported.
    #[error("failed to use the server certificate and key: {0}")]
    Server(#[from] rustls::Error),
    /// The client CA cannot be used.
    #[error("failed to use the client CA: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
}

/// TLS settings that can be exchanged: new connections use the new ones. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReloadableTls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl ReloadableTls {
    /// Settings to begin with.
    pub fn new(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            current: Arc::new(RwLock::new(config(files)?)),
        })
    }

    /// Exchanges the settings; on an error the old ones stay.
    pub fn reload(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let next = config(files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// The settings for a new connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(default_provider());
    let chain = certificates("server certificate", &files.certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(files.key.as_bytes()).map_err(|error| TlsError::Pem {
            what: "server key",
            why: error.to_string(),
        })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let mut config = match &files.client_ca {
        None => builder.with_no_client_auth().with_single_cert(chain, key)?,
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client CA", ca)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()?;
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)?
        }
    };
    if files.client_ca.is_some() {
        // A resumed session would not look at the client's certificate again: it may have expired.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(what: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |why: String| TlsError::Pem { what, why };
    let list: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(error.to_string()))?;
    if list.is_empty() {
        return Err(unreadable("there is no CERTIFICATE block in it".to_owned()));
    }
    Ok(list)
}
