//! Certificate signing requests: read, check, sign.
//!
//! Subject and public key go into the certificate byte by byte as the request has them: clients
//! written in Go put several organizations in one RDN, which other encoders would take apart.

mod admission;
pub mod update;
mod controller;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

pub(crate) use self::admission::{check_create, check_update};
pub use self::admission::{stamp, validate};
pub use self::controller::run;
use super::ca::{Authority, CaError, Contents, key_id, usage};
use super::der;

/// Store resource of the requests.
pub const RESOURCE: &str = "certificates.k8s.io/certificatesigningrequests";
/// Signer of clients of this API.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Signer of kubelets as clients.
pub const KUBELET_CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of kubelets as servers.
pub const KUBELET_SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long a certificate lives that does not ask for less: one year, as in
/// kube-controller-manager (`--cluster-signing-duration`).
pub const LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// The shortest life that may be asked for.
pub const MINIMAL_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Not PEM, or of another kind.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// Not PKCS#10.
    #[error("the certificate request cannot be parsed: {0}")]
    Malformed(String),
    /// The requester does not have the key, or its kind is not supported.
    #[error("the certificate request's signature is not valid for its key: {0}")]
    Signature(String),
    /// Usages that are not known.
    #[error("unrecognized usage values: {}", super::rbac_quoted(.0))]
    Usages(Vec<String>),
    /// Something that the signer does not sign.
    #[error("{0}")]
    Refused(String),
    /// The authority failed.
    #[error(transparent)]
    Authority(#[from] CaError),
}

/// A request whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    subject: Vec<u8>,
    spki: Vec<u8>,
    public: Vec<u8>,
    names: Vec<Vec<u8>>,
    /// Last common name, as Go reads it; empty if there is none.
    pub common_name: String,
    /// Every organization, in order.
    pub organizations: Vec<String>,
    /// Which kinds of subject alternative names there are.
    kinds: BTreeSet<NameKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NameKind {
    Dns,
    Email,
    Ip,
    Uri,
}

/// Common name (the last one, as Go reads it) and every organization of a subject, whatever the
/// shape of its RDNs. An attribute that is not text is an error: who is it?
pub(crate) fn read_subject(name: &X509Name<'_>) -> Result<(String, Vec<String>), String> {
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value
            .as_str()
            .map(str::to_owned)
            .map_err(|error| format!("a name is no text: {error}"))
    };
    let common = name
        .iter_common_name()
        .last()
        .map(text)
        .transpose()?
        .unwrap_or_default();
    let organizations = name
        .iter_organization()
        .map(text)
        .collect::<Result<_, _>>()?;
    Ok((common, organizations))
}

impl Request {
    /// Reads a request (PEM) and verifies that it was signed with its own key.
    pub fn parse(pem: &[u8]) -> Result<Self, CsrError> {
        let block = pem::parse(pem).map_err(|_not_pem| CsrError::Pem)?;
        if block.tag() != "CERTIFICATE REQUEST" {
            return Err(CsrError::Pem);
        }
        let malformed = |error: String| CsrError::Malformed(error);
        let (rest, parsed) = X509CertificationRequest::from_der(block.contents())
            .map_err(|error| malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("there is something behind it".to_owned()));
        }
        parsed
            .verify_signature()
            .map_err(|error| CsrError::Signature(error.to_string()))?;
        let info = &parsed.certification_request_info;
        let (common_name, organizations) = read_subject(&info.subject).map_err(malformed)?;
        let mut request = Self {
            subject: info.subject.as_raw().to_vec(),
            spki: info.subject_pki.raw.to_vec(),
            public: info.subject_pki.subject_public_key.data.to_vec(),
            names: Vec::new(),
            common_name,
            organizations,
            kinds: BTreeSet::new(),
        };
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in &wanted.extensions {
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension()
                {
                    names
                        .general_names
                        .iter()
                        .for_each(|name| request.add_name(name));
                }
            }
        }
        Ok(request)
    }

    /// Other kinds of names than these four are left out, as Kubernetes' signer does.
    fn add_name(&mut self, name: &GeneralName<'_>) {
        let (kind, encoded) = match name {
            GeneralName::RFC822Name(text) => (NameKind::Email, der::implicit(1, text.as_bytes())),
            GeneralName::DNSName(text) => (NameKind::Dns, der::implicit(2, text.as_bytes())),
            GeneralName::URI(text) => (NameKind::Uri, der::implicit(6, text.as_bytes())),
            GeneralName::IPAddress(bytes) => (NameKind::Ip, der::implicit(7, bytes)),
            _ => return,
        };
        self.kinds.insert(kind);
        self.names.push(encoded);
    }

    /// Signs with these usages (names of the certificates API) for `life`, which is at least
    /// [`MINIMAL_LIFE`]; the answer is PEM.
    pub fn sign(
        &self,
        authority: &Authority,
        life: SignedDuration,
        usages: &[String],
        now: Timestamp,
    ) -> Result<String, CsrError> {
        let (key_usage, extended) = encode_usages(usages)?;
        let contents = Contents {
            subject: &self.subject,
            spki: &self.spki,
            names: &self.names,
            key_usage,
            extended: &extended,
            authority: false,
        };
        let life = life.max(MINIMAL_LIFE);
        Ok(authority.certify(&contents, &key_id(&self.public), life, now)?)
    }
}

/// Reads, verifies and signs a request (PEM) with whatever subject it has: the caller has approved
/// it. `usages` are names of the certificates API, `life` is at least [`MINIMAL_LIFE`].
pub fn sign(
    authority: &Authority,
    request: &[u8],
    life: SignedDuration,
    usages: &[String],
    now: Timestamp,
) -> Result<String, CsrError> {
    Request::parse(request)?.sign(authority, life, usages, now)
}

/// Checks what a signer of Kubernetes asks of a request (kubernetes:
/// pkg/controller/certificates/signer/signer.go, pkg/apis/certificates/helpers.go).
/// `None`: the signer is none of ours.
pub(crate) fn check_signer(
    signer: &str,
    request: &Request,
    usages: &[String],
) -> Option<Result<(), CsrError>> {
    let checked = match signer {
        CLIENT_SIGNER => client_usages(usages),
        KUBELET_CLIENT_SIGNER => kubelet(request, usages, "client auth"),
        KUBELET_SERVING_SIGNER => kubelet(request, usages, "server auth"),
        _ => return None,
    };
    Some(checked.map_err(CsrError::Refused))
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let optional = ["digital signature", "key encipherment"];
    for usage in usages {
        if usage != "client auth" && !optional.contains(&usage.as_str()) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".to_owned())
    }
}

fn kubelet(request: &Request, usages: &[String], purpose: &str) -> Result<(), String> {
    if request.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    let serving = purpose == "server auth";
    let reachable = [NameKind::Dns, NameKind::Ip]
        .iter()
        .any(|kind| request.kinds.contains(kind));
    if serving && !reachable {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    let forbidden: &[(NameKind, &str)] = if serving {
        &[(NameKind::Email, "Email"), (NameKind::Uri, "URI")]
    } else {
        &[
            (NameKind::Dns, "DNS"),
            (NameKind::Email, "Email"),
            (NameKind::Ip, "IP"),
            (NameKind::Uri, "URI"),
        ]
    };
    if let Some((_, name)) = forbidden
        .iter()
        .find(|(kind, _)| request.kinds.contains(kind))
    {
        return Err(format!("{name} subjectAltNames are not allowed"));
    }
    if !request.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".to_owned());
    }
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let mut wanted = BTreeSet::from(["digital signature", purpose]);
    if given == wanted {
        return Ok(());
    }
    wanted.insert("key encipherment");
    if given == wanted {
        return Ok(());
    }
    let list: Vec<&str> = wanted.into_iter().collect();
    Err(format!("usages did not match [{}]", list.join(" ")))
}

/// The usages of the certificates API (k8s.io/api: certificates/v1/types.go) that are bits.
const KEY_USAGES: &[(&str, u16)] = &[
    ("signing", usage::DIGITAL_SIGNATURE),
    ("digital signature", usage::DIGITAL_SIGNATURE),
    ("content commitment", 0x4000),
    ("key encipherment", 0x2000),
    ("data encipherment", 0x1000),
    ("key agreement", 0x0800),
    ("cert sign", usage::KEY_CERT_SIGN),
    ("crl sign", usage::CRL_SIGN),
    ("encipher only", 0x0100),
    ("decipher only", 0x0080),
];

/// Those that are purposes.
const PURPOSES: &[(&str, &[u32])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", usage::SERVER_AUTH),
    ("client auth", usage::CLIENT_AUTH),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

fn encode_usages(usages: &[String]) -> Result<(u16, Vec<&'static [u32]>), CsrError> {
    let mut bits = 0;
    let mut purposes: BTreeSet<&'static [u32]> = BTreeSet::new();
    let mut unknown = Vec::new();
    for usage in usages {
        let bit = KEY_USAGES.iter().find(|(name, _)| name == usage);
        let purpose = PURPOSES.iter().find(|(name, _)| name == usage);
        match (bit, purpose) {
            (Some((_, bit)), _) => bits |= bit,
            (None, Some((_, arcs))) => {
                purposes.insert(arcs);
            }
            (None, None) => unknown.push(usage.clone()),
        }
    }
    if unknown.is_empty() {
        Ok((bits, purposes.into_iter().collect()))
    } else {
        Err(CsrError::Usages(unknown))
    }
}

#[cfg(test)]
mod tests;
