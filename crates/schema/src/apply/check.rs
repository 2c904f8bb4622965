//! Whether values can be merged by their schema, in the words of structured-merge-diff.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::fieldset::{Element, path_text};
use super::literal;
use super::typed::{Atom, MapAtom, Scalar, Ty, item_element};
use crate::types::ListKind;

/// How deep values are walked. Request bodies are bounded far below this.
const MAX_DEPTH: usize = 512;

/// How strict [`validate`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// What is being applied: no unknown fields, no item twice.
    Config,
    /// What is stored already.
    Stored,
}

/// What keeps a value from being merged by its schema; the text lists everything.
pub(super) fn validate(ty: Ty<'_>, value: &Value, strictness: Strictness) -> Result<(), String> {
    let mut validation = Validation {
        strictness,
        path: Vec::new(),
        errors: Vec::new(),
    };
    validation.walk(ty, value);
    match validation.errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => {
            let mut text = "errors:".to_owned();
            for error in many {
                text.push_str("\n  ");
                text.push_str(error);
            }
            Err(text)
        }
    }
}

struct Validation {
    strictness: Strictness,
    path: Vec<Element>,
    errors: Vec<String>,
}

impl Validation {
    fn fail(&mut self, message: String) {
        let path = path_text(&self.path);
        self.errors.push(if path.is_empty() {
            message
        } else {
            format!("{path}: {message}")
        });
    }

    fn walk(&mut self, ty: Ty<'_>, value: &Value) {
        if self.path.len() > MAX_DEPTH {
            self.fail(format!("nested more than {MAX_DEPTH} levels deep"));
            return;
        }
        match ty.atom(Some(value)) {
            Atom::Scalar(scalar) => {
                if let Err(message) = check_scalar(scalar, value) {
                    self.fail(message);
                }
            }
            Atom::List { item, kind } => match value {
                Value::Null => {}
                Value::Array(items) => self.list(item, kind, items),
                _ => self.fail(format!("expected list, got &{{{}}}", literal::plain(value))),
            },
            Atom::Map(map) => match value {
                Value::Null => {}
                Value::Object(fields) => self.map(&map, fields),
                _ => self.fail(format!("expected map, got &{{{}}}", literal::plain(value))),
            },
        }
    }

    fn list(&mut self, item_ty: Ty<'_>, kind: &ListKind, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let element = if *kind == ListKind::Atomic {
                Element::Index(i64::try_from(index).unwrap_or(i64::MAX))
            } else {
                match item_element(item_ty, kind, item) {
                    Ok(element) => element,
                    Err(message) => {
                        self.fail(format!("element {index}: {message}"));
                        return;
                    }
                }
            };
            if !seen.insert(element.clone()) && self.strictness == Strictness::Config {
                self.fail(format!("duplicate entries for key {element}"));
            }
            self.path.push(element);
            self.walk(item_ty, item);
            self.path.pop();
        }
    }

    fn map(&mut self, map: &MapAtom<'_>, fields: &Map<String, Value>) {
        for (name, value) in fields {
            self.path.push(Element::field(name));
            match map.field(name).1 {
                Some(ty) => self.walk(ty, value),
                None if self.strictness == Strictness::Config => {
                    // One such field tells enough about its map.
                    self.fail("field not declared in schema".to_owned());
                    self.path.pop();
                    return;
                }
                None => {}
            }
            self.path.pop();
        }
    }
}

fn check_scalar(scalar: Scalar, value: &Value) -> Result<(), String> {
    match (scalar, value) {
        (_, Value::Null)
        | (Scalar::Number, Value::Number(_))
        | (Scalar::String, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_))
        | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => Ok(()),
        (Scalar::Number, _) => Err(format!(
            "expected numeric (int or float), got {}",
            literal::type_name(value)
        )),
        (Scalar::String, _) => Err(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            literal::syntax(value)
        )),
        (Scalar::Boolean, _) => Err(format!(
            "expected boolean, got &{{{}}}",
            literal::plain(value)
        )),
        (Scalar::Any, _) => Err(format!(
            "expected any scalar, got &{{{}}}",
            literal::plain(value)
        )),
    }
}
