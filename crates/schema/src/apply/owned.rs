//! Field sets of values, and field sets seen through a schema.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::fieldset::{Element, FieldSet};
use super::typed::{Atom, Ty, item_element, list_of, map_of};
use crate::types::ListKind;

/// The paths of everything that a value sets.
pub(super) fn field_set(ty: Ty<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(ty, value, &mut Vec::new(), &mut set);
    set
}

fn collect(ty: Ty<'_>, value: &Value, path: &mut Vec<Element>, set: &mut FieldSet) {
    match ty.atom(Some(value)) {
        Atom::Scalar(_)
        | Atom::List {
            kind: ListKind::Atomic,
            ..
        } => set.insert(path),
        Atom::List { item, kind } => collect_items(item, kind, list_of(Some(value)), path, set),
        Atom::Map(map) if map.atomic => set.insert(path),
        Atom::Map(map) => {
            for (name, value) in map_of(Some(value)).into_iter().flatten() {
                let (declared, ty) = map.field(name);
                path.push(Element::field(name));
                collect(ty.unwrap_or(Ty::ANY), value, path, set);
                let hollow = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                if hollow || !declared {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

/// Items that are there more than once are owned as a whole, without what is in them.
fn collect_items(
    item_ty: Ty<'_>,
    kind: &ListKind,
    items: Option<&Vec<Value>>,
    path: &mut Vec<Element>,
    set: &mut FieldSet,
) {
    let mut found: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in items.into_iter().flatten() {
        if let Ok(element) = item_element(item_ty, kind, item) {
            found.entry(element).or_default().push(item);
        }
    }
    for (element, items) in found {
        path.push(element);
        set.insert(path);
        if let [item] = items.as_slice() {
            collect(item_ty, item, path, set);
        }
        path.pop();
    }
}

/// Adds every declared field that something in the set lies below.
pub(super) fn with_named_fields(ty: Option<Ty<'_>>, set: &FieldSet) -> FieldSet {
    let map = ty.and_then(Ty::map);
    let mut members = set.members().clone();
    for element in set.children().keys() {
        if let (Element::Field(name), Some(map)) = (element, &map)
            && map.field(name).0
        {
            members.insert(element.clone());
        }
    }
    let children = set.children().iter().map(|(element, child)| {
        let child_ty = match (element, ty.map(|ty| ty.atom(None)), &map) {
            (Element::Field(name), _, Some(map)) => map.field(name).1,
            (Element::Key(_), Some(Atom::List { item, .. }), _) => Some(item),
            _ => None,
        };
        (element.clone(), with_named_fields(child_ty, child))
    });
    FieldSet::from_parts(members, children)
}

/// A set whose owner wrote when a list or map was granular that has become atomic since: the owner
/// of a part becomes owner of the whole.
pub(super) fn reconcile(ty: Ty<'_>, set: &FieldSet) -> FieldSet {
    let mut wholes = FieldSet::default();
    find_wholes(ty, Some(set), false, &mut Vec::new(), &mut wholes);
    if wholes.is_empty() {
        return set.clone();
    }
    set.difference_below(&wholes).union(&wholes)
}

fn find_wholes(
    ty: Ty<'_>,
    set: Option<&FieldSet>,
    owned_whole: bool,
    path: &mut Vec<Element>,
    wholes: &mut FieldSet,
) {
    let atom = ty.atom(None);
    match &atom {
        Atom::Scalar(_) => return,
        Atom::List {
            kind: ListKind::Atomic,
            ..
        } => {
            if !owned_whole {
                wholes.insert(path);
            }
            return;
        }
        Atom::Map(map) if map.only_unknown() => return,
        Atom::Map(map) if map.atomic && !owned_whole => {
            if set.is_some_and(|set| !set.is_empty()) {
                wholes.insert(path);
            }
            return;
        }
        Atom::List { .. } | Atom::Map(_) => {}
    }
    let Some(set) = set else { return };
    let elements: BTreeSet<&Element> = set.members().iter().chain(set.children().keys()).collect();
    for element in elements {
        let child_ty = match (&atom, element) {
            (Atom::Map(map), Element::Field(name)) => map.field(name).1,
            (Atom::Map(map), _) => map.element,
            (Atom::List { item, .. }, _) => Some(*item),
            (Atom::Scalar(_), _) => None,
        };
        let Some(child_ty) = child_ty else { continue };
        let child = set.children().get(element);
        let whole = set.members().contains(element) && child.is_none();
        path.push(element.clone());
        find_wholes(child_ty, child, whole, path, wholes);
        path.pop();
    }
}
