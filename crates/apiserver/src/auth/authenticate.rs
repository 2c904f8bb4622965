//! From credentials to a [`User`].

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use ring::rand::SystemRandom;
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::token::TokenError;
use super::user::{ANONYMOUS, AUTHENTICATED, Attributes, PeerCertificates, UNAUTHENTICATED, User};
use super::user::{service_account_groups, split_service_account};
use super::{Auth, allows, csr};
use crate::status::{ApiError, ApiResult};
use crate::store::{Key, Object, Store};

/// Client programs send at most this many impersonation headers.
const MAXIMAL_IMPERSONATIONS: usize = 1000;

/// Tokens that are known from the start, by a keyed hash, so that a look-up tells nothing by the
/// time that it takes.
pub(super) struct StaticTokens {
    key: hmac::Key,
    users: BTreeMap<Vec<u8>, User>,
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokens")
            .field("users", &self.users.values())
            .finish_non_exhaustive()
    }
}

impl StaticTokens {
    pub(super) fn new(tokens: Vec<(String, User)>) -> Result<Self, ring::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?;
        let hashed = tokens.into_iter().filter(|(token, _)| !token.is_empty());
        let hashed = hashed
            .map(|(token, user)| (hmac::sign(&key, token.as_bytes()).as_ref().to_vec(), user));
        let users = hashed.collect();
        Ok(Self { key, users })
    }

    fn find(&self, token: &str) -> Option<&User> {
        self.users
            .get(hmac::sign(&self.key, token.as_bytes()).as_ref())
    }

    /// Compares without telling by the time where texts differ.
    fn same(&self, left: &[u8], right: &[u8]) -> bool {
        hmac::verify(&self.key, left, hmac::sign(&self.key, right).as_ref()).is_ok()
    }
}

/// Who a token stands for, and which of the audiences it is good for.
#[derive(Debug)]
pub(super) struct TokenHolder {
    pub(super) user: User,
    pub(super) audiences: Vec<String>,
}

impl Auth {
    pub(super) fn requester(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
    ) -> ApiResult<User> {
        let presented = peer
            .and_then(|certificates| certificates.0.first())
            .map(|leaf| certificate_user(leaf));
        if let Some(Ok(user)) = presented {
            return Ok(user.authenticated());
        }
        if let Some(token) = bearer(headers) {
            let audiences = &self.inner.options.audiences;
            let holder = self.token_holder(token, audiences);
            return holder.map(|holder| holder.user).map_err(|error| {
                tracing::debug!(%error, "a bearer token was refused");
                ApiError::unauthorized()
            });
        }
        if let Some(Err(error)) = presented {
            tracing::debug!(%error, "a client certificate was refused");
            return Err(ApiError::unauthorized());
        }
        if self.inner.options.anonymous {
            Ok(User::anonymous())
        } else {
            Err(ApiError::unauthorized())
        }
    }

    /// Static tokens, then our own, then bootstrap tokens.
    pub(super) fn token_holder(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenHolder, TokenError> {
        let inner = &self.inner;
        let everywhere = |user: User| TokenHolder {
            user: user.authenticated(),
            // Such a token says nothing of audiences: it is good for the API itself.
            audiences: audiences
                .iter()
                .filter(|one| inner.options.audiences.contains(one))
                .cloned()
                .collect(),
        };
        let known = inner.tokens.find(token).cloned();
        let known =
            known.or_else(|| bootstrap_user(&inner.store, &inner.tokens, token, self.now()));
        if let Some(user) = known {
            let holder = everywhere(user);
            return if holder.audiences.is_empty() {
                Err(TokenError::Foreign)
            } else {
                Ok(holder)
            };
        }
        let (claims, audiences) =
            inner
                .keys
                .verify(token, &inner.options.issuer, audiences, self.now())?;
        let user = claimed_user(&inner.store, &claims, self.now())?;
        Ok(TokenHolder {
            user: user.authenticated(),
            audiences,
        })
    }

    /// Lets a user act as another, if the headers ask for it and every part of it is allowed
    /// (apiserver: pkg/endpoints/filters/impersonation).
    pub(crate) fn impersonate(&self, requester: User, headers: &HeaderMap) -> ApiResult<User> {
        let Some(wanted) = Impersonation::read(headers)? else {
            return Ok(requester);
        };
        self.inner.policy.read(|index| {
            for asked in wanted.attributes() {
                if !allows(index, &requester, &asked) {
                    return Err(asked.forbidden(&asked.refusal(&requester)));
                }
            }
            Ok(())
        })?;
        Ok(wanted.user())
    }
}

/// Common name and organizations of a verified client certificate.
fn certificate_user(leaf: &[u8]) -> Result<User, String> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let (name, groups) = csr::read_subject(certificate.subject())?;
    if name.is_empty() {
        return Err("the certificate has no common name".to_owned());
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let mut hex = String::with_capacity(64);
    for byte in digest.as_ref() {
        let _infallible = write!(hex, "{byte:02x}");
    }
    let id = (
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("X509SHA256={hex}")],
    );
    Ok(User {
        name,
        uid: String::new(),
        groups,
        extra: BTreeMap::from([id]),
    })
}

/// The token of an `Authorization: Bearer …` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    // As upstream: what follows a second space is not part of the token.
    let token = token.split(' ').next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn stored(
    store: &Store,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Option<std::sync::Arc<Object>> {
    store.get(&Key {
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
    })
}

/// The service account of verified claims, if it and what the token is bound to still exist.
fn claimed_user(store: &Store, claims: &Value, now: Timestamp) -> Result<User, TokenError> {
    let private = &claims["kubernetes.io"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&private["namespace"]);
    let name = text(&private["serviceaccount"]["name"]);
    let mut user = User::service_account(&namespace, &name);
    if claims["sub"] != user.name {
        return Err(TokenError::Invalidated);
    }
    user.uid = text(&private["serviceaccount"]["uid"]);
    let bound = [
        ("serviceaccount", "/serviceaccounts", namespace.as_str()),
        ("secret", "/secrets", &namespace),
        ("pod", "/pods", &namespace),
        // A pod's node is only for information.
        ("node", "/nodes", ""),
    ];
    for (claim, resource, namespace) in bound {
        let reference = &private[claim];
        let informative = claim == "node" && !private["pod"].is_null();
        if reference.is_null() || informative {
            continue;
        }
        let object = stored(store, resource, namespace, &text(&reference["name"]));
        let object = object.ok_or(TokenError::Invalidated)?;
        if *object.meta.uid != *text(&reference["uid"]) || is_gone(&object, now) {
            return Err(TokenError::Invalidated);
        }
    }
    let mut extra = |key: &str, value: String| {
        if !value.is_empty() {
            user.extra
                .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
        }
    };
    if let Some(id) = claims["jti"].as_str() {
        extra("credential-id", format!("JTI={id}"));
    }
    for kind in ["pod", "node"] {
        extra(&format!("{kind}-name"), text(&private[kind]["name"]));
        extra(&format!("{kind}-uid"), text(&private[kind]["uid"]));
    }
    Ok(user)
}

/// Deleted more than a minute ago, and only held by finalizers.
fn is_gone(object: &Object, now: Timestamp) -> bool {
    if !object.meta.terminating {
        return false;
    }
    let value = object.value();
    let at = value["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|text| text.parse().ok());
    at.is_none_or(|at: Timestamp| now.duration_since(at) > SignedDuration::from_mins(1))
}

/// The user of a bootstrap token
/// (kubernetes: plugin/pkg/auth/authenticator/token/bootstrap/bootstrap.go).
fn bootstrap_user(
    store: &Store,
    tokens: &StaticTokens,
    token: &str,
    now: Timestamp,
) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let valid = |text: &str, length| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        text.len() == length && text.bytes().all(lower)
    };
    if !valid(id, 6) || !valid(secret, 16) {
        return None;
    }
    let object = stored(
        store,
        "/secrets",
        "kube-system",
        &format!("bootstrap-token-{id}"),
    )?;
    if object.meta.terminating {
        return None;
    }
    let value = object.value();
    let data = |key: &str| {
        let bytes = value["data"][key]
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok());
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default()
    };
    let expiration = data("expiration");
    let expired =
        !expiration.is_empty() && expiration.parse::<Timestamp>().map_or(true, |at| at <= now);
    let right = value["type"] == "bootstrap.kubernetes.io/token"
        && tokens.same(data("token-secret").as_bytes(), secret.as_bytes())
        && data("token-id") == id
        && data("usage-bootstrap-authentication") == "true"
        && !expired;
    if !right {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in data("auth-extra-groups")
        .split(',')
        .filter(|group| !group.is_empty())
    {
        if !is_bootstrap_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(User {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..User::default()
    })
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`
fn is_bootstrap_group(group: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match group.strip_prefix("system:bootstrappers:") {
        Some(rest) => {
            rest.len() <= 256
                && rest
                    .bytes()
                    .all(|byte| letter(byte) || byte == b':' || byte == b'-')
                && rest.bytes().last().is_some_and(letter)
        }
        None => false,
    }
}

/// Whom the headers ask to act as.
#[derive(Debug, Default, PartialEq, Eq)]
struct Impersonation {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    fn read(headers: &HeaderMap) -> ApiResult<Option<Self>> {
        let mut wanted = Self::default();
        let mut count = 0;
        for (header, value) in headers {
            let Some(what) = header.as_str().strip_prefix("impersonate-") else {
                continue;
            };
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_error| ApiError::bad_request(format!("header {header} is not UTF-8")))?
                .to_owned();
            count += 1;
            match what {
                "user" if wanted.name.is_empty() => wanted.name = value,
                "uid" if wanted.uid.is_empty() => wanted.uid = value,
                "group" => wanted.groups.push(value),
                _ => match what.strip_prefix("extra-") {
                    Some(key) => wanted.extra.entry(unescape(key)).or_default().push(value),
                    None => count -= 1,
                },
            }
        }
        if count > MAXIMAL_IMPERSONATIONS {
            return Err(ApiError::bad_request("too many impersonation headers"));
        }
        if wanted == Self::default() {
            return Ok(None);
        }
        if wanted.name.is_empty() {
            return Err(ApiError::bad_request(
                "requested groups, uid or extra without impersonating a user name",
            ));
        }
        Ok(Some(wanted))
    }

    /// Everything that the requester must be allowed to impersonate.
    fn attributes(&self) -> Vec<Attributes<'_>> {
        let one = |group, version, resource, name| Attributes {
            verb: "impersonate",
            group,
            version,
            resource,
            name,
            ..Attributes::default()
        };
        let mut all = vec![match split_service_account(&self.name) {
            Some((namespace, name)) => Attributes {
                namespace,
                ..one("", "", "serviceaccounts", name)
            },
            None => one("", "", "users", &self.name),
        }];
        all.extend(self.groups.iter().map(|group| one("", "", "groups", group)));
        let special = "authentication.k8s.io";
        for (key, values) in &self.extra {
            all.extend(values.iter().map(|value| Attributes {
                subresource: key,
                ..one(special, "v1", "userextras", value)
            }));
        }
        if !self.uid.is_empty() {
            all.push(one(special, "v1", "uids", &self.uid));
        }
        all
    }

    fn user(self) -> User {
        let mut groups = self.groups;
        if let (Some((namespace, _)), true) = (split_service_account(&self.name), groups.is_empty())
        {
            groups = service_account_groups(namespace);
        }
        let (add, unless) = if self.name == ANONYMOUS {
            (UNAUTHENTICATED, UNAUTHENTICATED)
        } else {
            (AUTHENTICATED, UNAUTHENTICATED)
        };
        if !groups.iter().any(|group| group == add || group == unless) {
            groups.push(add.to_owned());
        }
        User {
            name: self.name,
            uid: self.uid,
            groups,
            extra: self.extra,
        }
    }
}

/// Decodes `%2f` and the like; what is no valid escape stays as it is.
fn unescape(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => return key.to_owned(),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_error| key.to_owned())
}

#[cfg(test)]
mod tests;
