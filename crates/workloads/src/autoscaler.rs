//! Horizontal pod autoscalers: the load is always just what was aimed at, so the bounds alone count.

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus,
    MetricStatus, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Let the target have so many pods.
    Scale(i32),
    /// Report this.
    SetStatus(Box<HorizontalPodAutoscalerStatus>),
}

/// What to do: `replicas` is what the target wants now, `None` when it is not there.
pub(crate) fn plan(
    scaler: &HorizontalPodAutoscaler,
    replicas: Option<i32>,
    now: Timestamp,
) -> Vec<Action> {
    let Some(spec) = &scaler.spec else {
        return Vec::new();
    };
    if scaler.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let (low, high) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
    let wanted = replicas.map(|replicas| replicas.max(low).min(high.max(low)));
    let mut actions = Vec::new();
    if let Some(wanted) = wanted.filter(|wanted| Some(*wanted) != replicas) {
        actions.push(Action::Scale(wanted));
    }
    let known = scaler.status.as_ref();
    let limit = wanted.and_then(|wanted| match wanted {
        n if n == low && replicas < Some(low) => Some((
            "TooFewReplicas",
            "the desired replica count is less than the minimum replica count",
        )),
        n if n == high && replicas > Some(high) => Some((
            "TooManyReplicas",
            "the desired replica count is more than the maximum replica count",
        )),
        _ => None,
    });
    let limited = limit.map_or(
        (
            false,
            "DesiredWithinRange",
            "the desired count is within the acceptable range",
        ),
        |(reason, message)| (true, reason, message),
    );
    let conditions = if wanted.is_some() {
        vec![
            (
                "AbleToScale",
                (
                    true,
                    "ReadyForNewScale",
                    "recommended size matches current size",
                ),
            ),
            (
                "ScalingActive",
                (
                    true,
                    "ValidMetricFound",
                    "the HPA was able to successfully calculate a replica count",
                ),
            ),
            ("ScalingLimited", limited),
        ]
    } else {
        vec![(
            "AbleToScale",
            (
                false,
                "FailedGetScale",
                "the HPA controller was unable to get the target's current scale",
            ),
        )]
    };
    let status = HorizontalPodAutoscalerStatus {
        observed_generation: scaler.metadata.generation,
        current_replicas: replicas,
        desired_replicas: wanted.unwrap_or(0),
        current_metrics: Some(metrics(scaler)).filter(|list| !list.is_empty() && wanted.is_some()),
        last_scale_time: known.and_then(|status| status.last_scale_time.clone()),
        conditions: Some(
            conditions
                .into_iter()
                .map(|(type_, words)| condition(known, type_, words, now))
                .collect(),
        ),
    };
    if known != Some(&status) {
        actions.push(Action::SetStatus(Box::new(status)));
    }
    actions
}

/// Utilization exactly as aimed at.
fn metrics(scaler: &HorizontalPodAutoscaler) -> Vec<MetricStatus> {
    let wanted = scaler
        .spec
        .iter()
        .flat_map(|spec| spec.metrics.iter().flatten());
    wanted
        .filter_map(|metric| {
            let resource = metric.resource.as_ref()?;
            Some(MetricStatus {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricStatus {
                    name: resource.name.clone(),
                    current: MetricValueStatus {
                        average_utilization: resource.target.average_utilization,
                        average_value: resource.target.average_value.clone(),
                        value: None,
                    },
                }),
                ..MetricStatus::default()
            })
        })
        .collect()
}

fn condition(
    known: Option<&HorizontalPodAutoscalerStatus>,
    type_: &str,
    (holds, reason, message): (bool, &str, &str),
    now: Timestamp,
) -> HorizontalPodAutoscalerCondition {
    let status = if holds { "True" } else { "False" };
    let before = known
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let same = before
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == status);
    HorizontalPodAutoscalerCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: same
            .and_then(|condition| condition.last_transition_time.clone())
            .or(Some(Time(now))),
    }
}
