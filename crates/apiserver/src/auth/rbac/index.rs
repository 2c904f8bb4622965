//! Roles by name, bindings by subject.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::rule::Rule;
use super::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, GROUP, ROLE_BINDINGS, ROLES};
use crate::auth::user::{Attributes, SERVICE_ACCOUNT_PREFIX, User};

/// A RoleBinding, or a ClusterRoleBinding (whose namespace is empty).
#[derive(Debug)]
pub struct Binding {
    namespace: String,
    name: String,
    role_kind: String,
    role_name: String,
    subjects: Vec<Subject>,
}

#[derive(Debug, Default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// Rules by the name of the role.
type Roles = HashMap<Box<str>, Arc<[Rule]>>;

/// Bindings of one subject: by namespace, then by name.
type Bound = HashMap<Box<str>, BTreeMap<Box<str>, Arc<Binding>>>;

/// All roles and bindings of one logical cluster.
#[derive(Debug, Default)]
pub struct Index {
    cluster_roles: Roles,
    roles: HashMap<Box<str>, Roles>,
    bindings: HashMap<(Box<str>, Box<str>), Arc<Binding>>,
    users: HashMap<Box<str>, Bound>,
    groups: HashMap<Box<str>, Bound>,
}

/// A binding names a role that is not there; the text is Kubernetes' own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{kind}.{GROUP} {name:?} not found")]
pub struct Missing {
    /// `role` or `clusterrole`.
    pub kind: &'static str,
    /// Name of the role.
    pub name: String,
}

/// What a question to the index came to.
#[derive(Debug)]
pub enum Outcome {
    /// This binding allows it.
    Allowed(Arc<Binding>),
    /// No binding allows it; these name roles that are not there.
    NoOpinion(BTreeSet<Missing>),
}

impl Index {
    /// Takes over an object as it is now.
    pub fn set(&mut self, resource: &str, namespace: &str, name: &str, object: &Value) {
        match resource {
            CLUSTER_ROLES => {
                self.cluster_roles
                    .insert(name.into(), Rule::list(&object["rules"]).into());
            }
            ROLES => {
                let roles = self.roles.entry(namespace.into()).or_default();
                roles.insert(name.into(), Rule::list(&object["rules"]).into());
            }
            CLUSTER_ROLE_BINDINGS | ROLE_BINDINGS => {
                self.unbind(namespace, name);
                self.bind(Arc::new(Binding::read(namespace, name, object)));
            }
            _ => {}
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, resource: &str, namespace: &str, name: &str) {
        match resource {
            CLUSTER_ROLES => {
                self.cluster_roles.remove(name);
            }
            ROLES => {
                if let Some(roles) = self.roles.get_mut(namespace) {
                    roles.remove(name);
                    if roles.is_empty() {
                        self.roles.remove(namespace);
                    }
                }
            }
            CLUSTER_ROLE_BINDINGS | ROLE_BINDINGS => self.unbind(namespace, name),
            _ => {}
        }
    }

    /// The rules of a role; `namespace` is that of the binding.
    pub fn role(&self, kind: &str, namespace: &str, name: &str) -> Result<Arc<[Rule]>, Missing> {
        let (found, kind) = if kind == "ClusterRole" {
            (self.cluster_roles.get(name), "clusterrole")
        } else {
            (
                self.roles.get(namespace).and_then(|roles| roles.get(name)),
                "role",
            )
        };
        found.cloned().ok_or_else(|| Missing {
            kind,
            name: name.to_owned(),
        })
    }

    /// Whether a binding of the user allows it.
    pub fn decide(&self, user: &User, asked: &Attributes<'_>) -> Outcome {
        let mut missing = BTreeSet::new();
        for namespace in scopes(asked.namespace) {
            for binding in self.bound(user, namespace) {
                match self.rules_of(binding) {
                    Ok(rules) if rules.iter().any(|rule| rule.allows(asked)) => {
                        return Outcome::Allowed(Arc::clone(binding));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        missing.insert(error);
                    }
                }
            }
        }
        Outcome::NoOpinion(missing)
    }

    /// All rules of a user in a namespace (empty: only cluster wide), and what is missing.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, BTreeSet<Missing>) {
        let mut rules = Vec::new();
        let mut missing = BTreeSet::new();
        for namespace in scopes(namespace) {
            // A user can be bound twice by one binding: as a user and through a group.
            let bindings: BTreeMap<&str, _> = self
                .bound(user, namespace)
                .map(|b| (b.name.as_str(), b))
                .collect();
            for binding in bindings.into_values() {
                match self.rules_of(binding) {
                    Ok(found) => rules.extend(found.iter().cloned()),
                    Err(error) => {
                        missing.insert(error);
                    }
                }
            }
        }
        (rules, missing)
    }

    fn rules_of(&self, binding: &Binding) -> Result<Arc<[Rule]>, Missing> {
        self.role(&binding.role_kind, &binding.namespace, &binding.role_name)
    }

    fn bound<'a>(
        &'a self,
        user: &'a User,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Binding>> {
        let own = self.users.get(user.name.as_str());
        let groups = user
            .groups
            .iter()
            .filter_map(|group| self.groups.get(group.as_str()));
        own.into_iter()
            .chain(groups)
            .filter_map(move |bound| bound.get(namespace))
            .flat_map(BTreeMap::values)
    }

    fn bind(&mut self, binding: Arc<Binding>) {
        for subject in &binding.subjects {
            let Some((group, who)) = subject.key(&binding.namespace) else {
                continue;
            };
            let index = if group {
                &mut self.groups
            } else {
                &mut self.users
            };
            let bound = index.entry(who.into()).or_default();
            let names = bound.entry(binding.namespace.as_str().into()).or_default();
            names.insert(binding.name.as_str().into(), Arc::clone(&binding));
        }
        let key = (
            binding.namespace.as_str().into(),
            binding.name.as_str().into(),
        );
        self.bindings.insert(key, binding);
    }

    fn unbind(&mut self, namespace: &str, name: &str) {
        let Some(binding) = self.bindings.remove(&(namespace.into(), name.into())) else {
            return;
        };
        for subject in &binding.subjects {
            let Some((group, who)) = subject.key(namespace) else {
                continue;
            };
            let index = if group {
                &mut self.groups
            } else {
                &mut self.users
            };
            let Some(bound) = index.get_mut(who.as_str()) else {
                continue;
            };
            if let Some(names) = bound.get_mut(namespace) {
                names.remove(name);
                if names.is_empty() {
                    bound.remove(namespace);
                }
            }
            if bound.is_empty() {
                index.remove(who.as_str());
            }
        }
    }
}

/// Cluster wide first, then the namespace if there is one.
fn scopes(namespace: &str) -> impl Iterator<Item = &str> {
    std::iter::once("").chain((!namespace.is_empty()).then_some(namespace))
}

impl Binding {
    fn read(namespace: &str, name: &str, object: &Value) -> Self {
        let subjects = object["subjects"].as_array().into_iter().flatten();
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            role_kind: text(&object["roleRef"]["kind"]),
            role_name: text(&object["roleRef"]["name"]),
            subjects: subjects
                .map(|subject| Subject {
                    kind: text(&subject["kind"]),
                    name: text(&subject["name"]),
                    namespace: text(&subject["namespace"]),
                })
                .collect(),
        }
    }

    /// Kubernetes' words for what allowed a user's request.
    pub fn describe(&self, user: &User) -> String {
        let applies = |subject: &&Subject| match subject.key(&self.namespace) {
            Some((true, group)) => user.is_in(&group),
            Some((false, name)) => user.name == name,
            None => false,
        };
        let fallback = Subject::default();
        let subject = self.subjects.iter().find(applies).unwrap_or(&fallback);
        let whom = match subject.kind.as_str() {
            "ServiceAccount" => format!("{}/{}", subject.name, subject.home(&self.namespace)),
            _ => subject.name.clone(),
        };
        let what = if self.namespace.is_empty() {
            format!("ClusterRoleBinding {:?}", self.name)
        } else {
            format!("RoleBinding \"{}/{}\"", self.name, self.namespace)
        };
        let (role_kind, role, kind) = (&self.role_kind, &self.role_name, &subject.kind);
        format!("{what} of {role_kind} {role:?} to {kind} {whom:?}")
    }
}

impl Subject {
    /// Whether it is a group, and the name that a [`User`] has to have or be in.
    fn key(&self, namespace: &str) -> Option<(bool, String)> {
        match self.kind.as_str() {
            "User" => Some((false, self.name.clone())),
            "Group" => Some((true, self.name.clone())),
            "ServiceAccount" => {
                let home = self.home(namespace);
                (!home.is_empty()).then(|| {
                    (
                        false,
                        format!("{SERVICE_ACCOUNT_PREFIX}{home}:{}", self.name),
                    )
                })
            }
            _ => None,
        }
    }

    fn home<'a>(&'a self, namespace: &'a str) -> &'a str {
        if self.namespace.is_empty() {
            namespace
        } else {
            &self.namespace
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
