//! How an API server is told to ask: ValidatingWebhookConfiguration and MutatingWebhookConfiguration.
//!
//! Names of webhooks and paths are upstream's (ocm: manifests/cluster-manager/hub), as users meet them in
//! refusals; the two objects have names of their own, so that both products may be there in turn.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drover_api::names;
use serde_json::{Value, json};

use super::{Policy, Rule};

/// The name of both configurations.
pub const NAME: &str = "drover-hub";
/// How long the API server waits for an answer, in seconds.
pub const TIMEOUT_SECONDS: u8 = 10;

/// Where the API server finds the webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Behind a Service of its cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
    },
    /// At a URL without a path.
    Url(String),
}

impl Rule {
    /// The name of its webhook.
    pub fn webhook(self) -> &'static str {
        match self {
            Self::FillCluster => {
                "managedclustermutators.admission.cluster.open-cluster-management.io"
            }
            Self::Cluster => {
                "managedclustervalidators.admission.cluster.open-cluster-management.io"
            }
            Self::Binding => {
                "managedclustersetbindingvalidators.admission.cluster.open-cluster-management.io"
            }
            Self::Work => "manifestworkvalidators.admission.work.open-cluster-management.io",
            Self::ReplicaSet => {
                "manifestworkreplicasetvalidators.admission.work.open-cluster-management.io"
            }
        }
    }

    /// Where it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Self::FillCluster => "/mutate-cluster-open-cluster-management-io-v1-managedcluster",
            Self::Cluster => "/validate-cluster-open-cluster-management-io-v1-managedcluster",
            Self::Binding => {
                "/validate-cluster-open-cluster-management-io-v1beta2-managedclustersetbinding"
            }
            Self::Work => "/validate-work-open-cluster-management-io-v1-manifestwork",
            Self::ReplicaSet => {
                "/validate-work-open-cluster-management-io-v1alpha1-manifestworkreplicaset"
            }
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::FillCluster | Self::Cluster | Self::Work => "v1",
            Self::Binding => "v1beta2",
            Self::ReplicaSet => "v1alpha1",
        }
    }

    /// In CEL what [`Rule::concerns`] says.
    fn condition(self, policy: &Policy) -> String {
        let label = names::CLUSTER_SET_LABEL;
        let set = |object: &str| {
            format!(
                "(has({object}.metadata.labels) && '{label}' in {object}.metadata.labels ? \
                 {object}.metadata.labels['{label}'] : '')"
            )
        };
        let changed = "request.operation == 'CREATE' || !has(object.spec) || !has(oldObject.spec) || \
                       object.spec != oldObject.spec";
        match self {
            Self::FillCluster if policy.default_cluster_set => {
                format!("{changed} || {} == ''", set("object"))
            }
            Self::Cluster => format!("{changed} || {} != {}", set("object"), set("oldObject")),
            Self::FillCluster | Self::Binding | Self::Work | Self::ReplicaSet => changed.to_owned(),
        }
    }

    fn configuration(self, target: &Target, bundle: &str, policy: &Policy) -> Value {
        let (group, plural) = self.resource();
        let mut client = match target {
            Target::Service {
                namespace,
                name,
                port,
            } => json!({"service": {
                "namespace": namespace, "name": name, "port": port, "path": self.path(),
            }}),
            Target::Url(url) => json!({"url": format!("{url}{}", self.path())}),
        };
        client["caBundle"] = STANDARD.encode(bundle).into();
        let mut webhook = json!({
            "name": self.webhook(),
            "clientConfig": client,
            "rules": [{
                "operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": [self.version()],
                "resources": [plural], "scope": "*",
            }],
            "matchConditions": [{"name": "changes-what-is-judged", "expression": self.condition(policy)}],
            "matchPolicy": "Equivalent",
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": TIMEOUT_SECONDS,
            "admissionReviewVersions": ["v1"],
        });
        if self == Self::FillCluster {
            webhook["reinvocationPolicy"] = "Never".into();
        }
        webhook
    }
}

/// The configurations, mutating and validating. They go with their owner, a reference to it, so that a hub
/// that is taken away leaves no API behind that asks nobody.
pub fn configurations(
    target: &Target,
    bundle: &str,
    policy: &Policy,
    owner: Option<&Value>,
) -> [Value; 2] {
    let object = |kind: &str, fills: bool| {
        let rules = Rule::ALL.into_iter();
        let webhooks: Vec<Value> = rules
            .filter(|rule| (*rule == Rule::FillCluster) == fills)
            .map(|rule| rule.configuration(target, bundle, policy))
            .collect();
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": NAME, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
            "webhooks": webhooks,
        })
    };
    [
        object("MutatingWebhookConfiguration", true),
        object("ValidatingWebhookConfiguration", false),
    ]
}

/// What every webhook of a configuration trusts: the texts of its bundles.
pub fn bundles(configuration: &Value) -> Vec<String> {
    let webhooks = configuration["webhooks"].as_array();
    let bundle = |webhook: &Value| {
        let text = webhook["clientConfig"]["caBundle"].as_str()?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let all = webhooks.into_iter().flatten();
    all.map(|webhook| bundle(webhook).unwrap_or_default())
        .collect()
}

/// Whether an object has all that is wanted of it; what else it has does not count. Lists are compared
/// member by member.
pub fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| found.get(key).is_some_and(|found| has(found, wanted))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(one, other)| has(one, other))
        }
        _ => found == wanted,
    }
}
