//! Strategic merge patch (facts: apimachinery `strategicpatch`): a merge patch that merges lists by
//! what the schema says of them, and that takes directives:
//!
//! - `$patch: replace|delete` on a map or an item of a list;
//! - `$retainKeys`: only these keys of the map survive;
//! - `$deleteFromPrimitiveList/x`: these values leave the list `x`;
//! - `$setElementOrder/x`: the items of `x` stand in this order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::PatchError;
use crate::apply::literal::{self, Literal};
use crate::types::{Node, PatchStrategy};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Fields = Map<String, Value>;

/// The object after the patch.
pub(super) fn apply(node: Node<'_>, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(malformed("json: cannot unmarshal into a map of fields"));
    };
    let original = object.as_object().cloned().unwrap_or_default();
    merge_map(Some(node), original, patch.clone()).map(Value::Object)
}

fn malformed(why: &str) -> PatchError {
    PatchError::Malformed(why.to_owned())
}

fn bad_retain_keys() -> PatchError {
    malformed("invalid patch format of retainKeys")
}

fn not_a_list(value: &Value) -> PatchError {
    let got = if value.is_null() {
        "%!s(<nil>)"
    } else {
        literal::type_name(value)
    };
    PatchError::CannotMerge(format!("expected a []interface {{}}, but received a {got}"))
}

fn unknown_directive(fields: &Fields) -> PatchError {
    PatchError::CannotMerge(format!(
        "unknown patch type: {} in map: {}",
        literal::plain(fields.get(DIRECTIVE).unwrap_or(&Value::Null)),
        literal::plain(&Value::Object(fields.clone()))
    ))
}

fn no_merge_key(item: &Fields, key: &str) -> PatchError {
    let item = literal::plain(&Value::Object(item.clone()));
    PatchError::CannotMerge(format!(
        "map: {item} does not contain declared merge key: {key}"
    ))
}

/// The type of a field and how patches treat it.
fn lookup<'a>(node: Option<Node<'a>>, name: &str) -> (Option<Node<'a>>, PatchStrategy) {
    let Some(node) = node else {
        return (None, PatchStrategy::default());
    };
    let strategy = node
        .declared(name)
        .map(|field| field.patch.clone())
        .unwrap_or_default();
    (node.field(name), strategy)
}

fn merge_map(
    node: Option<Node<'_>>,
    mut original: Fields,
    mut patch: Fields,
) -> Result<Fields, PatchError> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None => {}
        Some(Some("replace")) => {
            patch.remove(DIRECTIVE);
            return Ok(patch);
        }
        Some(Some("delete")) => return Ok(Fields::new()),
        Some(_) => return Err(unknown_directive(&patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(node, &mut original, &mut patch)?;
    for (name, value) in patch {
        let (name, delete) = match name.strip_prefix(DELETE_FROM_LIST) {
            Some(name) => (name.to_owned(), true),
            None => (name, false),
        };
        if value.is_null() {
            original.remove(&name);
            continue;
        }
        let merged = match (original.remove(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !delete => {
                Some(Value::Object(merge_map(lookup(node, &name).0, old, new)?))
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                let (list, strategy) = lookup(node, &name);
                Some(Value::Array(merge_list(list, &strategy, old, new, delete)?))
            }
            (old, _) if delete => old,
            (_, new) => without_directives(without_nulls(new)),
        };
        if let Some(merged) = merged {
            original.insert(name, merged);
        }
    }
    Ok(original)
}

fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), PatchError> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(retained) = retained else {
        return Err(bad_retain_keys());
    };
    let is_retained = |name: &str| retained.iter().any(|key| key == name);
    for (name, value) in &*patch {
        let directive = name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER);
        if !value.is_null() && !directive && !is_retained(name) {
            return Err(bad_retain_keys());
        }
    }
    original.retain(|name, _| is_retained(name));
    Ok(())
}

/// Lists whose order the patch gives are merged and ordered here, and leave the patch.
fn set_orders(
    node: Option<Node<'_>>,
    original: &mut Fields,
    patch: &mut Fields,
) -> Result<(), PatchError> {
    let names: Vec<String> = patch
        .keys()
        .filter_map(|name| name.strip_prefix(SET_ORDER))
        .map(str::to_owned)
        .collect();
    for name in names {
        let order = match patch.remove(&format!("{SET_ORDER}{name}")) {
            Some(Value::Array(order)) => order,
            Some(other) => return Err(not_a_list(&other)),
            None => continue,
        };
        let old = match original.get(&name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(not_a_list(other)),
        };
        let new = match patch.get(&name) {
            None => None,
            Some(Value::Array(items)) => Some(items.clone()),
            Some(other) => return Err(not_a_list(other)),
        };
        let (list, strategy) = lookup(node, &name);
        let key = strategy.merge_key.as_deref();
        check_order(new.as_deref().unwrap_or_default(), &order, key)?;
        patch.remove(&name);
        let places = places(old.as_deref().unwrap_or_default(), new.as_deref(), key);
        let merged = match (&old, new) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(new)) => match without_directives(without_nulls(Value::Array(new))) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(old), Some(new)) => merge_list(list, &strategy, old.clone(), new, false)?,
        };
        let ordered = in_order(merged, &order, &places, key)?;
        original.insert(name, Value::Array(ordered));
    }
    Ok(())
}

/// The order that a list had, for weaving in what the patch says nothing of. New items take the
/// places of deleted ones (upstream reuses their storage).
fn places(old: &[Value], new: Option<&[Value]>, key: Option<&str>) -> Vec<Value> {
    let (Some(new), Some(key)) = (new, key) else {
        return old.to_vec();
    };
    let (deleted, added): (Vec<&Value>, Vec<&Value>) = new
        .iter()
        .partition(|item| item.get(DIRECTIVE).is_some_and(|d| d == "delete"));
    let deleted = Places::of(deleted, Some(key));
    let mut places: Vec<Value> = old
        .iter()
        .filter(|item| !deleted.has(item, Some(key)))
        .cloned()
        .collect();
    let freed = old.len() - places.len();
    let kept = Places::of(&places, Some(key));
    let plain = added
        .into_iter()
        .filter(|item| item.get(DIRECTIVE).is_none());
    let added: Vec<Value> = plain
        .filter(|item| !kept.has(item, Some(key)))
        .take(freed)
        .cloned()
        .collect();
    places.extend(added);
    places
}

/// The items of a patch must stand in the order that it asks for.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let is_deleted = |item: &Value| item.get(DIRECTIVE).is_some_and(|d| d == "delete");
    let mut items = patch
        .iter()
        .filter(|item| key.is_none() || !is_deleted(item))
        .peekable();
    let mut rest = order.iter().peekable();
    while let (Some(item), Some(wanted)) = (items.peek(), rest.peek()) {
        if item.get(DIRECTIVE).is_some() {
            items.next();
            continue;
        }
        if literal::equal(identity(item, key)?, identity(wanted, key)?) {
            items.next();
        }
        rest.next();
    }
    if items.peek().is_some() {
        return Err(PatchError::CannotMerge(format!(
            "The order in patch list:\n{}\n doesn't match {} list:\n{}\n",
            literal::plain(&Value::from(patch)),
            SET_ORDER.trim_end_matches('/'),
            literal::plain(&Value::from(order)),
        )));
    }
    Ok(())
}

/// What an item of a list is known by: its merge key or itself.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Result<&'v Value, PatchError> {
    let Some(key) = key else { return Ok(item) };
    match item {
        Value::Object(fields) => fields.get(key).ok_or_else(|| no_merge_key(fields, key)),
        other => Err(PatchError::CannotMerge(format!(
            "expected a map[string]interface {{}}, but received a {}",
            literal::type_name(other)
        ))),
    }
}

/// Where the items of a list stand, by what they are known by.
struct Places(BTreeMap<Literal, usize>);

impl Places {
    fn of<'v>(items: impl IntoIterator<Item = &'v Value>, key: Option<&str>) -> Self {
        let mut places = BTreeMap::new();
        for (place, item) in items.into_iter().enumerate() {
            if let Some(id) = id(item, key) {
                places.entry(Literal(id.clone())).or_insert(place);
            }
        }
        Self(places)
    }

    fn get(&self, item: &Value, key: Option<&str>) -> Option<usize> {
        self.0.get(&Literal(id(item, key)?.clone())).copied()
    }

    fn has(&self, item: &Value, key: Option<&str>) -> bool {
        self.get(item, key).is_some()
    }
}

fn id<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

/// All items must be of one type; `None` where there are none.
fn item_type(lists: [&[Value]; 2]) -> Result<Option<&'static str>, PatchError> {
    let mut found = None;
    for item in lists.into_iter().flatten() {
        let ty = literal::type_name(item);
        if item.is_array() {
            return Err(PatchError::DoesNotFit(
                "lists of lists are not supported".to_owned(),
            ));
        }
        if found.is_some_and(|found| found != ty) {
            let lists = Value::from(lists.map(Value::from).to_vec());
            return Err(PatchError::CannotMerge(format!(
                "list element types are not identical: {}",
                literal::plain(&lists)
            )));
        }
        found = Some(ty);
    }
    Ok(found)
}

fn merge_list(
    list: Option<Node<'_>>,
    strategy: &PatchStrategy,
    original: Vec<Value>,
    patch: Vec<Value>,
    delete: bool,
) -> Result<Vec<Value>, PatchError> {
    if !strategy.merge && !delete {
        return Ok(patch);
    }
    let key = strategy.merge_key.as_deref();
    match item_type([&original, &patch])? {
        None => Ok(original),
        Some("map[string]interface {}") => {
            let Some(key) = key else {
                return Err(PatchError::CannotMerge(
                    "cannot merge lists without merge key for struct".to_owned(),
                ));
            };
            let item = list.and_then(Node::item);
            merge_items(item, key, original, patch)
        }
        Some(_) if delete => {
            let gone = Places::of(&patch, None);
            Ok(original
                .into_iter()
                .filter(|item| !gone.has(item, None))
                .collect())
        }
        Some(_) => {
            let mut seen = BTreeSet::new();
            let merged = original.iter().chain(&patch);
            let merged = merged
                .filter(|item| seen.insert(Literal((*item).clone())))
                .cloned();
            in_order(merged.collect(), &patch, &original, None)
        }
    }
}

fn merge_items(
    item: Option<Node<'_>>,
    key: &str,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut gone = BTreeSet::new();
    let mut replace = false;
    for value in patch {
        let Some(fields) = value.as_object() else {
            continue;
        };
        match fields.get(DIRECTIVE) {
            None => plain.push(value),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let id = fields.get(key).ok_or_else(|| no_merge_key(fields, key))?;
                    gone.insert(Literal(id.clone()));
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(PatchError::CannotMerge(
                        "merging lists cannot yet be specified in the patch".to_owned(),
                    ));
                }
                _ => return Err(unknown_directive(fields)),
            },
        }
    }
    if replace {
        return Ok(plain);
    }
    let original: Vec<Value> = original
        .into_iter()
        .filter(|item| {
            item.get(key)
                .is_none_or(|id| !gone.contains(&Literal(id.clone())))
        })
        .collect();
    let mut merged = original.clone();
    let mut places = Places::of(&original, Some(key)).0;
    for value in &plain {
        let wanted = Literal(identity(value, Some(key))?.clone());
        let place = *places.entry(wanted).or_insert(merged.len());
        match (merged.get_mut(place), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                *old = merge_map(item, std::mem::take(old), new.clone())?;
            }
            // Directives inside a new item stay, to be dropped as the unknown fields that they are.
            _ => merged.push(without_nulls(value.clone())),
        }
    }
    in_order(merged, &plain, &original, Some(key))
}

/// Items that the patch names stand in its order, the others in theirs, woven together by the order
/// that they had.
fn in_order(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    for item in merged.iter().chain(patch_order) {
        identity(item, key)?;
    }
    let patch_places = Places::of(patch_order, key);
    let server_places = Places::of(server_order, key);
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| patch_places.has(item, key));
    named.sort_by_cached_key(|item| patch_places.get(item, key));
    others.sort_by_cached_key(|item| server_places.get(item, key).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let place = server_places.get(&other, key);
        let before = |named: &Value| {
            // An item that had no place comes before whatever is left.
            let named = server_places.get(named, key);
            named.is_none() || place.is_none() || named <= place
        };
        while let Some(item) = named.next_if(before) {
            out.push(item);
        }
        out.push(other);
    }
    out.extend(named);
    Ok(out)
}

/// What a patch sets where nothing was: its nulls delete nothing.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// A map with a directive has nothing to be merged with: it goes, `None`.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(Value::Object(
            fields
                .into_iter()
                .filter_map(|(name, value)| Some((name, without_directives(value)?)))
                .collect(),
        )),
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(without_directives).collect(),
        )),
        other => Some(other),
    }
}
