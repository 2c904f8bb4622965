//! Points in time as Kubernetes writes them.

use jiff::Timestamp;
use serde_json::Value;

/// How fine a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// `metav1.Time`.
    Seconds,
    /// `metav1.MicroTime`.
    Micros,
}

impl Precision {
    fn layout(self) -> &'static str {
        match self {
            Self::Seconds => "2006-01-02T15:04:05Z07:00",
            Self::Micros => "2006-01-02T15:04:05.000000Z07:00",
        }
    }
}

/// Seconds before the epoch of Go's zero time (year 1).
const ZERO: i64 = -62_135_596_800;

/// The time in UTC; `null` for Go's zero time.
pub(crate) fn normal(text: &str, precision: Precision) -> Result<Value, String> {
    // Microseconds are always six digits.
    let fraction = text
        .get(19..)
        .unwrap_or_default()
        .strip_prefix('.')
        .unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let shaped = precision == Precision::Seconds || digits == 6;
    let Some(at) = parse(text).filter(|_| shaped) else {
        let layout = precision.layout();
        return Err(format!(
            "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
        ));
    };
    Ok(print(at, precision))
}

/// Reads RFC 3339.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    // RFC 3339 only: jiff would also take spaces and offsets without colons.
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes[16] == b':';
    if shaped { text.parse().ok() } else { None }
}

/// Writes RFC 3339 in UTC; `null` for Go's zero time.
pub(crate) fn print(at: Timestamp, precision: Precision) -> Value {
    if at.as_second() == ZERO && at.subsec_nanosecond() == 0 {
        return Value::Null;
    }
    let format = match precision {
        Precision::Seconds => "%Y-%m-%dT%H:%M:%SZ",
        Precision::Micros => "%Y-%m-%dT%H:%M:%S.%6fZ",
    };
    Value::from(at.strftime(format).to_string())
}
