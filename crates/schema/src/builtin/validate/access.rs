//! Roles, who has them, and requests for certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Report, names, number, selector};
use crate::builtin::edit::{items, text};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn role(report: &mut Report, namespaced: bool, object: &Value) {
    for (index, rule) in items(&object["rules"]).iter().enumerate() {
        self::rule(report, &format!("rules[{index}]"), namespaced, rule);
    }
    if object["aggregationRule"].is_object() {
        let path = "aggregationRule.clusterRoleSelectors";
        let selectors = items(&object["aggregationRule"]["clusterRoleSelectors"]);
        if selectors.is_empty() {
            report.require(
                path,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (index, selector) in selectors.iter().enumerate() {
            selector::check(report, &format!("{path}[{index}]"), selector);
        }
    }
}

fn rule(report: &mut Report, path: &str, namespaced: bool, rule: &Value) {
    let empty = |field: &str| items(&rule[field]).is_empty();
    if empty("verbs") {
        report.require(
            format!("{path}.verbs"),
            "verbs must contain at least one value",
        );
    }
    if !empty("nonResourceURLs") {
        let urls = rule["nonResourceURLs"].clone();
        let path = format!("{path}.nonResourceURLs");
        if namespaced {
            report.invalid(
                path.as_str(),
                urls.clone(),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !empty("apiGroups") || !empty("resources") || !empty("resourceNames") {
            report.invalid(
                path,
                urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if empty("apiGroups") {
        report.require(
            format!("{path}.apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if empty("resources") {
        report.require(
            format!("{path}.resources"),
            "resource rules must supply at least one resource",
        );
    }
}

pub(super) fn binding(report: &mut Report, namespaced: bool, object: &Value) {
    let role = &object["roleRef"];
    report.one_of("roleRef.apiGroup", &role["apiGroup"], &[RBAC]);
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    report.one_of("roleRef.kind", &role["kind"], kinds);
    report.name("roleRef.name", &role["name"], names::path_segment);
    for (index, subject) in items(&object["subjects"]).iter().enumerate() {
        let path = format!("subjects[{index}]");
        let name = text(&subject["name"]);
        if name.is_empty() {
            report.require(format!("{path}.name"), "");
        }
        match text(&subject["kind"]) {
            "ServiceAccount" => {
                if let Some(why) = names::subdomain(name).filter(|_| !name.is_empty()) {
                    report.invalid(format!("{path}.name"), name, why);
                }
                if !text(&subject["apiGroup"]).is_empty() {
                    report.one_of(format!("{path}.apiGroup"), &subject["apiGroup"], &[""]);
                }
                // In a role binding, the namespace may be that of the binding.
                if !namespaced && text(&subject["namespace"]).is_empty() {
                    report.require(format!("{path}.namespace"), "");
                }
            }
            "User" | "Group" => {
                report.one_of(format!("{path}.apiGroup"), &subject["apiGroup"], &[RBAC]);
            }
            _ => report.one_of(
                format!("{path}.kind"),
                &subject["kind"],
                &["ServiceAccount", "User", "Group"],
            ),
        }
    }
}

pub(super) fn binding_update(report: &mut Report, new: &Value, old: &Value) {
    let role = &new["roleRef"];
    if *role != old["roleRef"] {
        let shown =
            json!({"APIGroup": role["apiGroup"], "Kind": role["kind"], "Name": role["name"]});
        report.invalid("roleRef", shown, "cannot change roleRef");
    }
}

/// What keys may be used for, as certificate requests call it.
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The shortest life of a certificate: 10 minutes.
const SHORTEST: i64 = 600;

pub(super) fn signing_request(report: &mut Report, spec: &Value) {
    let pem = STANDARD.decode(text(&spec["request"])).unwrap_or_default();
    let wanted = b"-----BEGIN CERTIFICATE REQUEST-----";
    if !pem.windows(wanted.len()).any(|part| part == wanted) {
        report.invalid(
            "spec.request",
            spec["request"].clone(),
            "PEM block type must be CERTIFICATE REQUEST",
        );
    }
    let usages = items(&spec["usages"]);
    if usages.is_empty() {
        report.require("spec.usages", "");
    }
    let mut seen: Vec<&Value> = Vec::new();
    for (index, usage) in usages.iter().enumerate() {
        report.one_of(format!("spec.usages[{index}]"), usage, USAGES);
        if seen.contains(&usage) {
            report.twice(format!("spec.usages[{index}]"), usage.clone());
        }
        seen.push(usage);
    }
    signer(report, text(&spec["signerName"]));
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < SHORTEST
    {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        report.invalid(
            "spec.expirationSeconds",
            number(&spec["expirationSeconds"]),
            why,
        );
    }
}

fn signer(report: &mut Report, name: &str) {
    let path = "spec.signerName";
    if name.is_empty() {
        report.require(path, "");
        return;
    }
    let Some((domain, rest)) = name.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        report.invalid(path, name, why);
        return;
    };
    if let Some(why) = names::subdomain(domain) {
        report.invalid(path, domain, why);
    } else if !domain.contains('.') {
        report.invalid(
            path,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    if let Some(why) = names::subdomain(rest) {
        report.invalid(path, rest, format!("validating label {rest:?}: {why}"));
    }
    if name == "kubernetes.io/legacy-unknown" {
        report.invalid(
            path,
            name,
            "the legacy signerName is not allowed via this API version",
        );
    }
}
