//! How an agent gets its certificate and renews it in time (ocm: pkg/registration/register/csr).

use std::collections::BTreeMap;

use drover_api::names::CLUSTER_NAME_LABEL;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::super::request::{self, Agent};
use super::super::roles::{ALL_CLUSTERS_GROUP, agent_user, cluster_group};

/// The part of its life after which a certificate is renewed: between these, by jitter, so that a fleet does not renew at
/// once (ocm: renewal with 20 to 25 % left).
const RENEW_FROM: f64 = 0.75;
const RENEW_TO: f64 = 0.80;
/// Undecided requests of a cluster at which no more are made (ocm: `ClusterCSRThreshold`).
const MAX_UNDECIDED: usize = 10;
/// A request that the hub does not show after this long is sent again.
const RESEND: SignedDuration = SignedDuration::from_secs(15);
/// How long an agent waits after too many requests.
const CROWDED_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

impl Validity {
    /// When it is renewed; `jitter` is random in 0..1, the same for the whole life of the certificate.
    pub fn renew_at(&self, jitter: f64) -> Timestamp {
        let part = RENEW_FROM + (RENEW_TO - RENEW_FROM) * jitter.clamp(0.0, 1.0);
        let life = self.until.as_second().saturating_sub(self.from.as_second());
        let after = SignedDuration::from_secs((life as f64 * part) as i64);
        self.from.saturating_add(after).unwrap_or(Timestamp::MAX)
    }
}

/// Judges a certificate (PEM) for the agent and the public key (DER of a SubjectPublicKeyInfo). The error says why it is of no use.
pub fn usable(
    pem: &[u8],
    public_key: &[u8],
    me: &Agent,
    now: Timestamp,
) -> Result<Validity, String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem)
        .map_err(|error| format!("the certificate is no PEM: {error}"))?;
    let (_, certificate) = X509Certificate::from_der(&block.contents)
        .map_err(|error| format!("the certificate is not X.509: {error}"))?;
    if certificate.public_key().raw != public_key {
        return Err("the certificate is for another key".to_owned());
    }
    let wanted = agent_user(&me.cluster, &me.agent);
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().unwrap_or_default().to_owned()
    };
    let subject = certificate.subject();
    let names: Vec<String> = subject.iter_common_name().map(text).collect();
    if names != [wanted.as_str()] {
        return Err(format!(
            "the certificate is for {names:?}, not for {wanted}"
        ));
    }
    let group = cluster_group(&me.cluster);
    if !subject
        .iter_organization()
        .map(text)
        .any(|name| name == group)
    {
        return Err(format!(
            "the certificate does not make its owner a member of {group}"
        ));
    }
    let at = |seconds: i64| {
        Timestamp::from_second(seconds).map_err(|error| format!("the certificate's life: {error}"))
    };
    let validity = Validity {
        from: at(certificate.validity().not_before.timestamp())?,
        until: at(certificate.validity().not_after.timestamp())?,
    };
    if validity.until <= now {
        return Err(format!("the certificate expired at {}", validity.until));
    }
    Ok(validity)
}

/// The names that a certificate of the agent carries: its common name, and its organizations.
pub fn subject(me: &Agent) -> (String, [String; 2]) {
    (
        agent_user(&me.cluster, &me.agent),
        [cluster_group(&me.cluster), ALL_CLUSTERS_GROUP.to_owned()],
    )
}

/// The request for a certificate of this signer: `pem` is the PKCS #10 request, `suffix` makes its name unique.
pub fn request(
    me: &Agent,
    signer: &str,
    pem: Vec<u8>,
    suffix: &str,
    seconds: Option<i32>,
) -> CertificateSigningRequest {
    let mut request = CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem),
            signer_name: signer.to_owned(),
            usages: Some(
                ["digital signature", "key encipherment", "client auth"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            expiration_seconds: seconds,
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    };
    let prefix = format!("{}-", me.cluster);
    request.metadata.name = Some(format!("{prefix}{suffix}"));
    request.metadata.generate_name = Some(prefix);
    request.metadata.labels = Some(BTreeMap::from([(
        CLUSTER_NAME_LABEL.to_owned(),
        me.cluster.clone(),
    )]));
    request
}

/// A key that waits for its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// DER of its SubjectPublicKeyInfo, by which its requests are found.
    pub public_key: Vec<u8>,
    /// When it was asked for last.
    pub asked: Option<Timestamp>,
}

/// What to do about the certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before this time, or before something is heard.
    Wait(Option<Timestamp>),
    /// Make a key.
    NewKey,
    /// Send a request for the pending key.
    Ask,
    /// Too many requests of this cluster wait at the hub; look again then.
    Crowded(Timestamp),
    /// This is the certificate (PEM) for the pending key.
    Take(Vec<u8>),
    /// The hub said no: forget the key.
    GiveUp(String),
}

/// Plans the next step. `held` is the life of the certificate in use, `hold` the time before which nothing is tried after a
/// refusal; `requests` are all that the hub shows for the cluster.
pub fn plan(
    held: Option<&Validity>,
    pending: Option<&Pending>,
    requests: &[CertificateSigningRequest],
    hold: Option<Timestamp>,
    jitter: f64,
    now: Timestamp,
) -> Step {
    let Some(pending) = pending else {
        let due = held.map(|held| held.renew_at(jitter));
        let later = due.into_iter().chain(hold).filter(|at| *at > now).max();
        return later.map_or(Step::NewKey, |at| Step::Wait(Some(at)));
    };
    let mut undecided = 0;
    let mut waits = false;
    let mut refusal = None;
    for request in requests {
        let ours = is_for(request, &pending.public_key);
        if ours && request::issued(request) {
            let certificate = request
                .status
                .as_ref()
                .and_then(|status| status.certificate.as_ref());
            return Step::Take(certificate.map(|c| c.0.clone()).unwrap_or_default());
        }
        let refused = refusal_of(request);
        if refused.is_none() && !request::decided(request) {
            undecided += 1;
        }
        match (ours, refused) {
            (true, None) => waits = true,
            (true, Some(why)) => refusal = Some(why),
            (false, _) => {}
        }
    }
    if waits {
        return Step::Wait(None);
    }
    if let Some(why) = refusal {
        return Step::GiveUp(why);
    }
    let again = pending
        .asked
        .map(|asked| asked.saturating_add(RESEND).unwrap_or(Timestamp::MAX));
    match again {
        Some(again) if again > now => Step::Wait(Some(again)),
        _ if undecided >= MAX_UNDECIDED => {
            Step::Crowded(now.saturating_add(CROWDED_WAIT).unwrap_or(Timestamp::MAX))
        }
        _ => Step::Ask,
    }
}

/// Whether a request asks for a certificate for this public key.
fn is_for(request: &CertificateSigningRequest, public_key: &[u8]) -> bool {
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(&request.spec.request.0) else {
        return false;
    };
    X509CertificationRequest::from_der(&block.contents)
        .is_ok_and(|(_, request)| request.certification_request_info.subject_pki.raw == public_key)
}

/// Why a request will never have a certificate.
fn refusal_of(request: &CertificateSigningRequest) -> Option<String> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    let bad = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Denied" | "Failed") && c.status == "True")?;
    let words = [bad.reason.as_deref(), bad.message.as_deref()];
    let words: Vec<&str> = words
        .into_iter()
        .flatten()
        .filter(|word| !word.is_empty())
        .collect();
    let name = request.metadata.name.as_deref().unwrap_or_default();
    Some(format!(
        "request {name}: {} ({})",
        bad.type_,
        words.join(": ")
    ))
}

#[cfg(test)]
mod tests;
