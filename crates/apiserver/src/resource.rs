//! The resources that a server serves.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use drover_schema::builtin::Kind;
use drover_schema::crd::{CustomKind, Scale, Version};
use drover_schema::field_error::FieldError;
use drover_schema::jsonpath::JsonPath;
use drover_schema::table::Column;
use drover_schema::types::Schema;
use drover_schema::{crd, default, prune};
use serde_json::Value;

use crate::status::Subject;
use crate::store::Object;

pub mod convert;
pub mod registry;

/// The storage name of custom resource definitions.
pub const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";
/// The storage name of namespaces.
pub const NAMESPACES: &str = "/namespaces";

/// One resource in one version.
#[derive(Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: Arc<str>,
    /// API version.
    pub version: Arc<str>,
    /// `group/version`, as in objects.
    pub api_version: Arc<str>,
    /// CamelCase name of one object.
    pub kind: Arc<str>,
    /// CamelCase name of a list.
    pub list_kind: Arc<str>,
    /// The name in paths.
    pub plural: Arc<str>,
    /// Lower case name of one.
    pub singular: Arc<str>,
    /// As `po`.
    pub short_names: Vec<String>,
    /// As `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether objects are kept; reviews are only answered.
    pub stored: bool,
    /// Whether there is a `status` subresource.
    pub status: bool,
    /// Where the `scale` subresource has its numbers.
    pub scale: Option<Scale>,
    /// Other subresources.
    pub subresources: &'static [&'static str],
    /// The resource in the store (`group/plural`); versions and aliases share one.
    pub storage: Arc<str>,
    /// `apiVersion` of stored objects.
    pub stored_as: Arc<str>,
    /// What objects look like.
    pub schema: Schema,
    /// A warning to give with each request, where this version is deprecated.
    pub deprecation: Option<String>,
    /// Objects of this revision and older were written under another schema.
    pub since: u64,
    /// Where it comes from.
    pub source: Source,
    selectable: Vec<(String, JsonPath)>,
}

/// Where a resource comes from.
#[derive(Debug)]
pub enum Source {
    /// Built in.
    Builtin(&'static Kind),
    /// Defined by a custom resource definition.
    Custom {
        /// All of the definition.
        kind: Arc<CustomKind>,
        /// This version.
        version: Arc<Version>,
    },
}

/// `group/version`, or the version alone in the core group.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

impl Resource {
    /// A built-in kind.
    pub fn builtin(kind: &'static Kind) -> Self {
        let own = api_version(kind.group, kind.version);
        let (storage, stored_as) = match (kind.group, kind.plural) {
            ("events.k8s.io", "events") => ("/events".to_owned(), "v1".to_owned()),
            ("autoscaling", plural) => {
                (format!("autoscaling/{plural}"), "autoscaling/v2".to_owned())
            }
            (group, plural) => (format!("{group}/{plural}"), own.clone()),
        };
        let scale = kind.scale.then(|| Scale {
            spec_replicas: ".spec.replicas".to_owned(),
            status_replicas: ".status.replicas".to_owned(),
            label_selector: Some(".spec.selector".to_owned()),
        });
        Self {
            group: kind.group.into(),
            version: kind.version.into(),
            api_version: own.into(),
            kind: kind.kind.into(),
            list_kind: format!("{}List", kind.kind).into(),
            plural: kind.plural.into(),
            singular: kind.singular.into(),
            short_names: kind.short_names.iter().map(ToString::to_string).collect(),
            categories: kind.categories.iter().map(ToString::to_string).collect(),
            namespaced: kind.namespaced,
            stored: kind.stored,
            status: kind.status,
            scale,
            subresources: kind.subresources,
            storage: storage.into(),
            stored_as: stored_as.into(),
            schema: kind.schema(),
            deprecation: (kind.kind == "Endpoints").then(|| {
                "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
                    .to_owned()
            }),
            since: 0,
            source: Source::Builtin(kind),
            selectable: Vec::new(),
        }
    }

    /// One served version of a custom kind; objects of revision `since` and older were written
    /// under another schema.
    pub fn custom(kind: &Arc<CustomKind>, version: &Arc<Version>, since: u64) -> Self {
        let storage_version = kind
            .versions
            .iter()
            .find(|v| v.storage)
            .map_or(version.name.as_str(), |v| &v.name);
        let own = api_version(&kind.group, &version.name);
        let deprecation = version.deprecated.then(|| {
            version
                .deprecation_warning
                .clone()
                .unwrap_or_else(|| format!("{own} {} is deprecated", kind.kind))
        });
        let selectable = version
            .selectable
            .iter()
            .filter_map(|path| {
                let compiled = JsonPath::compile(path).ok()?;
                Some((path.trim_start_matches('.').to_owned(), compiled))
            })
            .collect();
        Self {
            group: kind.group.as_str().into(),
            version: version.name.as_str().into(),
            api_version: own.into(),
            kind: kind.kind.as_str().into(),
            list_kind: kind.list_kind.as_str().into(),
            plural: kind.plural.as_str().into(),
            singular: kind.singular.as_str().into(),
            short_names: kind.short_names.clone(),
            categories: kind.categories.clone(),
            namespaced: kind.namespaced,
            stored: true,
            status: version.status,
            scale: version.scale.clone(),
            subresources: &[],
            storage: format!("{}/{}", kind.group, kind.plural).into(),
            stored_as: api_version(&kind.group, storage_version).into(),
            schema: version.schema.clone(),
            deprecation,
            since,
            source: Source::Custom {
                kind: Arc::clone(kind),
                version: Arc::clone(version),
            },
            selectable,
        }
    }

    /// Whether a custom resource definition made it.
    pub fn is_custom(&self) -> bool {
        matches!(self.source, Source::Custom { .. })
    }

    /// What messages call an object of it (with the plural).
    pub fn subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject {
            group: &self.group,
            resource: &self.plural,
            name,
        }
    }

    /// What messages call an object of it (with the kind).
    pub fn kind_subject<'a>(&'a self, name: &'a str) -> Subject<'a> {
        Subject {
            group: &self.group,
            resource: &self.kind,
            name,
        }
    }

    /// The verbs of the main endpoint.
    pub fn verbs(&self) -> &'static [&'static str] {
        match (self.stored, &self.source) {
            (false, _) => &["create"],
            (true, Source::Builtin(_)) => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
            (true, Source::Custom { .. }) => &[
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "create",
                "update",
                "watch",
            ],
        }
    }

    /// Whether a subresource is served.
    pub fn has_subresource(&self, name: &str) -> bool {
        match name {
            "status" => self.status,
            "scale" => self.scale.is_some(),
            other => self.subresources.contains(&other),
        }
    }

    /// Whether the stored bytes are what a reader of this version gets.
    pub fn serves_as_stored(&self, object: &Object) -> bool {
        if self.is_custom() && object.revision <= self.since {
            return false;
        }
        has_api_version(&object.json, &self.api_version)
    }

    /// A stored object in this version.
    pub fn read(&self, object: &Object) -> Value {
        let mut value = object.value();
        let same = value["apiVersion"] == *self.api_version;
        if !same {
            convert::to(self, &mut value);
        }
        if self.is_custom() && (!same || object.revision <= self.since) {
            prune::prune(self.schema.node(), &mut value);
            default::fill(self.schema.node(), &mut value);
        }
        value
    }

    /// A stored object in this version, encoded.
    pub fn read_bytes(&self, object: &Object) -> Bytes {
        if self.serves_as_stored(object) {
            object.json.clone()
        } else {
            encode(&self.read(object))
        }
    }

    /// Fills in defaults.
    pub fn fill_defaults(&self, object: &mut Value) {
        match &self.source {
            Source::Builtin(kind) => {
                kind.fill_defaults(object);
                if &*self.storage == DEFINITIONS {
                    crd::fill_defaults(object);
                }
            }
            Source::Custom { .. } => default::fill(self.schema.node(), object),
        }
    }

    /// Whether this is a built-in kind that `ask` says so of.
    pub fn is_builtin_that(&self, ask: impl Fn(&Kind) -> bool) -> bool {
        match &self.source {
            Source::Builtin(kind) => ask(kind),
            Source::Custom { .. } => false,
        }
    }

    /// Gives an object of a built-in kind its usual form and names its unknown fields; other kinds
    /// have none. The error says which value has the wrong type.
    pub fn normalize(&self, object: &mut Value) -> Result<Vec<String>, String> {
        match &self.source {
            Source::Builtin(kind) => {
                let normal = kind.normalize(object)?;
                *object = normal.object;
                Ok(normal.unknown)
            }
            Source::Custom { .. } => Ok(Vec::new()),
        }
    }

    /// Drops unknown fields and names them.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(self.schema.node(), object)
    }

    /// What happens to a new object before it is validated.
    pub fn prepare_create(&self, object: &mut Value) {
        match &self.source {
            Source::Builtin(kind) => kind.prepare_create(object),
            Source::Custom { .. } => {
                if let (true, Some(map)) = (self.status, object.as_object_mut()) {
                    map.remove("status");
                }
            }
        }
    }

    /// What happens to a changed object before it is validated, at the main endpoint.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.status
            && let Some(map) = new.as_object_mut()
        {
            match old.get("status") {
                Some(status) => map.insert("status".to_owned(), status.clone()),
                None => map.remove("status"),
            };
        }
        if let Source::Builtin(kind) = &self.source {
            kind.prepare_update(new, old);
        }
    }

    /// Whether `metadata.generation` is kept.
    pub fn counts_generations(&self) -> bool {
        match &self.source {
            Source::Builtin(kind) => kind.generation,
            Source::Custom { .. } => true,
        }
    }

    /// Whether an update may leave out the resource version it replaces (each resource's
    /// `AllowUnconditionalUpdate` in kubernetes: pkg/registry).
    pub fn updates_unconditionally(&self) -> bool {
        let careful = matches!(
            &*self.group,
            "admissionregistration.k8s.io" | "apiextensions.k8s.io" | "apiregistration.k8s.io"
        ) || matches!(
            &*self.storage,
            "coordination.k8s.io/leases"
                | "node.k8s.io/runtimeclasses"
                | "policy/poddisruptionbudgets"
                | "storage.k8s.io/csidrivers"
                | "storage.k8s.io/csinodes"
                | "storage.k8s.io/csistoragecapacities"
                | "storage.k8s.io/volumeattachments"
        );
        !self.is_custom() && !careful
    }

    /// Whether an update makes an object that is not there (`AllowCreateOnUpdate`).
    pub fn creates_on_update(&self) -> bool {
        matches!(
            &*self.storage,
            "coordination.k8s.io/leases"
                | "/endpoints"
                | "/events"
                | "/limitranges"
                | "/services"
                | "node.k8s.io/runtimeclasses"
        ) || &*self.group == "rbac.authorization.k8s.io"
    }

    /// What is wrong with a name.
    pub fn validate_name(&self, name: &str) -> Vec<FieldError> {
        match &self.source {
            Source::Builtin(kind) => kind.validate_name(name),
            Source::Custom { .. } => crate::server::meta::subdomain(name),
        }
    }

    /// What is wrong with an object beside its metadata; `old` for a change.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        match &self.source {
            Source::Builtin(kind) => {
                let mut errors = match old {
                    None => kind.validate_create(new),
                    Some(old) => kind.validate_update(new, old),
                };
                if &*self.storage == DEFINITIONS {
                    if let Err(more) = CustomKind::compile(new) {
                        errors.extend(more);
                    }
                    if let Some(old) = old {
                        errors.extend(crd::validate_update(new, old));
                    }
                }
                errors
            }
            Source::Custom { version, .. } => version.validate(new, old),
        }
    }

    /// Whether selectors may name a field.
    pub fn is_selectable(&self, field: &str) -> bool {
        match (field, &self.source) {
            ("metadata.name", _) => true,
            ("metadata.namespace", _) => self.namespaced,
            (_, Source::Builtin(kind)) => kind.selectable_fields().contains(&field),
            (_, Source::Custom { .. }) => self.selectable.iter().any(|(name, _)| name == field),
        }
    }

    /// What a selector sees in a field (empty when absent).
    pub fn field_value<'v>(&self, object: &'v Value, field: &str) -> Cow<'v, str> {
        let found = match &self.source {
            Source::Custom { .. } => self
                .selectable
                .iter()
                .find(|(name, _)| name == field)
                .and_then(|(_, path)| path.find(object).into_iter().next()),
            Source::Builtin(_) => {
                let field = match (&*self.plural, field) {
                    ("events", "source") => "source.component",
                    (_, field) => field,
                };
                field
                    .split('.')
                    .try_fold(object, |value, key| value.get(key))
            }
        };
        match found {
            Some(Value::String(text)) => Cow::Borrowed(text),
            None | Some(Value::Null) => Cow::Borrowed(""),
            Some(other) => Cow::Owned(other.to_string()),
        }
    }

    /// Columns for people.
    pub fn columns(&self) -> Vec<Column> {
        match &self.source {
            Source::Builtin(kind) => kind.columns(),
            Source::Custom { version, .. } => {
                drover_schema::table::custom_columns(&version.columns)
            }
        }
    }

    /// One row for people.
    pub fn cells(&self, columns: &[Column], object: &Value, now: i64) -> Vec<Value> {
        match &self.source {
            Source::Builtin(kind) => kind.cells(object, now),
            Source::Custom { .. } => drover_schema::table::custom_cells(columns, object, now),
        }
    }
}

/// The canonical encoding. Trees of JSON values always have one.
pub fn encode(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// Whether encoded bytes begin with this `apiVersion` (the canonical encoding sorts its keys).
fn has_api_version(json: &[u8], version: &str) -> bool {
    json.strip_prefix(b"{\"apiVersion\":\"")
        .and_then(|rest| rest.strip_prefix(version.as_bytes()))
        .is_some_and(|rest| rest.first() == Some(&b'"'))
}
