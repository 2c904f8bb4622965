//! ManagedClusterSetBinding (ocm: pkg/registration/webhook/v1beta2).

use serde::Deserialize;

use super::{About, Access, Check, Operation, Question, Refusal, Request, cluster, nullable, read};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Binding {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(deserialize_with = "nullable")]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    cluster_set: String,
}

pub(super) fn judge(request: &Request<'_>) -> Result<Vec<Check>, Refusal> {
    let binding: Binding = read(request.new)?;
    let set = binding.spec.cluster_set;
    if binding.metadata.name != set {
        return Err(Refusal::Bad(format!(
            "a binding has the name of the set that it binds: metadata.name is {:?}, spec.clusterSet {set:?}",
            binding.metadata.name
        )));
    }
    if request.operation == Operation::Update {
        // The set is in the name, which never changes.
        read::<Binding>(request.old)?;
        return Ok(Vec::new());
    }
    let user = &request.user.name;
    Ok(vec![Check {
        no: format!(
            "user {user:?} may not bind the set {set:?}: create of managedclustersets/bind.{} is missing",
            cluster::GROUP
        ),
        about: Some(About {
            group: cluster::GROUP,
            resource: "managedclustersets/bind",
            name: set.clone(),
        }),
        question: Question::Access(Access {
            verb: "create",
            group: cluster::GROUP,
            resource: "managedclustersets",
            subresource: "bind",
            namespace: String::new(),
            name: set,
        }),
    }])
}
