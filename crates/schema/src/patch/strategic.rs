//! Strategic merge patch (facts: apimachinery `strategicpatch`): a merge patch that merges lists by
//! what the schema says of them, and that takes directives:
//!
//! - `$patch: replace|delete` on a map or an item of a list;
//! - `$retainKeys`: only these keys of the map survive;
//! - `$deleteFromPrimitiveList/x`: these values leave the list `x`;
//! - `$setElementOrder/x`: the items of `x` stand in this order.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::PatchError;
use crate::apply::literal;
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
    let got = literal::type_name(value);
    PatchError::CannotMerge(format!("expected a []interface {{}}, but received a {got}"))
}

fn unknown_directive(directive: &Value, fields: &Fields) -> PatchError {
    PatchError::CannotMerge(format!(
        "unknown patch type: {} in map: {}",
        literal::plain(directive),
        literal::plain(&Value::Object(fields.clone()))
    ))
}

fn no_merge_key(item: &Fields, key: &str) -> PatchError {
    let item = literal::plain(&Value::Object(item.clone()));
    PatchError::CannotMerge(format!("map: {item} does not contain declared merge key: {key}"))
}

/// The type of a field and how patches treat it.
fn lookup<'a>(node: Option<Node<'a>>, name: &str) -> (Option<Node<'a>>, PatchStrategy) {
    let Some(node) = node else { return (None, PatchStrategy::default()) };
    let strategy = node.declared(name).map(|field| field.patch.clone()).unwrap_or_default();
    (node.field(name), strategy)
}

fn merge_map(
    node: Option<Node<'_>>,
    mut original: Fields,
    mut patch: Fields,
) -> Result<Fields, PatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Fields::new()),
            _ => Err(unknown_directive(&directive, &patch)),
        };
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
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(retained) = retained else { return Err(bad_retain_keys()) };
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
        let merged = match (&old, new) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(new)) => match without_directives(without_nulls(Value::Array(new))) {
                Some(Value::Array(items)) => items,
                _ => continue,
            },
            (Some(old), Some(new)) => merge_list(list, &strategy, old.clone(), new, false)?,
        };
        let ordered = in_order(merged, &order, old.as_deref().unwrap_or_default(), key)?;
        original.insert(name, Value::Array(ordered));
    }
    Ok(())
}

/// The items of a patch must stand in the order that it asks for.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, key)?;
        let mut found = false;
        for other in rest.by_ref() {
            if literal::equal(wanted, identity(other, key)?) {
                found = true;
                break;
            }
        }
        if !found {
            return Err(PatchError::CannotMerge(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                literal::plain(&Value::from(patch)),
                literal::plain(&Value::from(order)),
            )));
        }
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

fn position(items: &[Value], wanted: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = match key {
        Some(key) => wanted.get(key)?,
        None => wanted,
    };
    items.iter().position(|item| match key {
        Some(key) => item.get(key).is_some_and(|other| literal::equal(wanted, other)),
        None => literal::equal(wanted, item),
    })
}

/// All items must be of one type; `None` where there are none.
fn item_type(lists: [&[Value]; 2]) -> Result<Option<&'static str>, PatchError> {
    let mut found = None;
    for item in lists.into_iter().flatten() {
        let ty = literal::type_name(item);
        if item.is_array() {
            return Err(PatchError::DoesNotFit("lists of lists are not supported".to_owned()));
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
            let gone = |item: &Value| patch.iter().any(|other| literal::equal(item, other));
            Ok(original.into_iter().filter(|item| !gone(item)).collect())
        }
        Some(_) => {
            let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
            for item in original.iter().chain(&patch) {
                if position(&merged, item, None).is_none() {
                    merged.push(item.clone());
                }
            }
            in_order(merged, &patch, &original, None)
        }
    }
}

fn merge_items(
    item: Option<Node<'_>>,
    key: &str,
    original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, PatchError> {
    let mut original = original;
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for value in patch {
        let Some(fields) = value.as_object() else { continue };
        match fields.get(DIRECTIVE) {
            None => plain.push(value),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let gone = fields.get(key).ok_or_else(|| no_merge_key(fields, key))?;
                    let is_gone =
                        |item: &Value| item.get(key).is_some_and(|id| literal::equal(id, gone));
                    original.retain(|item| !is_gone(item));
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(PatchError::CannotMerge(
                        "merging lists cannot yet be specified in the patch".to_owned(),
                    ));
                }
                _ => return Err(unknown_directive(directive, fields)),
            },
        }
    }
    if replace {
        return Ok(plain);
    }
    let mut merged = original.clone();
    for value in &plain {
        let wanted = identity(value, Some(key))?;
        let found = merged
            .iter_mut()
            .find(|item| item.get(key).is_some_and(|id| literal::equal(id, wanted)));
        match (found, value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                *old = merge_map(item, std::mem::take(old), new.clone())?;
            }
            _ => merged.extend(without_directives(without_nulls(value.clone()))),
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
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(patch_order, item, key).is_some());
    let by = |order: &[Value], a: &Value, b: &Value| {
        match (position(order, a, key), position(order, b, key)) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        }
    };
    named.sort_by(|a, b| by(patch_order, a, b));
    others.sort_by(|a, b| by(server_order, a, b));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => {
                match (position(server_order, other, key), position(server_order, named, key)) {
                    (Some(other), Some(named)) => other < named,
                    _ => false,
                }
            }
        };
        out.extend(if other_first { others.next() } else { named.next() });
    }
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
        Value::Array(items) => {
            Some(Value::Array(items.into_iter().filter_map(without_directives).collect()))
        }
        other => Some(other),
    }
}
