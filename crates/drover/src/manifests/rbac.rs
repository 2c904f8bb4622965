//! Rules, and who has them.

use anyhow::Result;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
    Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::{named, object};

const GROUP: &str = "rbac.authorization.k8s.io";

/// These verbs on these resources of these groups.
pub fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(owned(groups)),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// A rule for objects with these names only.
pub fn only(mut rule: PolicyRule, names: &[&str]) -> PolicyRule {
    rule.resource_names = Some(owned(names));
    rule
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|&item| item.to_owned()).collect()
}

/// A service account and what it may do.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
}

impl Account<'_> {
    pub fn object(&self) -> Result<Value> {
        object(&ServiceAccount {
            metadata: named(self.name, Some(self.namespace)),
            // Who needs the token says so.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })
    }

    fn subjects(&self) -> Vec<Subject> {
        vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: self.name.to_owned(),
            namespace: Some(self.namespace.to_owned()),
            ..Subject::default()
        }]
    }

    /// It may do everywhere what a role says that is printed too.
    pub fn cluster_role(&self, name: &str, rules: Vec<PolicyRule>) -> Result<[Value; 2]> {
        let role = object(&ClusterRole {
            metadata: named(name, None),
            rules: Some(rules),
            ..ClusterRole::default()
        })?;
        Ok([role, self.bind(name, name)?])
    }

    /// It may do everywhere what other roles say, those with this label.
    pub fn aggregate(&self, name: &str, label: &str) -> Result<[Value; 2]> {
        let selector = LabelSelector {
            match_labels: Some([(label.to_owned(), "true".to_owned())].into()),
            ..LabelSelector::default()
        };
        let role = object(&ClusterRole {
            metadata: named(name, None),
            aggregation_rule: Some(AggregationRule {
                cluster_role_selectors: Some(vec![selector]),
            }),
            ..ClusterRole::default()
        })?;
        Ok([role, self.bind(name, name)?])
    }

    /// It may do everywhere what a role says.
    pub fn bind(&self, name: &str, role: &str) -> Result<Value> {
        object(&ClusterRoleBinding {
            metadata: named(name, None),
            role_ref: reference("ClusterRole", role),
            subjects: Some(self.subjects()),
        })
    }

    /// It may do in its own namespace what a role says that is printed too.
    pub fn role(&self, name: &str, rules: Vec<PolicyRule>) -> Result<[Value; 2]> {
        self.role_in(self.namespace, name, rules)
    }

    /// It may do in a namespace what a role says that is printed too.
    pub fn role_in(
        &self,
        namespace: &str,
        name: &str,
        rules: Vec<PolicyRule>,
    ) -> Result<[Value; 2]> {
        let role = object(&Role {
            metadata: named(name, Some(namespace)),
            rules: Some(rules),
        })?;
        let binding = object(&RoleBinding {
            metadata: named(name, Some(namespace)),
            role_ref: reference("Role", name),
            subjects: Some(self.subjects()),
        })?;
        Ok([role, binding])
    }
}

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: GROUP.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}
