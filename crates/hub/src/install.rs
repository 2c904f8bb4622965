//! What a hub needs in its Kubernetes API before anything else: definitions and roles.

use std::time::Duration;

use drover_core::registration::roles;
use drover_runtime::clock::Clock;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::{conditions, wait};
use kube::{Api, Client, ResourceExt};

use crate::HubError;
use crate::clusters::{FIELD_MANAGER, apply_all};

/// How long a definition may take until it is served.
const PATIENCE: Duration = Duration::from_secs(30);

/// Applies the definitions and waits until they are served; `definitions` come from
/// [`drover_api::crds`]. Those that another product installed with the same names are left as they
/// are: they mean the same.
pub async fn definitions(
    client: &Client,
    definitions: &[CustomResourceDefinition],
) -> Result<(), HubError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    for definition in definitions {
        let name = definition.name_any();
        let foreign = api
            .get_opt(&name)
            .await
            .map_err(|error| HubError::read("definition", &name, error))?;
        if foreign.is_some_and(|found| !ours(&found)) {
            tracing::info!(
                definition = name,
                "a definition of another product is used as it is"
            );
            continue;
        }
        api.patch(&name, &params, &Patch::Apply(definition))
            .await
            .map_err(|error| HubError::write("definition", name, error))?;
    }
    for definition in definitions {
        let name = definition.name_any();
        let served = wait::await_condition(api.clone(), &name, conditions::is_crd_established());
        match tokio::time::timeout(PATIENCE, served).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return Err(HubError::Internal(format!(
                    "failed to wait for definition {name}: {error}"
                )));
            }
            Err(_) => {
                return Err(HubError::Internal(format!(
                    "definition {name} is not served after {PATIENCE:?}"
                )));
            }
        }
    }
    Ok(())
}

fn ours(definition: &CustomResourceDefinition) -> bool {
    definition
        .managed_fields()
        .iter()
        .any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

/// Applies the roles that every hub has.
pub async fn hub_roles(client: &Client) -> Result<(), HubError> {
    apply_all(client, &roles::of_the_hub()).await
}

/// A bootstrap token: whoever holds it may ask to join.
#[derive(Clone, Debug)]
pub struct BootstrapToken {
    /// Six characters, public.
    pub id: String,
    /// Sixteen characters.
    pub secret: String,
}

impl BootstrapToken {
    /// The token as it is sent.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Stores a bootstrap token as `kubeadm` does (Kubernetes documentation: bootstrap tokens), valid for `life`.
pub async fn bootstrap_token(
    client: &Client,
    token: &BootstrapToken,
    life: Duration,
    clock: &Clock,
) -> Result<(), HubError> {
    let until = clock
        .now()
        .saturating_add(life)
        .unwrap_or(jiff::Timestamp::MAX);
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{}", token.id), "namespace": "kube-system"},
        "stringData": {
            "token-id": token.id, "token-secret": token.secret, "usage-bootstrap-authentication": "true",
            "auth-extra-groups": roles::BOOTSTRAP_GROUP, "expiration": drover_api::Time(until),
            "description": "lets agents ask to join this hub",
        },
    });
    apply_all(client, &[secret]).await
}
