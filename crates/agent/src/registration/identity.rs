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

use super::FIELD_MANAGER;
use super::endpoint::{Bootstrap, Endpoint};

/// Namespace of the agent in its cluster, if it is not told another.
pub const NAMESPACE: &str = "open-cluster-management-agent";
/// Secret with the agent's identity for its hub.
pub const SECRET: &str = "hub-kubeconfig-secret";

pub(crate) const KEY: &str = "tls.key";
pub(crate) const CERTIFICATE: &str = "tls.crt";
const CLUSTER: &str = "cluster-name";
const AGENT: &str = "agent-name";
/// Ours: the key that waits for its certificate, so that a restart does not ask for another.
const PENDING: &str = "pending.key";
/// Ours: the address of the hub that was asked for it.
const PENDING_HUB: &str = "pending.hub";
/// Ours: by what applied works know this agent, whichever hub it is at.
const AGENT_ID: &str = "agent-id";

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
    /// The key that waits, and the address of the hub that was asked.
    pub pending: Option<(Key, String)>,
    /// By what applied works know this agent.
    pub agent_id: Option<String>,
    /// The hub that the certificate is for. It lets nobody ask for another certificate.
    pub hub: Option<Bootstrap>,
}

impl Stored {
    /// Whether the certificate is for this hub: same address, same authorities, same way.
    pub fn is_for(&self, hub: &Endpoint) -> bool {
        self.hub
            .as_ref()
            .is_some_and(|known| known.endpoint.is_same(hub))
    }
}

/// What is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Who the agent is.
    pub me: &'a Agent,
    /// See [`Stored::agent_id`].
    pub agent_id: &'a str,
    /// Key and certificate, and the hub that they are for.
    pub identity: Option<(&'a Identity, &'a Bootstrap)>,
    /// The key that waits, and the address of the hub that was asked.
    pub pending: Option<(&'a Key, &'a str)>,
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

    /// Where the agent keeps what is its own.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The cluster.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What is there. What cannot be read counts as not there, with a line in the log.
    pub async fn load(&self) -> Result<Stored, kube::Error> {
        let secret = Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .get_opt(SECRET)
            .await?;
        let mut data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let hub = data
            .contains_key(CERTIFICATE)
            .then(|| Bootstrap::from_secret(&data));
        let hub = hub.and_then(|hub| {
            hub.inspect_err(
                |error| tracing::warn!(%error, "the hub of the stored certificate is not known"),
            )
            .ok()
        });
        let mut take = |key: &str| {
            data.remove(key)
                .map(|bytes| bytes.0)
                .filter(|bytes| !bytes.is_empty())
        };
        let mut text = |key| take(key).and_then(|bytes| String::from_utf8(bytes).ok());
        let (agent, cluster, agent_id) = (text(AGENT), text(CLUSTER), text(AGENT_ID));
        let pending_hub = text(PENDING_HUB).unwrap_or_default();
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
        Ok(Stored {
            agent,
            cluster,
            identity,
            pending: pending.map(|key| (key, pending_hub)),
            agent_id,
            hub: hub.map(Bootstrap::without_asking),
        })
    }

    /// Replaces everything that is ours.
    ///
    /// # Guarantees
    /// When it returns, a restart finds what was given.
    pub async fn save(&self, kept: &Kept<'_>) -> Result<(), kube::Error> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut data = BTreeMap::from([
            (CLUSTER.to_owned(), bytes(&kept.me.cluster)),
            (AGENT.to_owned(), bytes(&kept.me.agent)),
            (AGENT_ID.to_owned(), bytes(kept.agent_id)),
        ]);
        if let Some((identity, hub)) = kept.identity {
            data.insert(KEY.to_owned(), ByteString(identity.key.pem().to_vec()));
            data.insert(
                CERTIFICATE.to_owned(),
                ByteString(identity.certificate.clone()),
            );
            data.extend(hub.written());
        }
        if let Some((pending, hub)) = kept.pending {
            data.insert(PENDING.to_owned(), ByteString(pending.pem().to_vec()));
            data.insert(PENDING_HUB.to_owned(), bytes(hub));
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
