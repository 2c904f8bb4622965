//! Formats of texts (kube-openapi: pkg/validation/strfmt).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// Whether a format is checked at all; others are for people.
pub(super) fn is_known(format: &str) -> bool {
    PATTERNS.iter().any(|(name, _)| *name == normal(format))
        || matches!(
            &*normal(format),
            "date"
                | "datetime"
                | "duration"
                | "ipv4"
                | "ipv6"
                | "cidr"
                | "password"
                | "isbn"
                | "isbn10"
                | "isbn13"
                | "hostname"
                | "k8sshortname"
                | "k8slongname"
                | "rgbcolor"
        )
}

/// Whether `text` is of a format; unknown formats are anything.
pub(super) fn is_valid(format: &str, text: &str) -> bool {
    let format = normal(format);
    match &*format {
        "date" => is_date(text),
        "datetime" => is_date_time(text),
        "duration" => is_duration(text),
        "ipv4" => text.contains('.') && ip(text).is_some(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "hostname" => text.len() <= 255 && is_hostname(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "k8sshortname" => is_name(text, 63) && !text.contains('.'),
        "k8slongname" => is_name(text, 253),
        "rgbcolor" => is_rgb(text),
        known => PATTERNS
            .iter()
            .find(|(name, _)| *name == known)
            .is_none_or(|(_, regex)| regex.is_match(text)),
    }
}

/// Dashes in the names of formats do not count.
fn normal(format: &str) -> std::borrow::Cow<'_, str> {
    if format.contains('-') {
        format.replace('-', "").into()
    } else {
        format.into()
    }
}

/// Formats that one expression decides.
static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    [
        ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
        ("byte", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$"),
        ("creditcard", r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$"),
        ("email", r#"^(?:[^@<>]*<)?[^@<>()\[\]:;,"\s]+@[^@<>()\[\]:;,"\s]+>?$"#),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
        ("mac", "^(?:(?:[0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}[:-]){4}(?:[0-9a-fA-F]{2}[:-]){0,14}[0-9a-fA-F]{2}|(?:[0-9a-fA-F]{4}[.]){2,9}[0-9a-fA-F]{4})$"),
        ("ssn", "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"),
        ("uri", r"^(?:/|[A-Za-z][A-Za-z0-9+.-]*:)[^\x00-\x1f\x7f]*$"),
        ("uuid", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        ("uuid3", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
        ("uuid4", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
        ("uuid5", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
    ]
    .into_iter()
    // Every expression above compiles: a unit test walks them.
    .filter_map(|(name, pattern)| Regex::new(pattern).ok().map(|regex| (name, regex)))
    .collect()
});

fn is_date(text: &str) -> bool {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    shaped && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339 as upstream reads it: any one character may stand before the fraction.
fn is_date_time(text: &str) -> bool {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new("(?i)^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|[+-][0-9]{2}:[0-9]{2})$").ok()
    });
    let Some((date, time)) = text.split_once(['t', 'T']) else {
        return false;
    };
    let Some(parts) = TIME.as_ref().and_then(|regex| regex.captures(time)) else {
        return false;
    };
    is_date(date) && &parts[1] <= "23" && &parts[2] <= "59" && &parts[3] <= "59"
}

/// Durations of Go (`1h30m`, `-1.5s`) and of Scala (`3 days`).
fn is_duration(text: &str) -> bool {
    static GO: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$").ok()
    });
    static SCALA: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            "(?i)[0-9]+ *(?:ns|us|µs|ms|s|m|h|hr|d|w|wk|nano[a-zµ]*|micro[a-zµ]*|milli[a-zµ]*|sec[a-zµ]*|min[a-zµ]*|hour[a-zµ]*|day[a-zµ]*|week[a-zµ]*)(?:[^a-zµ]|$)",
        )
        .ok()
    });
    [&GO, &SCALA]
        .iter()
        .any(|regex| regex.as_ref().is_some_and(|regex| regex.is_match(text)))
}

/// An address of either family; leading zeros do not hurt.
fn ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse().ok();
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts
            .next()
            .filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    match (ip(address), bits.parse::<u8>()) {
        (Some(IpAddr::V4(_)), Ok(bits)) if plain => bits <= 32,
        (Some(IpAddr::V6(_)), Ok(bits)) if plain => bits <= 128,
        _ => false,
    }
}

fn is_hostname(text: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| letter(c) || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split('.').all(label)
        && text.rsplit_once('.').is_none_or(|(_, top)| {
            (2..=63).contains(&top.chars().count()) && top.chars().all(char::is_alphabetic)
        })
}

fn is_name(text: &str, max: usize) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= max && text.split('.').all(label)
}

fn is_rgb(text: &str) -> bool {
    let inside = text
        .strip_prefix("rgb(")
        .and_then(|rest| rest.strip_suffix(')'));
    inside.is_some_and(|inside| {
        let parts: Vec<_> = inside
            .split(',')
            .map(|part| part.trim().parse::<u8>())
            .collect();
        parts.len() == 3 && parts.iter().all(Result::is_ok)
    })
}

/// The digits of an ISBN, without spaces and dashes.
fn digits(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = digits(text);
    let weighted: Option<Vec<u32>> = digits
        .iter()
        .zip(1..)
        .map(|(c, i)| match (c, i) {
            ('X', 10) => Some(100),
            (c, i) => c.to_digit(10).map(|digit| digit * i),
        })
        .collect();
    digits.len() == 10 && weighted.is_some_and(|it| it.iter().sum::<u32>() % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = digits(text).iter().map(|c| c.to_digit(10)).collect();
    digits.is_some_and(|digits| {
        let sum: u32 = digits
            .iter()
            .zip([1, 3].into_iter().cycle())
            .map(|(d, w)| d * w)
            .sum();
        digits.len() == 13 && sum.is_multiple_of(10)
    })
}
