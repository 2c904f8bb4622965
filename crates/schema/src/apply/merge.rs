//! Two values of one type: what differs, what both make together, what is left without some fields
//! (facts: structured-merge-diff, `typed`). Values have been through [`super::check::validate`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::fieldset::{Element, FieldSet};
use super::literal;
use super::typed::{Atom, MapAtom, Ty, item_element, list_of, map_of};
use crate::types::ListKind;

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    /// Forgets everything at and below some paths.
    pub(super) fn without(self, ignored: &FieldSet) -> Self {
        if ignored.is_empty() {
            return self;
        }
        Self {
            added: self.added.difference_below(ignored),
            modified: self.modified.difference_below(ignored),
            removed: self.removed.difference_below(ignored),
        }
    }
}

/// What differs between two values.
pub(super) fn compare(ty: Ty<'_>, left: &Value, right: &Value) -> Comparison {
    let mut walk = Compare {
        path: Vec::new(),
        out: Comparison::default(),
    };
    walk.value(ty, Some(left), Some(right));
    walk.out
}

struct Compare {
    path: Vec<Element>,
    out: Comparison,
}

impl Compare {
    fn value(&mut self, ty: Ty<'_>, left: Option<&Value>, right: Option<&Value>) {
        let whole = match (left, right) {
            (Some(_), None) => self.atom(ty.atom(left), left, right),
            (Some(_), Some(_)) if !ty.same(left, right) => {
                // The value became another kind of thing: both kinds are looked at.
                self.atom(ty.atom(left), left, right);
                self.atom(ty.atom(right), left, right)
            }
            _ => self.atom(ty.atom(right), left, right),
        };
        if !whole {
            self.presence(left, right);
        }
    }

    fn presence(&mut self, left: Option<&Value>, right: Option<&Value>) {
        if left.is_none() {
            self.out.added.insert(&self.path);
        } else if right.is_none() {
            self.out.removed.insert(&self.path);
        }
    }

    /// Whether the value was looked at as a whole.
    fn atom(&mut self, atom: Atom<'_>, left: Option<&Value>, right: Option<&Value>) -> bool {
        match atom {
            Atom::Scalar(_) => self.leaf(left, right),
            Atom::List { item, kind } => {
                let (l, r) = (list_of(left), list_of(right));
                if *kind == ListKind::Atomic || both_empty(l, r, Vec::is_empty) {
                    return self.leaf(left, right);
                }
                self.items(item, kind, l, r);
                false
            }
            Atom::Map(map) => {
                let (l, r) = (map_of(left), map_of(right));
                if map.atomic || both_empty(l, r, Map::is_empty) {
                    return self.leaf(left, right);
                }
                self.fields(&map, l, r);
                false
            }
        }
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) -> bool {
        match (left, right) {
            (Some(l), Some(r)) => {
                if !literal::equal(l, r) {
                    self.out.modified.insert(&self.path);
                }
            }
            _ => self.presence(left, right),
        }
        true
    }

    fn fields(
        &mut self,
        map: &MapAtom<'_>,
        left: Option<&Map<String, Value>>,
        right: Option<&Map<String, Value>>,
    ) {
        for name in names(left, right) {
            self.path.push(Element::field(name));
            self.value(
                map.field_or_any(name),
                left.and_then(|map| map.get(name)),
                right.and_then(|map| map.get(name)),
            );
            self.path.pop();
        }
    }

    fn items(
        &mut self,
        item_ty: Ty<'_>,
        kind: &ListKind,
        left: Option<&Vec<Value>>,
        right: Option<&Vec<Value>>,
    ) {
        let mut found: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in left.into_iter().flatten() {
            if let Ok(element) = item_element(item_ty, kind, item) {
                found.entry(element).or_default().0.push(item);
            }
        }
        for item in right.into_iter().flatten() {
            if let Ok(element) = item_element(item_ty, kind, item) {
                found.entry(element).or_default().1.push(item);
            }
        }
        for (element, (left, right)) in found {
            self.path.push(element);
            match (left.as_slice(), right.as_slice()) {
                (l, r) if l.len() <= 1 && r.len() <= 1 => {
                    self.value(item_ty, l.first().copied(), r.first().copied());
                }
                (l, r) if l.len() >= 2 && r.len() >= 2 => {
                    let same =
                        l.len() == r.len() && l.iter().zip(r).all(|(l, r)| literal::equal(l, r));
                    if !same {
                        self.out.modified.insert(&self.path);
                    }
                }
                (l, r) if l.len() >= 2 => {
                    if let Some(only) = r.first() {
                        self.value(item_ty, None, Some(only));
                    }
                    self.out.removed.insert(&self.path);
                }
                (l, _) => {
                    if let Some(only) = l.first() {
                        self.value(item_ty, Some(only), None);
                    }
                    self.out.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}

fn both_empty<T>(left: Option<&T>, right: Option<&T>, is_empty: impl Fn(&T) -> bool) -> bool {
    left.is_none_or(&is_empty) && right.is_none_or(&is_empty)
}

fn names<'v>(
    left: Option<&'v Map<String, Value>>,
    right: Option<&'v Map<String, Value>>,
) -> BTreeSet<&'v String> {
    left.into_iter()
        .flatten()
        .chain(right.into_iter().flatten())
        .map(|(name, _)| name)
        .collect()
}

/// Both values in one; where both say something, the right one wins.
pub(super) fn merge(ty: Ty<'_>, left: &Value, right: &Value) -> Value {
    merge_values(ty, Some(left), Some(right)).unwrap_or(Value::Null)
}

fn merge_values(ty: Ty<'_>, left: Option<&Value>, right: Option<&Value>) -> Option<Value> {
    let winner = right.or(left);
    let whole = || winner.cloned();
    match ty.atom(winner) {
        Atom::Scalar(_) => whole(),
        Atom::List { item, kind } => {
            let (l, r) = (list_of(left), list_of(right));
            if *kind == ListKind::Atomic || both_empty(l, r, Vec::is_empty) {
                return whole();
            }
            let items = merge_items(item, kind, l, r);
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Atom::Map(map) => {
            let (l, r) = (map_of(left), map_of(right));
            if map.atomic || both_empty(l, r, Map::is_empty) {
                return whole();
            }
            let fields: Map<String, Value> = names(l, r)
                .into_iter()
                .filter_map(|name| {
                    let left = l.and_then(|map| map.get(name));
                    let right = r.and_then(|map| map.get(name));
                    let value = merge_values(map.field_or_any(name), left, right)?;
                    Some((name.clone(), value))
                })
                .collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
    }
}

/// The items of a list by what they are known as, in order. Items that are there more than once
/// count as null.
struct Indexed<'v> {
    order: Vec<(Element, &'v Value)>,
    by_element: BTreeMap<Element, &'v Value>,
}

static NULL: Value = Value::Null;

fn index<'v>(item_ty: Ty<'_>, kind: &ListKind, items: Option<&'v Vec<Value>>) -> Indexed<'v> {
    let mut indexed = Indexed {
        order: Vec::new(),
        by_element: BTreeMap::new(),
    };
    for item in items.into_iter().flatten() {
        let Ok(element) = item_element(item_ty, kind, item) else {
            continue;
        };
        indexed
            .by_element
            .entry(element.clone())
            .and_modify(|known| *known = &NULL)
            .or_insert(item);
        indexed.order.push((element, item));
    }
    indexed
}

/// The left order with the right items woven in: items of both lists stand in the order of the
/// right one, everything else keeps its place between its neighbours.
fn merge_items(
    item_ty: Ty<'_>,
    kind: &ListKind,
    left: Option<&Vec<Value>>,
    right: Option<&Vec<Value>>,
) -> Vec<Value> {
    let left = index(item_ty, kind, left);
    let right = index(item_ty, kind, right);
    let mut shared: VecDeque<&Element> = right
        .order
        .iter()
        .map(|(element, _)| element)
        .filter(|element| left.by_element.contains_key(*element))
        .collect();
    let mut next_shared = shared.pop_front();
    let mut merged: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.order.len().max(right.order.len()));
    let both = |element: &Element| {
        merge_values(
            item_ty,
            left.by_element.get(element).copied(),
            right.by_element.get(element).copied(),
        )
    };
    let (mut l, mut r) = (0, 0);
    while l < left.order.len() || r < right.order.len() {
        if let (Some((element, _)), Some((other, _))) = (left.order.get(l), right.order.get(r)) {
            if element == other {
                merged.insert(element);
                out.extend(both(element));
                l += 1;
                r += 1;
                next_shared = shared.pop_front();
                continue;
            }
            let out_of_turn = next_shared.is_some_and(|next| next != element);
            if out_of_turn && right.by_element.contains_key(element) {
                l += 1;
                continue;
            }
        }
        if let Some((element, item)) = left.order.get(l) {
            if !right.by_element.contains_key(element) {
                out.extend(merge_values(item_ty, Some(item), None));
                l += 1;
                continue;
            }
            if merged.contains(element) {
                l += 1;
            }
        }
        if let Some((element, _)) = right.order.get(r) {
            merged.insert(element);
            out.extend(both(element));
            r += 1;
            if next_shared == Some(element) {
                next_shared = shared.pop_front();
            }
        }
    }
    out
}

/// What is left of a value without some fields. What has nothing left is null.
pub(super) fn remove(ty: Ty<'_>, value: &Value, gone: &FieldSet) -> Value {
    match ty.atom(Some(value)) {
        Atom::Scalar(_) => value.clone(),
        Atom::List { item, kind } => {
            let Some(items) = value.as_array() else {
                return Value::Null;
            };
            if *kind == ListKind::Atomic {
                return Value::Null;
            }
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|child| {
                    let Ok(element) = item_element(item, kind, child) else {
                        return Some(child.clone());
                    };
                    remove_child(item, &element, child, gone)
                })
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        Atom::Map(map) => {
            let Some(fields) = value.as_object() else {
                return Value::Null;
            };
            if map.atomic {
                return Value::Null;
            }
            let kept: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, child)| {
                    let element = Element::field(name);
                    let kept = remove_child(map.field_or_any(name), &element, child, gone)?;
                    Some((name.clone(), kept))
                })
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
    }
}

fn remove_child(ty: Ty<'_>, element: &Element, child: &Value, gone: &FieldSet) -> Option<Value> {
    if gone.members().contains(element) {
        return None;
    }
    Some(match gone.children().get(element) {
        Some(below) => remove(ty, child, below),
        None => child.clone(),
    })
}
