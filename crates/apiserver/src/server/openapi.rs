//! OpenAPI documents. Those of a group and version are made when first asked for, and kept as
//! long as its kinds stay what they are.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use drover_schema::openapi::{self, Described};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use super::ApiServer;
use super::discovery::{Document, cached};
use super::query::Query;
use super::wire::{self, JSON, Response};
use crate::resource::registry::Registry;
use crate::resource::{Resource, Source};
use crate::status::{ApiError, ApiResult};

/// Documents by path (`apis/apps/v1`), and what they were made of.
#[derive(Debug, Default)]
pub(super) struct Cache {
    documents: Mutex<HashMap<String, Entry>>,
}

/// Documents of groups that are all built in: the same in every server of the process.
static BUILTIN: LazyLock<Cache> = LazyLock::new(Cache::default);

#[derive(Debug)]
struct Entry {
    resources: Vec<Arc<Resource>>,
    document: Arc<Document>,
}

fn describe(resource: &Resource) -> Described<'_> {
    Described {
        group: &resource.group,
        version: &resource.version,
        kind: &resource.kind,
        list_kind: &resource.list_kind,
        plural: &resource.plural,
        namespaced: resource.namespaced,
        verbs: resource.verbs(),
        status: resource.status,
        scale: resource.scale.is_some(),
        schema: &resource.schema,
        definition: match &resource.source {
            Source::Builtin(kind) => Some(kind.definition),
            Source::Custom { .. } => None,
        },
    }
}

impl Cache {
    fn get(&self, registry: &Registry, group: &str, version: &str) -> Option<Arc<Document>> {
        let resources: Vec<Arc<Resource>> = registry.within(group, version).cloned().collect();
        if resources.is_empty() {
            return None;
        }
        if resources.iter().all(|resource| !resource.is_custom()) {
            return Some(BUILTIN.document(group, version, resources));
        }
        Some(self.document(group, version, resources))
    }

    fn document(&self, group: &str, version: &str, resources: Vec<Arc<Resource>>) -> Arc<Document> {
        let path = path(group, version);
        let mut documents = self
            .documents
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = documents.get(&path) {
            let same = entry.resources.len() == resources.len()
                && entry
                    .resources
                    .iter()
                    .zip(&resources)
                    .all(|(a, b)| Arc::ptr_eq(a, b));
            if same {
                return Arc::clone(&entry.document);
            }
        }
        let described: Vec<Described<'_>> = resources
            .iter()
            .map(|resource| describe(resource))
            .collect();
        let document = Arc::new(Document::new(&openapi::v3(group, version, &described)));
        drop(described);
        documents.insert(
            path,
            Entry {
                resources,
                document: Arc::clone(&document),
            },
        );
        document
    }
}

fn path(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

impl ApiServer {
    pub(super) fn openapi_v3(
        &self,
        headers: &HeaderMap,
        registry: &Registry,
        asked: &str,
        query: &Query,
    ) -> Response {
        let cache = &self.inner.openapi;
        if asked.is_empty() {
            let mut paths = Map::new();
            for group in registry.groups() {
                for version in &group.versions {
                    if let Some(document) = cache.get(registry, &group.name, version) {
                        let path = path(&group.name, version);
                        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                        paths.insert(path, json!({"serverRelativeURL": url}));
                    }
                }
            }
            return cached(&Document::new(&json!({"paths": paths})), headers, JSON);
        }
        let parts: Vec<&str> = asked.split('/').collect();
        let document = match parts.as_slice() {
            ["api", version] => cache.get(registry, "", version),
            ["apis", group, version] => cache.get(registry, group, version),
            _ => None,
        };
        let Some(document) = document else {
            return wire::text(404, "404 page not found\n");
        };
        let mut response = cached(&document, headers, JSON);
        match query.get("hash") {
            None => {}
            Some(hash) if hash == document.hash => {
                let year = wire::value("public, immutable, max-age=31536000");
                response.headers_mut().insert(header::CACHE_CONTROL, year);
            }
            Some(_) => {
                let place = format!("/openapi/v3/{asked}?hash={}", document.hash);
                response = wire::bytes(301, JSON, bytes::Bytes::new());
                if let Ok(place) = http::HeaderValue::from_str(&place) {
                    response.headers_mut().insert(header::LOCATION, place);
                }
            }
        }
        response
    }
}

/// Clients that want it in protobuf learn that there is none, and do without.
pub(super) fn openapi_v2(headers: &HeaderMap, registry: &Registry) -> ApiResult<Response> {
    let wanted =
        wire::negotiate(headers, false, false).map_err(|_| ApiError::not_acceptable(&[JSON]))?;
    if wanted.encoding != wire::Encoding::Json {
        return Err(ApiError::not_acceptable(&[JSON]));
    }
    let document = registry.openapi.get_or_init(|| {
        let described: Vec<Described<'_>> = registry
            .resources()
            .iter()
            .map(|resource| describe(resource))
            .collect();
        let tree: Value = openapi::v2(&described);
        Document::new(&tree)
    });
    Ok(cached(document, headers, JSON))
}
