//! The agent's key and certificate, and where they survive a restart: a secret of the managed cluster
//! (ocm: pkg/registration/register/secret).

use std::collections::BTreeMap;
use std::fmt;

use drover_core::registration::agent::certificate;
use drover_core::registration::request::Agent;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use serde_json::json;

use super::{FIELD_MANAGER, HubEndpoint};

/// Namespace of the agent in its cluster, if it is not told another.
pub const NAMESPACE: &str = "open-cluster-management-agent";
/// Secret with the agent's identity for its hub.
pub const SECRET: &str = "hub-kubeconfig-secret";

const KEY: &str = "tls.key";
const CERTIFICATE: &str = "tls.crt";
const CLUSTER: &str = "cluster-name";
const AGENT: &str = "agent-name";
/// Which hub the certificate is for, in the format of the Go clients' `config.yaml`.
const CONFIG: &str = "config.yaml";
/// Ours: the key that waits for its certificate, so that a restart does not ask for another.
const PENDING: &str = "pending.key";

/// X.520 organizationName once more: rcgen keeps one value for each type.
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];

/// A private key, in PEM as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pem: String,
    public: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to use the key of the agent: {0}")]
pub struct KeyError(String);

impl Key {
    /// A new one, on P-256.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate()
            .map(|pair| Self::of(&pair))
            .map_err(|error| KeyError(error.to_string()))
    }

    /// Reads a stored one.
    pub fn read(pem: &[u8]) -> Result<Self, KeyError> {
        Self::pair(&String::from_utf8_lossy(pem)).map(|pair| Self::of(&pair))
    }

    fn of(pair: &KeyPair) -> Self {
        Self {
            pem: pair.serialize_pem(),
            public: pair.subject_public_key_info(),
        }
    }

    fn pair(pem: &str) -> Result<KeyPair, KeyError> {
        KeyPair::from_pem(pem).map_err(|error| KeyError(error.to_string()))
    }

    /// PEM (PKCS #8).
    pub fn pem(&self) -> &[u8] {
        self.pem.as_bytes()
    }

    /// DER of the public key with its algorithm.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// A PKCS #10 request (PEM) for the agent's certificate.
    pub fn request(&self, me: &Agent) -> Result<Vec<u8>, KeyError> {
        let (name, [cluster, all]) = certificate::subject(me);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster);
        params
            .distinguished_name
            .push(DnType::CustomDnType(ORGANIZATION.to_vec()), all);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params
            .serialize_request(&Self::pair(&self.pem)?)
            .and_then(|request| request.pem())
            .map_err(|error| KeyError(error.to_string()))?;
        Ok(pem.into_bytes())
    }
}

/// Key and certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The key.
    pub key: Key,
    /// The certificate, PEM.
    pub certificate: Vec<u8>,
}

/// What the secret holds.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The agent's own name.
    pub agent: Option<String>,
    /// The cluster's name on the hub.
    pub cluster: Option<String>,
    /// Key and certificate, unjudged.
    pub identity: Option<Identity>,
    /// The key that waits.
    pub pending: Option<Key>,
    config: Vec<u8>,
}

impl Stored {
    /// Whether the certificate is for this hub: same address, same authorities.
    pub fn is_for(&self, hub: &HubEndpoint) -> bool {
        self.config == config(hub)
    }
}

fn config(hub: &HubEndpoint) -> Vec<u8> {
    let config = json!({
        "url": hub.address(), "caData": ByteString(hub.ca_pem.clone()),
        "clientCertFile": CERTIFICATE, "clientKeyFile": KEY,
    });
    config.to_string().into_bytes()
}

/// The secret.
#[derive(Clone)]
pub struct SecretStore {
    client: Client,
    namespace: String,
}

impl SecretStore {
    /// In a namespace of this cluster.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }

    /// What is there. What cannot be read counts as not there, with a line in the log.
    pub async fn load(&self) -> Result<Stored, kube::Error> {
        let secret = Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(SECRET)
            .await?;
        let mut data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let mut take = |key: &str| {
            data.remove(key)
                .map(|bytes| bytes.0)
                .filter(|bytes| !bytes.is_empty())
        };
        let mut text = |key| take(key).and_then(|bytes| String::from_utf8(bytes).ok());
        let (agent, cluster) = (text(AGENT), text(CLUSTER));
        let mut key = |name: &str| {
            let key = Key::read(&take(name)?);
            key.inspect_err(
                |error| tracing::warn!(%error, key = name, "the stored key is of no use"),
            )
            .ok()
        };
        let (used, pending) = (key(KEY), key(PENDING));
        let identity = match (used, take(CERTIFICATE)) {
            (Some(key), Some(certificate)) => Some(Identity { key, certificate }),
            (Some(_) | None, _) => None,
        };
        let config = take(CONFIG).unwrap_or_default();
        Ok(Stored {
            agent,
            cluster,
            identity,
            pending,
            config,
        })
    }

    /// Replaces everything that is ours.
    ///
    /// # Guarantees
    /// When it returns, a restart finds what was given.
    pub async fn save(
        &self,
        me: &Agent,
        hub: &HubEndpoint,
        identity: Option<&Identity>,
        pending: Option<&Key>,
    ) -> Result<(), kube::Error> {
        let mut data = BTreeMap::from([
            (
                CLUSTER.to_owned(),
                ByteString(me.cluster.clone().into_bytes()),
            ),
            (AGENT.to_owned(), ByteString(me.agent.clone().into_bytes())),
        ]);
        if let Some(identity) = identity {
            data.insert(KEY.to_owned(), ByteString(identity.key.pem().to_vec()));
            data.insert(
                CERTIFICATE.to_owned(),
                ByteString(identity.certificate.clone()),
            );
            data.insert(CONFIG.to_owned(), ByteString(config(hub)));
        }
        if let Some(pending) = pending {
            data.insert(PENDING.to_owned(), ByteString(pending.pem().to_vec()));
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": self.namespace}, "data": data,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        match api.patch(SECRET, &params, &Patch::Apply(&secret)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
                let namespaces: Api<Namespace> = Api::all(self.client.clone());
                namespaces
                    .patch(&self.namespace, &params, &Patch::Apply(&namespace))
                    .await?;
                api.patch(SECRET, &params, &Patch::Apply(&secret))
                    .await
                    .map(drop)
            }
            outcome => outcome.map(drop),
        }
    }
}
