//! How one object becomes what its manifest says.
//!
//! The hash of what was required is kept on the object (`open-cluster-management.io/object-hash`), so that a member that left the
//! manifest is removed from the object even after a restart, while members that the API server or a controller filled in are left
//! alone: an object is settled when the hash is that of the manifest and everything that the manifest says is so.

mod compare;
mod ignore;

pub(crate) use compare::sorted;
pub use compare::{content_hash, covers, hex_digest};

use drover_api::{
    names::work::{CONFIG_SPEC_HASH_ANNOTATION, FIELD_MANAGER, OBJECT_HASH_ANNOTATION},
    work::v1::{IgnoreField, ServerSideApplyConfig, UpdateStrategy, UpdateStrategyType},
};
use serde_json::{Map, Value, json};

use super::{
    manifest::Desired,
    owners::{self, Owner},
};

/// The one request that brings an object nearer to its manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// POST.
    Create(Value),
    /// PUT, with the resource version that was observed.
    Replace(Value),
    /// PATCH with a JSON merge patch, with the resource version that was observed.
    Merge(Value),
    /// PATCH with server-side apply.
    Apply {
        /// The object to apply.
        object: Value,
        /// The field manager.
        manager: String,
        /// Whether fields are taken from other managers.
        force: bool,
    },
}

/// Why nothing can be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A path of an ignored field is wrong.
    #[error("failed to ignore field {path:?}: {why}")]
    IgnoreField {
        /// The path.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// The request that `desired` needs; none when the object is as it should be.
///
/// `live` is the object as it is. `owned` tells whether it is to carry the owner's reference (not when it is orphaned).
pub fn write(
    desired: &Desired,
    live: Option<&Value>,
    strategy: Option<&UpdateStrategy>,
    owner: &Owner,
    owned: bool,
) -> Result<Option<Write>, ApplyError> {
    match strategy.map(|strategy| strategy.type_).unwrap_or_default() {
        UpdateStrategyType::Update => Ok(update(desired, live, owner, owned)),
        UpdateStrategyType::CreateOnly => Ok(match live {
            None => Some(Write::Create(with_owner(
                desired.object.clone(),
                owner,
                owned,
            ))),
            Some(live) => owners::change(live, owner, owned)
                .map(|references| Write::Merge(owners::patch(live, references))),
        }),
        UpdateStrategyType::ServerSideApply => server_side(
            desired,
            live,
            strategy.and_then(|strategy| strategy.server_side_apply.as_ref()),
            owner,
            owned,
        ),
        UpdateStrategyType::ReadOnly => Ok(None),
    }
}

/// Whether the object is never written and never owned.
pub fn read_only(strategy: Option<&UpdateStrategy>) -> bool {
    strategy.is_some_and(|strategy| strategy.type_ == UpdateStrategyType::ReadOnly)
}

fn update(desired: &Desired, live: Option<&Value>, owner: &Owner, owned: bool) -> Option<Write> {
    let required = compare::normal(&desired.object);
    let hash = content_hash(&required);
    let mut marked = with_owner(required.clone(), owner, owned);
    annotate(&mut marked, OBJECT_HASH_ANNOTATION, &hash);
    let Some(live) = live else {
        return Some(Write::Create(marked));
    };

    let recorded = annotation(live, OBJECT_HASH_ANNOTATION);
    if recorded.is_none_or(|recorded| recorded == hash) && compare::content_is_so(&required, live) {
        return merge_metadata(&marked, live, owner, owned).map(Write::Merge);
    }
    Some(Write::Replace(replacement(marked, live, owner, owned)))
}

/// A merge patch for labels, annotations and owners; none when they are as they should be.
fn merge_metadata(required: &Value, live: &Value, owner: &Owner, owned: bool) -> Option<Value> {
    let mut metadata = Map::new();
    for member in ["labels", "annotations"] {
        let missing: Map<String, Value> = map_of(required, member)
            .filter(|(key, value)| {
                live.pointer("/metadata")
                    .and_then(|metadata| metadata.get(member)?.get(key.as_str()))
                    != Some(value)
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if !missing.is_empty() {
            metadata.insert(member.to_owned(), Value::Object(missing));
        }
    }
    if let Some(references) = owners::change(live, owner, owned) {
        metadata.insert("ownerReferences".to_owned(), Value::Array(references));
    }
    if metadata.is_empty() {
        return None;
    }
    for member in ["uid", "resourceVersion"] {
        if let Some(value) = live.pointer(&format!("/metadata/{member}")) {
            metadata.insert(member.to_owned(), value.clone());
        }
    }
    Some(json!({ "metadata": metadata }))
}

/// The content of `required` with the metadata of `live`, into which labels, annotations and owners are merged. The live status stays.
fn replacement(required: Value, live: &Value, owner: &Owner, owned: bool) -> Value {
    let mut metadata = live
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    metadata.remove("managedFields");
    for member in ["labels", "annotations"] {
        let mut merged = metadata
            .get(member)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        merged.extend(map_of(&required, member).map(|(key, value)| (key.clone(), value.clone())));
        if !merged.is_empty() {
            metadata.insert(member.to_owned(), Value::Object(merged));
        }
    }
    if let Some(references) = owners::change(live, owner, owned) {
        metadata.insert("ownerReferences".to_owned(), Value::Array(references));
    }
    let mut object = match required {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    object.insert("metadata".to_owned(), Value::Object(metadata));
    if let Some(status) = live.get("status") {
        object.insert("status".to_owned(), status.clone());
    }
    Value::Object(object)
}

fn server_side(
    desired: &Desired,
    live: Option<&Value>,
    config: Option<&ServerSideApplyConfig>,
    owner: &Owner,
    owned: bool,
) -> Result<Option<Write>, ApplyError> {
    let manager = config
        .map(|config| config.field_manager.as_str())
        .filter(|manager| !manager.is_empty())
        .unwrap_or(FIELD_MANAGER)
        .to_owned();
    let force = config.is_some_and(|config| config.force);
    let ignored: &[IgnoreField] = config.map_or(&[], |config| &config.ignore_fields);
    let apply = |object| {
        Some(Write::Apply {
            object,
            manager: manager.clone(),
            force,
        })
    };

    let owners_only = |live: &Value| {
        owners::change(live, owner, owned)
            .map(|references| Write::Merge(owners::patch(live, references)))
    };
    if ignored.is_empty() {
        let required = compare::normal(&desired.object);
        let hash = content_hash(&required);
        let mut marked = with_owner(required.clone(), owner, owned);
        annotate(&mut marked, OBJECT_HASH_ANNOTATION, &hash);
        return Ok(match live {
            Some(live)
                if annotation(live, OBJECT_HASH_ANNOTATION) == Some(&hash)
                    && compare::content_is_covered(&required, live)
                    && metadata_is_so(&marked, live) =>
            {
                owners_only(live)
            }
            _ => apply(marked),
        });
    }

    let reduced = ignore::reduce(&desired.object, ignored)?;
    let hash = content_hash(&reduced.without_present);
    Ok(match live {
        None => {
            let mut object = with_owner(desired.object.clone(), owner, owned);
            annotate(&mut object, CONFIG_SPEC_HASH_ANNOTATION, &hash);
            apply(object)
        }
        Some(live) if annotation(live, CONFIG_SPEC_HASH_ANNOTATION) == Some(&hash) => {
            owners_only(live)
        }
        Some(_) => {
            let mut object = with_owner(reduced.without_present, owner, owned);
            annotate(&mut object, CONFIG_SPEC_HASH_ANNOTATION, &hash);
            apply(object)
        }
    })
}

fn metadata_is_so(required: &Value, live: &Value) -> bool {
    ["labels", "annotations"].iter().all(|member| {
        map_of(required, member).all(|(key, value)| {
            live.pointer("/metadata")
                .and_then(|metadata| metadata.get(member)?.get(key.as_str()))
                == Some(value)
        })
    })
}

fn with_owner(mut object: Value, owner: &Owner, owned: bool) -> Value {
    if let Some(references) = owners::change(&object, owner, owned)
        && let Some(Value::Object(metadata)) = object.get_mut("metadata")
    {
        metadata.insert("ownerReferences".to_owned(), Value::Array(references));
    }
    object
}

fn annotate(object: &mut Value, key: &str, value: &str) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if annotations.is_null() {
            *annotations = json!({});
        }
        if let Value::Object(annotations) = annotations {
            annotations.insert(key.to_owned(), Value::String(value.to_owned()));
        }
    }
}

fn annotation<'o>(object: &'o Value, key: &str) -> Option<&'o str> {
    object
        .get("metadata")?
        .get("annotations")?
        .get(key)?
        .as_str()
}

fn map_of<'o>(object: &'o Value, member: &str) -> impl Iterator<Item = (&'o String, &'o Value)> {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(member))
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
