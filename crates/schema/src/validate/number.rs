//! Numbers against their bounds.

use serde_json::{Number, Value};

use crate::types::Checks;

/// Whether a number is a whole one; floats are only up to where they count exactly
/// (go-openapi/swag: IsFloat64AJSONInteger).
pub(super) fn is_integral(number: &Number) -> bool {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    let float = || {
        number
            .as_f64()
            .filter(|it| it.fract() == 0.0 && it.abs() <= EXACT)
    };
    number.as_i64().is_some() || float().is_some()
}

/// The same value with whole numbers in one notation, so that equal values have equal texts.
pub(super) fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() && is_integral(number) => {
            whole(number).map_or_else(|| value.clone(), Value::from)
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The type whose range the number leaves, with the words that follow "must be of type".
pub(super) fn out_of_range(number: &Number, format: &str) -> Option<&'static str> {
    let whole = whole(number);
    if format == "int32" {
        let fits = whole.is_some_and(|it| i32::try_from(it).is_ok());
        (!fits).then_some("integer with format int32")
    } else {
        let what = if format == "int64" {
            "integer with format int64"
        } else {
            "integer (default format)"
        };
        whole.is_none().then_some(what)
    }
}

/// The number as a signed 64-bit integer, if it is one.
fn whole(number: &Number) -> Option<i64> {
    // Beyond 2^63 floats are not 64-bit integers; below, the conversion is exact.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|_| number.is_f64())?;
        (float.fract() == 0.0 && (-LIMIT..LIMIT).contains(&float)).then_some(float as i64)
    })
}

/// Everything that is wrong with a number.
pub(super) fn wrong(number: &Number, checks: &Checks) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(value) = number.as_f64() else {
        return wrong;
    };
    if let Some(factor) = checks.multiple_of
        && !is_multiple(value, factor)
    {
        wrong.push(format!("should be a multiple of {factor}"));
    }
    match checks.minimum {
        Some((min, true)) if value <= min => wrong.push(format!("should be greater than {min}")),
        Some((min, false)) if value < min => {
            wrong.push(format!("should be greater than or equal to {min}"));
        }
        _ => (),
    }
    match checks.maximum {
        Some((max, true)) if value >= max => wrong.push(format!("should be less than {max}")),
        Some((max, false)) if value > max => {
            wrong.push(format!("should be less than or equal to {max}"));
        }
        _ => (),
    }
    wrong
}

fn is_multiple(value: f64, factor: f64) -> bool {
    // A factor that is not positive divides nothing and is not worth a refusal of every value.
    if factor <= 0.0 {
        return true;
    }
    let quotient = if factor < 1.0 {
        1.0 / factor * value
    } else {
        value / factor
    };
    // The tolerance of upstream (go-openapi/swag: IsFloat64AJSONInteger).
    let distance = (quotient - quotient.round()).abs();
    distance == 0.0 || distance < 1e-9 * quotient.abs()
}

/// Whether two values are the same; numbers are by value, not by notation.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
        }
        _ => a == b,
    }
}
