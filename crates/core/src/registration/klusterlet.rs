//! How an agent is configured from afar: what a hub writes into the Klusterlet of a cluster from KlusterletConfigs, and what
//! the agent reads out of it (stolostron: managedcluster-import-controller; ocm: klusterlet operator).

use std::collections::BTreeMap;
use std::time::Duration;

use drover_api::config::v1alpha1::{
    BootstrapStrategy, HubServerConfig, INFINITE, KlusterletConfig, KlusterletConfigSpec,
    VerificationStrategy,
};
use drover_api::names::AGENT_ANNOTATION_PREFIX;
use drover_api::operator::v1::{
    BootstrapKubeConfigs, KlusterletSpec, LocalSecrets, RegistrationConfiguration, SecretName,
    WorkAgentConfiguration,
};
use serde_json::{Value, json};

/// The type of a list of hubs that is a list of secrets.
pub const LOCAL_SECRETS: &str = "LocalSecrets";
/// The secret that lets an agent join the hub that rendered its configuration, as one of several.
pub const CURRENT_HUB_SECRET: &str = "bootstrap-hub-kubeconfig-current-hub";
/// The secret that lets an agent join its only hub (ocm: operator helpers `BootstrapHubKubeConfig`).
pub const BOOTSTRAP_SECRET: &str = "bootstrap-hub-kubeconfig";
/// The gate of several hubs (api: feature `MultipleHubs`).
const MULTIPLE_HUBS: &str = "MultipleHubs";
/// No grace is longer: upstream knows no never (stolostron: a hundred years and more is never).
const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

/// The configuration of a cluster: that of its own name, and what the global one says where that is silent.
pub fn merge(
    global: Option<&KlusterletConfig>,
    own: Option<&KlusterletConfig>,
) -> KlusterletConfigSpec {
    let spec = |config: Option<&KlusterletConfig>| config.map(|config| config.spec.clone());
    let (Some(global), Some(own)) = (spec(global), spec(own)) else {
        return spec(own).or(spec(global)).unwrap_or_default();
    };
    let list = |own: Vec<_>, global| if own.is_empty() { global } else { own };
    let text = |own: String, global| if own.is_empty() { global } else { own };
    KlusterletConfigSpec {
        registries: if own.registries.is_empty() {
            global.registries
        } else {
            own.registries
        },
        pull_secret: own.pull_secret.or(global.pull_secret),
        node_placement: own.node_placement.or(global.node_placement),
        hub_server: own.hub_server.or(global.hub_server),
        hub_proxy: own.hub_proxy.or(global.hub_proxy),
        hub_url: text(own.hub_url, global.hub_url),
        hub_ca_bundle: text(own.hub_ca_bundle, global.hub_ca_bundle),
        applied_manifest_work_eviction_grace_period: text(
            own.applied_manifest_work_eviction_grace_period,
            global.applied_manifest_work_eviction_grace_period,
        ),
        install_mode: own.install_mode.or(global.install_mode),
        multiple_hubs_config: own.multiple_hubs_config.or(global.multiple_hubs_config),
        feature_gates: list(own.feature_gates, global.feature_gates),
        cluster_claim_configuration: own
            .cluster_claim_configuration
            .or(global.cluster_claim_configuration),
        work_status_sync_interval: own
            .work_status_sync_interval
            .or(global.work_status_sync_interval),
    }
}

/// The hub that renders a configuration, as it is reached when the configuration does not say.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    /// Address of its API.
    pub url: String,
    /// Its authorities, base64 of PEM.
    pub ca_data: String,
    /// The token that lets agents ask to join.
    pub token: String,
    /// The authorities that the configuration may name, base64 of PEM, by `namespace/name` of their ConfigMaps.
    pub bundles: BTreeMap<String, String>,
}

/// What a cluster gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Of its Klusterlet.
    pub klusterlet: KlusterletSpec,
    /// Name of the secret that lets it join the hub that rendered this, in the agent's namespace.
    pub secret: &'static str,
    /// The kubeconfig in that secret.
    pub kubeconfig: Value,
}

/// Why a configuration cannot be rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RenderError {
    /// Authorities that do not exist.
    #[error(
        "the configuration names the authorities in ConfigMap {0}, which the hub does not have"
    )]
    NoBundle(String),
    /// Custom authorities without any.
    #[error("the configuration wants custom authorities, but names none under trustedCABundles")]
    NoBundles,
    /// A duration that is none.
    #[error("{0:?} is no duration: numbers with s, m or h are, such as 1h30m, or INFINITE")]
    BadDuration(String),
}

/// Renders the configuration of the agents of `cluster`.
///
/// # Errors
/// When it refers to what is not there.
pub fn render(
    cluster: &str,
    config: &KlusterletConfigSpec,
    hub: &Hub,
) -> Result<Rendered, RenderError> {
    let multiple = config.multiple_hubs_config.as_ref();
    let includes = multiple
        .and_then(|multiple| multiple.strategy)
        .is_some_and(|strategy| strategy == BootstrapStrategy::IncludeCurrentHub);
    let listed = multiple.and_then(|multiple| multiple.bootstrap_kube_configs.clone());
    let bootstrap = listed.map(|mut listed| {
        if includes {
            let current = SecretName {
                name: CURRENT_HUB_SECRET.to_owned(),
            };
            let secrets = &mut listed
                .local_secrets
                .get_or_insert_default()
                .kube_config_secrets;
            secrets.retain(|secret| *secret != current);
            secrets.insert(0, current);
        }
        listed
    });
    let mut gates = config.feature_gates.clone();
    if bootstrap.as_ref().is_some_and(has_secrets)
        && !gates.iter().any(|gate| gate.feature == MULTIPLE_HUBS)
    {
        gates.push(drover_api::operator::v1::FeatureGate {
            feature: MULTIPLE_HUBS.to_owned(),
            mode: "Enable".to_owned(),
        });
    }
    let grace = Some(config.applied_manifest_work_eviction_grace_period.as_str());
    let grace = grace.filter(|text| !text.is_empty()).map(grace_text);
    let secret = if includes && bootstrap.is_some() {
        CURRENT_HUB_SECRET
    } else {
        BOOTSTRAP_SECRET
    };
    Ok(Rendered {
        klusterlet: KlusterletSpec {
            cluster_name: cluster.to_owned(),
            external_server_urls: Vec::new(),
            registration_configuration: Some(RegistrationConfiguration {
                feature_gates: gates,
                bootstrap_kube_configs: bootstrap,
                cluster_claim_configuration: config.cluster_claim_configuration.clone(),
                ..RegistrationConfiguration::default()
            }),
            work_configuration: Some(WorkAgentConfiguration {
                applied_manifest_work_eviction_grace_period: grace.transpose()?,
                status_sync_interval: config.work_status_sync_interval.clone(),
                ..WorkAgentConfiguration::default()
            }),
        },
        secret,
        kubeconfig: kubeconfig(config, hub)?,
    })
}

fn has_secrets(listed: &BootstrapKubeConfigs) -> bool {
    listed.type_ == LOCAL_SECRETS && listed.local_secrets.is_some()
}

/// A Klusterlet has no word for never.
fn grace_text(text: &str) -> Result<String, RenderError> {
    if text == INFINITE {
        return Ok(format!("{}h", CENTURY.as_secs() / 3600));
    }
    duration(text).map(|_| text.to_owned())
}

/// The kubeconfig that lets an agent join. The newer fields win over the deprecated ones.
fn kubeconfig(config: &KlusterletConfigSpec, hub: &Hub) -> Result<Value, RenderError> {
    let server = config.hub_server.as_ref();
    let of = |own: Option<&String>, deprecated: &str, known: &str| {
        let own = own.filter(|text| !text.is_empty()).cloned();
        let deprecated = Some(deprecated).filter(|text| !text.is_empty());
        own.unwrap_or_else(|| deprecated.unwrap_or(known).to_owned())
    };
    let url = of(server.map(|server| &server.url), &config.hub_url, &hub.url);
    let proxies = config.hub_proxy.as_ref();
    let old_proxy = proxies.map_or("", |proxies| {
        if proxies.https.is_empty() {
            &proxies.http
        } else {
            &proxies.https
        }
    });
    let proxy = of(server.map(|server| &server.proxy_url), old_proxy, "");
    let mut cluster = json!({"server": url});
    if let Some(ca) = authorities(config, server, hub)? {
        cluster["certificate-authority-data"] = ca.into();
    }
    if !proxy.is_empty() {
        cluster["proxy-url"] = proxy.into();
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default-context",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-user", "user": {"token": hub.token}}],
        "contexts": [{"name": "default-context", "context": {
            "cluster": "default-cluster", "user": "default-user", "namespace": "default",
        }}],
    }))
}

fn authorities(
    config: &KlusterletConfigSpec,
    server: Option<&HubServerConfig>,
    hub: &Hub,
) -> Result<Option<String>, RenderError> {
    let bundle = |name: String| {
        let found = hub.bundles.get(&name).cloned();
        found.ok_or(RenderError::NoBundle(name))
    };
    let strategy = server.and_then(|server| server.server_verification_strategy);
    match (strategy, server) {
        (Some(VerificationStrategy::UseSystemTruststore), _) => Ok(None),
        (Some(VerificationStrategy::UseCustomCABundles), Some(server)) => {
            let mut all = String::new();
            for entry in &server.trusted_ca_bundles {
                let found = &entry.ca_bundle;
                all.push_str(&decode(&bundle(format!(
                    "{}/{}",
                    found.namespace, found.name
                ))?));
            }
            if all.is_empty() {
                return Err(RenderError::NoBundles);
            }
            Ok(Some(encode(&all)))
        }
        (Some(_) | None, _) if !config.hub_ca_bundle.is_empty() => {
            bundle(config.hub_ca_bundle.clone()).map(Some)
        }
        (Some(_) | None, _) => Ok(Some(hub.ca_data.clone()).filter(|ca| !ca.is_empty())),
    }
}

fn decode(data: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data);
    let mut text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// What a Klusterlet wants of the agent. Absent is what it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names of the secrets that let it join hubs, in order; empty when they are not listed.
    pub bootstrap_secrets: Vec<String>,
    /// How long a hub may be silent.
    pub hub_timeout: Option<Duration>,
    /// How long objects stay after their work vanished.
    pub eviction_grace: Option<Grace>,
    /// How often works are looked at.
    pub status_sync_interval: Option<Duration>,
    /// How many claims are reported beside the reserved ones.
    pub max_custom_claims: Option<usize>,
    /// Ends of names of claims that are reserved as well.
    pub reserved_claim_suffixes: Vec<String>,
    /// Seconds that a certificate shall be good for.
    pub certificate_seconds: Option<i32>,
    /// Labels of the cluster on its hub.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the cluster on its hub.
    pub annotations: BTreeMap<String, String>,
}

impl Settings {
    /// Whether an agent must begin anew to follow these: which hubs it joins is looked at all the time.
    pub fn differs(&self, other: &Self) -> bool {
        let without_hubs = |settings: &Self| Self {
            bootstrap_secrets: Vec::new(),
            hub_timeout: None,
            ..settings.clone()
        };
        without_hubs(self) != without_hubs(other)
    }
}

/// How long objects stay after their work vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// So long.
    For(Duration),
    /// For ever.
    Forever,
}

/// Reads what a Klusterlet wants of its agent.
///
/// # Errors
/// When a duration is none.
pub fn settings(spec: &KlusterletSpec) -> Result<Settings, RenderError> {
    let registration = spec.registration_configuration.clone().unwrap_or_default();
    let work = spec.work_configuration.clone().unwrap_or_default();
    let listed = registration.bootstrap_kube_configs.filter(has_secrets);
    let LocalSecrets {
        kube_config_secrets,
        hub_connection_timeout_seconds: timeout,
    } = listed
        .and_then(|listed| listed.local_secrets)
        .unwrap_or_default();
    let seconds = |seconds: i32| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let claims = registration.cluster_claim_configuration.unwrap_or_default();
    let custom = claims.max_custom_cluster_claims;
    let grace = work.applied_manifest_work_eviction_grace_period;
    let interval = work.status_sync_interval;
    let mut annotations = registration.cluster_annotations;
    annotations.retain(|key, _| key.starts_with(AGENT_ANNOTATION_PREFIX));
    Ok(Settings {
        bootstrap_secrets: kube_config_secrets
            .into_iter()
            .map(|one| one.name)
            .collect(),
        hub_timeout: timeout.map(seconds),
        eviction_grace: grace.as_deref().map(eviction_grace).transpose()?,
        status_sync_interval: interval.as_deref().map(duration).transpose()?,
        max_custom_claims: custom.map(|custom| usize::try_from(custom).unwrap_or_default()),
        reserved_claim_suffixes: claims.reserved_cluster_claim_suffixes,
        certificate_seconds: registration.client_cert_expiration_seconds,
        labels: registration.cluster_labels,
        annotations,
    })
}

/// Reads a grace period: `INFINITE`, and what is a hundred years or more, never ends.
///
/// # Errors
/// When it is no duration.
pub fn eviction_grace(text: &str) -> Result<Grace, RenderError> {
    if text == INFINITE {
        return Ok(Grace::Forever);
    }
    let grace = duration(text)?;
    Ok(if grace >= CENTURY {
        Grace::Forever
    } else {
        Grace::For(grace)
    })
}

/// A Go duration of hours, minutes and seconds.
fn duration(text: &str) -> Result<Duration, RenderError> {
    let bad = || RenderError::BadDuration(text.to_owned());
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit = rest[digits..].chars().next().ok_or_else(bad)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(bad()),
        };
        let part = number.checked_mul(seconds).ok_or_else(bad)?;
        total = total
            .checked_add(Duration::from_secs(part))
            .ok_or_else(bad)?;
        rest = &rest[digits + 1..];
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests;
