//! Two things that are as long, or as good, as Go says.

use std::net::Ipv6Addr;

use serde_json::Value;

/// The length of a value as Go's encoding/json writes it, which is how the API server hands objects to
/// webhooks: without spaces, with `<`, `>`, `&` and two line separators by their numbers.
pub(super) fn json_length(value: &Value) -> usize {
    let list = |lengths: &mut dyn Iterator<Item = usize>| {
        let (count, sum) = lengths.fold((0_usize, 0), |(count, sum), one| (count + 1, sum + one));
        2 + sum + count.saturating_sub(1)
    };
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number.to_string().len(),
        Value::String(text) => string_length(text),
        Value::Array(items) => list(&mut items.iter().map(json_length)),
        Value::Object(members) => list(
            &mut members
                .iter()
                .map(|(key, member)| string_length(key) + 1 + json_length(member)),
        ),
    }
}

fn string_length(text: &str) -> usize {
    let length = |c: char| match c {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    };
    2 + text.chars().map(length).sum::<usize>()
}

/// Whether Go's net/url takes it for a URL, and its scheme is https (ocm: pkg/registration/helpers).
pub(super) fn is_https(url: &str) -> bool {
    if url.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return false;
    }
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let Some((scheme, rest)) = url.split_once(':') else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case("https") || !escapes_well(fragment) {
        return false;
    }
    let (rest, _query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        // Opaque: whatever follows.
        return true;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return escapes_well(rest);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    is_authority(authority) && escapes_well(path)
}

fn is_authority(authority: &str) -> bool {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let in_user = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    user.chars().all(in_user) && escapes_well(user) && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.rsplit_once(']') else {
            return false;
        };
        let (address, zone) = address.split_once("%25").unwrap_or((address, ""));
        return is_port(port) && escapes_well(zone) && address.parse::<Ipv6Addr>().is_ok();
    }
    let (name, port) = match host.find(':') {
        Some(colon) => host.split_at(colon),
        None => (host, ""),
    };
    is_port(port) && is_name(name)
}

/// In names only `%` itself and bytes beyond ASCII are escaped.
fn is_name(name: &str) -> bool {
    let good =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=<>\"%]".contains(c);
    let escaped = |escape: &str| {
        let byte = escape
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte == b'%' || byte >= 0x80)
    };
    escapes_well(name) && name.chars().all(good) && name.split('%').skip(1).all(escaped)
}

fn is_port(port: &str) -> bool {
    port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Every `%` is followed by two hexadecimal digits.
fn escapes_well(text: &str) -> bool {
    text.split('%').skip(1).all(|escape| {
        let digits = escape.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}
