//! Told by annotation, a workload fails.
//!
//! The annotations are read from the pod; workload controllers copy them from the workload's own
//! metadata to the pods that they make, so either place works.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What goes wrong: `ImagePullError`, `CrashLoop` or `NeverReady`.
pub const FAULT_ANNOTATION: &str = "simulation.drover.dev/fault";
/// How long a pod takes until it is ready, or (of a job) done: `500ms`, `5s`, `2m`.
pub const DELAY_ANNOTATION: &str = "simulation.drover.dev/delay";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The image cannot be pulled: the pod stays pending.
    ImagePullError,
    /// The container exits again and again.
    CrashLoop,
    /// The container runs and never becomes ready.
    NeverReady,
}

/// How a pod behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
    /// How long it takes.
    pub delay: Duration,
}

impl Behaviour {
    /// Reads the annotations; the error says what would be right.
    pub fn of(meta: &ObjectMeta) -> Result<Self, String> {
        let text = |key: &str| {
            meta.annotations
                .as_ref()
                .and_then(|a| a.get(key))
                .map(String::as_str)
        };
        let fault = match text(FAULT_ANNOTATION) {
            None | Some("") => None,
            Some("ImagePullError") => Some(Fault::ImagePullError),
            Some("CrashLoop") => Some(Fault::CrashLoop),
            Some("NeverReady") => Some(Fault::NeverReady),
            Some(other) => {
                return Err(format!(
                    "annotation {FAULT_ANNOTATION} is {other:?}, not one of ImagePullError, CrashLoop, NeverReady"
                ));
            }
        };
        let delay = match text(DELAY_ANNOTATION) {
            None | Some("") => Duration::ZERO,
            Some(text) => text
                .parse::<jiff::SignedDuration>()
                .ok()
                .and_then(|delay| Duration::try_from(delay).ok())
                .ok_or_else(|| {
                    format!("annotation {DELAY_ANNOTATION} is {text:?}, not a duration such as 5s")
                })?,
        };
        Ok(Self { fault, delay })
    }
}

/// The annotations of a workload that its pods inherit.
pub(crate) fn inherited(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let annotations = meta.annotations.iter().flatten();
    annotations
        .filter(|(key, _)| [FAULT_ANNOTATION, DELAY_ANNOTATION].contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(annotations: &[(&str, &str)], expected: Result<Behaviour, &str>) {
        let meta = ObjectMeta {
            annotations: Some(
                annotations
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        };
        assert_eq!(Behaviour::of(&meta), expected.map_err(ToOwned::to_owned));
    }

    #[test]
    fn annotations_are_read_or_refused() {
        check(&[], Ok(Behaviour::default()));
        check(
            &[
                (FAULT_ANNOTATION, "CrashLoop"),
                (DELAY_ANNOTATION, "1500ms"),
            ],
            Ok(Behaviour {
                fault: Some(Fault::CrashLoop),
                delay: Duration::from_millis(1500),
            }),
        );
        check(
            &[(FAULT_ANNOTATION, "Explode")],
            Err(
                "annotation simulation.drover.dev/fault is \"Explode\", not one of ImagePullError, CrashLoop, NeverReady",
            ),
        );
        check(
            &[(DELAY_ANNOTATION, "soon")],
            Err("annotation simulation.drover.dev/delay is \"soon\", not a duration such as 5s"),
        );
    }
}
