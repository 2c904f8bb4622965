//! Who calls: bearer token or client certificate, tried in order.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A caller that was recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// User name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
}

/// The certificates of the peer of a connection, leaf first, already verified in the handshake. A server that embeds the
/// broker puts this into the extensions of each request.
#[derive(Clone, Debug, Default)]
pub struct PeerCerts(pub Arc<[CertificateDer<'static>]>);

/// What a caller shows.
#[derive(Clone, Debug, Default)]
pub struct Presented {
    /// Bearer token, without the word before it.
    pub token: Option<String>,
    /// Verified certificates.
    pub certs: PeerCerts,
}

/// Why a caller is not recognised.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuthnError {
    /// Nothing shown, or not accepted.
    #[error("{0}")]
    Unauthenticated(String),
    /// The check itself failed.
    #[error("failed to authenticate: {0}")]
    Failed(String),
}

/// Recognises callers.
#[crate::async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Who this is.
    async fn authenticate(&self, presented: &Presented) -> Result<Caller, AuthnError>;
}

/// Asks who a token belongs to; on a hub a TokenReview.
#[crate::async_trait]
pub trait TokenReview: Send + Sync + 'static {
    /// The owner of a token, `None` when it is not valid.
    async fn review(&self, token: &str) -> Result<Option<Caller>, AuthnError>;
}

/// Recognises bearer tokens.
pub struct TokenAuthenticator<R>(pub R);

#[crate::async_trait]
impl<R: TokenReview> Authenticator for TokenAuthenticator<R> {
    async fn authenticate(&self, presented: &Presented) -> Result<Caller, AuthnError> {
        let token = presented
            .token
            .as_deref()
            .ok_or_else(|| AuthnError::Unauthenticated("missing authorization token".to_owned()))?;
        let caller = self.0.review(token).await?;
        caller.ok_or_else(|| AuthnError::Unauthenticated("the token is not valid".to_owned()))
    }
}

/// Recognises client certificates: the user is the common name, the groups are the organisations.
pub struct CertAuthenticator;

#[crate::async_trait]
impl Authenticator for CertAuthenticator {
    async fn authenticate(&self, presented: &Presented) -> Result<Caller, AuthnError> {
        let missing = || AuthnError::Unauthenticated("no verified client certificate".to_owned());
        let leaf = presented.certs.0.first().ok_or_else(missing)?;
        let (_, cert) = X509Certificate::from_der(leaf)
            .map_err(|e| AuthnError::Unauthenticated(e.to_string()))?;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().ok().map(str::to_owned)
        };
        let user = cert
            .subject()
            .iter_common_name()
            .find_map(text)
            .unwrap_or_default();
        if user.is_empty() {
            return Err(AuthnError::Unauthenticated(
                "the client certificate has no common name".to_owned(),
            ));
        }
        Ok(Caller {
            user,
            groups: cert
                .subject()
                .iter_organization()
                .filter_map(text)
                .collect(),
        })
    }
}

/// Tries each in order; the first success wins, else the last error counts.
pub async fn authenticate(
    chain: &[Arc<dyn Authenticator>],
    presented: &Presented,
) -> Result<Caller, AuthnError> {
    let mut last = AuthnError::Unauthenticated("no authenticator is configured".to_owned());
    for authenticator in chain {
        match authenticator.authenticate(presented).await {
            Ok(caller) => return Ok(caller),
            Err(error) => last = error,
        }
    }
    Err(last)
}
