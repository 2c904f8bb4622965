//! What a node does with a pod: bind it, run it (not really), report it, let it go.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::fault::{Behaviour, Fault};
use crate::local::Ended;
use crate::template::{phase, suffix};

/// The only node of an embedded cluster.
pub(crate) const NODE: &str = "node1";
const NODE_IP: &str = "10.0.0.1";

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Put the pod on the node.
    Bind,
    /// Report this.
    SetStatus(Box<PodStatus>),
    /// It has ended: remove the object.
    Remove,
    /// Look again after this time.
    WakeAfter(Duration),
}

/// What to do with a pod now.
pub(crate) fn plan(pod: &Pod, now: Timestamp) -> Vec<Action> {
    if pod.metadata.deletion_timestamp.is_some() {
        return if bound(pod) {
            vec![Action::Remove]
        } else {
            Vec::new()
        };
    }
    if !bound(pod) {
        return vec![Action::Bind];
    }
    if matches!(phase(pod), "Succeeded" | "Failed") {
        return Vec::new();
    }
    let (behaviour, complaint) = match Behaviour::of(&pod.metadata) {
        Ok(behaviour) => (behaviour, None),
        Err(complaint) => (Behaviour::default(), Some(complaint)),
    };
    let started = pod
        .status
        .as_ref()
        .and_then(|s| s.start_time.as_ref())
        .map_or_else(|| start_time(now, behaviour.delay), |time| time.0);
    let age = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    let wait = behaviour.delay.saturating_sub(age);
    let stage = Stage::of(pod, behaviour, wait.is_zero());
    let status = report(pod, stage, started, complaint);
    let mut actions = Vec::new();
    if differs(pod.status.as_ref(), &status) {
        actions.push(Action::SetStatus(Box::new(status)));
    }
    if !wait.is_zero() {
        actions.push(Action::WakeAfter(wait));
    }
    actions
}

/// A start time has whole seconds; it is rounded so that a delay ends late rather than early.
fn start_time(now: Timestamp, delay: Duration) -> Timestamp {
    let up = i64::from(!delay.is_zero() && now.subsec_nanosecond() > 0);
    Timestamp::from_second(now.as_second() + up).unwrap_or(now)
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pulling,
    Crashing,
    Starting,
    Ready,
    Done,
    Broken,
}

impl Stage {
    fn of(pod: &Pod, behaviour: Behaviour, delay_over: bool) -> Self {
        let restarts = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        match (behaviour.fault, restarts) {
            (Some(Fault::ImagePullError), _) => Self::Pulling,
            (Some(Fault::CrashLoop), Some("Never")) if delay_over => Self::Broken,
            (Some(Fault::CrashLoop), _) => Self::Crashing,
            (Some(Fault::NeverReady), _) => Self::Starting,
            (None, _) if !delay_over => Self::Starting,
            (None, Some("Never" | "OnFailure")) => Self::Done,
            (None, _) => Self::Ready,
        }
    }
}

/// What to report of a pod whose process really runs, or ran. `None` when that is reported already.
pub(crate) fn of_process(pod: &Pod, ended: Option<&Ended>, now: Timestamp) -> Option<PodStatus> {
    let known = pod.status.as_ref();
    let started = known.and_then(|status| status.start_time.as_ref());
    let started = started.map_or_else(|| start_time(now, Duration::ZERO), |time| time.0);
    let stage = match ended {
        None => Stage::Ready,
        Some(ended) if ended.code == 0 => Stage::Done,
        Some(_) => Stage::Broken,
    };
    let mut status = report(pod, stage, started, None);
    if let Some(ended) = ended {
        let containers = status.container_statuses.iter_mut().flatten();
        for state in containers.filter_map(|container| container.state.as_mut()) {
            state.terminated = Some(ContainerStateTerminated {
                exit_code: ended.code,
                reason: Some(ended.reason.to_owned()),
                message: Some(ended.message.clone()).filter(|text| !text.is_empty()),
                started_at: Some(Time(started)),
                finished_at: Some(Time(start_time(now, Duration::ZERO))),
                ..ContainerStateTerminated::default()
            });
        }
    }
    differs(known, &status).then_some(status)
}

/// Whether a pod was reported to run.
pub(crate) fn was_started(pod: &Pod) -> bool {
    phase(pod) == "Running"
}

/// Whether there is nothing more to report.
pub(crate) fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

fn report(pod: &Pod, stage: Stage, started: Timestamp, complaint: Option<String>) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let containers: Vec<ContainerStatus> = spec
        .containers
        .iter()
        .map(|container| container_status(container, stage, started))
        .collect();
    let ready = stage == Stage::Ready;
    let over = matches!(stage, Stage::Done | Stage::Broken);
    let why = (!ready).then_some(if over {
        "PodCompleted"
    } else {
        "ContainersNotReady"
    });
    let condition = |type_: &str, holds: bool, reason: Option<&str>| PodCondition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason: reason.map(ToOwned::to_owned),
        last_transition_time: Some(transition(pod, type_, holds, started)),
        ..PodCondition::default()
    };
    let phase = match stage {
        Stage::Pulling => "Pending",
        Stage::Crashing | Stage::Starting | Stage::Ready => "Running",
        Stage::Done => "Succeeded",
        Stage::Broken => "Failed",
    };
    let ip = pod_ip(pod);
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(vec![
            condition("PodReadyToStartContainers", true, None),
            condition("Initialized", true, over.then_some("PodCompleted")),
            condition("Ready", ready, why),
            condition("ContainersReady", ready, why),
            condition("PodScheduled", true, None),
        ]),
        message: complaint,
        container_statuses: Some(containers),
        init_container_statuses: spec.init_containers.map(|list| {
            list.iter()
                .map(|container| container_status(container, Stage::Done, started))
                .collect()
        }),
        host_ip: Some(NODE_IP.to_owned()),
        pod_ip: Some(ip.clone()),
        pod_ips: Some(vec![k8s_openapi::api::core::v1::PodIP { ip }]),
        start_time: Some(Time(started)),
        qos_class: pod
            .status
            .as_ref()
            .and_then(|status| status.qos_class.clone())
            .or(Some("BestEffort".to_owned())),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

fn container_status(container: &Container, stage: Stage, started: Timestamp) -> ContainerStatus {
    let running = ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(Time(started)),
        }),
        ..ContainerState::default()
    };
    let waiting = |reason: &str, message: String| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message),
        }),
        ..ContainerState::default()
    };
    let ended = |code: i32, reason: &str| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some(reason.to_owned()),
            started_at: Some(Time(started)),
            finished_at: Some(Time(started)),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let image = container.image.clone().unwrap_or_default();
    let name = &container.name;
    let state = match stage {
        Stage::Pulling => waiting(
            "ImagePullBackOff",
            format!("Back-off pulling image \"{image}\""),
        ),
        Stage::Crashing => waiting(
            "CrashLoopBackOff",
            format!("back-off 5m0s restarting failed container={name}"),
        ),
        Stage::Starting | Stage::Ready => running,
        Stage::Done => ended(0, "Completed"),
        Stage::Broken => ended(1, "Error"),
    };
    let crashing = stage == Stage::Crashing;
    ContainerStatus {
        name: container.name.clone(),
        image_id: String::new(),
        ready: stage == Stage::Ready,
        started: Some(matches!(stage, Stage::Starting | Stage::Ready)),
        restart_count: if crashing { 5 } else { 0 },
        last_state: crashing.then(|| ended(1, "Error")),
        image,
        state: Some(state),
        ..ContainerStatus::default()
    }
}

/// A condition keeps its time while its status stays.
fn transition(pod: &Pod, type_: &str, holds: bool, started: Timestamp) -> Time {
    let known = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    known
        .iter()
        .find(|condition| condition.type_ == type_ && (condition.status == "True") == holds)
        .and_then(|condition| condition.last_transition_time.clone())
        .unwrap_or(Time(started))
}

/// Compares what this node reports; the API keeps more.
fn differs(known: Option<&PodStatus>, new: &PodStatus) -> bool {
    known.is_none_or(|known| {
        known.phase != new.phase
            || known.message != new.message
            || known.container_statuses != new.container_statuses
            || known.start_time.is_none()
    })
}

pub(crate) fn bound(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        spec.node_name
            .as_deref()
            .is_some_and(|name| !name.is_empty())
    })
}

/// An address that follows from the uid: nothing listens there.
fn pod_ip(pod: &Pod) -> String {
    let text = suffix(pod.metadata.uid.as_deref().unwrap_or_default(), 4);
    let sum = text.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    format!("10.1.{}.{}", (sum >> 8) & 0xff, (sum & 0xff).clamp(1, 254))
}
