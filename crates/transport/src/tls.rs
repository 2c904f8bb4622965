//! TLS for servers, with certificates that can be exchanged while it runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// PEM texts of a server.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerPem {
    /// Certificate chain, leaf first.
    pub cert: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Issuers of client certificates; without, clients are not asked for one.
    pub client_ca: Option<Vec<u8>>,
}

/// Files with the PEM texts of a server.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Issuers of client certificates.
    pub client_ca: Option<PathBuf>,
    /// More of them, PEM, that are in no file.
    pub more_client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    /// The texts as they are now.
    pub async fn read(&self) -> Result<ServerPem, TlsError> {
        async fn text(path: &Path) -> Result<Vec<u8>, TlsError> {
            let read = tokio::fs::read(path).await;
            read.map_err(|e| TlsError::Setup(format!("{}: {e}", path.display())))
        }
        Ok(ServerPem {
            cert: text(&self.cert).await?,
            key: text(&self.key).await?,
            client_ca: match (&self.client_ca, &self.more_client_ca) {
                (Some(path), more) => {
                    let mut issuers = text(path).await?;
                    if let Some(more) = more {
                        issuers.push(b'\n');
                        issuers.extend_from_slice(more);
                    }
                    Some(issuers)
                }
                (None, more) => more.clone(),
            },
        })
    }
}

/// Which cipher suites of TLS 1.2 are taken; those of TLS 1.3 always are.
#[derive(Clone, Debug, Default)]
pub struct Ciphers(Option<Vec<CipherSuite>>);

impl Ciphers {
    /// Those with these IANA names, with commas between; all when there is no name. The error is the first name that is not
    /// supported.
    pub fn named(list: &str) -> Result<Self, String> {
        let known = rustls::crypto::ring::default_provider().cipher_suites;
        let names = list.split(',').map(str::trim).filter(|n| !n.is_empty());
        let mut chosen = Vec::new();
        for name in names {
            let same = |suite: &CipherSuite| suite.as_str() == Some(name);
            let mut suites = known.iter().map(rustls::SupportedCipherSuite::suite);
            chosen.push(suites.find(same).ok_or(name)?);
        }
        Ok(Self((!chosen.is_empty()).then_some(chosen)))
    }
}

/// Which TLS is spoken.
#[derive(Clone, Debug)]
pub struct TlsPolicy {
    /// Version 1.2.
    pub tls12: bool,
    /// Version 1.3.
    pub tls13: bool,
    /// Cipher suites.
    pub ciphers: Ciphers,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
            ciphers: Ciphers::default(),
        }
    }
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
pub struct ServerTls(Arc<Inner>);

struct Inner {
    policy: TlsPolicy,
    current: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// From PEM texts. Client certificates are verified when given and never required.
    pub fn new(pem: &ServerPem) -> Result<Self, TlsError> {
        Self::with_policy(pem, TlsPolicy::default())
    }

    /// The same, with a say in what is spoken.
    pub fn with_policy(pem: &ServerPem, policy: TlsPolicy) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(config(pem, &policy)?));
        Ok(Self(Arc::new(Inner { policy, current })))
    }

    /// Exchanges certificates and client issuers. On an error the old ones stay.
    pub fn reload(&self, pem: &ServerPem) -> Result<(), TlsError> {
        let fresh = Arc::new(config(pem, &self.0.policy)?);
        let current = &self.0.current;
        *current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Reloads whenever the files say something else than `used`, looking at them this often, for ever.
    ///
    /// Files that cannot be used, as when somebody is writing them, change nothing.
    pub async fn follow(&self, files: &TlsFiles, used: ServerPem, every: Duration) {
        let (mut used, mut complained) = (used, false);
        loop {
            tokio::time::sleep(every).await;
            let loaded = match files.read().await {
                Ok(now) if now == used => Ok(()),
                Ok(now) => self.reload(&now).map(|()| {
                    tracing::info!(cert = %files.cert.display(), "the certificates were renewed");
                    used = now;
                }),
                Err(error) => Err(error),
            };
            if let (Err(error), false) = (&loaded, complained) {
                tracing::warn!(%error, "the certificates in the files cannot be used; keeping the old ones");
            }
            complained = loaded.is_err();
        }
    }

    /// The configuration for the next connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        let current = &self.0.current;
        Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn provider(ciphers: &Ciphers) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if let Some(chosen) = &ciphers.0 {
        provider
            .cipher_suites
            .retain(|suite| suite.version() == &version::TLS13 || chosen.contains(&suite.suite()));
    }
    provider
}

fn config(pem: &ServerPem, policy: &TlsPolicy) -> Result<ServerConfig, TlsError> {
    let setup = |e: rustls::Error| TlsError::Setup(e.to_string());
    let provider = Arc::new(provider(&policy.ciphers));
    let versions = [
        policy.tls13.then_some(&version::TLS13),
        policy.tls12.then_some(&version::TLS12),
    ];
    let versions: Vec<_> = versions.into_iter().flatten().collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
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
