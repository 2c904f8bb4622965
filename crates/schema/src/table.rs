//! Objects as rows for people.

use serde_json::Value;

use crate::builtin::time;

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub kind: String,
    /// OpenAPI format, `name` for the name of the object.
    pub format: String,
    /// What it tells.
    pub description: String,
    /// 0 is always shown, more only to those who ask for wide output.
    pub priority: i32,
    /// Where a custom resource has the value; built-in kinds compute theirs.
    pub path: Option<crate::jsonpath::JsonPath>,
}

/// What name columns tell.
pub(crate) const NAME_DESCRIPTION: &str =
    "Name of the object, unique among its kind in its namespace.";
/// What age columns tell.
pub(crate) const AGE_DESCRIPTION: &str = "Time since the object was created.";

/// The columns of a custom kind: Name first, then its own (Age alone when it has none).
pub fn custom_columns(own: &[Column]) -> Vec<Column> {
    let column = |name: &str, kind: &str, format: &str, description: &str| Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: format.to_owned(),
        description: description.to_owned(),
        priority: 0,
        path: None,
    };
    let mut columns = vec![column("Name", "string", "name", NAME_DESCRIPTION)];
    if own.is_empty() {
        columns.push(column("Age", "date", "", AGE_DESCRIPTION));
    } else {
        columns.extend(own.iter().cloned());
    }
    columns
}

/// One row of a custom kind, for columns as [`custom_columns`] made them; `now` is seconds since
/// the epoch (ages are printed as kubectl does).
pub fn custom_cells(columns: &[Column], object: &Value, now: i64) -> Vec<Value> {
    columns
        .iter()
        .map(|column| match &column.path {
            None if column.format == "name" => object["metadata"]["name"].clone(),
            None => match object["metadata"]["creationTimestamp"].as_str() {
                Some(created) => date(created, now),
                None => Value::from("<unknown>"),
            },
            Some(path) => match path.find(object).first() {
                Some(value) => cell(&column.kind, value, now),
                None => Value::Null,
            },
        })
        .collect()
}

/// The value as the column's type prints it; `null` when it is of another type.
fn cell(kind: &str, value: &Value, now: i64) -> Value {
    match (kind, value) {
        ("string", Value::String(_))
        | ("number", Value::Number(_))
        | ("boolean", Value::Bool(_)) => value.clone(),
        // Go prints nothing as `<nil>`.
        ("string", Value::Null) => Value::from("<nil>"),
        ("string", other) => Value::from(other.to_string()),
        ("integer", Value::Number(number)) => {
            match number.as_i64().or(number.as_f64().map(|f| f as i64)) {
                Some(number) => Value::from(number),
                None => Value::Null,
            }
        }
        ("date", Value::String(text)) => date(text, now),
        _ => Value::Null,
    }
}

fn date(text: &str, now: i64) -> Value {
    match time::parse(text) {
        Some(at) => Value::from(human_duration(now - at.as_second())),
        None => Value::from("<invalid>"),
    }
}

/// An age as kubectl prints it (`5m3s`, `3d4h`), two or three digits that matter
/// (apimachinery: pkg/util/duration).
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    // Two units; the smaller one is left out when it is zero.
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_printed_as_kubectl_does() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (10 * MINUTE - 1, "9m59s"),
            (10 * MINUTE, "10m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + HOUR, "2d1h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY, "8d"),
            (730 * DAY - 1, "729d"),
            (730 * DAY, "2y"),
            (731 * DAY, "2y1d"),
            (2920 * DAY, "8y"),
        ] {
            assert_eq!(human_duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn custom_kinds_without_columns_show_their_age() {
        let columns = custom_columns(&[]);
        let object = serde_json::json!({"metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}});
        assert_eq!(
            custom_cells(&columns, &object, 300),
            [Value::from("x"), Value::from("5m")]
        );
    }

    #[test]
    fn cells_have_the_type_of_their_column() {
        for (kind, value, expected) in [
            ("string", serde_json::json!("a"), serde_json::json!("a")),
            ("string", serde_json::json!(1), serde_json::json!("1")),
            (
                "string",
                serde_json::json!(["a"]),
                serde_json::json!("[\"a\"]"),
            ),
            ("integer", serde_json::json!(1), serde_json::json!(1)),
            ("integer", serde_json::json!("1"), Value::Null),
            ("boolean", serde_json::json!(true), serde_json::json!(true)),
            (
                "date",
                serde_json::json!("1970-01-01T00:00:10Z"),
                serde_json::json!("10s"),
            ),
            (
                "date",
                serde_json::json!("x"),
                serde_json::json!("<invalid>"),
            ),
        ] {
            assert_eq!(cell(kind, &value, 20), expected, "{kind} {value}");
        }
    }
}
