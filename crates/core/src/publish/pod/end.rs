//! What the end of a pod says about the message.
//!
//! Only a pod that certainly did not run has certainly sent nothing. In doubt the message may have arrived.

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_api::names::fedora as names;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerState, ContainerStateTerminated, Pod};

use super::{CONTAINER, DEADLINE_SECONDS, Program, Report, python};
use crate::publish::{Fault, Verdict, deadline, interrupted};

/// A node that did not say anything so long after the deadline says nothing any more.
const LOST: SignedDuration = SignedDuration::from_secs(DEADLINE_SECONDS + 60);
/// How long a pod stays after a success.
const KEPT_SENT: SignedDuration = SignedDuration::from_secs(60);
/// How long it stays otherwise, for whoever looks into it.
const KEPT_FAILED: SignedDuration = SignedDuration::from_hours(1);
/// An end that says nothing may be any trouble: one that stays is not worth more attempts.
const VAGUE_ATTEMPTS: u32 = 3;
/// Reasons of an end without a start (containerd, Docker): the image lacks the program.
const NOT_STARTED: [&str; 2] = ["StartError", "ContainerCannotRun"];
/// The longest last words in a status, in characters.
const LONGEST: usize = 1024;

/// What became of the attempt of a pod, if that is known. What it says of a pod that is [`untaken`] is true when that was removed
/// before anything about it changed.
pub fn outcome(
    message: &FedoraMessage,
    pod: &Pod,
    program: Program,
    now: Timestamp,
) -> Option<Result<(), Fault>> {
    let state = state(pod);
    let attempts = message.status.as_ref().map_or(0, |status| status.attempts);
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        return Some(of_end(ended, program, attempts));
    }
    let why = said_of(pod);
    let running = state.is_some_and(|state| state.running.is_some()) || phase(pod) == "Running";
    Some(Err(match phase(pod) {
        "Succeeded" => return Some(Ok(())),
        "Failed" if running || given_up_by_others(pod) => {
            uncertain(&format!("the pod failed while it sent: {why}"))
        }
        "Failed" => unsent(&format!("the pod failed before it sent: {why}")),
        _ if now.duration_since(since(pod)?) <= LOST => return None,
        _ if !bound(pod) && !running => unsent("no node took the pod"),
        // The node would have ended it at its deadline: it is gone, and what it said before is old.
        _ => uncertain("its node does not say what became of the pod"),
    }))
}

/// Whether no node has the pod yet, so that one may take it at any moment.
pub fn untaken(pod: &Pod) -> bool {
    let state = state(pod);
    let started = state.is_some_and(|it| it.running.is_some() || it.terminated.is_some());
    !bound(pod) && !started && phase(pod) == "Pending"
}

/// What the node, or whoever gave the pod up, said of it and of its container.
fn said_of(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let why = status.and_then(|it| it.reason.as_deref().or(it.message.as_deref()));
    let waiting = state(pod).and_then(|state| state.waiting.as_ref());
    let waiting = waiting.and_then(|waiting| waiting.reason.as_deref());
    let parts: Vec<_> = why.into_iter().chain(waiting).collect();
    if parts.is_empty() {
        return "no reason given".to_owned();
    }
    parts.join(", ")
}

/// From when on a pod has its time: from its start, or from when it was made where it did not start.
fn since(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref();
    let started = status.and_then(|status| status.start_time.as_ref());
    let since = started.or(pod.metadata.creation_timestamp.as_ref());
    since.map(|time| time.0)
}

fn bound(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    spec.is_some_and(|spec| spec.node_name.is_some())
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Pending")
}

/// The state of the container that sends; a cluster may have added others.
fn state(pod: &Pod) -> Option<&ContainerState> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    let ours = statuses.iter().find(|status| status.name == CONTAINER);
    ours?.state.as_ref()
}

/// Whether a controller, and not the node, said that the pod failed (kubernetes: `pkg/controller/podgc`): what the node said last is
/// old then.
fn given_up_by_others(pod: &Pod) -> bool {
    let others = ["DeletionByPodGC", "DeletionByTaintManager", "NodeLost"];
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let reasons = conditions.unwrap_or_default().iter();
    let mut reasons = reasons
        .filter_map(|condition| condition.reason.as_deref())
        .chain(status.and_then(|status| status.reason.as_deref()));
    bound(pod) && reasons.any(|reason| others.contains(&reason))
}

/// What to do about an attempt whose pod is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was not made yet.
    Make,
    /// It was there, and somebody removed it; or it comes too late.
    Gone(Fault),
}

/// Tells the two apart by the ConfigMap of the same name, which is made before the pod and removed after its end is written down.
pub fn missing(message: &FedoraMessage, map: Option<&ConfigMap>, now: Timestamp) -> Missing {
    match map {
        Some(_) => Missing::Gone(uncertain(
            "the pod went before it said what became of the message",
        )),
        None if now < deadline(message) => Missing::Make,
        None => Missing::Gone(unsent("the pod was not made in time")),
    }
}

/// When a pod whose end is written down may go; `None` while it is needed. One that did not end may still send, and goes at once.
pub fn removable_at(message: &FedoraMessage, pod: &Pod) -> Option<Timestamp> {
    let status = message.status.as_ref()?;
    if interrupted(message) && status.sender_pod == pod.metadata.name {
        return None;
    }
    if !matches!(phase(pod), "Succeeded" | "Failed") {
        return Some(Timestamp::MIN);
    }
    let sent = status.status == Some(true);
    let times = [&status.completion_time, &status.last_attempt_time];
    let ended = times.into_iter().flatten().next()?;
    ended
        .0
        .saturating_add(if sent { KEPT_SENT } else { KEPT_FAILED })
        .ok()
}

fn of_end(ended: &ContainerStateTerminated, program: Program, attempts: u32) -> Result<(), Fault> {
    if ended.exit_code == 0 {
        return Ok(());
    }
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let explained = match program {
        Program::Drover => said
            .lines()
            .last()
            .and_then(|line| serde_json::from_str::<Report>(line).ok())
            .map(|report| Fault::reported(&report.reason, report.message)),
        Program::Python => python::explained(ended.exit_code, said).map(|fault| Fault {
            text: in_words(&fault.text, ended, said),
            ..fault
        }),
    };
    Err(explained.unwrap_or_else(|| of_code(ended, said, attempts)))
}

/// What an exit code says where the words do not: the codes of both programs are the same.
fn of_code(ended: &ContainerStateTerminated, said: &str, attempts: u32) -> Fault {
    let text = |why: &str| in_words(why, ended, said);
    let reason = ended.reason.as_deref().unwrap_or_default();
    match ended.exit_code {
        _ if NOT_STARTED.contains(&reason) => unsent(&text("the container did not start")),
        1 | 2 if attempts < VAGUE_ATTEMPTS => unsent(&text("the sender failed")),
        1 | 2 => Fault::new(
            names::REASON_POD_FAILED,
            Verdict::Never,
            text("the sender failed again"),
        ),
        121 if said.contains("ACCESS_REFUSED") => Fault::new(
            names::REASON_FORBIDDEN,
            Verdict::Never,
            text("the broker forbade the message"),
        ),
        121 => Fault::new(
            names::REASON_REJECTED,
            Verdict::Later,
            text("the broker rejected the message"),
        ),
        111 => uncertain(&text("the broker did not confirm in time")),
        // Killed: by its deadline, by its node, for its memory.
        _ => uncertain(&text("the sender was ended")),
    }
}

/// A text for people: why, the exit code, and the last words without the lines of tracebacks, which are indented.
fn in_words(why: &str, ended: &ContainerStateTerminated, said: &str) -> String {
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let lines = said
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']) && !line.is_empty());
    let lines: Vec<_> = lines.collect();
    let words = lines.join("\n");
    let skipped = words.chars().count().saturating_sub(LONGEST);
    let tail: String = words.chars().skip(skipped).collect();
    format!("{why} (exit code {}, {reason}): {tail}", ended.exit_code)
}

fn uncertain(text: &str) -> Fault {
    let text = format!("Nobody knows whether the message arrived: {text}");
    Fault::new(names::REASON_UNCERTAIN, Verdict::Again, text)
}

fn unsent(text: &str) -> Fault {
    Fault::new(names::REASON_POD_FAILED, Verdict::Later, text)
}
