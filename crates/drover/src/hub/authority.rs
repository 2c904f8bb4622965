//! The authority that all copies of a hub share: a secret of the hub's own namespace, made by whoever comes first.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use drover_apiserver::auth::ca::Authority;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::connect::explain;
use crate::up::folder::AUTHORITY_LIFE;

/// Name of the secret.
pub const SECRET: &str = "drover-hub-authority";
/// Where a secret of type `kubernetes.io/tls` has them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The authority; made at the first time.
pub async fn shared(client: &Client, namespace: &str, now: Timestamp) -> Result<Authority> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let place = || format!("secret {SECRET} in namespace {namespace}");
    let failed = |error: kube::Error| anyhow::anyhow!("{}", explain(&error));
    let found = secrets.get_opt(SECRET).await.map_err(failed);
    let found = found.with_context(|| format!("failed to read {}", place()))?;
    if let Some(found) = found {
        return read(&found).with_context(|| format!("{} is of no use", place()));
    }
    let made = Authority::create("drover hub-agents", AUTHORITY_LIFE, now)?;
    let wanted = secret(namespace, &made);
    match secrets.create(&PostParams::default(), &wanted).await {
        Ok(_) => Ok(made),
        // Another copy was quicker: its authority counts.
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = secrets.get(SECRET).await.map_err(failed);
            let found = found.with_context(|| format!("failed to read {}", place()))?;
            read(&found).with_context(|| format!("{} is of no use", place()))
        }
        Err(error) => Err(failed(error)).with_context(|| format!("failed to create {}", place())),
    }
}

fn secret(namespace: &str, authority: &Authority) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(BTreeMap::from([
            (CERTIFICATE.to_owned(), bytes(authority.certificate_pem())),
            (KEY.to_owned(), bytes(&authority.key_pem())),
        ])),
        ..Secret::default()
    }
}

fn read(secret: &Secret) -> Result<Authority> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        let Some(bytes) = bytes else {
            bail!(
                "it has no {key}; delete it to get a new authority: then every agent must join anew"
            );
        };
        String::from_utf8(bytes.0.clone()).with_context(|| format!("its {key} is no text"))
    };
    Ok(Authority::from_pem(&text(CERTIFICATE)?, &text(KEY)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_again() {
        let made = Authority::create("test", AUTHORITY_LIFE, Timestamp::now()).expect("a key");
        let stored = secret("ns", &made);
        let again = read(&stored).expect("it is whole");
        assert_eq!(again.certificate_pem(), made.certificate_pem());
        assert_eq!(again.key_pem(), made.key_pem());
        let mut broken = stored;
        broken.data = None;
        let error = read(&broken).expect_err("nothing is there").to_string();
        assert!(error.starts_with("it has no tls.crt"), "{error}");
    }
}
