//! What there is: discovery, version, health, and every other path that is no resource.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::ApiServer;
use super::openapi::openapi_v2;
use super::query::Query;
use super::wire::{self, Response};
use crate::resource::registry::{Group, Registry};
use crate::resource::{Resource, api_version, encode};
use crate::status::ApiResult;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// A document and the hash of it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) body: Bytes,
    /// SHA-512 in upper case hex.
    pub(crate) hash: String,
}

impl Document {
    pub(crate) fn new(tree: &Value) -> Self {
        let body = encode(tree);
        let hash = upper_hex(&Sha512::digest(&body));
        Self { body, hash }
    }
}

fn upper_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
        }
    }
    text
}

/// Aggregated discovery of one registry.
#[derive(Debug)]
pub(crate) struct Documents {
    core: [Document; 2],
    groups: [Document; 2],
}

impl Documents {
    fn of(registry: &Registry) -> Self {
        let both = |core: bool| {
            ["v2", "v2beta1"].map(|version| Document::new(&aggregated(registry, core, version)))
        };
        Self {
            core: both(true),
            groups: both(false),
        }
    }
}

/// A subresource: name, kind, verbs, and the group and version of its kind where it is another's.
struct Sub<'a> {
    name: &'a str,
    kind: &'a str,
    of: Option<(&'a str, &'a str)>,
    verbs: &'a [&'a str],
}

fn subresources(resource: &Resource) -> Vec<Sub<'_>> {
    let mut all = Vec::new();
    let own = &*resource.kind;
    if resource.status {
        all.push(Sub {
            name: "status",
            kind: own,
            of: None,
            verbs: &SUBRESOURCE_VERBS,
        });
    }
    if resource.scale.is_some() {
        let of = Some(("autoscaling", "v1"));
        all.push(Sub {
            name: "scale",
            kind: "Scale",
            of,
            verbs: &SUBRESOURCE_VERBS,
        });
    }
    for name in resource.subresources {
        let (kind, of, verbs): (_, _, &[&str]) = match *name {
            "token" => (
                "TokenRequest",
                Some(("authentication.k8s.io", "v1")),
                &["create"],
            ),
            "eviction" => ("Eviction", Some(("policy", "v1")), &["create"]),
            "binding" => ("Binding", None, &["create"]),
            "finalize" => (own, None, &["update"]),
            _ => (own, None, &SUBRESOURCE_VERBS),
        };
        all.push(Sub {
            name,
            kind,
            of,
            verbs,
        });
    }
    if !resource.is_custom() {
        all.sort_by_key(|sub| sub.name);
    }
    all
}

fn aggregated(registry: &Registry, core: bool, version: &str) -> Value {
    let groups = registry
        .groups()
        .iter()
        .filter(|group| group.name.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|group| {
            let metadata = if core {
                json!({})
            } else {
                json!({"name": &*group.name})
            };
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = registry
                        .within(&group.name, version)
                        .map(|resource| described(resource))
                        .collect();
                    json!({"version": &**version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items,
    })
}

fn described(resource: &Resource) -> Value {
    let kind = |kind: &str, of: Option<(&str, &str)>| {
        // A real server leaves out what the group and version around it say already, but for custom kinds.
        let own = if resource.is_custom() {
            (&*resource.group, &*resource.version)
        } else {
            ("", "")
        };
        let (group, version) = of.unwrap_or(own);
        json!({"group": group, "version": version, "kind": kind})
    };
    let mut item = json!({
        "resource": &*resource.plural,
        "responseKind": kind(&resource.kind, None),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": &*resource.singular,
        "verbs": resource.verbs(),
    });
    if !resource.short_names.is_empty() {
        item["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        item["categories"] = json!(resource.categories);
    }
    let subs: Vec<Value> = subresources(resource)
        .into_iter()
        .map(|sub| {
            json!({
                "subresource": sub.name, "responseKind": kind(sub.kind, sub.of), "verbs": sub.verbs,
            })
        })
        .collect();
    if !subs.is_empty() {
        item["subresources"] = Value::Array(subs);
    }
    item
}

fn group(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| {
            json!({"groupVersion": api_version(&group.name, version), "version": &**version})
        })
        .collect();
    json!({
        "name": &*group.name, "preferredVersion": versions.first().cloned().unwrap_or_default(),
        "versions": versions,
    })
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for resource in registry.within(group, version) {
        let mut item = json!({
            "name": &*resource.plural, "singularName": &*resource.singular,
            "namespaced": resource.namespaced, "kind": &*resource.kind,
            "verbs": resource.verbs(),
        });
        if !resource.short_names.is_empty() {
            item["shortNames"] = json!(resource.short_names);
        }
        if !resource.categories.is_empty() {
            item["categories"] = json!(resource.categories);
        }
        resources.push(item);
        for sub in subresources(resource) {
            let mut item = json!({
                "name": format!("{}/{}", resource.plural, sub.name), "singularName": "",
                "namespaced": resource.namespaced, "kind": sub.kind, "verbs": sub.verbs,
            });
            if let Some((group, version)) = sub.of {
                item["group"] = group.into();
                item["version"] = version.into();
            }
            resources.push(item);
        }
    }
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": api_version(group, version), "resources": resources,
        })
    })
}

/// A document that clients keep until its hash changes.
pub(super) fn cached(document: &Document, headers: &HeaderMap, media: &'static str) -> Response {
    let tag = format!("\"{}\"", document.hash);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|text| {
            text.split(',')
                .any(|part| part.trim().trim_start_matches("W/") == tag)
        });
    let mut response = if known {
        wire::bytes(304, media, Bytes::new())
    } else {
        wire::bytes(200, media, document.body.clone())
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
        .headers_mut()
        .insert(header::VARY, wire::value("Accept"));
    response
}

impl ApiServer {
    /// Answers a path that is no resource.
    pub(super) fn serve_path(
        &self,
        parts: &Parts,
        path: &str,
        query: &Query,
    ) -> ApiResult<Response> {
        let not_found = || wire::text(404, "404 page not found\n");
        if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
            return Ok(wire::text(405, "405 method not allowed\n"));
        }
        let registry = self.registry();
        let path = if path.len() > 1 {
            path.trim_end_matches('/')
        } else {
            path
        };
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        Ok(match segments.as_slice() {
            [""] => wire::json(200, &json!({"paths": paths(&registry)})),
            ["api"] => aggregated_or(parts, &registry, true, || {
                json!({
                    "kind": "APIVersions", "versions": ["v1"],
                    "serverAddressByClientCIDRs": [{
                        "clientCIDR": "0.0.0.0/0", "serverAddress": self.config().external_address,
                    }],
                })
            }),
            ["apis"] => aggregated_or(parts, &registry, false, || {
                let named = registry
                    .groups()
                    .iter()
                    .filter(|group| !group.name.is_empty());
                let groups: Vec<Value> = named.map(group).collect();
                json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
            }),
            ["api", version] => match resource_list(&registry, "", version) {
                Some(list) => wire::json(200, &list),
                None => not_found(),
            },
            ["apis", name] => {
                match registry
                    .groups()
                    .iter()
                    .find(|g| &*g.name == *name && !name.is_empty())
                {
                    Some(found) => {
                        let mut found = group(found);
                        found["kind"] = "APIGroup".into();
                        found["apiVersion"] = "v1".into();
                        wire::json(200, &found)
                    }
                    None => not_found(),
                }
            }
            ["apis", group, version] => match resource_list(&registry, group, version) {
                Some(list) => wire::json(200, &list),
                None => not_found(),
            },
            ["openapi", "v3", rest @ ..] => {
                self.openapi_v3(&parts.headers, &registry, &rest.join("/"), query)
            }
            ["openapi", "v2"] => openapi_v2(&parts.headers, &registry)?,
            ["version"] => wire::json(200, &version(&self.config().version)),
            ["healthz" | "livez" | "readyz", ..] => health(segments[0], &segments[1..], query),
            ["metrics"] => match &self.config().metrics {
                Some(render) => {
                    let media = "text/plain; version=0.0.4; charset=utf-8";
                    wire::bytes(200, media, Bytes::from(render()))
                }
                None => not_found(),
            },
            ["openid", "v1", "jwks"] => {
                wire::bytes(200, "application/jwk-set+json", encode(&self.auth().jwks()))
            }
            [".well-known", "openid-configuration"] => {
                wire::json(200, &self.auth().openid_configuration())
            }
            _ => not_found(),
        })
    }
}

fn aggregated_or(
    parts: &Parts,
    registry: &Registry,
    core: bool,
    legacy: impl FnOnce() -> Value,
) -> Response {
    let documents = registry.documents.get_or_init(|| Documents::of(registry));
    let documents = if core {
        &documents.core
    } else {
        &documents.groups
    };
    for parameters in wire::json_ranges(&parts.headers) {
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        match (get("as"), get("g"), get("v")) {
            (None, ..) => break,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
                return cached(&documents[0], &parts.headers, V2);
            }
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
                return cached(&documents[1], &parts.headers, V2BETA1);
            }
            _ => {}
        }
    }
    wire::json(200, &legacy())
}

fn paths(registry: &Registry) -> Vec<String> {
    let fixed = [
        "/.well-known/openid-configuration",
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    for group in registry.groups() {
        let root = if group.name.is_empty() {
            "/api".to_owned()
        } else {
            let root = format!("/apis/{}", group.name);
            all.push(root.clone());
            root
        };
        all.extend(
            group
                .versions
                .iter()
                .map(|version| format!("{root}/{version}")),
        );
    }
    all.sort();
    all
}

fn version(git: &str) -> Value {
    let mut numbers = git.trim_start_matches('v').split(['.', '+', '-']);
    let major = numbers.next().unwrap_or("1");
    let minor = numbers.next().unwrap_or("0");
    json!({
        "major": major, "minor": minor, "gitVersion": git, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }),
    })
}

fn health(name: &str, check: &[&str], query: &Query) -> Response {
    match check {
        [] if query.is_true("verbose") => wire::text(
            200,
            format!("[+]ping ok\n[+]store ok\n{name} check passed\n"),
        ),
        [] | ["ping" | "store"] => wire::text(200, "ok"),
        _ => wire::text(404, "404 page not found\n"),
    }
}
