//! Where a hub is, and what lets an agent ask to join it: its event service, or its Kubernetes API.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drover_transport::proxy::Rules;
use k8s_openapi::ByteString;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde_json::{Value, json};

use super::identity::{CERTIFICATE, Identity, KEY};
use super::link::Credentials;

/// Key of a bootstrap secret, and of an identity, for a hub's Kubernetes API.
pub const KUBECONFIG: &str = "kubeconfig";
/// Key of a bootstrap secret, and of an identity, for a hub's event service, in the format of the Go clients.
pub const CONFIG: &str = "config.yaml";
/// Ours: the name of a hub that stays when its address changes.
pub const HUB_IDENTITY: &str = "hub-identity";

/// Why an endpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct EndpointError {
    what: String,
    why: String,
}

fn bad(what: impl Into<String>, why: impl ToString) -> EndpointError {
    EndpointError {
        what: what.into(),
        why: why.to_string(),
    }
}

/// The event service of a hub and what lets an agent ask to join.
#[derive(Clone)]
pub struct HubEndpoint {
    /// The event service: `host:port`, with or without `https://`.
    pub url: String,
    /// The authorities of its certificate, PEM.
    pub ca_pem: Vec<u8>,
    /// The name in its certificate, if it is not the host.
    pub server_name: Option<String>,
    /// The bootstrap token; an agent that has a certificate needs none.
    pub bootstrap_token: Option<String>,
}

impl HubEndpoint {
    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.url
            .strip_prefix("https://")
            .unwrap_or(&self.url)
            .trim_end_matches('/')
    }
}

impl std::fmt::Debug for HubEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubEndpoint")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A hub's Kubernetes API, by a kubeconfig whose current context has what lets an agent ask to join.
#[derive(Clone)]
pub struct KubeEndpoint {
    kubeconfig: Kubeconfig,
    cluster: kube::config::Cluster,
    /// Whether the kubeconfig's user may ask to join.
    asks: bool,
}

impl std::fmt::Debug for KubeEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeEndpoint")
            .field("server", &self.server())
            .finish_non_exhaustive()
    }
}

impl KubeEndpoint {
    /// The hub of a kubeconfig file.
    ///
    /// # Errors
    /// When it cannot be read, or its current context names no server.
    pub fn read(path: &Path) -> Result<Self, EndpointError> {
        let what = || format!("kubeconfig {}", path.display());
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| bad(what(), error))?;
        Self::of(kubeconfig).map_err(|why| bad(what(), why))
    }

    /// The hub of a kubeconfig and the files that it refers to.
    fn parse(text: &str, files: &BTreeMap<String, ByteString>) -> Result<Self, EndpointError> {
        let what = "a bootstrap kubeconfig";
        let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| bad(what, error))?;
        let mut value = serde_json::to_value(kubeconfig).map_err(|error| bad(what, error))?;
        for cluster in value["clusters"].as_array_mut().into_iter().flatten() {
            inline(&mut cluster["cluster"], "certificate-authority", files);
        }
        for user in value["users"].as_array_mut().into_iter().flatten() {
            inline(&mut user["user"], "client-certificate", files);
            inline(&mut user["user"], "client-key", files);
            let token = user["user"]["tokenFile"]
                .as_str()
                .and_then(|file| files.get(file));
            if let Some(token) = token {
                let token = String::from_utf8_lossy(&token.0).trim().to_owned();
                user["user"]["token"] = token.into();
            }
        }
        let kubeconfig = serde_json::from_value(value).map_err(|error| bad(what, error))?;
        Self::of(kubeconfig).map_err(|why| bad(what, why))
    }

    fn of(kubeconfig: Kubeconfig) -> Result<Self, String> {
        let current = kubeconfig.current_context.as_deref().unwrap_or_default();
        let context = kubeconfig.contexts.iter().find(|one| one.name == current);
        let name = context
            .and_then(|one| one.context.as_ref())
            .map(|context| context.cluster.as_str())
            .ok_or_else(|| format!("it has no context {current:?}"))?;
        let cluster = kubeconfig.clusters.iter().find(|one| one.name == name);
        let mut cluster = cluster
            .and_then(|one| one.cluster.clone())
            .ok_or_else(|| format!("it has no cluster {name:?}"))?;
        if cluster.server.as_ref().is_none_or(String::is_empty) {
            return Err(format!("its cluster {name:?} has no server"));
        }
        // A hub is compared, and stored, with what is in the file, not with where the file is.
        if let Some(file) = cluster.certificate_authority.take() {
            let pem = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
            cluster.certificate_authority_data = Some(BASE64.encode(pem));
        }
        Ok(Self {
            kubeconfig,
            cluster,
            asks: true,
        })
    }

    /// The address of the API, as the kubeconfig has it.
    pub fn server(&self) -> &str {
        self.cluster.server.as_deref().unwrap_or_default()
    }

    /// Whether both lead to the same hub in the same way.
    fn is_same(&self, other: &Self) -> bool {
        let way = |one: &Self| {
            let cluster = &one.cluster;
            let authority = cluster.certificate_authority_data.clone();
            let bytes =
                authority.map(|text| BASE64.decode(&text).unwrap_or_else(|_| text.into_bytes()));
            (cluster.server.clone(), bytes, cluster.proxy_url.clone())
        };
        way(self) == way(other)
    }

    /// A client with what lets anybody ask to join.
    pub(crate) async fn bootstrap(&self) -> Result<Client, EndpointError> {
        client(self.kubeconfig.clone()).await
    }

    /// A client with the agent's own certificate.
    pub(crate) async fn own(&self, identity: &Identity) -> Result<Client, EndpointError> {
        let user = json!({
            "client-certificate-data": BASE64.encode(&identity.certificate),
            "client-key-data": BASE64.encode(identity.key.pem()),
        });
        let config = serde_json::from_value(self.with_user(&user));
        client(config.map_err(|error| bad("the agent's kubeconfig", error))?).await
    }

    /// The kubeconfig of the agent, beside whose file its key and certificate lie (ocm: pkg/registration/register).
    fn written(&self) -> Vec<u8> {
        let user = json!({"client-certificate": CERTIFICATE, "client-key": KEY});
        self.with_user(&user).to_string().into_bytes()
    }

    fn with_user(&self, user: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "default-context",
            "clusters": [{"name": "default-cluster", "cluster": self.cluster}],
            "users": [{"name": "default-auth", "user": user}],
            "contexts": [{"name": "default-context", "context": {
                "cluster": "default-cluster", "user": "default-auth", "namespace": "configuration",
            }}],
        })
    }
}

/// Puts what a file has where the file is named, if it is one of these.
fn inline(part: &mut Value, key: &str, files: &BTreeMap<String, ByteString>) {
    let Some(part) = part.as_object_mut() else {
        return;
    };
    let named = part.get(key).and_then(Value::as_str);
    if let Some(found) = named.and_then(|name| files.get(name)) {
        part.insert(format!("{key}-data"), BASE64.encode(&found.0).into());
        part.remove(key);
    }
}

/// The proxy on the way to a server, as client-go has it: that of the kubeconfig, whatever the environment says, or that of the
/// environment. (`kube` compares `NO_PROXY` with the proxy instead of the server.)
pub fn proxy(
    kubeconfig: &Kubeconfig,
    context: Option<&str>,
    server: &http::Uri,
) -> Option<http::Uri> {
    let context = context.or(kubeconfig.current_context.as_deref())?;
    let contexts = kubeconfig.contexts.iter();
    let cluster = contexts
        .filter(|one| one.name == context)
        .find_map(|one| one.context.as_ref().map(|context| &context.cluster));
    let mut clusters = kubeconfig.clusters.iter();
    let own = clusters
        .find(|one| Some(&one.name) == cluster)
        .and_then(|one| one.cluster.as_ref()?.proxy_url.as_deref())
        .filter(|own| !own.is_empty());
    match own {
        Some(own) => own.parse().ok(),
        None => Rules::from_env()
            .on_the_way(server)
            .map(|proxy| proxy.uri().clone()),
    }
}

async fn client(kubeconfig: Kubeconfig) -> Result<Client, EndpointError> {
    let what = "the kubeconfig of a hub";
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &options);
    let mut config = config.await.map_err(|error| bad(what, error))?;
    config.proxy_url = proxy(&kubeconfig, None, &config.cluster_url);
    Client::try_from(config).map_err(|error| bad(what, error))
}

/// A hub.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// By its event service.
    Events(HubEndpoint),
    /// By its Kubernetes API.
    Kube(Box<KubeEndpoint>),
}

impl From<HubEndpoint> for Endpoint {
    fn from(endpoint: HubEndpoint) -> Self {
        Self::Events(endpoint)
    }
}

impl From<KubeEndpoint> for Endpoint {
    fn from(endpoint: KubeEndpoint) -> Self {
        Self::Kube(Box::new(endpoint))
    }
}

impl Endpoint {
    /// Where it is: two endpoints with the same address are the same hub.
    pub fn address(&self) -> &str {
        match self {
            Self::Events(endpoint) => endpoint.address(),
            Self::Kube(endpoint) => endpoint.server(),
        }
    }

    /// What lets an agent ask to join.
    pub(crate) fn bootstrap(&self) -> Option<Credentials> {
        match self {
            Self::Events(hub) => hub.bootstrap_token.clone().map(Credentials::Bootstrap),
            Self::Kube(hub) => hub.asks.then(|| Credentials::Bootstrap(String::new())),
        }
    }

    /// Whether a certificate for one of them is good for the other: same hub, same authorities, same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Events(one), Self::Events(other)) => {
                one.address() == other.address() && one.ca_pem == other.ca_pem
            }
            (Self::Kube(one), Self::Kube(other)) => one.is_same(other),
            (Self::Events(_), Self::Kube(_)) | (Self::Kube(_), Self::Events(_)) => false,
        }
    }
}

/// A hub that an agent may join.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The hub.
    pub endpoint: Endpoint,
    /// Names the hub for good, whichever address it has: what was applied for it is found by it.
    pub identity: String,
}

impl Bootstrap {
    /// A hub whose name is its address, as OCM has it.
    pub fn at(endpoint: impl Into<Endpoint>) -> Self {
        let endpoint = endpoint.into();
        Self {
            identity: endpoint.address().to_owned(),
            endpoint,
        }
    }

    /// Reads a secret that lets an agent join a hub, or that holds its identity: `kubeconfig` or `config.yaml`, and the files
    /// that they name.
    ///
    /// # Errors
    /// When neither is there, or it cannot be read.
    pub fn from_secret(data: &BTreeMap<String, ByteString>) -> Result<Self, EndpointError> {
        let text = |key: &str| {
            data.get(key)
                .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
        };
        let endpoint: Endpoint = if let Some(kubeconfig) = text(KUBECONFIG) {
            KubeEndpoint::parse(&kubeconfig, data)?.into()
        } else if let Some(config) = text(CONFIG) {
            events(&config, data)?.into()
        } else {
            return Err(bad(
                "a bootstrap secret",
                "it has neither kubeconfig nor config.yaml",
            ));
        };
        let mut bootstrap = Self::at(endpoint);
        if let Some(identity) = text(HUB_IDENTITY) {
            identity.trim().clone_into(&mut bootstrap.identity);
        }
        Ok(bootstrap)
    }

    /// The same hub for who has a certificate: nobody may ask for another with it.
    pub(crate) fn without_asking(mut self) -> Self {
        match &mut self.endpoint {
            Endpoint::Events(hub) => hub.bootstrap_token = None,
            Endpoint::Kube(hub) => hub.asks = false,
        }
        self
    }

    /// What is stored beside a certificate, so that the hub is found again.
    pub(crate) fn written(&self) -> BTreeMap<String, ByteString> {
        let (key, bytes) = match &self.endpoint {
            Endpoint::Events(endpoint) => (CONFIG, written_events(endpoint)),
            Endpoint::Kube(endpoint) => (KUBECONFIG, endpoint.written()),
        };
        let identity = ByteString(self.identity.clone().into_bytes());
        BTreeMap::from([
            (key.to_owned(), ByteString(bytes)),
            (HUB_IDENTITY.to_owned(), identity),
        ])
    }
}

/// As much of the Go clients' configuration file as an agent needs (sdk-go: pkg/cloudevents/generic/options/grpc).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventsFile {
    url: String,
    ca_data: Option<String>,
    ca_file: Option<String>,
    token: Option<String>,
    token_file: Option<String>,
    /// Ours.
    server_name: Option<String>,
}

fn events(text: &str, files: &BTreeMap<String, ByteString>) -> Result<HubEndpoint, EndpointError> {
    let what = "config.yaml";
    let file: EventsFile = serde_saphyr::from_str(text).map_err(|error| bad(what, error))?;
    let named = |name: &str| {
        let base = name.rsplit('/').next().unwrap_or(name);
        files
            .get(base)
            .map(|bytes| bytes.0.clone())
            .ok_or_else(|| bad(what, format!("the secret has no file {base}")))
    };
    let ca_pem = match (file.ca_data, file.ca_file) {
        (Some(data), _) => BASE64
            .decode(data.trim())
            .map_err(|error| bad("caData", error))?,
        (None, Some(name)) => named(&name)?,
        (None, None) => Vec::new(),
    };
    let token = match (file.token, file.token_file) {
        (Some(token), _) => Some(token),
        (None, Some(name)) => Some(String::from_utf8_lossy(&named(&name)?).into_owned()),
        (None, None) => None,
    };
    Ok(HubEndpoint {
        url: file.url,
        ca_pem,
        server_name: file.server_name,
        bootstrap_token: token.map(|token| token.trim().to_owned()),
    })
}

fn written_events(hub: &HubEndpoint) -> Vec<u8> {
    let mut config = json!({
        "url": hub.address(), "caData": ByteString(hub.ca_pem.clone()),
        "clientCertFile": CERTIFICATE, "clientKeyFile": KEY,
    });
    if let Some(name) = &hub.server_name {
        config["serverName"] = name.as_str().into();
    }
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(files: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let files = files.iter();
        files
            .map(|(name, text)| ((*name).to_owned(), bytes(text)))
            .collect()
    }

    const KUBE: &str = "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters:\n- name: c\n  cluster:\n    server: https://hub:6443\n    certificate-authority: ca.crt\nusers:\n- name: u\n  user:\n    tokenFile: token\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n";

    #[test]
    fn a_bootstrap_kubeconfig_is_read_with_its_files() {
        let data = secret(&[("kubeconfig", KUBE), ("ca.crt", "CA"), ("token", "t\n")]);
        let hub = Bootstrap::from_secret(&data).expect("it is complete");
        assert_eq!(
            (hub.endpoint.address(), hub.identity.as_str()),
            ("https://hub:6443", "https://hub:6443")
        );
        let Endpoint::Kube(kube) = &hub.endpoint else {
            panic!("it is a kubeconfig")
        };
        assert_eq!(
            kube.cluster.certificate_authority_data.as_deref(),
            Some("Q0E=")
        );
        assert_eq!(
            format!("{:?}", hub.endpoint),
            "Kube(KubeEndpoint { server: \"https://hub:6443\", .. })"
        );
    }

    #[test]
    fn what_is_written_beside_a_certificate_leads_to_the_same_hub() {
        let events = "url: https://hub:8443/\ncaData: Q0E=\ntoken: t\n";
        for file in [("kubeconfig", KUBE), ("config.yaml", events)] {
            let data = secret(&[
                file,
                ("ca.crt", "CA"),
                ("token", "t"),
                ("hub-identity", "hub1\n"),
            ]);
            let hub = Bootstrap::from_secret(&data).expect("it is complete");
            let mut written = hub.written();
            written.extend(secret(&[("tls.crt", "C"), ("tls.key", "K")]));
            let again = Bootstrap::from_secret(&written).expect("it was written here");
            assert!(hub.endpoint.is_same(&again.endpoint), "{file:?}");
            assert_eq!(again.identity, "hub1");
            let other = secret(&[file, ("ca.crt", "other"), ("token", "t")]);
            let other = Bootstrap::from_secret(&other).expect("it is complete");
            assert_eq!(
                hub.endpoint.is_same(&other.endpoint),
                file.0 == "config.yaml"
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let check = |files: &[(&str, &str)], expected: &str| {
            let error = Bootstrap::from_secret(&secret(files)).expect_err("it is of no use");
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(&[], "neither kubeconfig nor config.yaml");
        check(
            &[("config.yaml", "url: h:1\ncaFile: ca.crt")],
            "no file ca.crt",
        );
        check(
            &[("kubeconfig", "apiVersion: v1\ncurrent-context: x\n")],
            "no context \"x\"",
        );
        check(&[("config.yaml", "caData: '!'\nurl: h:1")], "caData");
    }
}
