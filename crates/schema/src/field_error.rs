//! One thing that is wrong with one field, in the words that Kubernetes uses
//! (apimachinery: pkg/util/validation/field/errors.go).

use std::fmt;

use serde_json::Value;

/// What kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The value cannot be.
    Invalid,
    /// The value has another type.
    TypeInvalid,
    /// There must be a value.
    Required,
    /// The value is not one of those supported.
    NotSupported,
    /// The value is there twice.
    Duplicate,
    /// There must be no value, or it must not change.
    Forbidden,
    /// The text is too long.
    TooLong,
    /// There are too many items.
    TooMany,
    /// What the value names is not there.
    NotFound,
    /// The check itself failed.
    Internal,
}

impl Kind {
    /// The `reason` of a cause in a Status object.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::Required => "Required value",
            Self::NotSupported => "Unsupported value",
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The path of the field, such as `spec.replicas` or `spec.ports[0].name`; `<nil>` for the root.
    pub path: String,
    /// What kind of wrong.
    pub kind: Kind,
    /// The value that is wrong; not shown for kinds that speak of its absence or size.
    pub value: Option<Value>,
    /// What would be right.
    pub detail: String,
}

impl FieldError {
    /// An error with the value that caused it.
    pub fn with_value(
        kind: Kind,
        path: impl Into<String>,
        value: Value,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            kind,
            value: Some(value),
            detail: detail.into(),
        }
    }

    /// An `Invalid` error.
    pub fn invalid(
        path: impl Into<String>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> Self {
        Self::with_value(Kind::Invalid, path, value.into(), detail)
    }

    /// A `Required` error.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind: Kind::Required,
            value: None,
            detail: detail.into(),
        }
    }

    /// A `Forbidden` error.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind: Kind::Forbidden,
            value: None,
            detail: detail.into(),
        }
    }

    /// A `NotSupported` error that lists what is supported.
    pub fn not_supported(
        path: impl Into<String>,
        value: impl Into<Value>,
        supported: &[&str],
    ) -> Self {
        let list: Vec<String> = supported.iter().map(|text| format!("{text:?}")).collect();
        Self::with_value(
            Kind::NotSupported,
            path,
            value.into(),
            format!("supported values: {}", list.join(", ")),
        )
    }

    /// A `Duplicate` error.
    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::with_value(Kind::Duplicate, path, value.into(), "")
    }

    /// The message of the cause: everything but the path.
    pub fn body(&self) -> String {
        let title = self.kind.title();
        let mut text = match (self.kind, &self.value) {
            (
                Kind::Invalid
                | Kind::TypeInvalid
                | Kind::NotSupported
                | Kind::Duplicate
                | Kind::NotFound
                | Kind::TooMany,
                Some(value),
            ) => {
                format!("{title}: {value}")
            }
            _ => title.to_owned(),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}
