//! The certificate of a publisher, checked before it is used, and what it trusts.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{Error as PemError, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// An authority, a certificate and its key. It never shows the key.
pub struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    name: String,
    not_before: Timestamp,
    not_after: Timestamp,
    config: OnceLock<Arc<ClientConfig>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Why an identity cannot be used. None of the texts quotes what was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not PEM, or nothing of the kind in it.
    #[error("the {0} is not PEM: {1}")]
    Pem(&'static str, String),
    /// Not X.509.
    #[error("the {0} is not an X.509 certificate: {1}")]
    Certificate(&'static str, String),
    /// The broker knows its users by this name.
    #[error("the certificate has no common name: the broker takes it for the user's name")]
    NoName,
    /// It says what it is for, and that is something else.
    #[error("the certificate is not for clients: its extended key usage lacks clientAuth")]
    NotForClients,
    /// They do not belong together.
    #[error("the key is not the certificate's: {0}")]
    Key(String),
    /// Too late.
    #[error("the certificate of {0} expired at {1}")]
    Expired(String, Timestamp),
    /// Too early.
    #[error("the certificate of {0} is not valid before {1}")]
    NotYet(String, Timestamp),
}

impl Identity {
    /// Reads PEM: every certificate of `ca` is trusted, and nothing else is.
    pub fn from_pem(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates("authority", ca)? {
            roots
                .add(authority)
                .map_err(|error| IdentityError::Certificate("authority", error.to_string()))?;
        }
        let chain = certificates("certificate", cert)?;
        let (name, not_before, not_after) = {
            let bad = |why: String| IdentityError::Certificate("certificate", why);
            let leaf = chain.first().ok_or(IdentityError::NoName)?;
            let (_, leaf) =
                X509Certificate::from_der(leaf).map_err(|error| bad(error.to_string()))?;
            let usage = leaf
                .extended_key_usage()
                .map_err(|error| bad(error.to_string()))?;
            if usage.is_some_and(|usage| !usage.value.client_auth && !usage.value.any) {
                return Err(IdentityError::NotForClients);
            }
            let mut names = leaf.subject().iter_common_name();
            let name = names.find_map(|name| name.as_str().ok());
            let name = name
                .filter(|name| !name.is_empty())
                .ok_or(IdentityError::NoName)?;
            let validity = leaf.validity();
            let time =
                |seconds| Timestamp::from_second(seconds).map_err(|error| bad(error.to_string()));
            (
                name.to_owned(),
                time(validity.not_before.timestamp())?,
                time(validity.not_after.timestamp())?,
            )
        };
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| IdentityError::Pem("key", "no private key in it".to_owned()))?;
        let identity = Self {
            roots: Arc::new(roots),
            chain,
            key,
            name,
            not_before,
            not_after,
            config: OnceLock::new(),
        };
        identity.client_config()?;
        Ok(identity)
    }

    /// The common name: the user's name at the broker.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is valid at a time.
    pub fn check(&self, now: Timestamp) -> Result<(), IdentityError> {
        if now > self.not_after {
            return Err(IdentityError::Expired(self.name.clone(), self.not_after));
        }
        if now < self.not_before {
            return Err(IdentityError::NotYet(self.name.clone(), self.not_before));
        }
        Ok(())
    }

    /// The handshake of a client: its certificate, and no other authority than its own.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, IdentityError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| IdentityError::Key(error.to_string()))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| IdentityError::Key(error.to_string()))?;
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| IdentityError::Pem(what, flaw(&error).to_owned()))?;
    if found.is_empty() {
        return Err(IdentityError::Pem(what, "no certificate in it".to_owned()));
    }
    Ok(found)
}

/// What is wrong with a PEM file. Its own words quote lines of it, and somebody may have put a key where a certificate belongs.
fn flaw(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "a section has no END line",
        PemError::IllegalSectionStart { .. } => {
            "a BEGIN line is malformed; it must stand alone in its line"
        }
        PemError::Base64Decode(_) => "a section is not base64",
        PemError::SectionTooLarge => "a section is too large",
        _ => "it is not PEM",
    }
}
