//! The CustomResourceDefinitions of a hub and of a managed cluster, rendered from the types.

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
        CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
        CustomResourceSubresourceStatus, CustomResourceSubresources, CustomResourceValidation,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde_json::{Value, json};

use crate::{
    addon::v1alpha1::ManagedClusterAddOn,
    cluster::{
        v1::ManagedCluster,
        v1alpha1::{AddOnPlacementScore, ClusterClaim},
        v1beta1::{Placement, PlacementDecision},
        v1beta2::{ManagedClusterSet, ManagedClusterSetBinding},
    },
    config::v1alpha1::KlusterletConfig,
    fedora::v1alpha1::FedoraMessage,
    names,
    object::Shape,
    schema::object_schema,
    work::{
        v1::{AppliedManifestWork, ManifestWork},
        v1alpha1::ManifestWorkReplicaSet,
    },
};

/// The category that lists every kind of a fleet: `kubectl get fleet`.
pub const CATEGORY: &str = "fleet";

/// What a hub serves.
pub fn hub() -> Vec<CustomResourceDefinition> {
    vec![
        managed_cluster(),
        managed_cluster_set(),
        managed_cluster_set_binding(),
        placement(),
        placement_decision(),
        add_on_placement_score(),
        manifest_work(),
        manifest_work_replica_set(),
        managed_cluster_add_on(),
    ]
}

/// What a managed cluster serves.
pub fn managed() -> Vec<CustomResourceDefinition> {
    vec![applied_manifest_work(), cluster_claim()]
}

/// What the publisher of Fedora messages serves.
pub fn publisher() -> Vec<CustomResourceDefinition> {
    vec![fedora_message()]
}

/// What a hub serves for who imports clusters. It is no part of OCM: the product that brings it has the same.
pub fn import() -> Vec<CustomResourceDefinition> {
    let look = Look {
        short_names: &[],
        columns: vec![age()],
        status: false,
    };
    vec![look.render::<KlusterletConfig>(Scope::Cluster, &[])]
}

/// Everything, each definition once.
pub fn crds() -> Vec<CustomResourceDefinition> {
    hub()
        .into_iter()
        .chain(managed())
        .chain(import())
        .chain(publisher())
        .collect()
}

fn managed_cluster() -> CustomResourceDefinition {
    Look {
        short_names: &["mcl", "mcls"],
        columns: vec![
            column("Hub Accepted", "boolean", ".spec.hubAcceptsClient"),
            column(
                "Managed Cluster URLs",
                "string",
                ".spec.managedClusterClientConfigs[*].url",
            ),
            condition_column("Joined", names::cluster::JOINED),
            condition_column("Available", names::cluster::AVAILABLE),
            age(),
        ],
        status: true,
    }
    .render::<ManagedCluster>(Scope::Cluster, &[])
}

fn managed_cluster_set() -> CustomResourceDefinition {
    let spec_default = (
        "/properties/spec/default",
        json!({ "clusterSelector": { "selectorType": "ExclusiveClusterSetLabel" } }),
    );
    Look {
        short_names: &["mclset", "mclsets"],
        columns: vec![condition_column("Empty", names::cluster_set::EMPTY), age()],
        status: true,
    }
    .render::<ManagedClusterSet>(Scope::Cluster, &[spec_default])
}

fn managed_cluster_set_binding() -> CustomResourceDefinition {
    Look {
        short_names: &["mclsetbinding", "mclsetbindings"],
        columns: vec![condition_column("Bound", names::cluster_set::BOUND), age()],
        status: true,
    }
    .render::<ManagedClusterSetBinding>(Scope::Namespaced, &[])
}

fn placement() -> CustomResourceDefinition {
    let reason = format!(
        r#".status.conditions[?(@.type=="{}")].reason"#,
        names::placement::SATISFIED
    );
    Look {
        short_names: &[],
        columns: vec![
            condition_column("Succeeded", names::placement::SATISFIED),
            column("Reason", "string", &reason),
            column(
                "SelectedClusters",
                "integer",
                ".status.numberOfSelectedClusters",
            ),
        ],
        status: true,
    }
    .render::<Placement>(Scope::Namespaced, &[])
}

fn placement_decision() -> CustomResourceDefinition {
    Look {
        short_names: &[],
        columns: vec![age()],
        status: true,
    }
    .render::<PlacementDecision>(Scope::Namespaced, &[])
}

fn add_on_placement_score() -> CustomResourceDefinition {
    Look {
        short_names: &[],
        columns: vec![age()],
        status: true,
    }
    .render::<AddOnPlacementScore>(Scope::Namespaced, &[])
}

fn manifest_work() -> CustomResourceDefinition {
    Look {
        short_names: &["mw"],
        columns: vec![
            condition_column("Applied", names::work::APPLIED),
            condition_column("Available", names::work::AVAILABLE),
            age(),
        ],
        status: true,
    }
    .render::<ManifestWork>(Scope::Namespaced, &[])
}

fn manifest_work_replica_set() -> CustomResourceDefinition {
    let reason = |name, condition: &str| {
        let path = format!(r#".status.conditions[?(@.type=="{condition}")].reason"#);
        column(name, "string", &path)
    };
    Look {
        short_names: &["mwrs"],
        columns: vec![
            reason("Placement", names::replica_set::PLACEMENT_VERIFIED),
            condition_column("Found", names::replica_set::PLACEMENT_VERIFIED),
            reason("ManifestWorks", names::replica_set::WORKS_APPLIED),
            condition_column("Applied", names::replica_set::WORKS_APPLIED),
            age(),
        ],
        status: true,
    }
    .render::<ManifestWorkReplicaSet>(Scope::Namespaced, &[])
}

fn managed_cluster_add_on() -> CustomResourceDefinition {
    Look {
        short_names: &["mca", "mcas"],
        columns: vec![
            condition_column("Available", "Available"),
            condition_column("Degraded", "Degraded"),
            condition_column("Progressing", "Progressing"),
            age(),
        ],
        status: true,
    }
    .render::<ManagedClusterAddOn>(Scope::Namespaced, &[])
}

fn applied_manifest_work() -> CustomResourceDefinition {
    Look {
        short_names: &["amw"],
        columns: vec![column("Work", "string", ".spec.manifestWorkName"), age()],
        status: true,
    }
    .render::<AppliedManifestWork>(Scope::Cluster, &[])
}

fn cluster_claim() -> CustomResourceDefinition {
    Look {
        short_names: &[],
        columns: vec![column("Value", "string", ".spec.value"), age()],
        status: false,
    }
    .render::<ClusterClaim>(Scope::Cluster, &[])
}

fn fedora_message() -> CustomResourceDefinition {
    Look {
        short_names: &["fmsg"],
        columns: vec![
            column("Env", "string", ".spec.env"),
            column("Topic", "string", ".spec.message.topic"),
            condition_column("Sent", names::fedora::SENT),
            column("Reason", "string", ".status.reason"),
            age(),
        ],
        status: true,
    }
    .render::<FedoraMessage>(Scope::Namespaced, &fedora_message_rules())
}

/// What the types cannot say of a FedoraMessage: the spellings of Kubernetes beside those of the proposal, and the rules.
fn fedora_message_rules() -> Vec<(&'static str, Value)> {
    let rule = |rule: &str, message: &str| json!({ "rule": rule, "message": message });
    let number = |maximum: u32, minimum: u32, as_: &str| {
        json!({
            "type": "integer", "format": "int64", "minimum": minimum, "maximum": maximum,
            "description": format!("{as_} in the spelling of Kubernetes; one of the two is given."),
        })
    };
    let one = |snake: &str, camel: &str| {
        rule(
            &format!("!(has(self.{snake}) && has(self.{camel}))"),
            &format!("give {snake} or {camel}, not both"),
        )
    };
    vec![
        (
            "/properties/spec/properties/deadlineSeconds",
            number(2_592_000, 1, "deadline_seconds"),
        ),
        (
            "/properties/spec/properties/maxAttempts",
            number(20, 1, "max_attempts"),
        ),
        (
            "/properties/spec/properties/ttlSecondsAfterFinished",
            number(31_536_000, 0, "ttl_seconds_after_finished"),
        ),
        (
            "/properties/spec/x-kubernetes-validations",
            json!([
                one("deadline_seconds", "deadlineSeconds"),
                one("max_attempts", "maxAttempts"),
                one("ttl_seconds_after_finished", "ttlSecondsAfterFinished"),
            ]),
        ),
        (
            "/properties/spec/properties/authentication/x-kubernetes-validations",
            json!([rule(
                "has(self.secret_ref) != has(self.secretRef)",
                "give secret_ref or secretRef, and not both"
            )]),
        ),
        (
            "/properties/spec/properties/message/properties/schemaPackage",
            json!({
                "type": "string", "minLength": 1, "maxLength": 255,
                "description": "schema_package in the spelling of Kubernetes; one of the two is given.",
            }),
        ),
        (
            "/properties/spec/properties/message/x-kubernetes-validations",
            json!([one("schema_package", "schemaPackage")]),
        ),
        // Words of printable ASCII with single dots between them, none of which is `*` or `#`.
        (
            "/properties/spec/properties/message/properties/topic/pattern",
            json!(r#"^([!-"$-)+,\-/-~]|[!-\-/-~]{2,})(\.([!-"$-)+,\-/-~]|[!-\-/-~]{2,}))*$"#),
        ),
    ]
}

#[derive(Clone, Copy)]
enum Scope {
    Cluster,
    Namespaced,
}

/// How a kind shows itself to people.
struct Look {
    short_names: &'static [&'static str],
    columns: Vec<CustomResourceColumnDefinition>,
    status: bool,
}

impl Look {
    /// The definition of kind `K`; each addition is a JSON pointer whose parent exists, and the value to put there.
    fn render<K: Resource<DynamicType = ()> + Shape>(
        self,
        scope: Scope,
        additions: &[(&str, Value)],
    ) -> CustomResourceDefinition {
        let mut schema = object_schema::<K>(self.status);
        for (pointer, value) in additions {
            add(&mut schema, pointer, value.clone());
        }
        let (group, plural, kind) = (
            K::group(&()).into_owned(),
            K::plural(&()).into_owned(),
            K::kind(&()).into_owned(),
        );
        CustomResourceDefinition {
            metadata: ObjectMeta { name: Some(format!("{plural}.{group}")), ..ObjectMeta::default() },
            spec: CustomResourceDefinitionSpec {
                group,
                names: CustomResourceDefinitionNames {
                    categories: Some(vec![CATEGORY.to_owned()]),
                    list_kind: Some(format!("{kind}List")),
                    singular: Some(kind.to_lowercase()),
                    short_names: (!self.short_names.is_empty()).then(|| self.short_names.iter().map(|&name| name.to_owned()).collect()),
                    kind,
                    plural,
                },
                scope: match scope {
                    Scope::Cluster => "Cluster".to_owned(),
                    Scope::Namespaced => "Namespaced".to_owned(),
                },
                versions: vec![CustomResourceDefinitionVersion {
                    name: K::version(&()).into_owned(),
                    served: true,
                    storage: true,
                    additional_printer_columns: Some(self.columns),
                    subresources: self.status.then(|| CustomResourceSubresources {
                        status: Some(CustomResourceSubresourceStatus(json!({}))),
                        ..CustomResourceSubresources::default()
                    }),
                    schema: Some(CustomResourceValidation {
                        open_api_v3_schema: Some(
                            serde_json::from_value(schema).expect("the schema is a function of our types alone, and a test renders every one of them"),
                        ),
                    }),
                    ..CustomResourceDefinitionVersion::default()
                }],
                ..CustomResourceDefinitionSpec::default()
            },
            status: None,
        }
    }
}

/// Puts `value` at `pointer`, whose parent is an object of the schema.
fn add(schema: &mut Value, pointer: &str, value: Value) {
    if let Some((parent, name)) = pointer.rsplit_once('/')
        && let Some(Value::Object(parent)) = schema.pointer_mut(parent)
    {
        parent.insert(name.to_owned(), value);
    }
}

fn column(name: &str, type_: &str, path: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: path.to_owned(),
        ..CustomResourceColumnDefinition::default()
    }
}

fn condition_column(name: &str, condition: &str) -> CustomResourceColumnDefinition {
    column(
        name,
        "string",
        &format!(r#".status.conditions[?(@.type=="{condition}")].status"#),
    )
}

fn age() -> CustomResourceColumnDefinition {
    column("Age", "date", ".metadata.creationTimestamp")
}
