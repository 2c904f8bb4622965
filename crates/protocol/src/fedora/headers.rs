//! Header values, typed as the Python library types them (pika: `data.py`).

use std::collections::BTreeMap;

use serde_json::Value;

/// The value of a header. Each variant is one AMQP type tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// `S`
    Text(String),
    /// `t`
    Bool(bool),
    /// `I`
    Int(i32),
    /// `l`
    Long(i64),
    /// `V`
    Void,
    /// `A`
    List(Vec<Header>),
    /// `F`
    Table(BTreeMap<String, Header>),
}

/// Why a JSON value cannot be a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Consumers in Python cannot read it, and senders in Python refuse it.
    #[error("header {0} is a number with a fraction or beyond 64 bits; write it as text")]
    Number(String),
    /// A name is an AMQP short string.
    #[error("the name of header {0} is longer than 255 bytes; shorten it")]
    Name(String),
}

impl Header {
    /// Reads a JSON value; `name` is for the error.
    pub fn from_json(name: &str, value: &Value) -> Result<Self, HeaderError> {
        Ok(match value {
            Value::Null => Self::Void,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) => {
                let number = number
                    .as_i64()
                    .ok_or_else(|| HeaderError::Number(name.to_owned()))?;
                i32::try_from(number).map_or(Self::Long(number), Self::Int)
            }
            Value::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::from_json(name, item))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(fields) => Self::Table(Self::table(fields)?),
        })
    }

    /// The JSON value that [`Self::from_json`] reads as this.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Bool(value) => Value::from(*value),
            Self::Int(number) => Value::from(*number),
            Self::Long(number) => Value::from(*number),
            Self::Void => Value::Null,
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Table(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), value.to_json()));
                Value::Object(fields.collect())
            }
        }
    }

    /// Reads a JSON object.
    pub fn table(
        fields: &serde_json::Map<String, Value>,
    ) -> Result<BTreeMap<String, Self>, HeaderError> {
        fields
            .iter()
            .map(|(name, value)| {
                if name.len() > super::MAX_SHORT {
                    let start: String = name.chars().take(32).collect();
                    return Err(HeaderError::Name(format!("{start}…")));
                }
                Ok((name.clone(), Self::from_json(name, value)?))
            })
            .collect()
    }
}
