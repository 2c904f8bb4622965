//! Webhooks and policies that admit or refuse objects.

use serde_json::Value;

use super::{Report, names, number, selector};
use crate::builtin::edit::{items, text};

pub(super) fn webhooks(report: &mut Report, object: &Value) {
    for (index, webhook) in items(&object["webhooks"]).iter().enumerate() {
        self::webhook(report, &format!("webhooks[{index}]"), webhook);
    }
    report.unique("webhooks", &object["webhooks"], "name");
}

fn webhook(report: &mut Report, path: &str, webhook: &Value) {
    let name = text(&webhook["name"]);
    if name.is_empty() {
        report.require(format!("{path}.name"), "");
    } else if let Some(why) = names::subdomain(name) {
        report.invalid(format!("{path}.name"), name, why);
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        report.invalid(format!("{path}.name"), name, why);
    }
    for (index, rule) in items(&webhook["rules"]).iter().enumerate() {
        self::rule(report, &format!("{path}.rules[{index}]"), rule);
    }
    report.one_of(
        format!("{path}.failurePolicy"),
        &webhook["failurePolicy"],
        &["Fail", "Ignore"],
    );
    report.one_of(
        format!("{path}.matchPolicy"),
        &webhook["matchPolicy"],
        &["Equivalent", "Exact"],
    );
    if webhook["sideEffects"].is_null() {
        report.require(
            format!("{path}.sideEffects"),
            "must specify one of None, NoneOnDryRun",
        );
    } else {
        report.one_of(
            format!("{path}.sideEffects"),
            &webhook["sideEffects"],
            &["None", "NoneOnDryRun"],
        );
    }
    if let Some(seconds) = webhook["timeoutSeconds"].as_i64()
        && !(1..=30).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        report.invalid(format!("{path}.timeoutSeconds"), seconds, why);
    }
    for name in ["namespaceSelector", "objectSelector"] {
        selector::check(report, &format!("{path}.{name}"), &webhook[name]);
    }
    client(
        report,
        &format!("{path}.clientConfig"),
        &webhook["clientConfig"],
    );
    let versions = items(&webhook["admissionReviewVersions"]);
    let at = format!("{path}.admissionReviewVersions");
    if versions.is_empty() {
        report.require(at, "must specify one of v1, v1beta1");
    } else if !versions
        .iter()
        .any(|version| version == "v1" || version == "v1beta1")
    {
        let value = webhook["admissionReviewVersions"].clone();
        report.invalid(at, value, "must include at least one of v1, v1beta1");
    }
    let policies = ["IfNeeded", "Never"];
    report.maybe_one_of(
        format!("{path}.reinvocationPolicy"),
        &webhook["reinvocationPolicy"],
        &policies,
    );
    conditions(
        report,
        &format!("{path}.matchConditions"),
        &webhook["matchConditions"],
    );
}

fn client(report: &mut Report, path: &str, client: &Value) {
    let (url, service) = (&client["url"], &client["service"]);
    if url.is_null() == service.is_null() {
        report.require(path, "exactly one of url or service is required");
    } else if let Some(url) = url.as_str() {
        let path = format!("{path}.url");
        let form = "; desired format: https://host[/path]";
        match url.split_once("://") {
            None => report.invalid(
                path,
                "",
                format!("'https' is the only allowed URL scheme{form}"),
            ),
            Some((scheme, rest)) => {
                if scheme != "https" {
                    report.invalid(
                        path.as_str(),
                        scheme,
                        format!("'https' is the only allowed URL scheme{form}"),
                    );
                }
                let host = rest.split('/').next().unwrap_or_default();
                if host.is_empty() {
                    report.invalid(path.as_str(), host, format!("host must be specified{form}"));
                }
                if host.contains('@') {
                    report.invalid(
                        path.as_str(),
                        host,
                        "user information is not permitted in the URL",
                    );
                }
                if rest.contains('#') {
                    report.invalid(path.as_str(), "", "fragments are not permitted in the URL");
                }
                if rest.contains('?') {
                    report.invalid(path, "", "query parameters are not permitted in the URL");
                }
            }
        }
    } else {
        let path = format!("{path}.service");
        for field in ["name", "namespace"] {
            if text(&service[field]).is_empty() {
                report.require(
                    format!("{path}.{field}"),
                    format!("service {field} is required"),
                );
            }
        }
        let port = number(&service["port"]);
        if !(1..=65_535).contains(&port) {
            let why = "port is not valid: must be between 1 and 65535, inclusive";
            report.invalid(format!("{path}.port"), port, why);
        }
    }
}

fn rule(report: &mut Report, path: &str, rule: &Value) {
    let operations = items(&rule["operations"]);
    if operations.is_empty() {
        report.require(format!("{path}.operations"), "");
    }
    if operations.len() > 1 && operations.iter().any(|operation| operation == "*") {
        let why = "if '*' is present, must not specify other operations";
        report.invalid(
            format!("{path}.operations"),
            rule["operations"].clone(),
            why,
        );
    }
    for (index, operation) in operations.iter().enumerate() {
        let supported = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        report.one_of(format!("{path}.operations[{index}]"), operation, &supported);
    }
    for field in ["apiGroups", "apiVersions", "resources"] {
        let values = items(&rule[field]);
        if values.is_empty() {
            report.require(format!("{path}.{field}"), "");
        }
        if field != "resources" && values.len() > 1 && values.iter().any(|value| value == "*") {
            let what = if field == "apiGroups" {
                "API groups"
            } else {
                "API versions"
            };
            let why = format!("if '*' is present, must not specify other {what}");
            report.invalid(format!("{path}.{field}"), rule[field].clone(), why);
        }
    }
    if let Some(scope) = rule["scope"].as_str() {
        report.one_of(
            format!("{path}.scope"),
            &Value::from(scope),
            &["*", "Cluster", "Namespaced"],
        );
    }
}

fn conditions(report: &mut Report, path: &str, conditions: &Value) {
    for (index, condition) in items(conditions).iter().enumerate() {
        let path = format!("{path}[{index}]");
        report.filled(format!("{path}.expression"), &condition["expression"]);
        report.name(format!("{path}.name"), &condition["name"], names::qualified);
    }
    report.unique(path, conditions, "name");
}

pub(super) fn policy(report: &mut Report, spec: &Value) {
    report.one_of(
        "spec.failurePolicy",
        &spec["failurePolicy"],
        &["Fail", "Ignore"],
    );
    let constraints = &spec["matchConstraints"];
    if constraints.is_null() {
        report.require("spec.matchConstraints", "");
    } else {
        let rules = items(&constraints["resourceRules"]);
        if rules.is_empty() {
            report.require("spec.matchConstraints.resourceRules", "");
        }
        for (index, rule) in rules.iter().enumerate() {
            self::rule(
                report,
                &format!("spec.matchConstraints.resourceRules[{index}]"),
                rule,
            );
        }
    }
    conditions(report, "spec.matchConditions", &spec["matchConditions"]);
    let validations = items(&spec["validations"]);
    if validations.is_empty() && items(&spec["auditAnnotations"]).is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        report.require("spec.validations", why);
        report.require("spec.auditAnnotations", why);
    }
    for (index, validation) in validations.iter().enumerate() {
        if text(&validation["expression"]).trim().is_empty() {
            report.require(
                format!("spec.validations[{index}].expression"),
                "expression is not specified",
            );
        }
    }
}

pub(super) fn binding(report: &mut Report, spec: &Value) {
    report.filled("spec.policyName", &spec["policyName"]);
    let actions = items(&spec["validationActions"]);
    if actions.is_empty() {
        report.require(
            "spec.validationActions",
            "at least one validation action is required",
        );
    }
    let mut seen: Vec<&Value> = Vec::new();
    for (index, action) in actions.iter().enumerate() {
        let path = format!("spec.validationActions[{index}]");
        report.one_of(path.as_str(), action, &["Audit", "Deny", "Warn"]);
        if seen.contains(&action) {
            report.twice(path, action.clone());
        }
        seen.push(action);
    }
    let has = |name: &str| actions.iter().any(|action| action == name);
    if has("Deny") && has("Warn") {
        let value = spec["validationActions"].clone();
        report.invalid("spec.validationActions", value, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
}
