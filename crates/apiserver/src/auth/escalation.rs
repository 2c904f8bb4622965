//! Nobody gives away more rights than they have
//! (kubernetes: pkg/registry/rbac, policybased storage).

use serde_json::Value;

use super::allows;
use super::rbac::{self, Index, Rule, uncovered};
use super::rbac_quoted;
use super::user::{Attributes, MASTERS, User};
use crate::status::{ApiError, ApiResult, Subject};

pub(super) fn check(
    index: &Index,
    user: &User,
    kind: &str,
    object: &Value,
    namespace: &str,
) -> ApiResult<()> {
    if user.is_in(MASTERS) {
        return Ok(());
    }
    match kind {
        "Role" => check_role(index, user, "roles", object, namespace),
        "ClusterRole" => check_role(index, user, "clusterroles", object, ""),
        "RoleBinding" => check_binding(index, user, "rolebindings", object, namespace),
        "ClusterRoleBinding" => check_binding(index, user, "clusterrolebindings", object, ""),
        _ => Ok(()),
    }
}

fn check_role(
    index: &Index,
    user: &User,
    resource: &str,
    role: &Value,
    namespace: &str,
) -> ApiResult<()> {
    let name = role["metadata"]["name"].as_str().unwrap_or_default();
    let asked = rbac_attributes("escalate", resource, namespace, name);
    if allows(index, user, &asked) {
        return Ok(());
    }
    let refuse = |why: &str| Err(refusal(resource, name, why));
    if let Err(why) = confirm(index, user, &Rule::list(&role["rules"]), namespace) {
        return refuse(&why);
    }
    // An aggregation rule can gather anything: it needs everything.
    let gathers = role["aggregationRule"]["clusterRoleSelectors"].as_array();
    if gathers.is_some_and(|selectors| !selectors.is_empty()) {
        let any = || vec!["*".to_owned()];
        let everything = [
            Rule {
                verbs: any(),
                groups: any(),
                resources: any(),
                ..Rule::default()
            },
            Rule {
                verbs: any(),
                urls: any(),
                ..Rule::default()
            },
        ];
        if confirm(index, user, &everything, "").is_err() {
            return refuse("must have cluster-admin privileges to use the aggregationRule");
        }
    }
    Ok(())
}

fn check_binding(
    index: &Index,
    user: &User,
    resource: &str,
    binding: &Value,
    namespace: &str,
) -> ApiResult<()> {
    let name = binding["metadata"]["name"].as_str().unwrap_or_default();
    let part = |key: &str| binding["roleRef"][key].as_str().unwrap_or_default();
    let roles = if part("kind") == "ClusterRole" {
        "clusterroles"
    } else {
        "roles"
    };
    let asked = rbac_attributes("bind", roles, namespace, part("name"));
    if allows(index, user, &asked) {
        return Ok(());
    }
    let rules = index
        .role(part("kind"), namespace, part("name"))
        .map_err(|missing| {
            // As recorded from kube-apiserver: the role is missed as if it were a binding.
            ApiError::not_found(Subject {
                group: rbac::GROUP,
                resource,
                name: &missing.name,
            })
        })?;
    confirm(index, user, &rules, namespace).map_err(|why| refusal(resource, name, &why))
}

fn rbac_attributes<'a>(
    verb: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Attributes<'a> {
    let (group, version) = (rbac::GROUP, "*");
    Attributes {
        verb,
        group,
        version,
        resource,
        namespace,
        name,
        ..Attributes::default()
    }
}

fn confirm(index: &Index, user: &User, wanted: &[Rule], namespace: &str) -> Result<(), String> {
    let (owned, missing) = index.rules_for(user, namespace);
    let lines: Vec<String> = uncovered(&owned, wanted).into_iter().collect();
    if lines.is_empty() {
        return Ok(());
    }
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        rbac_quoted(&user.groups),
        lines.join("\n")
    );
    if !missing.is_empty() {
        let errors: Vec<String> = missing.iter().map(ToString::to_string).collect();
        why.extend(["; resolution errors: [", &errors.join(", "), "]"]);
    }
    Err(why)
}

#[expect(
    clippy::unnecessary_box_returns,
    reason = "as everything that makes an ApiError"
)]
fn refusal(resource: &str, name: &str, why: &str) -> Box<ApiError> {
    ApiError::forbidden(
        Subject {
            group: rbac::GROUP,
            resource,
            name,
        },
        why,
    )
}
