//! Services and what leads to them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{NONE, Row, UNSET, labels, number, or};
use crate::builtin::edit::{items, text};

/// Endpoints and hosts that are listed before the rest is only counted.
const SHOWN: usize = 3;

fn name(row: Row<'_>) -> Value {
    row.object["metadata"]["name"].clone()
}

/// Addresses that a load balancer announced.
fn announced(status: &Value) -> String {
    let addresses: BTreeSet<&str> = items(&status["loadBalancer"]["ingress"])
        .iter()
        .map(|ingress| {
            if text(&ingress["ip"]).is_empty() {
                text(&ingress["hostname"])
            } else {
                text(&ingress["ip"])
            }
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn service(row: Row<'_>) -> Vec<Value> {
    let (spec, status) = (&row.object["spec"], &row.object["status"]);
    let external: Vec<&str> = items(&spec["externalIPs"]).iter().map(text).collect();
    let external = external.join(",");
    let outside = match text(&spec["type"]) {
        "ClusterIP" | "NodePort" if external.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => external,
        "LoadBalancer" => match (announced(status), external) {
            (announced, external) if announced.is_empty() && external.is_empty() => {
                "<pending>".to_owned()
            }
            (announced, external) if external.is_empty() => announced,
            (announced, external) if announced.is_empty() => external,
            (announced, external) => format!("{announced},{external}"),
        },
        "ExternalName" => text(&spec["externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    };
    let ports: Vec<String> = items(&spec["ports"])
        .iter()
        .map(|port| {
            match (
                number(&port["port"]),
                number(&port["nodePort"]),
                text(&port["protocol"]),
            ) {
                (port, 0, protocol) => format!("{port}/{protocol}"),
                (port, node, protocol) => format!("{port}:{node}/{protocol}"),
            }
        })
        .collect();
    vec![
        name(row),
        Value::from(text(&spec["type"])),
        or(&spec["clusterIPs"][0], NONE),
        Value::from(outside),
        or(&Value::from(ports.join(",")), NONE),
        row.age(),
        labels(&spec["selector"]),
    ]
}

/// The first few, and how many more there are.
fn shortened(all: &[String], none: &str) -> Value {
    let shown = all
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(",");
    match all.len() {
        0 => Value::from(none),
        count if count > SHOWN => Value::from(format!("{shown} + {} more...", count - SHOWN)),
        _ => Value::from(shown),
    }
}

pub(super) fn endpoints(row: Row<'_>) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(&row.object["subsets"]) {
        let addresses = || {
            items(&subset["addresses"])
                .iter()
                .map(|address| text(&address["ip"]))
        };
        let ports = items(&subset["ports"]);
        if ports.is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = number(&port["port"]);
            all.extend(addresses().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    let none = if items(&row.object["subsets"]).is_empty() {
        NONE
    } else {
        ""
    };
    vec![name(row), shortened(&all, none), row.age()]
}

pub(super) fn endpoint_slice(row: Row<'_>) -> Vec<Value> {
    let ports: Vec<String> = items(&row.object["ports"])
        .iter()
        .map(
            |port| match (port["port"].as_i64(), port["name"].as_str()) {
                (Some(number), _) => number.to_string(),
                (None, Some(name)) => name.to_owned(),
                (None, None) => "*".to_owned(),
            },
        )
        .collect();
    let addresses: Vec<String> = items(&row.object["endpoints"])
        .iter()
        .flat_map(|endpoint| items(&endpoint["addresses"]))
        .map(|address| text(address).to_owned())
        .collect();
    vec![
        name(row),
        Value::from(text(&row.object["addressType"])),
        shortened(&ports, UNSET),
        shortened(&addresses, UNSET),
        row.age(),
    ]
}

pub(super) fn ingress(row: Row<'_>) -> Vec<Value> {
    let spec = &row.object["spec"];
    let rules = items(&spec["rules"]);
    let hosts: Vec<&str> = rules
        .iter()
        .map(|rule| text(&rule["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    let shown = hosts
        .iter()
        .take(SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        // As upstream counts: rules, not hosts.
        count if count > SHOWN => format!("{shown} + {} more...", rules.len() - SHOWN),
        _ => shown,
    };
    let ports = if items(&spec["tls"]).is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        name(row),
        or(&spec["ingressClassName"], NONE),
        Value::from(hosts),
        Value::from(announced(&row.object["status"])),
        Value::from(ports),
        row.age(),
    ]
}

pub(super) fn ingress_class(row: Row<'_>) -> Vec<Value> {
    let default = row.object["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"]
        == "true";
    let parameters = &row.object["spec"]["parameters"];
    let parameters = if parameters.is_object() {
        let group = text(&parameters["apiGroup"]);
        let dot = if group.is_empty() { "" } else { "." };
        format!(
            "{}{dot}{group}/{}",
            text(&parameters["kind"]),
            text(&parameters["name"])
        )
    } else {
        NONE.to_owned()
    };
    vec![
        row.default_name(default),
        Value::from(text(&row.object["spec"]["controller"])),
        Value::from(parameters),
        row.age(),
    ]
}
