//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`; plain numbers are nanoseconds.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};

use crate::identity::{REFRESH, REFRESH_VARIABLE};

/// Reads a duration; the error is for people.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("invalid duration {text:?}: use numbers with units, such as 1h30m or 10s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(sum)
}

/// For fields that may be absent.
pub(super) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as 10s")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            parse(text).map(Some).map_err(E::custom)
        }

        fn visit_u64<E: Error>(self, nanos: u64) -> Result<Self::Value, E> {
            Ok(Some(Duration::from_nanos(nanos)))
        }

        fn visit_i64<E: Error>(self, nanos: i64) -> Result<Self::Value, E> {
            u64::try_from(nanos)
                .map(|nanos| Some(Duration::from_nanos(nanos)))
                .map_err(|_| E::custom("a duration must not be negative"))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    from.deserialize_any(Text)
}

/// How often to look at certificates: from the environment, as with the Go clients, or the usual.
pub(super) fn refresh() -> Duration {
    let Ok(text) = std::env::var(REFRESH_VARIABLE) else {
        return REFRESH;
    };
    parse(&text).unwrap_or_else(|why| {
        tracing::warn!(why, "{REFRESH_VARIABLE} is no duration; using {REFRESH:?}");
        REFRESH
    })
}
