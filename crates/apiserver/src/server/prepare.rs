//! What the server itself puts into objects, and keeps clients from changing.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use drover_schema::apply;
use drover_schema::builtin::{AddressPool, assign_cluster_ips};
use serde_json::{Value, json};

use super::write::CSRS;
use super::{Call, definitions, meta};
use crate::resource::{DEFINITIONS, NAMESPACES};
use crate::status::ApiResult;

/// What suffixes of generated names are made of: no vowels, nothing that looks like another.
const SUFFIX: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Where services are.
const SERVICES: &str = "/services";

impl Call<'_> {
    pub(super) fn prepare_new(&self, object: &mut Value, now: &str) -> ApiResult<()> {
        let uid = self.server.new_uid();
        let metadata = meta::of(object);
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "generation",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        drop_nulls(metadata);
        self.resource.prepare_create(object);
        self.resource.fill_defaults(object);
        if self.resource.counts_generations() {
            meta::of(object).insert("generation".to_owned(), 1.into());
        }
        match &*self.resource.storage {
            DEFINITIONS => definitions::prepare(object),
            NAMESPACES => prepare_namespace(object),
            CSRS => {
                self.server.auth().stamp_csr(object, self.user);
                self.server.auth().check_csr_create(object)?;
            }
            _ => {}
        }
        self.check_escalation(object)
    }

    pub(super) fn check_escalation(&self, object: &Value) -> ApiResult<()> {
        if &*self.resource.group != "rbac.authorization.k8s.io" {
            return Ok(());
        }
        let auth = self.server.auth();
        auth.check_escalation(self.user, &self.resource.kind, object, self.namespace)
    }

    /// Services get an address and ports that no other service has.
    pub(super) fn give_addresses(&self, name: &str, object: &mut Value) -> ApiResult<()> {
        if &*self.resource.storage != SERVICES {
            return Ok(());
        }
        let (mut addresses, mut ports) = (HashSet::new(), HashSet::new());
        for other in self.server.store().list(SERVICES, None).items {
            if &*other.key.name == name && &*other.key.namespace == self.namespace {
                continue;
            }
            let spec = &other.value()["spec"];
            let list = |field: &str| spec[field].as_array().cloned().unwrap_or_default();
            let texts = list("clusterIPs");
            addresses.extend(
                texts
                    .iter()
                    .filter_map(|ip| ip.as_str()?.parse::<Ipv4Addr>().ok()),
            );
            let numbers = list("ports");
            ports.extend(numbers.iter().filter_map(|port| port["nodePort"].as_u64()));
        }
        let pool = AddressPool {
            address_used: &|address| addresses.contains(&address),
            port_used: &|port| ports.contains(&u64::from(port)),
        };
        assign_cluster_ips(object, pool).map_err(|error| self.invalid(name, &[error]))
    }

    pub(super) fn generate_name(&self, prefix: &str) -> String {
        let random: [u8; 5] = self.server.random_bytes();
        let cut = prefix
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take_while(|at| *at <= 58);
        let mut name = prefix[..cut.last().unwrap_or(0)].to_owned();
        name.extend(random.map(|byte| char::from(SUFFIX[usize::from(byte) % SUFFIX.len()])));
        name
    }

    pub(super) fn refuse_invalid(&self, new: &Value, old: Option<&Value>) -> ApiResult<()> {
        let mut errors = meta::validate(&self.resource, new);
        if let Some(old) = old {
            errors.extend(meta::validate_update(new, old));
        } else if &*self.resource.storage == CSRS {
            errors.extend(self.server.auth().validate_csr(new));
        }
        // A binding sets what nobody else may change.
        if self.subresource != "binding" {
            errors.extend(self.resource.validate(new, old));
        }
        if errors.is_empty() {
            return Ok(());
        }
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        Err(self.invalid(name, &errors))
    }

    /// Takes from `new` what this endpoint may write.
    pub(super) fn compose(&self, old: &Value, mut new: Value) -> Value {
        let (section, field) = match self.subresource {
            "status" | "approval" => (None, "status"),
            "finalize" => (Some("spec"), "finalizers"),
            _ => return new,
        };
        let mut next = old.clone();
        let value = match section {
            None => new[field].take(),
            Some(section) => new[section][field].take(),
        };
        let target = match section {
            None => &mut next,
            Some(section) => &mut next[section],
        };
        match (target.as_object_mut(), value) {
            (Some(map), Value::Null) => {
                map.remove(field);
            }
            (Some(map), value) => {
                map.insert(field.to_owned(), value);
            }
            (None, Value::Null) => {}
            (None, value) => *target = json!({field: value}),
        }
        let managers = new["metadata"]["managedFields"].take();
        if !managers.is_null() {
            next["metadata"]["managedFields"] = managers;
        }
        next
    }

    pub(super) fn count_generation(&self, next: &mut Value, old: &Value) {
        if !self.resource.counts_generations() {
            return;
        }
        let before = old["metadata"]["generation"].as_i64().unwrap_or(0);
        let ignored = |key: &str| {
            matches!(key, "apiVersion" | "kind" | "metadata")
                || key == "status" && self.resource.status
        };
        let parts = |value: &Value| -> Vec<(String, Value)> {
            let map = value.as_object().into_iter().flatten();
            map.filter(|(key, _)| !ignored(key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let noted = |object: &Value| object["metadata"]["annotations"].clone();
        let bump = i64::from(match &*self.resource.kind {
            "PriorityClass" => false,
            // Its annotations reach the replica sets.
            "Deployment" if noted(next) != noted(old) => true,
            _ => parts(next) != parts(old),
        });
        meta::of(next).insert("generation".to_owned(), (before + bump).into());
    }
}

fn drop_nulls(metadata: &mut serde_json::Map<String, Value>) {
    metadata.retain(|_, value| !value.is_null());
}

/// What a client cannot write is as it was.
pub(super) fn restore_metadata(next: &mut Value, old: &Value) {
    let metadata = meta::of(next);
    drop_nulls(metadata);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
    ] {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    for field in ["uid", "creationTimestamp"] {
        if metadata.get(field).is_none()
            && let Some(value) = old["metadata"].get(field)
        {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
}

/// Whether a write changes nothing: neither the object nor who manages what.
pub(super) fn is_same(old: &Value, new: &Value) -> bool {
    if !apply::same_but_bookkeeping(old, new) {
        return false;
    }
    let managers = |object: &Value| -> Vec<Value> {
        let mut list: Vec<Value> = object["metadata"]["managedFields"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for entry in &mut list {
            if let Some(map) = entry.as_object_mut() {
                map.remove("time");
            }
        }
        list.sort_by_key(Value::to_string);
        list
    };
    managers(old) == managers(new)
}

pub(super) fn prepare_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        let labels = meta::of(object)
            .entry("labels")
            .or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name);
        }
    }
    let finalizers = object["spec"]["finalizers"].as_array();
    if finalizers.is_none_or(|list| !list.iter().any(|name| name == "kubernetes")) {
        let mut list = finalizers.cloned().unwrap_or_default();
        list.push("kubernetes".into());
        match object["spec"].as_object_mut() {
            Some(spec) => {
                spec.insert("finalizers".to_owned(), Value::Array(list));
            }
            None => object["spec"] = json!({"finalizers": list}),
        }
    }
    object["status"] = json!({"phase": "Active"});
}
