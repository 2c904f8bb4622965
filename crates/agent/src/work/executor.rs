//! Whether the identity in whose name a work is applied may do what the agent is about to do for it.
//!
//! The agent writes with its own rights, so it asks the cluster first: an access review for each verb, and for RBAC kinds a dry run in
//! the identity's name, which the API server refuses when it would give away rights that the identity does not have.

use drover_api::work::v1::{ExecutorServiceAccount, ManifestWorkExecutor};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};
use serde_json::Value;

use super::cluster::{Cluster, ClusterError, Place};

/// What upstream asks for before it applies (ocm, pkg/work/spoke/auth/basic).
const VERBS: [&str; 4] = ["create", "update", "patch", "get"];
/// What it asks for besides where the object goes with the work.
const VERB_OF_OWNER: &str = "delete";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Why a manifest must not be applied.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The executor names nobody.
    #[error("the executor names no service account")]
    Nobody,
    /// The identity lacks a right.
    #[error("{user} is not allowed to {verb} {resource} {name:?} in namespace {namespace:?}")]
    Verb {
        /// The identity.
        user: String,
        /// What it must not do.
        verb: &'static str,
        /// To which kind.
        resource: String,
        /// To which object.
        name: String,
        /// Where.
        namespace: String,
    },
    /// The dry run in its name was refused.
    #[error("{user} is not allowed to apply this: {source}")]
    Escalates {
        /// The identity.
        user: String,
        /// What the API server said.
        source: ClusterError,
    },
    /// The cluster did not answer the question.
    #[error("failed to review the executor's access: {0}")]
    Unanswered(#[from] kube::Error),
}

impl Denied {
    /// Whether asking again soon may give another answer without anybody granting a right.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Verb { .. } | Self::Nobody => false,
            Self::Escalates { source, .. } => !matches!(source, ClusterError::Refused(_)),
            Self::Unanswered(_) => true,
        }
    }
}

/// Asks whether the executor may apply the object. `owned` tells whether the object goes with the work.
pub async fn permit(
    cluster: &Cluster,
    executor: &ManifestWorkExecutor,
    place: &Place,
    object: &Value,
    owned: bool,
) -> Result<(), Denied> {
    let account = executor
        .subject
        .service_account
        .as_ref()
        .ok_or(Denied::Nobody)?;
    let user = format!(
        "system:serviceaccount:{}:{}",
        account.namespace, account.name
    );
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client().clone());
    for verb in VERBS.into_iter().chain(owned.then_some(VERB_OF_OWNER)) {
        let review = SubjectAccessReview {
            spec: question(&user, account, place, verb),
            ..SubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            return Err(Denied::Verb {
                user,
                verb,
                resource: place.resource.clone(),
                name: place.name.clone(),
                namespace: place.namespace.clone(),
            });
        }
    }
    if place.group == RBAC {
        match cluster
            .rehearse(place, object, &user, &groups(account))
            .await
        {
            // An object that exists already was judged before it was found to exist.
            Ok(()) | Err(ClusterError::Conflict(_)) => (),
            Err(source) => return Err(Denied::Escalates { user, source }),
        }
    }
    Ok(())
}

fn question(
    user: &str,
    account: &ExecutorServiceAccount,
    place: &Place,
    verb: &str,
) -> SubjectAccessReviewSpec {
    SubjectAccessReviewSpec {
        user: Some(user.to_owned()),
        groups: Some(groups(account)),
        resource_attributes: Some(ResourceAttributes {
            group: Some(place.group.clone()),
            version: Some(place.version.clone()),
            resource: Some(place.resource.clone()),
            namespace: Some(place.namespace.clone()),
            name: Some(place.name.clone()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    }
}

fn groups(account: &ExecutorServiceAccount) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", account.namespace),
        "system:authenticated".to_owned(),
    ]
}
