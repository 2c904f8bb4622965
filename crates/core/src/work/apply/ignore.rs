//! Fields that a server-side apply leaves to the cluster.

use drover_api::work::v1::{IgnoreField, IgnoreFieldsCondition};
use serde_json::Value;

use super::ApplyError;

/// A manifest without the fields that are ignored.
pub(super) struct Reduced {
    /// Without those that are ignored as soon as the object exists. Those that are ignored when the cluster changes them stay: they are
    /// written again only when the manifest changes.
    pub(super) without_present: Value,
}

/// Removes the ignored fields.
pub(super) fn reduce(object: &Value, ignored: &[IgnoreField]) -> Result<Reduced, ApplyError> {
    let mut without_present = object.clone();
    for field in ignored {
        let paths = paths(field)?;
        if field.condition == IgnoreFieldsCondition::OnSpokePresent {
            for path in &paths {
                remove(&mut without_present, path);
            }
        }
    }
    Ok(Reduced { without_present })
}

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Index(usize),
    Each,
}

fn paths(field: &IgnoreField) -> Result<Vec<Vec<Step>>, ApplyError> {
    let wrong = |path: &str, why: &str| ApplyError::IgnoreField {
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let mut all = Vec::new();
    for path in field.json_paths.iter().chain(&field.jq_path_expressions) {
        all.push(steps(path).map_err(|why| wrong(path, why))?);
    }
    for pointer in &field.json_pointers {
        let rest = pointer
            .strip_prefix('/')
            .ok_or_else(|| wrong(pointer, "a JSON pointer begins with /"))?;
        all.push(
            rest.split('/')
                .map(|part| pointer_step(&part.replace("~1", "/").replace("~0", "~")))
                .collect(),
        );
    }
    Ok(all)
}

fn pointer_step(part: &str) -> Step {
    // Whether a number is an index or a member is decided by what is there.
    part.parse()
        .map_or_else(|_| Step::Member(part.to_owned()), Step::Index)
}

/// The steps of `.spec.a[0].b[*]['c.d']`, with or without `$` in front: what JSONPath and jq write alike.
fn steps(path: &str) -> Result<Vec<Step>, &'static str> {
    let mut rest = path.trim();
    rest = rest.strip_prefix('$').unwrap_or(rest);
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (inside, after) = bracket(inner)?;
            steps.push(inside);
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if rest.starts_with('[') {
                continue;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            match name {
                "" => return Err("a member has no name"),
                "*" => steps.push(Step::Each),
                name if name
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) =>
                {
                    steps.push(Step::Member(name.to_owned()));
                }
                _ => return Err("only members, indexes and [*] are supported"),
            }
            rest = after;
        }
    }
    if steps.is_empty() {
        Err("the path is empty")
    } else {
        Ok(steps)
    }
}

fn bracket(inner: &str) -> Result<(Step, &str), &'static str> {
    for quote in ['\'', '"'] {
        if let Some(text) = inner.strip_prefix(quote) {
            let (name, after) = text.split_once(quote).ok_or("a quote is not closed")?;
            return Ok((
                Step::Member(name.to_owned()),
                after.strip_prefix(']').ok_or("a bracket is not closed")?,
            ));
        }
    }
    let (inside, after) = inner.split_once(']').ok_or("a bracket is not closed")?;
    let step = match inside.trim() {
        "" | "*" => Step::Each,
        number => Step::Index(
            number
                .parse()
                .map_err(|_| "only members, indexes and [*] are supported")?,
        ),
    };
    Ok((step, after))
}

fn remove(value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        match (value, step) {
            (Value::Object(members), Step::Member(name)) => drop(members.remove(name)),
            (Value::Object(members), Step::Index(number)) => {
                drop(members.remove(&number.to_string()));
            }
            (Value::Object(members), Step::Each) => members.clear(),
            (Value::Array(items), Step::Index(index)) if *index < items.len() => {
                drop(items.remove(*index));
            }
            (Value::Array(items), Step::Each) => items.clear(),
            _ => (),
        }
        return;
    }
    match (value, step) {
        (Value::Object(members), Step::Member(name)) => members
            .get_mut(name)
            .into_iter()
            .for_each(|inner| remove(inner, rest)),
        (Value::Object(members), Step::Index(number)) => members
            .get_mut(&number.to_string())
            .into_iter()
            .for_each(|inner| remove(inner, rest)),
        (Value::Object(members), Step::Each) => {
            members.values_mut().for_each(|inner| remove(inner, rest));
        }
        (Value::Array(items), Step::Index(index)) => items
            .get_mut(*index)
            .into_iter()
            .for_each(|inner| remove(inner, rest)),
        (Value::Array(items), Step::Each) => items.iter_mut().for_each(|inner| remove(inner, rest)),
        _ => (),
    }
}
