//! Services, their endpoints and policies, and the addresses that services get.

use std::fmt;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Fields;
use crate::builtin::edit::{absent, as_object, default, items_mut, object_in, sub};
use crate::field_error::FieldError;

pub(super) fn service(spec: &mut Fields) {
    default(spec, "sessionAffinity", "None");
    default(spec, "type", "ClusterIP");
    if spec
        .get("sessionAffinity")
        .is_some_and(|affinity| affinity == "None")
    {
        spec.remove("sessionAffinityConfig");
    }
    if spec
        .get("sessionAffinity")
        .is_some_and(|affinity| affinity == "ClientIP")
    {
        let client = object_in(object_in(spec, "sessionAffinityConfig"), "clientIP");
        default(client, "timeoutSeconds", 10_800);
    }
    for port in items_mut(spec, "ports") {
        default(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        let target = port.get("targetPort");
        if absent(target) || target.is_some_and(|target| *target == 0) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = spec
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

pub(super) fn endpoints(fields: &mut Fields) {
    for subset in items_mut(fields, "subsets") {
        items_mut(subset, "ports").for_each(|port| default(port, "protocol", "TCP"));
    }
}

pub(super) fn endpoint_slice(fields: &mut Fields) {
    for port in items_mut(fields, "ports") {
        port.entry("name").or_insert_with(|| Value::from(""));
        default(port, "protocol", "TCP");
    }
}

/// An address of a load balancer says how it is reached.
pub(super) fn service_status(fields: &mut Fields) {
    let balanced = fields
        .get("spec")
        .is_some_and(|spec| spec["type"] == "LoadBalancer");
    let Some(status) = sub(fields, "status").filter(|_| balanced) else {
        return;
    };
    if let Some(balancer) = sub(status, "loadBalancer") {
        for entry in items_mut(balancer, "ingress") {
            let addressed = entry
                .get("ip")
                .and_then(Value::as_str)
                .is_some_and(|ip| !ip.is_empty());
            if addressed {
                default(entry, "ipMode", "VIP");
            }
        }
    }
}

pub(super) fn policy(spec: &mut Fields) {
    for direction in ["ingress", "egress"] {
        for rule in items_mut(spec, direction) {
            items_mut(rule, "ports").for_each(|port| default(port, "protocol", "TCP"));
        }
    }
    let empty = |list: &str| {
        spec.get(list)
            .is_none_or(|rules| rules.as_array().is_none_or(Vec::is_empty))
    };
    if empty("policyTypes") {
        let types = if empty("egress") {
            json!(["Ingress"])
        } else {
            json!(["Ingress", "Egress"])
        };
        spec.insert("policyTypes".to_owned(), types);
    }
}

/// What other services hold already.
#[derive(Clone, Copy)]
pub struct AddressPool<'a> {
    /// Whether a service has this address.
    pub address_used: &'a dyn Fn(Ipv4Addr) -> bool,
    /// Whether a service has this node port.
    pub port_used: &'a dyn Fn(u16) -> bool,
}

impl fmt::Debug for AddressPool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressPool")
    }
}

/// First addresses of 10.96.0.0/16, which are left to those who ask for them.
const RESERVED: u32 = 256;
/// Addresses of the range, without network and broadcast.
const ADDRESSES: u32 = 65_535;
/// 10.96.0.0
const BASE: u32 = 0x0a60_0000;
/// Ports that nodes open for services.
const NODE_PORTS: std::ops::Range<u16> = 30_000..32_768;

/// Gives a new (or changed) service the addresses and node ports that it needs: an address of
/// 10.96.0.0/16 and ports of 30000–32767, chosen by the name of the service, the next free one when
/// taken. An address that was asked for is kept when it is free.
///
/// # Errors
///
/// The address is taken, or none is free.
pub fn assign_cluster_ips(service: &mut Value, pool: AddressPool<'_>) -> Result<(), FieldError> {
    let metadata = service["metadata"].clone();
    let seed = format!("{}/{}", metadata["namespace"], metadata["name"]);
    let hash = Sha256::digest(seed.as_bytes());
    let start = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let spec = object_in(as_object(service), "spec");
    if spec.get("type").is_some_and(|kind| kind == "ExternalName") {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(name);
        }
        return Ok(());
    }
    let wanted = spec
        .get("clusterIP")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let given = match wanted.as_str() {
        "None" => wanted,
        "" => {
            let span = ADDRESSES - RESERVED;
            let free = (0..span)
                .map(|step| Ipv4Addr::from(BASE + RESERVED + start.wrapping_add(step) % span))
                .find(|address| !(pool.address_used)(*address));
            let Some(address) = free else {
                let why = "failed to allocate IP for service: range is full";
                return Err(FieldError::invalid("spec.clusterIPs", json!([]), why));
            };
            address.to_string()
        }
        _ => match wanted.parse::<Ipv4Addr>() {
            Ok(address) if !(pool.address_used)(address) => wanted,
            Ok(_) => {
                let why = "failed to allocate IP ".to_owned()
                    + &wanted
                    + ": provided IP is already allocated";
                return Err(FieldError::invalid("spec.clusterIPs", json!([wanted]), why));
            }
            // Validation speaks of addresses that are none.
            Err(_) => wanted,
        },
    };
    spec.insert("clusterIP".to_owned(), Value::from(given.as_str()));
    spec.insert("clusterIPs".to_owned(), json!([given]));
    default(spec, "ipFamilies", json!(["IPv4"]));
    default(spec, "ipFamilyPolicy", "SingleStack");
    node_ports(spec, pool, start)
}

fn node_ports(spec: &mut Fields, pool: AddressPool<'_>, start: u32) -> Result<(), FieldError> {
    let exposed = match spec.get("type").and_then(Value::as_str) {
        Some("NodePort") => true,
        Some("LoadBalancer") => {
            spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false))
        }
        _ => false,
    };
    if !exposed {
        return Ok(());
    }
    let span = u32::from(NODE_PORTS.end - NODE_PORTS.start);
    let mut taken: Vec<u16> = Vec::new();
    for (index, port) in items_mut(spec, "ports").enumerate() {
        let path = format!("spec.ports[{index}].nodePort");
        let asked = port
            .get("nodePort")
            .and_then(Value::as_u64)
            .filter(|port| *port != 0);
        let number = if let Some(asked) = asked {
            let fits = u16::try_from(asked)
                .ok()
                .filter(|port| NODE_PORTS.contains(port));
            let Some(number) = fits else {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                return Err(FieldError::invalid(path, asked, why));
            };
            if (pool.port_used)(number) {
                let why = "provided port is already allocated";
                return Err(FieldError::invalid(path, asked, why));
            }
            number
        } else {
            let free = (0..span)
                .map(|step| NODE_PORTS.start + (start.wrapping_add(step) % span) as u16)
                .find(|port| !taken.contains(port) && !(pool.port_used)(*port));
            let Some(number) = free else {
                return Err(FieldError::invalid(path, 0, "range is full"));
            };
            number
        };
        taken.push(number);
        port.insert("nodePort".to_owned(), Value::from(number));
    }
    if let Some(client) = sub(spec, "sessionAffinityConfig") {
        client.retain(|_, value| !value.is_null());
    }
    Ok(())
}
