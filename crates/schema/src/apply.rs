//! Server-side apply and managed fields (facts: structured-merge-diff `merge`, apimachinery
//! `managedfields`).
//!
//! [`apply`] answers a configuration with the whole new object; [`track_update`] does the
//! bookkeeping of every other write. Both work on objects in the version of the request; entries
//! that were written in another version are read with the same schema, as versions of a kind differ
//! in their `apiVersion` alone.
//!
//! The order of things in a request is that of Kubernetes:
//!
//! - create, update, patch: decode and default the new object, [`track_update`], then restore what
//!   the endpoint may not change, admit, validate, [`keep_times`], write;
//! - apply: [`apply`], then default, restore, admit, validate, [`keep_times`], write.
//!
//! The kind and name of a configuration, and its `apiVersion`, are the caller's to check.

mod check;
mod fieldset;
mod known;
pub(crate) mod literal;
mod managed;
mod merge;
mod owned;
mod typed;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use self::check::{Strictness, validate};
use self::fieldset::{Element, FieldSet, path_text};
use self::managed::{Entry, Managed, Operation};
use self::typed::Ty;
use crate::types::Node;

/// Nothing is reset: every field that a write changes is the writer's.
pub const RESET_NOTHING: &[&str] = &[];
/// What the main endpoint of a kind with a `status` subresource resets.
pub const RESET_STATUS: &[&str] = &["status"];
/// What the `status` endpoint of a custom resource resets.
pub const RESET_ALL_BUT_STATUS: &[&str] = &["metadata", "spec"];

/// The manager that gets what was there before anything was tracked.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose conflicts with client-side apply are forgiven.
const KUBECTL: &str = "kubectl";
/// Where client-side apply keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations together, keys and values, in bytes (apimachinery: `TotalAnnotationSizeLimit`).
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Who writes, through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Field manager, at most 128 bytes; empty is `unknown`.
    pub manager: &'a str,
    /// `group/version` of the request.
    pub api_version: &'a str,
    /// Empty for the main endpoint, else `status`, `scale`, …
    pub subresource: &'a str,
    /// RFC 3339, seconds. Empty when the entry gets no time, as entries of scales have none.
    pub now: &'a str,
    /// Dotted paths that this endpoint restores whatever the request says; nothing at or below them
    /// becomes owned, lost or conflicting ([`RESET_STATUS`] and its like).
    pub reset: &'a [&'a str],
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager.
    pub manager: String,
    /// The version that it wrote in.
    pub api_version: String,
    /// When the other manager's entry was a subresource write.
    pub subresource: String,
    /// Operation of the other manager: `Apply` or `Update`.
    pub operation: String,
    /// As Kubernetes prints it: `.spec.m[name="x"].v`.
    pub field: String,
    /// When it wrote last.
    pub time: Option<String>,
}

impl Conflict {
    /// The manager as messages name it. Only updates name their version.
    fn who(&self) -> String {
        let manager = literal::quote(&self.manager);
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            name => format!(" with subresource {}", literal::quote(name)),
        };
        let version = if self.operation == Operation::Update.name() {
            format!(" using {}", self.api_version)
        } else {
            String::new()
        };
        manager + &subresource + &version
    }
}

/// Why an apply did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409: fields have other owners and other values; [`ApplyError::conflict_message`] says which.
    #[error("{}", Self::conflict_message(.0).0)]
    Conflicts(Vec<Conflict>),
    /// 400: `metadata.managedFields` in the configuration.
    #[error("{0}")]
    Malformed(String),
    /// 500, as a real API server has it: a value does not fit the schema, a list key is there
    /// twice, or the managed fields of the stored object cannot be read.
    #[error("{0}")]
    Untyped(String),
}

impl ApplyError {
    /// The `message` of the 409 Status, and its causes as (message, field).
    pub fn conflict_message(conflicts: &[Conflict]) -> (String, Vec<(String, String)>) {
        let causes = conflicts
            .iter()
            .map(|conflict| {
                (
                    format!("conflict with {}", conflict.who()),
                    conflict.field.clone(),
                )
            })
            .collect();
        if let [only] = conflicts {
            let text = format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                only.who(),
                only.field
            );
            return (text, causes);
        }
        let mut lines: Vec<String> = Vec::new();
        let mut last = None;
        for conflict in conflicts {
            let who = conflict.who();
            if last.as_ref() != Some(&who) {
                lines.push(format!("conflicts with {who}:"));
                last = Some(who);
            }
            lines.push(format!("- {}", conflict.field));
        }
        let count = conflicts.len();
        (
            format!("Apply failed with {count} conflicts: {}", lines.join("\n")),
            causes,
        )
    }
}

/// Applies `config` to `live` (`None`: the object does not exist). The answer is the whole new object
/// with its managed fields; when nothing changes, it is equal to `live` up to a new owner.
pub fn apply(
    node: Node<'_>,
    live: Option<&Value>,
    config: &Value,
    writer: Writer<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    let run = Run::new(node, writer);
    if managed::is_listed(config) {
        return Err(ApplyError::Malformed(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let nothing = bare(config);
    let live = live.unwrap_or(&nothing);
    let mut managed = Managed::of(live)
        .map_err(|why| ApplyError::Untyped(format!("failed to decode managed fields: {why}")))?;
    let untyped = |whose: &str, object: &Value, why: String| {
        let name = described(object);
        ApplyError::Untyped(format!(
            "failed to create typed {whose} object ({name}): {why}"
        ))
    };
    validate(run.ty, config, Strictness::Config).map_err(|why| untyped("patch", config, why))?;
    validate(run.ty, live, Strictness::Stored).map_err(|why| untyped("live", live, why))?;

    if managed.is_empty() {
        let writer = Writer {
            manager: BEFORE_FIRST_APPLY,
            ..writer
        };
        managed = Run {
            writer,
            ..run.clone()
        }
        .update(&nothing, live, managed);
    }
    let applied = match run.apply(live, config, managed.clone(), force) {
        Err(clashes) if writer.manager == KUBECTL => {
            match run.not_from_client_side(live, clashes) {
                rest if rest.is_empty() => run.apply(live, config, managed, true),
                rest => Err(rest),
            }
        }
        other => other,
    };
    let (object, managed) = applied.map_err(|clashes| {
        ApplyError::Conflicts(clashes.into_iter().map(|clash| clash.conflict).collect())
    })?;
    let mut object = object.unwrap_or_else(|| live.clone());
    if writer.manager == KUBECTL {
        rewrite_last_applied(&mut object, config);
    }
    managed.store(&mut object);
    Ok(object)
}

/// After a create, update or other patch: gives what changed between `before` and `after` to the
/// writer, in `after.metadata.managedFields`. A malformed list counts as none: then the list of
/// `before` holds. An emptied list (`[{}]`, for built-in kinds `[]` too) ends tracking until the
/// next apply.
pub fn track_update(node: Node<'_>, before: Option<&Value>, after: &mut Value, writer: Writer<'_>) {
    let run = Run::new(node, writer);
    let nothing = bare(after);
    let created = before.is_none();
    let before = before.unwrap_or(&nothing);
    let mut managed = Managed::for_update(before, after, run.ty.is_built_in(), writer.subresource);
    let asked = managed::take(after);
    if managed.is_empty() && !created {
        return;
    }
    // What does not fit the schema cannot be tracked: then the list stays as the request has it.
    let fits = |object: &Value| validate(run.ty, object, Strictness::Stored).is_ok();
    if !fits(before) || !fits(after) {
        managed::put_back(after, asked);
        return;
    }
    managed = run.update(before, after, managed);
    managed.store(after);
}

/// Whether two objects are equal but for managed fields and resource version (a write that changes nothing).
pub fn same_but_bookkeeping(a: &Value, b: &Value) -> bool {
    same_but(a, b, &["managedFields", "resourceVersion"])
}

/// Puts the times of `before`'s managed fields back into `after` when those times are all that
/// differs: a write that changes nothing must not look as if it did.
pub fn keep_times(before: &Value, after: &mut Value) {
    let (Some(old), Some(new)) = (entries(before), entries(after)) else {
        return;
    };
    let without_time = |entry: &Value| {
        let mut entry = entry.clone();
        if let Some(object) = entry.as_object_mut() {
            object.remove("time");
        }
        entry
    };
    let same_entries = old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(a, b)| literal::equal(&without_time(a), &without_time(b)));
    if !same_entries || !same_but(before, after, &["managedFields"]) {
        return;
    }
    let old = old.clone();
    if let Some(metadata) = after.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".to_owned(), Value::Array(old));
    }
}

fn entries(object: &Value) -> Option<&Vec<Value>> {
    object.get("metadata")?.get("managedFields")?.as_array()
}

fn same_but(a: &Value, b: &Value, metadata: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return literal::equal(a, b);
    };
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|name, _| !metadata.contains(&name.as_str()));
        }
        object
    };
    a.len() == b.len()
        && a.iter().all(|(name, left)| match b.get(name) {
            Some(right) if name == "metadata" => literal::equal(&rest(left), &rest(right)),
            Some(right) => literal::equal(left, right),
            None => false,
        })
}

/// A new object of a kind, before anything is in it.
fn bare(object: &Value) -> Value {
    let fields: Map<String, Value> = ["apiVersion", "kind"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), object.get(name)?.clone())))
        .collect();
    Value::Object(fields)
}

/// `namespace/name; group/version, Kind=Kind`.
fn described(object: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = |name: &str| {
        text(
            object
                .get("metadata")
                .and_then(|metadata| metadata.get(name)),
        )
    };
    let version = text(object.get("apiVersion"));
    let slash = if version.contains('/') { "" } else { "/" };
    format!(
        "{}/{}; {slash}{version}, Kind={}",
        metadata("namespace"),
        metadata("name"),
        text(object.get("kind"))
    )
}

/// A conflict and its path.
struct Clash {
    conflict: Conflict,
    path: Vec<Element>,
}

impl Clash {
    fn of(entry: &Entry, path: Vec<Element>) -> Self {
        let conflict = Conflict {
            manager: entry.manager.clone(),
            api_version: entry.api_version.clone(),
            subresource: entry.subresource.clone(),
            operation: entry.operation.name().to_owned(),
            field: path_text(&path),
            time: entry.time.clone(),
        };
        Self { conflict, path }
    }
}

/// What a write changed: as the writer's version has it, and as other versions have it.
///
/// The main endpoint of a custom resource knows what it resets in its own version only, so entries
/// of other versions lose (and defend) fields that the write does not touch in the end. Endpoints of
/// subresources and of built-in kinds know all versions.
struct Change {
    own: Fields,
    other: Option<Fields>,
    api_version: String,
}

/// Fields that were set to something new, and that were removed.
struct Fields {
    taken: FieldSet,
    removed: FieldSet,
}

impl Change {
    fn of(comparison: merge::Comparison, run: &Run<'_>) -> Self {
        let fields = |comparison: merge::Comparison| Fields {
            taken: comparison.modified.union(&comparison.added),
            removed: comparison.removed,
        };
        let main = run.writer.subresource.is_empty();
        let all_versions = run.reset.is_empty() || !main || run.ty.is_built_in();
        Self {
            other: (!all_versions).then(|| fields(comparison.clone())),
            own: fields(comparison.without(&run.reset)),
            api_version: run.writer.api_version.to_owned(),
        }
    }

    fn seen_by(&self, entry: &Entry) -> &Fields {
        match &self.other {
            Some(other) if entry.api_version != self.api_version => other,
            _ => &self.own,
        }
    }
}

/// One write.
#[derive(Clone)]
struct Run<'a> {
    ty: Ty<'a>,
    writer: Writer<'a>,
    reset: FieldSet,
    never: FieldSet,
}

impl<'a> Run<'a> {
    fn new(node: Node<'a>, writer: Writer<'a>) -> Self {
        let mut reset = FieldSet::default();
        for path in writer.reset {
            reset.insert(&path.split('.').map(Element::field).collect::<Vec<_>>());
        }
        Self {
            ty: Ty::object(node),
            writer,
            reset,
            never: never_owned(),
        }
    }

    fn time(&self) -> Option<String> {
        (!self.writer.now.is_empty()).then(|| self.writer.now.to_owned())
    }

    fn reconciled(&self, mut managed: Managed) -> Managed {
        for entry in managed.0.values_mut() {
            entry.set = owned::reconcile(self.ty, &entry.set);
        }
        managed
    }

    fn compare(&self, before: &Value, after: &Value) -> Change {
        let (before, after) = known::as_structs(self.ty, before, after);
        Change::of(merge::compare(self.ty, &before, &after), self)
    }

    /// Everybody loses what changed; the writer gets it.
    fn update(&self, before: &Value, after: &Value, managed: Managed) -> Managed {
        let mut managed = self.reconciled(managed);
        let change = self.compare(before, after);
        for entry in managed.0.values_mut() {
            let seen = change.seen_by(entry);
            entry.set = entry.set.difference(&seen.taken).difference(&seen.removed);
        }
        managed.drop_empty();
        let own = change.own.taken.difference(&self.never);
        if !own.is_empty() {
            let entry = Entry::of(&self.writer, Operation::Update);
            let entry = managed.0.entry(entry.identity()).or_insert(entry);
            entry.set = entry.set.union(&own);
            entry.time = self.time();
        }
        managed.cap();
        managed
    }

    /// The new object, if it is another one than `live`, and who owns what in it.
    fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: Managed,
        force: bool,
    ) -> Result<(Option<Value>, Managed), Vec<Clash>> {
        let mut managed = self.reconciled(managed);
        let own = Entry::of(&self.writer, Operation::Apply);
        let identity = own.identity();
        let previous = managed.0.remove(&identity);
        let mut own = Entry {
            time: previous.as_ref().and_then(|entry| entry.time.clone()),
            ..own
        };
        own.set = owned::field_set(self.ty, config).difference_below(&self.reset);

        let merged = merge::merge(self.ty, live, config);
        let object = match previous {
            Some(previous) => {
                let owned = managed
                    .0
                    .values()
                    .fold(own.set.clone(), |all, e| all.union(&e.set));
                self.prune(merged, &previous.set, &owned)
            }
            None => merged,
        };
        let change = self.compare(live, &object);
        let mut clashes = Vec::new();
        for entry in managed.0.values_mut() {
            let seen = change.seen_by(entry);
            let lost = entry.set.intersection(&seen.taken);
            if !force {
                clashes.extend(lost.paths().into_iter().map(|path| Clash::of(entry, path)));
            }
            entry.set = entry.set.difference(&lost).difference(&seen.removed);
        }
        if !clashes.is_empty() {
            return Err(clashes);
        }
        own.set = own.set.difference(&self.never);
        let changed = !literal::equal(live, &object);
        if changed {
            own.time = self.time();
        }
        managed.0.insert(identity, own);
        managed.drop_empty();
        Ok((changed.then_some(object), managed))
    }

    /// Drops what the manager applied last time and nobody owns now.
    fn prune(&self, merged: Value, last: &FieldSet, owned: &FieldSet) -> Value {
        if last.is_empty() {
            return merged;
        }
        let named = |set: &FieldSet| owned::with_named_fields(Some(self.ty), set);
        let all = named(&owned::field_set(self.ty, &merged));
        let last = named(last);

        let pruned = merge::remove(self.ty, &merged, &last);
        let left = named(&owned::field_set(self.ty, &pruned));
        let unowned = all.difference(&left.union(&named(owned)));
        let pruned = merge::remove(self.ty, &merged, &unowned);

        // What went away with its parent but was never this manager's comes back.
        let left = named(&owned::field_set(self.ty, &pruned));
        merge::remove(self.ty, &merged, &all.difference(&left).intersection(&last))
    }

    /// The clashes that client-side apply did not cause: it is the same person with another tool.
    fn not_from_client_side(&self, live: &Value, clashes: Vec<Clash>) -> Vec<Clash> {
        let Some(allowed) = self.applied_by_client(live) else {
            return clashes;
        };
        clashes
            .into_iter()
            .filter(|clash| !allowed.contains(&clash.path))
            .collect()
    }

    /// What client-side apply set and nobody changed since.
    fn applied_by_client(&self, live: &Value) -> Option<FieldSet> {
        let last: Value = serde_json::from_str(last_applied(live)?).ok()?;
        if last.get("apiVersion")?.as_str()? != self.writer.api_version {
            return None;
        }
        validate(self.ty, live, Strictness::Config).ok()?;
        validate(self.ty, &last, Strictness::Config).ok()?;
        let change = merge::compare(self.ty, &last, live);
        let set = owned::field_set(self.ty, &last);
        Some(
            set.difference(&change.modified)
                .difference(&change.added)
                .difference(&change.removed),
        )
    }
}

/// Paths that nobody owns, as exact paths.
fn never_owned() -> FieldSet {
    let mut set = FieldSet::default();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[Element::field(name)]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&[Element::field("metadata"), Element::field(name)]);
    }
    set
}

fn last_applied(object: &Value) -> Option<&str> {
    let annotations = object.get("metadata")?.get("annotations")?;
    annotations
        .get(LAST_APPLIED)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// Keeps the annotation of client-side apply in step, where there is one.
fn rewrite_last_applied(object: &mut Value, config: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = annotations_of(&mut config) {
        annotations.remove(LAST_APPLIED);
    }
    let text = literal::to_json(&config) + "\n";
    let Some(annotations) = annotations_of(object) else {
        return;
    };
    annotations.insert(LAST_APPLIED.to_owned(), Value::from(text));
    let size: usize = annotations
        .iter()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > MAX_ANNOTATION_BYTES {
        annotations.remove(LAST_APPLIED);
    }
}

fn annotations_of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object
        .get_mut("metadata")?
        .get_mut("annotations")?
        .as_object_mut()
}
