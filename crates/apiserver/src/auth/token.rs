//! Service account tokens: JSON Web Tokens signed with ES256
//! (claims as in kubernetes: pkg/serviceaccount/claims.go).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use super::key::{Key, KeyError};

/// How far clocks may be apart (go-jose: jwt.DefaultLeeway).
const LEEWAY: SignedDuration = SignedDuration::from_mins(1);
/// Longer texts are not looked at.
const MAXIMAL_LENGTH: usize = 16 * 1024;

/// The keys of one issuer: the first signs, all verify. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    keys: Arc<[(String, Key)]>,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this issuer: others may know it.
    #[error("invalid bearer token")]
    Foreign,
    /// Ours, but not signed by us or broken.
    #[error("invalid bearer token, service account token has an invalid signature")]
    Signature,
    /// Too old.
    #[error("service account token has expired")]
    Expired,
    /// Too new.
    #[error("service account token is not valid yet")]
    Early,
    /// For somebody else.
    #[error("token audiences do not include one that is accepted here")]
    Audience,
    /// What it is bound to is gone.
    #[error("service account token has been invalidated")]
    Invalidated,
}

impl TokenKeys {
    /// One new key.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self::new(vec![Key::generate()?]).unwrap_or_else(|| Self { keys: Arc::new([]) }))
    }

    /// Keys as PEM (PKCS#8), the one that signs first; the others still verify.
    /// An empty list gives `None`.
    pub fn from_pem(texts: &[&str]) -> Result<Option<Self>, KeyError> {
        Ok(Self::new(
            texts
                .iter()
                .map(|text| Key::from_pem(text))
                .collect::<Result<_, _>>()?,
        ))
    }

    fn new(keys: Vec<Key>) -> Option<Self> {
        let id = |key: &Key| {
            let digest = ring::digest::digest(&ring::digest::SHA256, &key.spki());
            URL_SAFE_NO_PAD.encode(digest)
        };
        (!keys.is_empty()).then(|| Self {
            keys: keys.into_iter().map(|key| (id(&key), key)).collect(),
        })
    }

    /// The keys as PEM, the one that signs first: secret.
    pub fn to_pem(&self) -> Vec<String> {
        self.keys.iter().map(|(_, key)| key.to_pem()).collect()
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let (id, key) = self.keys.first().ok_or(KeyError::Random)?;
        let header = json!({"alg": "ES256", "kid": id});
        let text = format!("{}.{}", encode(&header), encode(claims));
        let signature = key.sign_fixed(text.as_bytes())?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The claims of a token whose signature, issuer and times are right; `audiences` are those
    /// accepted here.
    ///
    /// The answer is the claims and which audiences both have.
    pub fn verify(
        &self,
        token: &str,
        issuer: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(Value, Vec<String>), TokenError> {
        if token.len() > MAXIMAL_LENGTH {
            return Err(TokenError::Foreign);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Foreign)?;
        let (header, claims) = (decode(header)?, decode(claims)?);
        if claims["iss"] != issuer {
            return Err(TokenError::Foreign);
        }
        let key = self
            .keys
            .iter()
            .find(|(id, _)| header["kid"] == id.as_str());
        let (Some((_, key)), true) = (key, header["alg"] == "ES256") else {
            return Err(TokenError::Signature);
        };
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_error| TokenError::Signature)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_unspecified| TokenError::Signature)?;
        check_times(&claims, now)?;
        let common = common_audiences(&claims["aud"], audiences);
        if common.is_empty() {
            return Err(TokenError::Audience);
        }
        Ok((claims, common))
    }

    /// The JSON Web Key Set.
    pub fn jwks(&self) -> Value {
        let key = |(id, key): &(String, Key)| {
            // The uncompressed point is 4, x, y.
            let (x, y) = key.public().get(1..65).unwrap_or(&[0; 64]).split_at(32);
            json!({
                "use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
                "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
            })
        };
        json!({"keys": self.keys.iter().map(key).collect::<Vec<_>>()})
    }
}

fn check_times(claims: &Value, now: Timestamp) -> Result<(), TokenError> {
    let at = |name: &str| {
        let seconds = claims[name].as_i64();
        seconds.and_then(|seconds| Timestamp::from_second(seconds).ok())
    };
    let expires = at("exp").ok_or(TokenError::Expired)?;
    if now.duration_since(expires) > LEEWAY {
        return Err(TokenError::Expired);
    }
    let early = ["nbf", "iat"].into_iter().filter_map(at);
    if early
        .into_iter()
        .any(|begin| begin.duration_since(now) > LEEWAY)
    {
        return Err(TokenError::Early);
    }
    Ok(())
}

fn common_audiences(claimed: &Value, accepted: &[String]) -> Vec<String> {
    let claimed: Vec<&str> = match claimed {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    accepted
        .iter()
        .filter(|one| claimed.contains(&one.as_str()))
        .cloned()
        .collect()
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn decode(part: &str) -> Result<Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_error| TokenError::Foreign)?;
    serde_json::from_slice(&bytes).map_err(|_error| TokenError::Foreign)
}

#[cfg(test)]
mod tests;
