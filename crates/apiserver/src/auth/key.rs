//! ECDSA P-256 keys. They leave memory only as PEM, when the owner asks for it.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _};

use super::der;

const LABEL: &str = "PRIVATE KEY";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gives no randomness, or a signature failed.
    #[error("failed to use the system's randomness for a key")]
    Random,
    /// The text is not PEM.
    #[error("the key is not PEM: {0}")]
    Pem(#[from] pem::PemError),
    /// The PEM block is something else.
    #[error("the key's PEM block is {0:?}; give an unencrypted PKCS#8 \"PRIVATE KEY\"")]
    Label(String),
    /// Not an ECDSA P-256 key.
    #[error("the key is not an ECDSA P-256 key in PKCS#8: {0}")]
    Kind(ring::error::KeyRejected),
}

/// A private key.
pub struct Key {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|_unspecified| KeyError::Random)?;
        Self::from_pkcs8(document.as_ref().to_vec())
    }

    /// Reads a PKCS#8 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text)?;
        if block.tag() != LABEL {
            return Err(KeyError::Label(block.tag().to_owned()));
        }
        Self::from_pkcs8(block.into_contents())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, KeyError> {
        let pair = pair(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self { pkcs8, public })
    }

    /// The key for whoever keeps it: secret.
    pub fn to_pem(&self) -> String {
        pem::encode(&pem::Pem::new(LABEL, self.pkcs8.as_slice()))
    }

    /// The uncompressed point.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let algorithm = der::sequence(&[
            &der::oid(&[1, 2, 840, 10045, 2, 1]),
            &der::oid(&[1, 2, 840, 10045, 3, 1, 7]),
        ]);
        der::sequence(&[&algorithm, &der::bits(&self.public)])
    }

    /// A signature as X.509 wants it.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, message)
    }

    /// A signature as JSON Web Tokens want it.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.sign(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, message)
    }

    fn sign(
        &self,
        algorithm: &'static EcdsaSigningAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        let signed = pair(algorithm, &self.pkcs8)?.sign(&SystemRandom::new(), message);
        Ok(signed
            .map_err(|_unspecified| KeyError::Random)?
            .as_ref()
            .to_vec())
    }
}

fn pair(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> Result<EcdsaKeyPair, KeyError> {
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).map_err(KeyError::Kind)
}
