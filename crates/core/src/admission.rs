//! What a hub's API fills in, refuses, and asks before it takes a write of a fleet's kinds
//! (ocm: pkg/registration/webhook, pkg/work/webhook).
//!
//! A write is judged in two steps. [`Rule::judge`] refuses what is wrong in itself, and names the
//! [`Check`]s that only the API can answer: may this user do that, does this namespace stay. Whoever
//! can ask them hands each answer to [`Check::decide`]; the first refusal counts. [`fill`] says what
//! the API adds to an object before.

pub mod certificates;
pub mod webhooks;
mod binding;
mod cluster;
mod go;
mod work;

use std::collections::BTreeMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::{Map, Value, json};

pub use self::cluster::fill;

/// What a write wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// Anything else; nothing of it is judged.
    Other,
}

/// Who writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Unique over time; empty where nobody knows it.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Whatever else is known of the user.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A write on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What it wants.
    pub operation: Operation,
    /// Who asks.
    pub user: &'a User,
    /// What is there; for an update.
    pub old: Option<&'a Value>,
    /// What shall be there.
    pub new: Option<&'a Value>,
}

/// What an administrator may choose (ocm: the feature gates and flags of its webhooks).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Clusters that name no set get into the set `default` (gate `DefaultClusterSet`).
    pub default_cluster_set: bool,
    /// The largest size of all manifests of a work together, in bytes (flag `manifestLimit`).
    pub manifest_limit: usize,
    /// A work without an executor is one with the agent's own account (gate `NilExecutorValidating`).
    pub nil_executor: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            default_cluster_set: true,
            manifest_limit: 500 * 1024,
            nil_executor: false,
        }
    }
}

/// What is judged together: one kind, by one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Fills in a ManagedCluster, before all others.
    FillCluster,
    /// Judges a ManagedCluster.
    Cluster,
    /// Judges a ManagedClusterSetBinding.
    Binding,
    /// Judges a ManifestWork.
    Work,
    /// Judges a ManifestWorkReplicaSet.
    ReplicaSet,
}

impl Rule {
    /// All of them; what fills in comes first.
    pub const ALL: [Self; 5] = [
        Self::FillCluster,
        Self::Cluster,
        Self::Binding,
        Self::Work,
        Self::ReplicaSet,
    ];

    /// API group and plural name of the kind.
    pub fn resource(self) -> (&'static str, &'static str) {
        let (clusters, works) = (cluster::GROUP, work::GROUP);
        match self {
            Self::FillCluster | Self::Cluster => (clusters, "managedclusters"),
            Self::Binding => (clusters, "managedclustersetbindings"),
            Self::Work => (works, "manifestworks"),
            Self::ReplicaSet => (works, "manifestworkreplicasets"),
        }
    }

    /// Judges what the request says by itself; the answer is what is left to ask, in this order.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge(self, request: &Request<'_>, policy: &Policy) -> Result<Vec<Check>, Refusal> {
        if request.operation == Operation::Other {
            return Ok(Vec::new());
        }
        match self {
            Self::FillCluster => Ok(Vec::new()),
            Self::Cluster => cluster::judge(request),
            Self::Binding => binding::judge(request),
            Self::Work => work::judge(request, policy),
            Self::ReplicaSet => work::judge_set(request, policy),
        }
    }

    /// Whether a write changes anything that the rule looks at. Where it does not, nobody is asked:
    /// finalizers come and go, and objects leave, whatever the rules have become since. This is what
    /// the match condition of the [webhook](webhooks) says in CEL.
    pub fn concerns(self, request: &Request<'_>, policy: &Policy) -> bool {
        let (Operation::Update, Some(old), Some(new)) =
            (request.operation, request.old, request.new)
        else {
            return request.operation != Operation::Other;
        };
        let changed = old.get("spec") != new.get("spec") || new.get("spec").is_none();
        match self {
            Self::FillCluster => {
                changed || policy.default_cluster_set && cluster::set_of(new).is_empty()
            }
            Self::Cluster => changed || cluster::set_of(old) != cluster::set_of(new),
            Self::Binding | Self::Work | Self::ReplicaSet => changed,
        }
    }
}

/// A value that is put into an object where there was none, or another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    /// JSON pointer; what it points into exists.
    pub path: String,
    /// The value.
    pub value: Value,
}

/// Puts values into an object.
pub fn add(object: &mut Value, additions: &[Addition]) {
    for addition in additions {
        let Some((parent, member)) = addition.path.rsplit_once('/') else {
            continue;
        };
        if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
            let member = member.replace("~1", "/").replace("~0", "~");
            parent.insert(member, addition.value.clone());
        }
    }
}

/// Something that only the API knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// May the user of the request do this?
    Access(Access),
    /// Is this namespace not on its way out? One that is not there is not.
    NamespaceStays(String),
}

/// What a SubjectAccessReview asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The verb.
    pub verb: &'static str,
    /// API group.
    pub group: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// Subresource, or empty.
    pub subresource: &'static str,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl Access {
    /// The `spec` of the review.
    pub fn review(&self, user: &User) -> Value {
        let mut attributes = Map::new();
        for (key, text) in [
            ("group", self.group),
            ("resource", self.resource),
            ("subresource", self.subresource),
            ("verb", self.verb),
            ("namespace", &self.namespace),
            ("name", &self.name),
        ] {
            if !text.is_empty() {
                attributes.insert(key.to_owned(), text.into());
            }
        }
        json!({
            "user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
            "resourceAttributes": attributes,
        })
    }
}

/// A question, and what follows from its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What to ask.
    pub question: Question,
    /// Why it is refused when the answer is no.
    no: String,
    /// Of what it is said that it is forbidden; without it the request is called bad.
    about: Option<About>,
}

impl Check {
    /// Takes the answer, or why there is none.
    ///
    /// # Errors
    /// The refusal.
    pub fn decide(&self, answer: Result<bool, String>) -> Result<(), Refusal> {
        let why = match answer {
            Ok(true) => return Ok(()),
            Ok(false) => self.no.clone(),
            Err(why) => format!("it could not be found out whether it is allowed: {why}"),
        };
        Err(match &self.about {
            Some(about) => Refusal::Forbidden {
                about: about.clone(),
                why,
            },
            None => Refusal::Bad(why),
        })
    }
}

/// What a refusal is about, as a Status names it in `details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// API group.
    pub group: &'static str,
    /// Plural name and subresource.
    pub resource: &'static str,
    /// Name of the object.
    pub name: String,
}

/// Why a write is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object is not one of its kind; the API's own validation says more.
    #[error("the object cannot be read: {0}")]
    Unreadable(String),
    /// The object is against the rules.
    #[error("{0}")]
    Bad(String),
    /// The user may not do it.
    #[error("{}.{} \"{}\" is forbidden: {why}", about.resource, about.group, about.name)]
    Forbidden {
        /// What it is about.
        about: About,
        /// Why.
        why: String,
    },
}

impl Refusal {
    /// The Status that tells it (apimachinery: pkg/api/errors).
    pub fn status(&self) -> Value {
        let mut status = json!({
            "metadata": {}, "status": "Failure", "message": self.to_string(), "code": self.code(),
        });
        if let Some(reason) = self.reason() {
            status["reason"] = reason.into();
        }
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }

    /// HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::Unreadable(_) | Self::Bad(_) => 400,
            Self::Forbidden { .. } => 403,
        }
    }

    /// The reason that programs match on.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Unreadable(_) => None,
            Self::Bad(_) => Some("BadRequest"),
            Self::Forbidden { .. } => Some("Forbidden"),
        }
    }

    /// `details` of the Status.
    pub fn details(&self) -> Option<Value> {
        match self {
            Self::Unreadable(_) | Self::Bad(_) => None,
            Self::Forbidden { about, .. } => Some(json!({
                "name": about.name, "group": about.group, "kind": about.resource,
            })),
        }
    }
}

/// Reads what a rule needs of an object.
fn read<T: DeserializeOwned>(object: Option<&Value>) -> Result<T, Refusal> {
    let object = object.ok_or_else(|| Refusal::Unreadable("there is none".to_owned()))?;
    T::deserialize(object).map_err(|error| Refusal::Unreadable(error.to_string()))
}

/// Reads `null` as what is absent, as Go does.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
