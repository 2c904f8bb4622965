//! What deleting an object means, and when an update ends one that is being deleted.
//!
//! Pure: the live object, the options and the time come in, the decision goes out
//! (apiserver: pkg/registry/rest/delete.go, pkg/registry/generic/registry/store.go).

use drover_schema::field_error::FieldError;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::status::{ApiError, Subject};

/// Held while dependents that block their owner are deleted first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Held while dependents are freed of their owner.
pub const ORPHAN: &str = "orphan";

/// What happens to the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after their owner is gone.
    Background,
    /// They are deleted before their owner goes.
    Foreground,
    /// They stay.
    Orphan,
}

/// `meta/v1` DeleteOptions, as far as the decision needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace: Option<i64>,
    /// `propagationPolicy`.
    pub propagation: Option<Propagation>,
    /// `orphanDependents` (deprecated, but it wins).
    pub orphan_dependents: Option<bool>,
    /// `preconditions.uid`.
    pub uid: Option<String>,
    /// `preconditions.resourceVersion`.
    pub resource_version: Option<String>,
    /// Whether `dryRun` names `All`.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// Options that only say what happens to dependents.
    pub fn of(propagation: Propagation) -> Self {
        Self {
            propagation: Some(propagation),
            ..Self::default()
        }
    }

    /// Reads the body of a DELETE request; `null` is no options.
    pub fn from_json(options: &Value) -> Result<Self, Box<ApiError>> {
        let mut errors = Vec::new();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut read = Self {
            grace: options["gracePeriodSeconds"].as_i64(),
            propagation: None,
            orphan_dependents: options["orphanDependents"].as_bool(),
            uid: text(&options["preconditions"]["uid"]),
            resource_version: text(&options["preconditions"]["resourceVersion"]),
            dry_run: false,
        };
        if let Some(policy) = options["propagationPolicy"].as_str() {
            if read.orphan_dependents.is_some() {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid("propagationPolicy", policy, detail));
            }
            read.propagation = match policy {
                "Background" => Some(Propagation::Background),
                "Foreground" => Some(Propagation::Foreground),
                "Orphan" => Some(Propagation::Orphan),
                _ => {
                    let known = ["Foreground", "Background", "Orphan", "nil"];
                    errors.push(FieldError::not_supported(
                        "propagationPolicy",
                        policy,
                        &known,
                    ));
                    None
                }
            };
        }
        let runs = options["dryRun"].as_array();
        for run in runs.into_iter().flatten() {
            read.dry_run = true;
            if run != "All" {
                let all = options["dryRun"].clone();
                errors.push(FieldError::not_supported("dryRun", all, &["All"]));
                break;
            }
        }
        if errors.is_empty() {
            return Ok(read);
        }
        let subject = Subject {
            group: "meta.k8s.io",
            resource: "DeleteOptions",
            name: "",
        };
        Err(ApiError::invalid(subject, &errors))
    }
}

/// How a resource differs from others when it is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// As most are.
    Plain,
    /// Its dependents stay unless the options say otherwise.
    Orphaning,
    /// Nothing can depend on it.
    Childless,
    /// A pod on a node is marked, its kubelet deletes it.
    Pod,
    /// A namespace ends when its content has.
    Namespace,
}

impl Family {
    /// The family of a resource (`group/plural`).
    pub fn of(resource: &str) -> Self {
        match resource {
            "/pods" => Self::Pod,
            "/namespaces" => Self::Namespace,
            "/events" | "events.k8s.io/events" => Self::Childless,
            "/replicationcontrollers" | "batch/jobs" => Self::Orphaning,
            _ => Self::Plain,
        }
    }
}

/// What the decision needs to know about the kind of an object.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// The kind: messages of preconditions name it.
    pub kind: &'a str,
    /// How it is deleted.
    pub family: Family,
}

impl<'a> Facts<'a> {
    /// The facts about a stored object.
    pub fn of(resource: &'a str, object: &'a Value) -> Self {
        Self {
            group: resource.split_once('/').map_or("", |(group, _)| group),
            kind: object["kind"].as_str().unwrap_or_default(),
            family: Family::of(resource),
        }
    }
}

/// What a delete request does.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// The object goes now.
    Remove,
    /// This replaces the object: it waits for somebody.
    Mark(Value),
    /// Nothing: it waits already.
    Unchanged,
    /// It cannot be.
    Refuse(Box<ApiError>),
}

/// What an update of an object does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterUpdate {
    /// The update is stored.
    Store,
    /// It was being deleted, and this was the last thing that it waited for: it goes now, as it was.
    Remove,
}

/// Decides what a delete request does to a live object.
pub fn delete(
    live: &Value,
    options: &DeleteOptions,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Deletion {
    if let Some(error) = violated_precondition(live, options, facts) {
        return Deletion::Refuse(error);
    }
    if facts.family == Family::Namespace {
        if !is_terminating(live) {
            return mark_namespace(live, options, now);
        }
        if !strings(&live["spec"]["finalizers"]).is_empty() {
            return Deletion::Unchanged;
        }
    }
    let mut object = live.clone();
    let graceful = if facts.family == Family::Pod {
        match grace(&mut object, options, now) {
            Grace::Pending => return Deletion::Unchanged,
            Grace::None => None,
            Grace::Seconds(seconds) => Some(seconds),
        }
    } else {
        None
    };
    let finalizers = finalizers_for(live, options, facts.family);
    let waits = !finalizers.is_empty();
    set_finalizers(&mut object, &finalizers);
    match graceful {
        Some(seconds) if waits || seconds > 0 => {}
        None if waits => mark(&mut object, now),
        Some(_) | None => return Deletion::Remove,
    }
    if object == *live {
        Deletion::Unchanged
    } else {
        Deletion::Mark(object)
    }
}

/// Decides whether an update ends an object.
pub fn after_update(live: &Value, updated: &Value, family: Family) -> AfterUpdate {
    let waits = !strings(&updated["metadata"]["finalizers"]).is_empty()
        || (family == Family::Namespace && !strings(&updated["spec"]["finalizers"]).is_empty());
    let grace = live["metadata"]["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(0);
    if is_terminating(live) && !waits && grace == 0 {
        AfterUpdate::Remove
    } else {
        AfterUpdate::Store
    }
}

/// While an object is being deleted it gets no new finalizers.
pub fn check_finalizers(live: &Value, updated: &Value) -> Option<FieldError> {
    if !is_terminating(live) {
        return None;
    }
    let old = strings(&live["metadata"]["finalizers"]);
    let mut new = strings(&updated["metadata"]["finalizers"]);
    new.retain(|finalizer| !old.contains(finalizer));
    new.sort_unstable();
    new.dedup();
    if new.is_empty() {
        return None;
    }
    let list: Vec<String> = new.iter().map(|text| format!("{text:?}")).collect();
    Some(FieldError::forbidden(
        "metadata.finalizers",
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers \
             []string{{{}}}",
            list.join(", ")
        ),
    ))
}

/// Whether an object is being deleted.
pub fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether an object has a finalizer.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    strings(&object["metadata"]["finalizers"]).contains(&finalizer)
}

/// A time as Kubernetes writes it: UTC, whole seconds.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn violated_precondition(
    live: &Value,
    options: &DeleteOptions,
    facts: &Facts<'_>,
) -> Option<Box<ApiError>> {
    let metadata = &live["metadata"];
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let (uid, version) = (text("uid"), text("resourceVersion"));
    let namespace = facts.family == Family::Namespace;
    let why = match (&options.uid, &options.resource_version) {
        (Some(wanted), _) if wanted != uid && namespace => {
            format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}")
        }
        (Some(wanted), _) if wanted != uid => format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The \
             object might have been deleted and then recreated"
        ),
        (_, Some(wanted)) if wanted != version && namespace => format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in \
             object meta: {version}"
        ),
        (_, Some(wanted)) if wanted != version => format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion \
             in record ({version}). The object might have been modified"
        ),
        _ => return None,
    };
    let resource = if namespace { "namespaces" } else { facts.kind };
    let subject = Subject {
        group: facts.group,
        resource,
        name: text("name"),
    };
    Some(ApiError::conflict(subject, &why))
}

/// The first delete of a namespace (kubernetes: pkg/registry/core/namespace/storage/storage.go).
fn mark_namespace(live: &Value, options: &DeleteOptions, now: Timestamp) -> Deletion {
    let mut object = live.clone();
    metadata(&mut object).insert("deletionTimestamp".to_owned(), format_time(now).into());
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["phase"] = "Terminating".into();
    let wanted = |finalizer: &str, policy: Propagation, orphan: bool| match (
        options.orphan_dependents,
        options.propagation,
    ) {
        (Some(orphans), _) => orphans && orphan,
        (None, Some(chosen)) => chosen == policy,
        (None, None) => has_finalizer(live, finalizer),
    };
    let mut finalizers: Vec<String> = strings(&live["metadata"]["finalizers"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    if wanted(ORPHAN, Propagation::Orphan, true) {
        finalizers.push(ORPHAN.to_owned());
    }
    if wanted(FOREGROUND, Propagation::Foreground, false) {
        finalizers.push(FOREGROUND.to_owned());
    }
    set_finalizers(&mut object, &finalizers);
    Deletion::Mark(object)
}

enum Grace {
    /// A graceful deletion is under way and stays as it is.
    Pending,
    /// No grace: it goes as everything else does.
    None,
    /// It is marked for so many seconds from now.
    Seconds(i64),
}

/// The graceful deletion of a pod: marks `pod` when it begins or is shortened.
fn grace(pod: &mut Value, options: &DeleteOptions, now: Timestamp) -> Grace {
    // Negative values count as one second.
    let positive = |seconds: i64| if seconds < 0 { 1 } else { seconds };
    let asked = options.grace.map(positive);
    let begun = pod["metadata"]["deletionTimestamp"]
        .as_str()
        .map(str::parse::<Timestamp>);
    if let Some(begun) = begun {
        let current = pod["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .map_or(0, positive);
        if current == 0 {
            return Grace::None;
        }
        let Some(mut seconds) = asked.filter(|seconds| *seconds < current) else {
            return Grace::Pending;
        };
        let shift = SignedDuration::from_secs(seconds.saturating_sub(current));
        let mut end = begun.unwrap_or(now).checked_add(shift).unwrap_or(now);
        if end < now {
            end = now;
            if seconds != 0 {
                seconds = 1;
            }
        }
        let metadata = metadata(pod);
        metadata.insert("deletionTimestamp".to_owned(), format_time(end).into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
        return Grace::Seconds(seconds);
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64();
    let mut seconds = positive(asked.or(own).unwrap_or(0));
    let placed = pod["spec"]["nodeName"]
        .as_str()
        .is_some_and(|node| !node.is_empty());
    let ended = matches!(
        pod["status"]["phase"].as_str(),
        Some("Failed" | "Succeeded")
    );
    if !placed || ended {
        seconds = 0;
    }
    let end = now
        .checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX);
    bump_generation(pod);
    let metadata = metadata(pod);
    metadata.insert("deletionTimestamp".to_owned(), format_time(end).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
    Grace::Seconds(seconds)
}

/// Marks an object that waits for its finalizers only.
fn mark(object: &mut Value, now: Timestamp) {
    let begun = object["metadata"]["deletionTimestamp"]
        .as_str()
        .map(str::parse::<Timestamp>);
    if begun.is_none() {
        bump_generation(object);
    }
    let metadata = metadata(object);
    if begun.is_none_or(|begun| begun.is_ok_and(|begun| begun > now)) {
        metadata.insert("deletionTimestamp".to_owned(), format_time(now).into());
    }
    metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
}

fn bump_generation(object: &mut Value) {
    let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
    if generation > 0 {
        metadata(object).insert("generation".to_owned(), generation.saturating_add(1).into());
    }
}

/// The finalizers that an object has after a delete request.
fn finalizers_for(live: &Value, options: &DeleteOptions, family: Family) -> Vec<String> {
    let current = strings(&live["metadata"]["finalizers"]);
    let first = current
        .iter()
        .find(|finalizer| [ORPHAN, FOREGROUND].contains(finalizer));
    let default = match first {
        Some(&ORPHAN) => Propagation::Orphan,
        Some(_) => Propagation::Foreground,
        None if family == Family::Orphaning => Propagation::Orphan,
        None => Propagation::Background,
    };
    let policy = match (options.orphan_dependents, options.propagation) {
        _ if family == Family::Childless => Propagation::Background,
        (Some(true), _) => Propagation::Orphan,
        (Some(false), _) => Propagation::Background,
        (None, Some(chosen)) => chosen,
        (None, None) => default,
    };
    let wanted = match policy {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    // An order that changes nothing when the set is the same.
    let has = |finalizer: &str| current.contains(&finalizer);
    if has(ORPHAN) == (wanted == Some(ORPHAN)) && has(FOREGROUND) == (wanted == Some(FOREGROUND)) {
        return current.into_iter().map(str::to_owned).collect();
    }
    let others = current
        .into_iter()
        .filter(|finalizer| ![ORPHAN, FOREGROUND].contains(finalizer));
    others.chain(wanted).map(str::to_owned).collect()
}

fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    let metadata = metadata(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), json!(finalizers));
    }
}

/// The metadata of an object; makes what is missing.
fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata
        .as_object_mut()
        .expect("it was made an object just above")
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests;
