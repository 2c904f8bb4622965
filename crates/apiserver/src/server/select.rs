//! Which objects a list, watch or deletecollection is about.

use std::borrow::Cow;

use crate::resource::Resource;
use crate::selector::{FieldSelector, LabelSelector, UnknownField};
use crate::status::{ApiError, ApiResult};
use crate::store::Object;

/// Labels and fields that objects must have.
#[derive(Debug)]
pub(super) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Whether the fields are found without reading the object.
    by_key: bool,
}

impl Selection {
    pub(super) fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> ApiResult<Self> {
        let refuse = |error: crate::selector::SelectorError| ApiError::bad_request(error.0);
        let labels = LabelSelector::parse(labels.unwrap_or_default()).map_err(refuse)?;
        let fields = FieldSelector::parse(fields.unwrap_or_default()).map_err(refuse)?;
        fields
            .expect(|field| resource.is_selectable(field), words(resource))
            .map_err(refuse)?;
        let by_key = fields
            .fields()
            .all(|field| matches!(field, "metadata.name" | "metadata.namespace"));
        Ok(Self {
            labels,
            fields,
            by_key,
        })
    }

    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches(&self, resource: &Resource, object: &Object) -> bool {
        if !self.labels.matches(&object.meta.labels) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let value = if self.by_key {
            None
        } else {
            Some(resource.read(object))
        };
        self.fields.matches(|field| {
            Some(match (field, &value) {
                ("metadata.name", _) => Cow::Borrowed(&*object.key.name),
                ("metadata.namespace", _) => Cow::Borrowed(&*object.key.namespace),
                (field, Some(value)) => resource.field_value(value, field),
                (_, None) => return None,
            })
        })
    }
}

/// What the kind says of fields that selectors may not name.
fn words(resource: &Resource) -> UnknownField {
    if resource.is_builtin_that(|kind| kind.selectable_fields().is_empty()) {
        UnknownField::Plain
    } else {
        UnknownField::Own
    }
}
