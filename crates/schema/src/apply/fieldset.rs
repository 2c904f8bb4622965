//! Sets of field paths and their wire form, FieldsV1 (format: structured-merge-diff, `fieldpath`).
//!
//! A set is a tree. A path that ends at a node is a *member* of the node above it; a path that goes
//! on runs through a *child*. The two are independent: `spec` may be owned without anything in it,
//! and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::literal::{self, Literal};

/// How deep a set may be. Deeper ones cannot come from an object that was accepted.
const MAX_DEPTH: usize = 256;

/// One step of a path. The order of the variants is the order of sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A field of a struct or a key of a map.
    Field(Box<str>),
    /// The item of a list whose key fields have these values, sorted by name.
    Key(Vec<(Box<str>, Literal)>),
    /// The item of a set.
    Value(Literal),
    /// The item at a place of a list. Kubernetes reads but never writes these.
    Index(i64),
}

impl Element {
    pub(crate) fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// The key in FieldsV1.
    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => {
                let object: Map<String, Value> = fields
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.0.clone()))
                    .collect();
                format!("k:{}", literal::to_json(&Value::Object(object)))
            }
            Self::Value(value) => format!("v:{}", literal::to_json(&value.0)),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// `None`: of a kind that is not known here, to be ignored.
    fn decode(text: &str) -> Result<Option<Self>, Malformed> {
        let malformed = || Malformed(format!("parsing key as path element: {text}"));
        let (kind, content) = text.split_once(':').ok_or_else(malformed)?;
        let json = || serde_json::from_str::<Value>(content).map_err(|_| malformed());
        match kind {
            "f" => Ok(Some(Self::field(content))),
            "v" => Ok(Some(Self::Value(Literal(json()?)))),
            "k" => match json()? {
                Value::Object(object) => {
                    let mut fields: Vec<_> = object
                        .into_iter()
                        .map(|(name, value)| (name.into_boxed_str(), Literal(value)))
                        .collect();
                    fields.sort();
                    Ok(Some(Self::Key(fields)))
                }
                _ => Err(malformed()),
            },
            "i" => content
                .parse()
                .map(|index| Some(Self::Index(index)))
                .map_err(|_| malformed()),
            _ if kind.len() == 1 => Ok(None),
            _ => Err(malformed()),
        }
    }
}

/// As in messages: `.name`, `[name="x"]`, `[="x"]`, `[3]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let list: Vec<String> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}={}", literal::to_text(&value.0)))
                    .collect();
                write!(f, "[{}]", list.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", literal::to_text(&value.0)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path as in messages: `.spec.m[name="x"].v`.
pub(crate) fn path_text(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// Why text is not FieldsV1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    members: BTreeSet<Element>,
    /// Never holds an empty set.
    children: BTreeMap<Element, FieldSet>,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    /// The elements at which paths end here.
    pub(crate) fn members(&self) -> &BTreeSet<Element> {
        &self.members
    }

    /// The elements through which paths run.
    pub(crate) fn children(&self) -> &BTreeMap<Element, FieldSet> {
        &self.children
    }

    /// Builds a node; empty children are dropped.
    pub(crate) fn from_parts(
        members: BTreeSet<Element>,
        children: impl Iterator<Item = (Element, Self)>,
    ) -> Self {
        Self {
            members,
            children: children.filter(|(_, set)| !set.is_empty()).collect(),
        }
    }

    /// Adds a path; the empty path is nothing.
    pub(crate) fn insert(&mut self, path: &[Element]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut set = self;
        for element in parents {
            set = set.children.entry(element.clone()).or_default();
        }
        set.members.insert(last.clone());
    }

    /// Whether exactly this path is in the set.
    pub(crate) fn contains(&self, path: &[Element]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let mut set = self;
        for element in parents {
            match set.children.get(element) {
                Some(child) => set = child,
                None => return false,
            }
        }
        set.members.contains(last)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (element, set) in &other.children {
            self.children
                .entry(element.clone())
                .or_default()
                .extend(set);
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self::from_parts(
            self.members.intersection(&other.members).cloned().collect(),
            self.children.iter().filter_map(|(element, set)| {
                let other = other.children.get(element)?;
                Some((element.clone(), set.intersection(other)))
            }),
        )
    }

    /// What is in this set and not exactly so in the other.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        Self::from_parts(
            self.members.difference(&other.members).cloned().collect(),
            self.children.iter().map(|(element, set)| {
                let rest = match other.children.get(element) {
                    Some(other) => set.difference(other),
                    None => set.clone(),
                };
                (element.clone(), rest)
            }),
        )
    }

    /// What is neither in the other set nor below anything in it.
    pub(crate) fn difference_below(&self, other: &Self) -> Self {
        let kept = self
            .children
            .iter()
            .filter(|(element, _)| !other.members.contains(*element));
        Self::from_parts(
            self.members.difference(&other.members).cloned().collect(),
            kept.map(|(element, set)| {
                let rest = match other.children.get(element) {
                    Some(other) => set.difference_below(other),
                    None => set.clone(),
                };
                (element.clone(), rest)
            }),
        )
    }

    /// Every path, at each level those that end there first.
    pub(crate) fn paths(&self) -> Vec<Vec<Element>> {
        fn walk(set: &FieldSet, prefix: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
            for element in &set.members {
                let mut path = prefix.clone();
                path.push(element.clone());
                out.push(path);
            }
            for (element, child) in &set.children {
                prefix.push(element.clone());
                walk(child, prefix, out);
                prefix.pop();
            }
        }
        let mut out = Vec::new();
        walk(self, &mut Vec::new(), &mut out);
        out
    }

    /// FieldsV1.
    pub(crate) fn encode(&self) -> Value {
        let mut object = Map::new();
        for element in &self.members {
            object.insert(element.encode(), Value::Object(Map::new()));
        }
        for (element, set) in &self.children {
            let mut content = set.encode();
            if let (true, Value::Object(fields)) = (self.members.contains(element), &mut content) {
                fields.insert(".".to_owned(), Value::Object(Map::new()));
            }
            object.insert(element.encode(), content);
        }
        Value::Object(object)
    }

    /// From FieldsV1.
    pub(crate) fn decode(fields: &Value) -> Result<Self, Malformed> {
        Ok(Self::decode_node(fields, MAX_DEPTH)?.0)
    }

    /// The set below a node, and whether the node itself is in the set.
    fn decode_node(node: &Value, depth: usize) -> Result<(Self, bool), Malformed> {
        let object = match node {
            Value::Object(object) => object,
            Value::Null => return Ok((Self::default(), true)),
            _ => return Err(Malformed("fields must be objects".to_owned())),
        };
        let depth = depth.checked_sub(1).ok_or_else(|| {
            Malformed(format!(
                "fields are nested more than {MAX_DEPTH} levels deep"
            ))
        })?;
        let mut set = Self::default();
        let mut own = false;
        for (key, value) in object {
            if key == "." {
                own = true;
                continue;
            }
            let Some(element) = Element::decode(key)? else {
                continue;
            };
            let (child, member) = Self::decode_node(value, depth)?;
            if member {
                set.members.insert(element.clone());
            }
            if !child.is_empty() {
                set.children.entry(element).or_default().extend(&child);
            }
        }
        let own = own || set.is_empty();
        Ok((set, own))
    }
}
