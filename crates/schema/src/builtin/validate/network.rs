//! Services, what leads to them, and what may reach them.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Report, names, number, selector};
use crate::builtin::edit::{items, text};

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}

pub(super) fn service(report: &mut Report, spec: &Value) {
    let kind = text(&spec["type"]);
    let headless = spec["clusterIP"] == "None";
    let ports = items(&spec["ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        report.require("spec.ports", "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            report.invalid("spec.clusterIPs[0]", "None", why);
        }
        "ExternalName" => {
            if !text(&spec["clusterIP"]).is_empty() {
                report.forbid(
                    "spec.clusterIPs",
                    "may not be set when `type` is 'ExternalName'",
                );
            }
            let name = text(&spec["externalName"]).trim_end_matches('.');
            if name.is_empty() {
                report.require("spec.externalName", "");
            } else if let Some(why) = names::subdomain(name) {
                report.invalid("spec.externalName", name, why);
            }
        }
        _ => {}
    }
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        self::port(
            report,
            &format!("spec.ports[{index}]"),
            port,
            ports.len() > 1,
            &mut seen,
        );
    }
    selector::labels(report, "spec.selector", &spec["selector"]);
    report.one_of(
        "spec.sessionAffinity",
        &spec["sessionAffinity"],
        &["ClientIP", "None"],
    );
    for (index, address) in items(&spec["clusterIPs"]).iter().map(text).enumerate() {
        if address != "None" && address.parse::<IpAddr>().is_err() {
            report.invalid(format!("spec.clusterIPs[{index}]"), address, ADDRESS);
        }
    }
    for (index, address) in items(&spec["externalIPs"]).iter().map(text).enumerate() {
        if address.parse::<IpAddr>().is_err() {
            report.invalid(format!("spec.externalIPs[{index}]"), address, ADDRESS);
        }
    }
    report.one_of(
        "spec.type",
        &spec["type"],
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    exposed(report, spec, kind);
    let mut seen: Vec<(i64, &str)> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let key = (number(&port["port"]), text(&port["protocol"]));
        if seen.contains(&key) {
            let value = json!({
                "Name": "", "Protocol": key.1, "AppProtocol": null, "Port": key.0, "TargetPort": 0, "NodePort": 0,
            });
            report.twice(format!("spec.ports[{index}]"), value);
        }
        seen.push(key);
    }
}

fn port<'v>(
    report: &mut Report,
    path: &str,
    port: &'v Value,
    several: bool,
    seen: &mut Vec<&'v str>,
) {
    let name = text(&port["name"]);
    if name.is_empty() && several {
        report.require(format!("{path}.name"), "");
    } else if !name.is_empty() {
        match names::label(name) {
            Some(why) => report.invalid(format!("{path}.name"), name, why),
            None if seen.contains(&name) => report.twice(format!("{path}.name"), name),
            None => seen.push(name),
        }
    }
    report.port(format!("{path}.port"), &port["port"]);
    report.one_of(
        format!("{path}.protocol"),
        &port["protocol"],
        &["SCTP", "TCP", "UDP"],
    );
    report.port_or_name(format!("{path}.targetPort"), &port["targetPort"]);
}

fn exposed(report: &mut Report, spec: &Value, kind: &str) {
    if matches!(kind, "ClusterIP" | "ExternalName") {
        for (index, port) in items(&spec["ports"]).iter().enumerate() {
            if number(&port["nodePort"]) != 0 {
                let why = format!("may not be used when `type` is '{kind}'");
                report.forbid(format!("spec.ports[{index}].nodePort"), why);
            }
        }
    }
    for (index, range) in items(&spec["loadBalancerSourceRanges"])
        .iter()
        .map(text)
        .enumerate()
    {
        if kind == "LoadBalancer" && !is_cidr(range.trim()) {
            report.invalid(
                format!("spec.LoadBalancerSourceRanges[{index}]"),
                range,
                CIDR,
            );
        }
    }
    if kind != "LoadBalancer" {
        let why = "may only be used when `type` is 'LoadBalancer'";
        if !items(&spec["loadBalancerSourceRanges"]).is_empty() {
            report.forbid("spec.LoadBalancerSourceRanges", why);
        }
        if spec["allocateLoadBalancerNodePorts"].is_boolean() {
            report.forbid("spec.allocateLoadBalancerNodePorts", why);
        }
        if spec["loadBalancerClass"].is_string() {
            report.forbid("spec.loadBalancerClass", why);
        }
    }
    let outside = &spec["externalTrafficPolicy"];
    let external =
        matches!(kind, "LoadBalancer" | "NodePort") || !items(&spec["externalIPs"]).is_empty();
    if external {
        report.maybe_one_of("spec.externalTrafficPolicy", outside, &["Cluster", "Local"]);
    } else if !outside.is_null() {
        let why = "may only be set for externally-accessible services";
        report.invalid("spec.externalTrafficPolicy", outside.clone(), why);
    }
    if kind != "ExternalName" {
        report.maybe_one_of(
            "spec.internalTrafficPolicy",
            &spec["internalTrafficPolicy"],
            &["Cluster", "Local"],
        );
    }
}

pub(super) fn service_update(report: &mut Report, new: &Value, old: &Value) {
    let named = |spec: &Value| spec["type"] == "ExternalName";
    let had = text(&old["clusterIP"]);
    if !named(new) && !named(old) && !had.is_empty() && new["clusterIP"] != old["clusterIP"] {
        report.invalid(
            "spec.clusterIPs[0]",
            new["clusterIPs"].clone(),
            "may not change once set",
        );
    }
}

pub(super) fn endpoints(report: &mut Report, object: &Value) {
    for (index, subset) in items(&object["subsets"]).iter().enumerate() {
        let path = format!("subsets[{index}]");
        let (ready, waiting) = (
            items(&subset["addresses"]),
            items(&subset["notReadyAddresses"]),
        );
        if ready.is_empty() && waiting.is_empty() {
            report.require(
                path.as_str(),
                "must specify `addresses` or `notReadyAddresses`",
            );
        }
        for (list, addresses) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            for (at, address) in addresses.iter().enumerate() {
                let ip = text(&address["ip"]);
                if ip.parse::<IpAddr>().is_err() {
                    let path = format!("{path}.{list}[{at}].ip");
                    report.invalid(path.as_str(), ip, ADDRESS);
                    report.invalid(path, ip, "must be a valid IP address");
                }
            }
        }
        for (at, port) in items(&subset["ports"]).iter().enumerate() {
            report.port(format!("{path}.ports[{at}].port"), &port["port"]);
            report.one_of(
                format!("{path}.ports[{at}].protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            );
        }
    }
}

pub(super) fn endpoint_slice(report: &mut Report, object: &Value) {
    if text(&object["addressType"]).is_empty() {
        report.require("addressType", "");
    } else {
        report.one_of(
            "addressType",
            &object["addressType"],
            &["FQDN", "IPv4", "IPv6"],
        );
    }
    for (index, endpoint) in items(&object["endpoints"]).iter().enumerate() {
        let path = format!("endpoints[{index}].addresses");
        let addresses = items(&endpoint["addresses"]);
        if addresses.is_empty() {
            report.require(path.as_str(), "must contain at least 1 address");
        }
        for (at, address) in addresses.iter().map(text).enumerate() {
            let wrong = match (text(&object["addressType"]), address.parse::<IpAddr>()) {
                ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => None,
                ("IPv4", _) => Some("must be an IPv4 address".to_owned()),
                ("IPv6", _) => Some("must be an IPv6 address".to_owned()),
                ("FQDN", _) => names::subdomain(address),
                _ => None,
            };
            if let Some(why) = wrong {
                report.invalid(format!("{path}[{at}]"), address, why);
            }
        }
    }
    report.unique("ports", &object["ports"], "name");
}

pub(super) fn policy(report: &mut Report, spec: &Value) {
    selector::check(report, "spec.podSelector", &spec["podSelector"]);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in items(&spec[direction]).iter().enumerate() {
            let path = format!("spec.{direction}[{index}]");
            for (at, port) in items(&rule["ports"]).iter().enumerate() {
                let path = format!("{path}.ports[{at}]");
                report.maybe_one_of(
                    format!("{path}.protocol"),
                    &port["protocol"],
                    &["TCP", "UDP", "SCTP"],
                );
                if !port["port"].is_null() {
                    report.port_or_name(format!("{path}.port"), &port["port"]);
                }
                if !port["endPort"].is_null() && number(&port["endPort"]) < number(&port["port"]) {
                    let why = "must be greater than or equal to `port`";
                    report.invalid(format!("{path}.endPort"), port["endPort"].clone(), why);
                }
            }
            for (at, peer) in items(&rule[peers]).iter().enumerate() {
                self::peer(report, &format!("{path}.{peers}[{at}]"), peer);
            }
        }
    }
    let types = items(&spec["policyTypes"]);
    if types.len() > 2 {
        report.invalid(
            "spec.policyTypes",
            spec["policyTypes"].clone(),
            "may not specify more than two policyTypes",
        );
        return;
    }
    for (index, kind) in types.iter().enumerate() {
        report.one_of(
            format!("spec.policyTypes[{index}]"),
            kind,
            &["Ingress", "Egress"],
        );
    }
}

fn peer(report: &mut Report, path: &str, peer: &Value) {
    let block = &peer["ipBlock"];
    let mut kinds = 0;
    for name in ["podSelector", "namespaceSelector"] {
        if peer[name].is_object() {
            kinds += 1;
            selector::check(report, &format!("{path}.{name}"), &peer[name]);
        }
    }
    if block.is_object() {
        let range = text(&block["cidr"]);
        if range.is_empty() {
            report.require(format!("{path}.ipBlock.cidr"), "");
        } else if !is_cidr(range) {
            report.invalid(format!("{path}.ipBlock.cidr"), range, CIDR);
        }
        if kinds > 0 {
            report.forbid(path, "may not specify both ipBlock and another peer");
        }
    } else if kinds == 0 {
        report.require(path, "must specify a peer");
    }
}

pub(super) fn ingress(report: &mut Report, spec: &Value) {
    let rules = items(&spec["rules"]);
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        report.invalid(
            "spec",
            Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if spec["defaultBackend"].is_object() {
        backend(report, "spec.defaultBackend", &spec["defaultBackend"]);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        let host = text(&rule["host"]);
        if host.parse::<IpAddr>().is_ok() {
            report.invalid(
                format!("{path}.host"),
                host,
                "must be a DNS name, not an IP address",
            );
        } else if !host.is_empty() {
            // A wildcard covers one label.
            let name = host.strip_prefix("*.").unwrap_or(host);
            if let Some(why) = names::subdomain(name) {
                report.invalid(format!("{path}.host"), host, why);
            }
        }
        if rule["http"].is_object() {
            let paths = items(&rule["http"]["paths"]);
            if paths.is_empty() {
                report.require(format!("{path}.http.paths"), "");
            }
            for (at, one) in paths.iter().enumerate() {
                http_path(report, &format!("{path}.http.paths[{at}]"), one);
            }
        }
    }
    if let Some(class) = spec["ingressClassName"].as_str()
        && let Some(why) = names::subdomain(class)
    {
        report.invalid("spec.ingressClassName", class, why);
    }
}

fn http_path(report: &mut Report, path: &str, one: &Value) {
    let at = text(&one["path"]);
    match text(&one["pathType"]) {
        "" => {
            report.require(format!("{path}.pathType"), "pathType must be specified");
            return;
        }
        "Exact" | "Prefix" => {
            if !at.starts_with('/') {
                report.invalid(format!("{path}.path"), at, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if at.contains(part) {
                    report.invalid(
                        format!("{path}.path"),
                        at,
                        format!("must not contain '{part}'"),
                    );
                }
            }
        }
        "ImplementationSpecific" => {
            if !at.is_empty() && !at.starts_with('/') {
                report.invalid(format!("{path}.path"), at, "must be an absolute path");
            }
        }
        _ => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            report.one_of(format!("{path}.pathType"), &one["pathType"], &supported);
        }
    }
    backend(report, &format!("{path}.backend"), &one["backend"]);
}

fn backend(report: &mut Report, path: &str, backend: &Value) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    if service.is_object() && resource.is_object() {
        report.invalid(path, "", "cannot set both resource and service backends");
    } else if resource.is_object() {
        report.filled(format!("{path}.resource.kind"), &resource["kind"]);
        report.filled(format!("{path}.resource.name"), &resource["name"]);
    } else if service.is_object() {
        report.name(
            format!("{path}.service.name"),
            &service["name"],
            names::label,
        );
        let port = &service["port"];
        match (text(&port["name"]), number(&port["number"])) {
            ("", 0) => report.require(path, "port name or number is required"),
            ("", _) => report.port(format!("{path}.service.port.number"), &port["number"]),
            (name, 0) => {
                if let Some(why) = names::port(name) {
                    report.invalid(format!("{path}.service.port.name"), name, why);
                }
            }
            _ => report.invalid(path, "", "cannot set both port name & port number"),
        }
    } else {
        report.invalid(path, "", "resource or service backend is required");
    }
}
