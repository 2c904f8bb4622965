//! What all replicas share: the authorities, oldest first, and the serving certificate, in one Secret.

use std::collections::BTreeMap;

use drover_core::admission::certificates::{Authority, Period, Serving};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A certificate with its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITIES: &str = "authorities.crt";
const AUTHORITY_KEYS: &str = "authorities.key";

/// The authorities and the serving certificate.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub authorities: Vec<Pair>,
    pub serving: Option<Pair>,
}

impl State {
    /// Reads a Secret; the error says what is wrong with it.
    pub(super) fn read(secret: &Secret) -> Result<Self, String> {
        let text = |key: &str| -> Result<String, String> {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            let bytes = data.map(|bytes| bytes.0.clone()).unwrap_or_default();
            String::from_utf8(bytes).map_err(|_| format!("{key} is no text"))
        };
        let certificates = blocks(&text(AUTHORITIES)?)?;
        let keys = blocks(&text(AUTHORITY_KEYS)?)?;
        if certificates.len() != keys.len() {
            return Err(format!(
                "{AUTHORITIES} and {AUTHORITY_KEYS} do not belong together"
            ));
        }
        let pairs = certificates.into_iter().zip(keys);
        let state = Self {
            authorities: pairs
                .map(|(certificate, key)| Pair { certificate, key })
                .collect(),
            serving: match (text(CERTIFICATE)?, text(KEY)?) {
                (certificate, key) if certificate.is_empty() || key.is_empty() => None,
                (certificate, key) => Some(Pair { certificate, key }),
            },
        };
        for pair in state.authorities.iter().chain(&state.serving) {
            parsed(&pair.certificate, |_| Ok(()))?;
        }
        Ok(state)
    }

    /// As a Secret of this name; the version of the one that it replaces.
    pub(super) fn secret(&self, name: &str, version: Option<String>) -> Secret {
        let joined = |part: fn(&Pair) -> &String| {
            let texts = self.authorities.iter().map(part).map(String::as_str);
            texts.collect::<String>()
        };
        let serving = self.serving.as_ref();
        let of = |part: fn(&Pair) -> &String| serving.map(part).cloned().unwrap_or_default();
        let data = [
            (CERTIFICATE, of(|pair| &pair.certificate)),
            (KEY, of(|pair| &pair.key)),
            (AUTHORITIES, joined(|pair| &pair.certificate)),
            (AUTHORITY_KEYS, joined(|pair| &pair.key)),
        ];
        let data: BTreeMap<String, ByteString> = data
            .into_iter()
            .map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
            .collect();
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }

    /// What API servers are told to trust.
    pub(super) fn bundle(&self) -> String {
        let authorities = self.authorities.iter();
        authorities.map(|pair| pair.certificate.as_str()).collect()
    }

    /// The authorities as plans see them; `bundles` are what is published.
    pub(super) fn authorities(&self, bundles: &[String]) -> Result<Vec<Authority>, String> {
        let seen = |pair: &Pair| {
            let known = |bundle: &String| bundle.contains(pair.certificate.trim_end());
            Ok(Authority {
                period: parsed(&pair.certificate, period)?,
                trusted: !bundles.is_empty() && bundles.iter().all(known),
            })
        };
        self.authorities.iter().map(seen).collect()
    }

    /// The serving certificate as plans see it.
    pub(super) fn serving(&self, names: &[String]) -> Result<Option<Serving>, String> {
        let Some(pair) = &self.serving else {
            return Ok(None);
        };
        let signs = |authority: &Pair| {
            parsed(&authority.certificate, |authority| {
                parsed(&pair.certificate, |serving| {
                    let key = Some(authority.public_key());
                    Ok(serving.verify_signature(key).is_ok())
                })
            })
        };
        let mut issuer = None;
        for (index, authority) in self.authorities.iter().enumerate() {
            if signs(authority)? {
                issuer = Some(index);
            }
        }
        parsed(&pair.certificate, |serving| {
            Ok(Some(Serving {
                period: period(serving)?,
                issuer,
                named: names.iter().all(|name| is_named(serving, name)),
            }))
        })
    }
}

/// Each block of a PEM text by itself.
fn blocks(text: &str) -> Result<Vec<String>, String> {
    let all = pem::parse_many(text).map_err(|error| error.to_string())?;
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    let blocks = all.iter();
    Ok(blocks
        .map(|block| pem::encode_config(block, config))
        .collect())
}

fn parsed<T>(
    certificate: &str,
    look: impl FnOnce(&X509Certificate<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let block = pem::parse(certificate).map_err(|error| error.to_string())?;
    let (_, certificate) =
        X509Certificate::from_der(block.contents()).map_err(|error| error.to_string())?;
    look(&certificate)
}

fn period(certificate: &X509Certificate<'_>) -> Result<Period, String> {
    let at = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let validity = certificate.validity();
    Ok(Period {
        from: at(validity.not_before.timestamp())?,
        until: at(validity.not_after.timestamp())?,
    })
}

fn is_named(certificate: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let address = name
        .parse::<std::net::IpAddr>()
        .ok()
        .map(|address| match address {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        });
    names.value.general_names.iter().any(|one| match one {
        GeneralName::DNSName(dns) => address.is_none() && *dns == name,
        GeneralName::IPAddress(octets) => address.as_deref() == Some(octets),
        _ => false,
    })
}
