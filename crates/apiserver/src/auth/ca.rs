//! A certificate authority: makes itself, certificates of servers and clients, and signs what a
//! request brought.

use std::fmt;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom as _, SystemRandom};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::der;
use super::key::{Key, KeyError};

/// How far before now a certificate begins, for clocks that are late
/// (kubernetes: pkg/controller/certificates/signer/signer.go).
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Certificates that live shorter than this are not shortened by [`BACKDATE`] (same source).
pub const SHORT: SignedDuration = SignedDuration::from_hours(8);

const CERTIFICATE: &str = "CERTIFICATE";
const ECDSA_WITH_SHA256: &[u32] = &[1, 2, 840, 10045, 4, 3, 2];
const COMMON_NAME: &[u32] = &[2, 5, 4, 3];
const ORGANIZATION: &[u32] = &[2, 5, 4, 10];

/// keyUsage bits (RFC 5280, 4.2.1.3), bit 0 being the highest.
pub(crate) mod usage {
    pub(crate) const DIGITAL_SIGNATURE: u16 = 0x8000;
    pub(crate) const KEY_CERT_SIGN: u16 = 0x0400;
    pub(crate) const CRL_SIGN: u16 = 0x0200;
    /// id-kp-serverAuth.
    pub(crate) const SERVER_AUTH: &[u32] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
    /// id-kp-clientAuth.
    pub(crate) const CLIENT_AUTH: &[u32] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The key cannot be read or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The authority's certificate cannot be read.
    #[error("failed to read the CA certificate: {0}")]
    Certificate(String),
    /// The certificate is of another key.
    #[error("the CA certificate is not for the CA key; give the pair that belongs together")]
    Mismatch,
    /// The authority's time is over.
    #[error("the CA certificate expired at {0}; make a new one")]
    Expired(Timestamp),
    /// A time outside of what a certificate can say.
    #[error("a certificate cannot live {0:#}")]
    Lifetime(SignedDuration),
    /// A name that no certificate can carry.
    #[error("a certificate cannot carry the name {0:?}")]
    Name(String),
    /// A file.
    #[error("failed to {action} {path:?}: {source}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A certificate with its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key: secret.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// A certificate authority with an ECDSA P-256 key.
#[derive(Debug)]
pub struct Authority {
    key: Key,
    pem: String,
    /// Issuer name of what it signs.
    subject: Vec<u8>,
    key_id: Vec<u8>,
    not_after: Timestamp,
}

/// What a certificate says, all but who signs it and how long it lives.
pub(crate) struct Contents<'a> {
    /// Encoded Name.
    pub(crate) subject: &'a [u8],
    /// Encoded SubjectPublicKeyInfo.
    pub(crate) spki: &'a [u8],
    /// Encoded GeneralName each.
    pub(crate) names: &'a [Vec<u8>],
    pub(crate) key_usage: u16,
    pub(crate) extended: &'a [&'a [u32]],
    pub(crate) authority: bool,
}

struct Period {
    from: Timestamp,
    to: Timestamp,
}

impl Authority {
    /// Makes a self-signed authority.
    pub fn create(name: &str, life: SignedDuration, now: Timestamp) -> Result<Self, CaError> {
        let key = Key::generate()?;
        let subject = subject(Some(name), &[]);
        let key_id = key_id(key.public());
        let contents = Contents {
            subject: &subject,
            spki: &key.spki(),
            names: &[],
            key_usage: usage::DIGITAL_SIGNATURE | usage::KEY_CERT_SIGN | usage::CRL_SIGN,
            extended: &[],
            authority: true,
        };
        let period = period(life, now)?;
        let der = certificate(&key, &subject, &key_id, &key_id, &contents, &period)?;
        Self::assemble(&der, key)
    }

    /// Reads an authority.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, CaError> {
        let block = pem::parse(certificate).map_err(unreadable)?;
        if block.tag() != CERTIFICATE {
            return Err(unreadable(format!("its PEM block is {:?}", block.tag())));
        }
        Self::assemble(block.contents(), Key::from_pem(key)?)
    }

    /// Reads the authority kept in two files, or makes it and keeps it there; only the owner can
    /// read the key.
    pub fn load_or_create(
        certificate: &Path,
        key: &Path,
        name: &str,
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Self, CaError> {
        // The certificate is written last: without it the making was interrupted.
        if certificate.exists() {
            return Self::from_pem(&read(certificate)?, &read(key)?);
        }
        let made = Self::create(name, life, now)?;
        write_private(key, &made.key_pem())?;
        write_private(certificate, made.certificate_pem())?;
        Ok(made)
    }

    fn assemble(der: &[u8], key: Key) -> Result<Self, CaError> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(unreadable)?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(unreadable("it is not one certificate of an authority"));
        }
        if parsed.public_key().raw != key.spki() {
            return Err(CaError::Mismatch);
        }
        let seconds = parsed.validity().not_after.timestamp();
        let not_after = Timestamp::from_second(seconds).map_err(unreadable)?;
        let named =
            parsed
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => {
                        Some(id.0.to_vec())
                    }
                    _ => None,
                });
        Ok(Self {
            pem: to_pem(der),
            subject: parsed.subject().as_raw().to_vec(),
            key_id: named.unwrap_or_else(|| key_id(key.public())),
            not_after,
            key,
        })
    }

    /// The authority's certificate, for those who trust it.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The authority's key: secret.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// When the authority's time is over.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// A certificate for a server that is reached under these DNS names and addresses.
    pub fn issue_server(
        &self,
        names: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let encoded: Result<Vec<_>, _> = names.iter().map(|name| general_name(name)).collect();
        let common = names.first().map(String::as_str);
        self.issue(
            &subject(common, &[]),
            &encoded?,
            usage::SERVER_AUTH,
            life,
            now,
        )
    }

    /// A certificate for a client: user name and groups.
    pub fn issue_client(
        &self,
        user: &str,
        groups: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        self.issue(
            &subject(Some(user), groups),
            &[],
            usage::CLIENT_AUTH,
            life,
            now,
        )
    }

    fn issue(
        &self,
        subject: &[u8],
        names: &[Vec<u8>],
        purpose: &[u32],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<Issued, CaError> {
        let key = Key::generate()?;
        let contents = Contents {
            subject,
            spki: &key.spki(),
            names,
            key_usage: usage::DIGITAL_SIGNATURE,
            extended: &[purpose],
            authority: false,
        };
        let certificate = self.certify(&contents, &key_id(key.public()), life, now)?;
        Ok(Issued {
            certificate,
            key: key.to_pem(),
        })
    }

    /// Signs; never longer than the authority itself lives.
    pub(crate) fn certify(
        &self,
        contents: &Contents<'_>,
        key_id: &[u8],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<String, CaError> {
        if now >= self.not_after {
            return Err(CaError::Expired(self.not_after));
        }
        let mut period = period(life, now)?;
        period.to = period.to.min(self.not_after);
        let der = certificate(
            &self.key,
            &self.subject,
            &self.key_id,
            key_id,
            contents,
            &period,
        )?;
        Ok(to_pem(&der))
    }
}

fn period(life: SignedDuration, now: Timestamp) -> Result<Period, CaError> {
    if life <= SignedDuration::ZERO {
        return Err(CaError::Lifetime(life));
    }
    let far = |_overflow| CaError::Lifetime(life);
    let from = now.checked_sub(BACKDATE).map_err(far)?;
    let begin = if life < SHORT { now } else { from };
    Ok(Period {
        from,
        to: begin.checked_add(life).map_err(far)?,
    })
}

/// First 20 bytes of SHA-256 of the public key (RFC 7093, method 1).
pub(crate) fn key_id(public: &[u8]) -> Vec<u8> {
    let digest = ring::digest::digest(&ring::digest::SHA256, public);
    digest.as_ref().iter().take(20).copied().collect()
}

fn certificate(
    signer: &Key,
    issuer: &[u8],
    issuer_key_id: &[u8],
    key_id: &[u8],
    contents: &Contents<'_>,
    period: &Period,
) -> Result<Vec<u8>, CaError> {
    let mut serial = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_unspecified| KeyError::Random)?;
    // Positive, not zero, always 16 bytes.
    serial[0] = serial[0] & 0x7f | 0x40;
    let algorithm = der::sequence(&[&der::oid(ECDSA_WITH_SHA256)]);
    let tbs = der::sequence(&[
        &der::explicit(0, &der::tlv(der::INTEGER, &[2])),
        &der::positive(&serial),
        &algorithm,
        issuer,
        &der::sequence(&[&der::time(period.from), &der::time(period.to)]),
        contents.subject,
        contents.spki,
        &der::explicit(
            3,
            &der::sequence(&[&extensions(contents, issuer_key_id, key_id)]),
        ),
    ]);
    let signature = signer.sign_asn1(&tbs)?;
    Ok(der::sequence(&[&tbs, &algorithm, &der::bits(&signature)]))
}

fn extensions(contents: &Contents<'_>, issuer_key_id: &[u8], key_id: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |number: u32, critical: bool, value: &[u8]| {
        let flag = if critical { der::yes() } else { Vec::new() };
        let value = der::tlv(der::OCTET_STRING, value);
        all.extend(der::sequence(&[
            &der::oid(&[2, 5, 29, number]),
            &flag,
            &value,
        ]));
    };
    if contents.key_usage != 0 {
        add(15, true, &der::named_bits(contents.key_usage));
    }
    if !contents.extended.is_empty() {
        let purposes: Vec<u8> = contents
            .extended
            .iter()
            .flat_map(|arcs| der::oid(arcs))
            .collect();
        add(37, false, &der::sequence(&[&purposes]));
    }
    let constraint = if contents.authority {
        der::yes()
    } else {
        Vec::new()
    };
    add(19, true, &der::sequence(&[&constraint]));
    add(14, false, &der::tlv(der::OCTET_STRING, key_id));
    add(
        35,
        false,
        &der::sequence(&[&der::implicit(0, issuer_key_id)]),
    );
    if !contents.names.is_empty() {
        // RFC 5280, 4.2.1.6: critical when the subject is empty.
        let critical = contents.subject == der::sequence(&[]);
        add(17, critical, &der::sequence(&[&contents.names.concat()]));
    }
    all
}

/// A Name: each organization in an RDN of its own, then the common name.
fn subject(common_name: Option<&str>, organizations: &[String]) -> Vec<u8> {
    let rdn = |kind: &[u32], text: &str| {
        let text = der::tlv(der::UTF8_STRING, text.as_bytes());
        der::set_of_one(&der::sequence(&[&der::oid(kind), &text]))
    };
    let mut name: Vec<u8> = organizations
        .iter()
        .flat_map(|organization| rdn(ORGANIZATION, organization))
        .collect();
    name.extend(common_name.iter().flat_map(|text| rdn(COMMON_NAME, text)));
    der::sequence(&[&name])
}

fn general_name(name: &str) -> Result<Vec<u8>, CaError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(match address {
            IpAddr::V4(address) => der::implicit(7, &address.octets()),
            IpAddr::V6(address) => der::implicit(7, &address.octets()),
        });
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CaError::Name(name.to_owned()));
    }
    Ok(der::implicit(2, name.as_bytes()))
}

fn to_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(CERTIFICATE, der), config)
}

fn unreadable(error: impl fmt::Display) -> CaError {
    CaError::Certificate(error.to_string())
}

fn read(path: &Path) -> Result<String, CaError> {
    std::fs::read_to_string(path).map_err(|source| CaError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<(), CaError> {
    let write = || {
        let partial = path.with_extension("partial");
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| CaError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
