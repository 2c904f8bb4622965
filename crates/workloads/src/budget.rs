//! Pod disruption budgets: how many pods may go.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::template::{is_active, is_ready, resolve};

/// The status of a budget over the pods that it selects; `None` when it is as it is.
pub(crate) fn plan(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let spec = budget.spec.as_ref()?;
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let expected = number(pods.iter().filter(|pod| is_active(pod)).count());
    let healthy = number(
        pods.iter()
            .filter(|pod| is_active(pod) && is_ready(pod))
            .count(),
    );
    let needed = match (&spec.max_unavailable, &spec.min_available) {
        (Some(spare), _) => expected - resolve(Some(spare), expected, true, 0),
        (None, Some(least)) => resolve(Some(least), expected, true, 0),
        (None, None) => expected,
    }
    .max(0);
    let spare = (healthy - needed).max(0);
    let (holds, reason) = if spare > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let known = budget.status.as_ref();
    let before = known
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let same = before
        .iter()
        .find(|condition| condition.type_ == "DisruptionAllowed" && condition.status == holds);
    let status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        current_healthy: healthy,
        desired_healthy: needed,
        disruptions_allowed: spare,
        expected_pods: expected,
        conditions: Some(vec![Condition {
            type_: "DisruptionAllowed".to_owned(),
            status: holds.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: budget.metadata.generation,
            last_transition_time: same.map_or(Time(now), |condition| {
                condition.last_transition_time.clone()
            }),
        }]),
        disrupted_pods: None,
    };
    (known != Some(&status)).then_some(status)
}
