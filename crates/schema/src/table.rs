//! Objects as rows for people.

use serde_json::Value;

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// `integer`, `number`, `string`, `boolean` or `date`.
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i32,
    /// Where a custom resource has the value; built-in kinds compute theirs.
    pub path: Option<crate::jsonpath::JsonPath>,
}

/// The columns of a custom kind: Name first, then its own (Age alone when it has none).
pub fn custom_columns(own: &[Column]) -> Vec<Column> { todo!() }

/// One row of a custom kind; `now` is seconds since the epoch (ages are printed as kubectl does).
pub fn custom_cells(columns: &[Column], object: &Value, now: i64) -> Vec<Value> { todo!() }

/// An age as kubectl prints it (`5m3s`, `3d4h`).
pub fn human_duration(seconds: i64) -> String { todo!() }
