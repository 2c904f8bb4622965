//! Patches of local copies.

use drover_protocol::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ClientError;

/// A change of parts of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// A merge patch (RFC 7386): what is given replaces, `null` removes.
    Merge(Value),
    /// Operations (RFC 6902).
    Json(json_patch::Patch),
}

impl Patch {
    /// The object as the patch makes it. What it is cannot be patched, and a spec that is not patched stays as it was, to
    /// the byte.
    pub(crate) fn apply<R>(&self, object: &R) -> Result<R, ClientError>
    where
        R: Resource + Serialize + DeserializeOwned,
    {
        let mut value = serde_json::to_value(object)?;
        let spec = value.get("spec").cloned();
        match self {
            Self::Merge(patch) => json_patch::merge(&mut value, patch),
            Self::Json(patch) => json_patch::patch(&mut value, patch)?,
        }
        let same_spec = value.get("spec") == spec.as_ref();
        let mut patched: R = serde_json::from_value(value)?;
        if same_spec {
            patched.adopt_spec(object);
        }
        let (from, to) = (object.meta(), patched.meta_mut());
        to.uid.clone_from(&from.uid);
        to.name.clone_from(&from.name);
        to.namespace.clone_from(&from.namespace);
        Ok(patched)
    }
}
