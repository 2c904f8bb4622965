//! How names of all sorts must look (apimachinery: pkg/util/validation). The answers say what is wrong.

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
pub(super) const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const VARIABLE: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";
pub(super) const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn too_long(name: &str, most: usize) -> Option<String> {
    (name.len() > most).then(|| format!("must be no more than {most} characters"))
}

fn wrong(fine: bool, why: &str) -> Option<String> {
    (!fine).then(|| why.to_owned())
}

fn is_label(name: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    edged(name, lower, |byte| lower(byte) || byte == b'-')
}

fn edged(name: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = name.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            edge(*first) && edge(*last) && bytes.iter().all(|byte| inner(*byte))
        }
        _ => false,
    }
}

fn is_name_part(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    edged(name, edge, |byte| {
        edge(byte) || matches!(byte, b'-' | b'_' | b'.')
    })
}

/// An RFC 1123 label.
pub(super) fn label(name: &str) -> Option<String> {
    too_long(name, 63)
        .or_else(|| wrong(!name.contains('.'), "must not contain dots"))
        .or_else(|| wrong(is_label(name), LABEL))
}

/// An RFC 1123 subdomain.
pub(super) fn subdomain(name: &str) -> Option<String> {
    too_long(name, 253).or_else(|| wrong(name.split('.').all(is_label), SUBDOMAIN))
}

/// A part of a path.
pub(super) fn path_segment(name: &str) -> Option<String> {
    match name {
        "." | ".." => Some(format!("may not be '{name}'")),
        _ => ['/', '%']
            .into_iter()
            .find(|sign| name.contains(*sign))
            .map(|sign| format!("may not contain '{sign}'")),
    }
}

/// A value of a label.
pub(super) fn label_value(value: &str) -> Option<String> {
    too_long(value, 63).or_else(|| wrong(value.is_empty() || is_name_part(value), LABEL_VALUE))
}

/// A key of a label.
pub(super) fn qualified(name: &str) -> Option<String> {
    let part = match name.split_once('/') {
        None => name,
        Some((_, rest)) if rest.contains('/') => return Some(QUALIFIED.to_owned()),
        Some(("", _)) => return Some("prefix part must be non-empty".to_owned()),
        Some((prefix, rest)) => {
            if let Some(why) = subdomain(prefix) {
                return Some(format!("prefix part {why}"));
            }
            rest
        }
    };
    if part.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    too_long(part, 63)
        .map(|why| format!("name part {why}"))
        .or_else(|| wrong(is_name_part(part), NAME_PART))
}

/// A key of a config map or secret.
pub(super) fn config_key(key: &str) -> Option<String> {
    let shaped = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    too_long(key, 253)
        .or_else(|| wrong(shaped, CONFIG_KEY))
        .or_else(|| match key {
            "." | ".." => Some(format!("must not be '{key}'")),
            _ if key.starts_with("..") => Some("must not start with '..'".to_owned()),
            _ => None,
        })
}

/// The name of an environment variable.
pub(super) fn variable(name: &str) -> Option<String> {
    wrong(
        name.bytes()
            .all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'='),
        VARIABLE,
    )
}

/// The name of a port.
pub(super) fn port(name: &str) -> Option<String> {
    if let Some(why) = too_long(name, 15) {
        return Some(why);
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Some(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens".to_owned());
    }
    wrong(
        !name.starts_with('-') && !name.ends_with('-'),
        "must not begin or end with a hyphen",
    )
}

pub(super) fn is_percent(text: &str) -> bool {
    text.strip_suffix('%')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}
