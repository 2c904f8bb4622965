//! Options in the query string.

use std::borrow::Cow;

use drover_schema::field_error::{FieldError, Kind};
use serde_json::json;

use crate::status::{ApiError, ApiResult, Subject};

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

/// What happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of a write.
#[derive(Clone, Debug)]
pub(super) struct WriteOptions {
    pub(super) dry_run: bool,
    pub(super) validation: FieldValidation,
    /// As given, or from the user agent.
    pub(super) manager: String,
    pub(super) force: bool,
}

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        Self {
            pairs: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        }
    }

    /// The first value of a parameter; empty values count as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Go's idea of a boolean in a query: present and not `0` or `false`.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .is_some_and(|(_, value)| {
                !matches!(value.to_ascii_lowercase().as_str(), "0" | "f" | "false")
            })
    }

    pub(super) fn integer(&self, name: &str) -> ApiResult<Option<i64>> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    ApiError::bad_request(format!(
                        "strconv.ParseInt: parsing {text:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }

    /// The name that a field selector demands, for the authorizer.
    pub(super) fn selected_name(&self) -> Option<Cow<'_, str>> {
        let selector = self.get("fieldSelector")?;
        selector.split(',').find_map(|part| {
            let rest = part.trim().strip_prefix("metadata.name=")?;
            Some(Cow::Borrowed(rest.strip_prefix('=').unwrap_or(rest)))
        })
    }

    /// Options of a create, update or patch. `kind` is their name in messages; `apply` tells that
    /// the patch is a server-side apply.
    pub(super) fn write_options(
        &self,
        kind: &'static str,
        apply: bool,
        user_agent: &str,
    ) -> ApiResult<WriteOptions> {
        let mut errors = Vec::new();
        let manager = self.get("fieldManager");
        if apply && manager.is_none() {
            errors.push(FieldError::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        if kind == "PatchOptions" && !apply && self.get("force").is_some() {
            errors.push(FieldError::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
        if let Some(manager) = manager {
            if manager.len() > 128 {
                errors.push(FieldError {
                    path: "fieldManager".to_owned(),
                    kind: Kind::TooLong,
                    value: None,
                    detail: "may not be more than 128 bytes".to_owned(),
                });
            }
            if manager.chars().any(char::is_control) {
                errors.push(FieldError::invalid(
                    "fieldManager",
                    manager,
                    "should only contain printable characters",
                ));
            }
        }
        let dry_run = self.dry_run(&mut errors);
        let validation = match self.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                errors.push(FieldError::not_supported(
                    "fieldValidation",
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        refuse(kind, &errors)?;
        let manager = manager.map_or_else(|| default_manager(user_agent), str::to_owned);
        Ok(WriteOptions {
            dry_run,
            validation,
            manager,
            force: self.is_true("force"),
        })
    }

    /// `dryRun`, which knows one value.
    pub(super) fn dry_run(&self, errors: &mut Vec<FieldError>) -> bool {
        let all: Vec<&str> = self
            .all("dryRun")
            .filter(|value| !value.is_empty())
            .collect();
        if all.iter().any(|value| *value != "All") {
            errors.push(FieldError::not_supported("dryRun", json!(all), &["All"]));
        }
        !all.is_empty()
    }
}

/// 422 when some options are wrong.
pub(super) fn refuse(kind: &str, errors: &[FieldError]) -> ApiResult<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let subject = Subject {
        group: "meta.k8s.io",
        resource: kind,
        name: "",
    };
    Err(ApiError::invalid(subject, errors))
}

/// The user agent up to the first slash.
fn default_manager(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name
    }
}
