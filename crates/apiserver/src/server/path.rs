//! What a path is about.

use std::borrow::Cow;

use http::Method;

use super::query::Query;
use crate::status::{ApiError, ApiResult};

/// A path with its percent signs resolved.
pub(super) fn decode(path: &str) -> ApiResult<Cow<'_, str>> {
    percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| ApiError::bad_request("the path of the request is not UTF-8"))
}

/// A resource, or an object of one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) plural: &'a str,
    /// Empty at cluster scope.
    pub(super) namespace: &'a str,
    /// Empty for a collection.
    pub(super) name: &'a str,
    /// Empty for the main endpoint.
    pub(super) subresource: &'a str,
    /// Whether the path begins with the old `watch/` prefix.
    pub(super) watch: bool,
}

impl<'a> Target<'a> {
    /// `None` for a path that names no resource.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let mut parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if parts.last().is_some_and(|last| last.is_empty()) {
            parts.pop();
        }
        let (mut target, mut rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => (
                Self {
                    version,
                    ..Self::default()
                },
                rest,
            ),
            ["apis", group, version, rest @ ..] => (
                Self {
                    group,
                    version,
                    ..Self::default()
                },
                rest,
            ),
            _ => return None,
        };
        if let ["watch", more @ ..] = rest {
            (target.watch, rest) = (true, more);
        }
        match rest {
            ["namespaces"] => target.plural = "namespaces",
            ["namespaces", name] => {
                (target.plural, target.name, target.namespace) = ("namespaces", name, "");
            }
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                (target.plural, target.name, target.subresource) = ("namespaces", name, sub);
            }
            ["namespaces", namespace, rest @ ..] => {
                target.namespace = namespace;
                target.take(rest)?;
            }
            rest => target.take(rest)?,
        }
        Some(target)
    }

    fn take(&mut self, rest: &[&'a str]) -> Option<()> {
        (self.plural, self.name, self.subresource) = match *rest {
            [plural] => (plural, "", ""),
            [plural, name] => (plural, name, ""),
            [plural, name, subresource] => (plural, name, subresource),
            _ => return None,
        };
        (!self.plural.is_empty()).then_some(())
    }

    /// The verb of a request for it.
    pub(super) fn verb(&self, method: &Method, query: &Query) -> ApiResult<&'static str> {
        let collection = self.name.is_empty();
        Ok(match *method {
            Method::GET | Method::HEAD if self.watch => "watch",
            Method::GET | Method::HEAD if self.subresource.is_empty() && query.is_true("watch") => {
                "watch"
            }
            Method::GET | Method::HEAD if collection => "list",
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if collection => "deletecollection",
            Method::DELETE => "delete",
            _ => {
                return Err(ApiError::method_not_allowed(
                    "the server does not allow this method on the requested resource",
                ));
            }
        })
    }
}
