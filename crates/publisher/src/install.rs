//! What a publisher needs in the cluster whose messages it sends: the definition, the rule about changes, and its rights.

use std::time::Duration;

use drover_api::crds;
use drover_core::publish::admission;
use k8s_openapi::api::rbac::v1::PolicyRule;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};

use crate::PublisherError;
use crate::stored::Stored;

/// Under this name the API knows what a publisher applied.
pub const FIELD_MANAGER: &str = "drover-publisher";
/// A new definition is served after this time at the latest.
const SERVED: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(25);

/// The rights of a publisher in the whole cluster, whose pods send or who sends itself. Those with which it could come to secrets are
/// in [`namespace_rules`].
pub fn rules(pods: bool) -> Vec<PolicyRule> {
    let group = "apps.fedoraproject.org";
    let mut rules = vec![
        rule(
            group,
            &["fedoramessages"],
            &["get", "list", "watch", "patch", "delete"],
        ),
        rule(group, &["fedoramessages/status"], &["update"]),
        // Owners of pods and ConfigMaps whose deletion waits for these.
        rule(group, &["fedoramessages/finalizers"], &["update"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ];
    if pods {
        rules.push(rule("", &["pods"], &["get", "list", "watch"]));
    }
    rules
}

/// The right to read secrets, and to make pods, which could mount each of them. Bind it in the namespaces whose messages are sent, and
/// nowhere else.
pub fn namespace_rules(pods: bool) -> Vec<PolicyRule> {
    let mut rules = vec![rule("", &["secrets"], &["get"])];
    if pods {
        rules.push(rule("", &["pods"], &["create", "delete"]));
        rules.push(rule("", &["configmaps"], &["get", "create", "delete"]));
    }
    rules
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|&name| name.to_owned()).collect()),
        verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// The definition of FedoraMessage.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    crds::publisher()
}

/// The rule about changes for API servers that are not Drover's own, and its binding: a ValidatingAdmissionPolicy.
pub fn policies() -> Vec<DynamicObject> {
    let objects = admission::policies().into_iter();
    let read = objects.map(|object| {
        serde_json::from_value(object).expect("the policies are constants, which a test reads")
    });
    read.collect()
}

/// Applies the definition and, where the API knows its kind, the rule about changes; waits until messages are served.
///
/// # Errors
/// When the API refuses, or does not serve them in time.
pub async fn install(client: &Client) -> Result<(), PublisherError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for definition in definitions() {
        let name = definition.name_any();
        let applied = api.patch(&name, &params, &Patch::Apply(&definition)).await;
        applied.map_err(|source| written("definition", &name, source))?;
    }
    for policy in policies() {
        let name = policy.name_any();
        let types = policy.types.clone().unwrap_or_default();
        let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", &types.kind);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        match api.patch(&name, &params, &Patch::Apply(&policy)).await {
            Ok(_) => {}
            // An API without such rules, as the embedded one, which has this rule built in.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => return Err(written("policy", &name, source)),
        }
    }
    served(client).await
}

/// Waits until messages are served.
///
/// # Errors
/// When they are not, in time.
pub async fn served(client: &Client) -> Result<(), PublisherError> {
    let messages: Api<Stored> = Api::all(client.clone());
    let served = async {
        while let Err(error) = messages.list(&ListParams::default().limit(1)).await {
            tracing::debug!(%error, "messages are not served yet");
            tokio::time::sleep(LOOK).await;
        }
    };
    let late = |_| {
        PublisherError::Failed(format!(
            "messages are not served within {SERVED:?}: apply the definition of FedoraMessage"
        ))
    };
    tokio::time::timeout(SERVED, served).await.map_err(late)
}

fn written(kind: &'static str, name: &str, source: kube::Error) -> PublisherError {
    PublisherError::Write {
        kind,
        name: name.to_owned(),
        source: Box::new(source),
    }
}
