//! Jobs: pods that end.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::fault;
use crate::template::{self, is_active, is_ready, phase, suffix};

const DEFAULT_BACKOFF_LIMIT: i32 = 6;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make this pod.
    Create(Box<Pod>),
    /// Delete the pod of this name.
    Delete(String),
    /// Report this.
    SetStatus(Box<JobStatus>),
    /// Its time is over: remove the job.
    Remove,
    /// Look again at this time.
    WakeAt(Timestamp),
}

/// What to do: `pods` are those that the job controls.
pub(crate) fn plan(job: &Job, pods: &[&Pod], now: Timestamp) -> Vec<Action> {
    let Some(spec) = &job.spec else {
        return Vec::new();
    };
    if job.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    if let Some(at) = finished_at(job) {
        return expire(spec, at, now);
    }
    let mut actions = Vec::new();
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let succeeded = count(&|pod| phase(pod) == "Succeeded");
    let failed = count(&|pod| phase(pod) == "Failed");
    let active = count(&is_active);
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let completions = spec.completions.unwrap_or(1).max(0);
    let limit = spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF_LIMIT);
    let started = job.status.as_ref().and_then(|s| s.start_time.clone());
    let late = deadline(spec, started.as_ref().map_or(now, |time| time.0));
    let verdict = if succeeded >= completions {
        Some((
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        ))
    } else if failed > limit {
        Some((
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ))
    } else if late.is_some_and(|late| now >= late) {
        Some((
            "Failed",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ))
    } else {
        None
    };
    let suspended = spec.suspend == Some(true);
    if verdict.is_some() || suspended {
        let running = pods.iter().filter(|pod| is_active(pod));
        actions.extend(running.map(|pod| Action::Delete(pod.name_any())));
    } else {
        let missing = parallelism.min(completions - succeeded) - active;
        create(job, spec, pods, missing, &mut actions);
        actions.extend(late.map(Action::WakeAt));
    }
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let status = JobStatus {
        start_time: started.or((!suspended).then_some(Time(now))),
        active: some(if verdict.is_some() || suspended {
            0
        } else {
            active
        }),
        ready: Some(count(&is_ready)),
        succeeded: some(succeeded),
        failed: some(failed),
        terminating: Some(0),
        uncounted_terminated_pods: Some(UncountedTerminatedPods::default()),
        completion_time: verdict.filter(|v| v.0 == "Complete").map(|_| Time(now)),
        conditions: verdict.map(|verdict| conditions(verdict, now)),
        ..JobStatus::default()
    };
    if job.status.as_ref() != Some(&status) {
        actions.push(Action::SetStatus(Box::new(status)));
    }
    actions
}

fn create(job: &Job, spec: &JobSpec, pods: &[&Pod], missing: i32, actions: &mut Vec<Action>) {
    let mut place = 0_u32;
    let mut left = missing;
    while left > 0 {
        let name = format!(
            "{}-{}",
            job.name_any(),
            suffix((job.uid().unwrap_or_default(), place), 5)
        );
        place += 1;
        if pods.iter().any(|pod| pod.name_any() == name) {
            continue;
        }
        let labels = [
            ("batch.kubernetes.io/job-name", job.name_any()),
            ("job-name", job.name_any()),
        ];
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        let pod = template::pod(
            job,
            name,
            &spec.template,
            &labels,
            fault::inherited(&job.metadata),
        );
        actions.push(Action::Create(Box::new(pod)));
        left -= 1;
    }
}

fn conditions((type_, reason, message): (&str, &str, &str), now: Timestamp) -> Vec<JobCondition> {
    // A job is first judged, then done (batch/v1: SuccessCriteriaMet and FailureTarget come first).
    let first = if type_ == "Complete" {
        "SuccessCriteriaMet"
    } else {
        "FailureTarget"
    };
    [first, type_]
        .map(|type_| JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        })
        .to_vec()
}

fn deadline(spec: &JobSpec, started: Timestamp) -> Option<Timestamp> {
    let seconds = spec.active_deadline_seconds?;
    Some(
        started
            .saturating_add(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX),
    )
}

fn finished_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let done = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    done.last_transition_time.as_ref().map(|time| time.0)
}

fn expire(spec: &JobSpec, finished: Timestamp, now: Timestamp) -> Vec<Action> {
    let Some(ttl) = spec.ttl_seconds_after_finished else {
        return Vec::new();
    };
    let at = finished
        .saturating_add(SignedDuration::from_secs(i64::from(ttl)))
        .unwrap_or(Timestamp::MAX);
    vec![if now >= at {
        Action::Remove
    } else {
        Action::WakeAt(at)
    }]
}
