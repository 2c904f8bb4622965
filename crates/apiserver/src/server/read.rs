//! Single objects and lists, as they are, as tables or as metadata.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use drover_schema::field_error::FieldError;
use drover_schema::table::Column;
use serde_json::{Value, json};

use super::query::refuse;
use super::select::Selection;
use super::wire::{self, Encoding, Form, Response, Wanted};
use super::{ApiServer, Call};
use crate::resource::{Resource, encode};
use crate::status::{ApiError, ApiResult};
use crate::store::{Listing, Object};

const LIST_OPTIONS: &str = "ListOptions";
const TOO_OLD_TOKEN: &str = "The provided continue parameter is too old to display a consistent \
    list result. You must start a new list without the continue parameter.";

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn encode(&self) -> String {
        let start = format!("{}/{}\0", self.namespace, self.name);
        let token = json!({"v": "meta.k8s.io/v1", "rv": self.revision, "start": start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn decode(token: &str) -> ApiResult<Self> {
        let refuse = |why: &str| {
            ApiError::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(token.trim_end_matches('='))
            .map_err(|error| refuse(&format!("illegal base64 data: {error}")))?;
        let token: Value =
            serde_json::from_slice(&bytes).map_err(|error| refuse(&error.to_string()))?;
        if token["v"] != "meta.k8s.io/v1" {
            return Err(refuse("server does not recognize this encoded version"));
        }
        let revision = token["rv"].as_u64().filter(|revision| *revision > 0);
        let revision = revision.ok_or_else(|| refuse("incorrect encoded start resourceVersion"))?;
        let start = token["start"].as_str().unwrap_or_default();
        let (namespace, name) = start
            .split_once('/')
            .ok_or_else(|| refuse("encoded start key is malformed"))?;
        Ok(Self {
            revision,
            namespace: namespace.to_owned(),
            name: name.trim_end_matches('\0').to_owned(),
        })
    }
}

/// Parses a revision as Go does.
pub(super) fn parse_revision(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
}

/// Which state of the store a list shows.
enum At {
    Now,
    Exactly(u64),
}

/// The metadata of a list.
pub(super) struct ListMeta {
    pub(super) revision: u64,
    pub(super) token: Option<String>,
    pub(super) remaining: Option<usize>,
}

impl ListMeta {
    fn to_value(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}

impl Call<'_> {
    pub(super) fn get(&self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let object = self.live()?;
        self.show_stored(200, &object, wanted)
    }

    /// What the client wants to see of this kind.
    pub(super) fn wanted(&self) -> ApiResult<Wanted> {
        wire::negotiate(self.headers, !self.resource.is_custom(), true)
    }

    pub(super) fn show_stored(
        &self,
        code: u16,
        object: &Object,
        wanted: Wanted,
    ) -> ApiResult<Response> {
        if wanted.form == Form::Object && wanted.encoding == Encoding::Json {
            return Ok(wire::bytes(
                code,
                wire::JSON,
                self.resource.read_bytes(object),
            ));
        }
        self.show(code, self.resource.read(object), wanted)
    }

    pub(super) fn show(&self, code: u16, object: Value, wanted: Wanted) -> ApiResult<Response> {
        let tree = match wanted.form {
            Form::Object => object,
            Form::Metadata(version) => metadata_of(object, version),
            Form::Table(version) => {
                let metadata =
                    json!({"resourceVersion": object["metadata"]["resourceVersion"].clone()});
                let printer = self.printer(version)?;
                printer.table(metadata, vec![printer.row(object)], true)
            }
        };
        wire::tree(code, &tree, wanted)
    }

    pub(super) fn printer(&self, version: &'static str) -> ApiResult<Printer> {
        Printer::new(
            self.server,
            Arc::clone(&self.resource),
            version,
            self.query.get("includeObject"),
        )
    }

    pub(super) fn selection(&self) -> ApiResult<Selection> {
        // The old path of watches may name one object.
        let named = format!("metadata.name={}", self.name);
        let fields = match self.query.get("fieldSelector") {
            None if !self.name.is_empty() => Some(named.as_str()),
            given => given,
        };
        Selection::parse(&self.resource, self.query.get("labelSelector"), fields)
    }

    fn namespace_filter(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace)
    }

    /// Everything of this resource that matches, as it is now.
    pub(super) fn snapshot(&self, selection: &Selection) -> Listing {
        let store = self.server.store();
        let mut listing = store.list(&self.resource.storage, self.namespace_filter());
        if !selection.is_everything() {
            listing
                .items
                .retain(|object| selection.matches(&self.resource, object));
        }
        listing
    }

    pub(super) async fn list(&self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let selection = self.selection()?;
        let limit = self
            .query
            .integer("limit")?
            .and_then(|limit| usize::try_from(limit).ok());
        let limit = limit.filter(|limit| *limit > 0);
        let (at, after) = self.list_position(limit.is_some())?;
        let store = self.server.store();
        let filtered = !selection.is_everything();
        let paged = limit.is_some() || after.is_some();
        let mut listing = match at {
            At::Now if !paged => self.snapshot(&selection),
            at => {
                let (revision, token) = match at {
                    At::Now => (store.revision(), false),
                    At::Exactly(revision) => (revision, after.is_some()),
                };
                let after = after
                    .as_ref()
                    .map(|at| (at.namespace.as_str(), at.name.as_str()));
                let fetch = if filtered { None } else { limit };
                let mut listing = store
                    .list_at(
                        &self.resource.storage,
                        self.namespace_filter(),
                        revision,
                        after,
                        fetch,
                    )
                    .map_err(|_| {
                        ApiError::expired(if token {
                            TOO_OLD_TOKEN.to_owned()
                        } else {
                            "The resourceVersion for the provided list is too old.".to_owned()
                        })
                    })?;
                if filtered {
                    listing
                        .items
                        .retain(|object| selection.matches(&self.resource, object));
                }
                listing
            }
        };
        if let (true, Some(limit)) = (filtered, limit) {
            listing.more = listing.items.len() > limit;
            listing.items.truncate(limit);
        }
        let token = match (listing.more, listing.items.last()) {
            (true, Some(last)) => Some(
                Continue {
                    revision: listing.revision,
                    namespace: last.key.namespace.to_string(),
                    name: last.key.name.to_string(),
                }
                .encode(),
            ),
            _ => None,
        };
        let remaining = (token.is_some() && !filtered).then_some(listing.remaining);
        let meta = ListMeta {
            revision: listing.revision,
            token,
            remaining,
        };
        self.show_list(&listing.items, &meta, wanted)
    }

    fn list_position(&self, limited: bool) -> ApiResult<(At, Option<Continue>)> {
        let query = self.query;
        let mut errors = Vec::new();
        if query.get("sendInitialEvents").is_some() {
            let why = "sendInitialEvents is forbidden for list";
            errors.push(FieldError::forbidden("sendInitialEvents", why));
        }
        let revision = query.get("resourceVersion");
        let matching = query.get("resourceVersionMatch");
        let token = query.get("continue");
        match (matching, revision) {
            (Some(_), None) => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
            (Some(_), _) if token.is_some() => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            )),
            (Some("Exact"), Some("0")) => errors.push(FieldError::forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            )),
            (None | Some("Exact" | "NotOlderThan"), _) => {}
            (Some(other), _) => errors.push(FieldError::not_supported(
                "resourceVersionMatch",
                other,
                &["Exact", "NotOlderThan", ""],
            )),
        }
        refuse(LIST_OPTIONS, &errors)?;
        if let Some(token) = token {
            let token = Continue::decode(token)?;
            if revision.is_some_and(|revision| revision != "0") {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return Ok((At::Exactly(token.revision), Some(token)));
        }
        let Some(text) = revision else {
            return Ok((At::Now, None));
        };
        let asked = parse_revision(text).map_err(|why| {
            ApiError::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text:?}: {why}"
            ))
        })?;
        let current = self.server.store().revision();
        if asked > current {
            return Err(ApiError::too_large_revision(asked, current));
        }
        let exact = matching == Some("Exact") || (matching.is_none() && limited && asked > 0);
        Ok((if exact { At::Exactly(asked) } else { At::Now }, None))
    }

    pub(super) fn show_list(
        &self,
        items: &[Arc<Object>],
        meta: &ListMeta,
        wanted: Wanted,
    ) -> ApiResult<Response> {
        let resource = &self.resource;
        match (wanted.form, wanted.encoding) {
            (Form::Object, Encoding::Json) => {
                let kind = (&*resource.list_kind, &*resource.api_version);
                let pieces = items.iter().map(|object| resource.read_bytes(object));
                Ok(wire::bytes(200, wire::JSON, join(kind, meta, pieces)))
            }
            (Form::Metadata(version), Encoding::Json) => {
                let kind = ("PartialObjectMetadataList", version);
                let pieces = items
                    .iter()
                    .map(|object| encode(&metadata_of(resource.read(object), version)));
                Ok(wire::bytes(200, wire::JSON, join(kind, meta, pieces)))
            }
            (Form::Table(version), _) => {
                let printer = self.printer(version)?;
                let rows = items
                    .iter()
                    .map(|object| printer.row(resource.read(object)))
                    .collect();
                wire::tree(200, &printer.table(meta.to_value(), rows, true), wanted)
            }
            (form, _) => {
                let (kind, version) = match form {
                    Form::Metadata(version) => ("PartialObjectMetadataList", version),
                    _ => (&*resource.list_kind, &*resource.api_version),
                };
                let items: Vec<Value> = items
                    .iter()
                    .map(|object| match form {
                        Form::Metadata(version) => metadata_of(resource.read(object), version),
                        _ => resource.read(object),
                    })
                    .collect();
                let list = json!({
                    "kind": kind, "apiVersion": version, "metadata": meta.to_value(), "items": items,
                });
                wire::tree(200, &list, wanted)
            }
        }
    }
}

/// A list in JSON from encoded items.
fn join(
    (kind, version): (&str, &str),
    meta: &ListMeta,
    items: impl Iterator<Item = Bytes>,
) -> Bytes {
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        Value::from(kind),
        Value::from(version),
        meta.to_value()
    );
    let items: Vec<Bytes> = items.collect();
    let size = items.iter().map(|item| item.len() + 1).sum::<usize>();
    let mut body = BytesMut::with_capacity(head.len() + size + 2);
    body.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.extend_from_slice(b",");
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(b"]}");
    body.freeze()
}

/// `PartialObjectMetadata` of an object.
pub(super) fn metadata_of(mut object: Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": version,
        "metadata": object["metadata"].take(),
    })
}

/// Makes tables of one resource.
pub(super) struct Printer {
    resource: Arc<Resource>,
    columns: Vec<Column>,
    version: &'static str,
    include: Include,
    now: i64,
    clock: super::Clock,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

impl Printer {
    pub(super) fn new(
        server: &ApiServer,
        resource: Arc<Resource>,
        version: &'static str,
        include: Option<&str>,
    ) -> ApiResult<Self> {
        let include = match include {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "unrecognized includeObject value: {other:?}"
                )));
            }
        };
        let columns = resource.columns();
        let now = server.now().as_second();
        let clock = Arc::clone(&server.config().clock);
        Ok(Self {
            resource,
            columns,
            version,
            include,
            now,
            clock,
        })
    }

    /// Ages are counted from now on.
    pub(super) fn tick(&mut self) {
        self.now = (self.clock)().as_second();
    }

    pub(super) fn row(&self, object: Value) -> Value {
        let cells = self.resource.cells(&self.columns, &object, self.now);
        let mut row = json!({"cells": cells});
        match self.include {
            Include::Nothing => row["object"] = Value::Null,
            Include::Metadata => row["object"] = metadata_of(object, self.version),
            Include::Object => row["object"] = object,
        }
        row
    }

    pub(super) fn table(&self, metadata: Value, rows: Vec<Value>, columns: bool) -> Value {
        let columns = if columns {
            let all = self.columns.iter().map(|column| {
                json!({
                    "name": column.name, "type": column.kind, "format": column.format,
                    "description": column.description, "priority": column.priority,
                })
            });
            Value::Array(all.collect())
        } else {
            Value::Null
        };
        json!({
            "kind": "Table", "apiVersion": self.version, "metadata": metadata,
            "columnDefinitions": columns, "rows": rows,
        })
    }
}
