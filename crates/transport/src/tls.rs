//! TLS for servers, with certificates that can be exchanged while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// PEM texts of a server.
#[derive(Clone)]
pub struct ServerPem {
    /// Certificate chain, leaf first.
    pub cert: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Issuers of client certificates; without, clients are not asked for one.
    pub client_ca: Option<Vec<u8>>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not what is expected in it.
    #[error("failed to read the {what}: {why}")]
    Pem {
        /// Which of the texts.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The pieces do not fit together.
    #[error("failed to set up TLS: {0}")]
    Setup(String),
}

/// The server side of TLS. Clones share the certificates; new connections use the newest.
#[derive(Clone)]
pub struct ServerTls(Arc<RwLock<Arc<ServerConfig>>>);

impl ServerTls {
    /// From PEM texts. Client certificates are verified when given and never required.
    pub fn new(pem: &ServerPem) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(config(pem)?)))))
    }

    /// Exchanges certificates and client issuers. On an error the old ones stay.
    pub fn reload(&self, pem: &ServerPem) -> Result<(), TlsError> {
        let fresh = Arc::new(config(pem)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn config(pem: &ServerPem) -> Result<ServerConfig, TlsError> {
    let setup = |e: rustls::Error| TlsError::Setup(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)?;
    let builder = match &pem.client_ca {
        None => builder.with_no_client_auth(),
        Some(issuers) => {
            let mut roots = RootCertStore::empty();
            for issuer in certs("client CA", issuers)? {
                roots.add(issuer).map_err(setup)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| TlsError::Setup(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|e| TlsError::Pem {
        what: "private key",
        why: e.to_string(),
    })?;
    let mut config = builder
        .with_single_cert(certs("certificate", &pem.cert)?, key)
        .map_err(setup)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certs(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| TlsError::Pem {
            what,
            why: e.to_string(),
        })?;
    if certs.is_empty() {
        return Err(TlsError::Pem {
            what,
            why: "no certificate found".to_owned(),
        });
    }
    Ok(certs)
}
