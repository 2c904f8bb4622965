//! `fieldPath` of rules and `jsonPath` of selectable fields: dots, and names in `['…']`.

use serde_json::Value;

/// Follows a path through a schema as written. The answer is the path in the notation of errors
/// (`a.b[key]`) and the schema that it leads to.
pub fn field_path<'s>(schema: &'s Value, path: &str) -> Result<(String, &'s Value), String> {
    let mut shown = String::new();
    let mut schema = schema;
    let mut rest = path;
    while let Some(sign) = rest.chars().next() {
        rest = &rest[sign.len_utf8()..];
        let name;
        match sign {
            '.' => {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
                if end == 0 {
                    return Err("unexpected end of JSON path".to_owned());
                }
                name = rest[..end].to_owned();
                rest = &rest[end..];
            }
            '[' => {
                let (quoted, after) = quoted(rest)?;
                name = quoted;
                rest = after;
            }
            _ => return Err(format!("expected [ or . but got: {sign}{rest}")),
        }
        let strange = || "does not refer to a valid field".to_owned();
        if let Some(properties) = schema.get("properties") {
            schema = properties.get(&name).ok_or_else(strange)?;
            if !shown.is_empty() {
                shown.push('.');
            }
            shown.push_str(&name);
        } else {
            schema = schema.get("additionalProperties").ok_or_else(strange)?;
            shown.extend(["[", &name, "]"]);
        }
    }
    Ok((shown, schema))
}

/// A name in single quotes and the closing bracket; also what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let inner = text
        .strip_prefix('\'')
        .ok_or_else(|| format!("expected single quoted string but got {text}"))?;
    let mut name = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let after = &inner[at + 1..];
                let rest = after
                    .strip_prefix(']')
                    .ok_or_else(|| format!("expected ] but got {after}"))?;
                return Ok((name, rest));
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => name.push('\n'),
                Some((_, 't')) => name.push('\t'),
                Some((_, c @ ('\'' | '\\'))) => name.push(c),
                _ => return Err("invalid string literal".to_owned()),
            },
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}
