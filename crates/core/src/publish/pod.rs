//! The pod that sends one attempt: what it looks like, and what its end says.
//!
//! The message lies in a ConfigMap that never changes, because every attempt sends the same one. The secret is mounted, and never
//! passes through an argument or a variable. A pod is never restarted: that would be an attempt that nobody wrote down.

use std::collections::BTreeMap;

use drover_api::Time;
use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_api::names::fedora as names;
use drover_protocol::fedora::{HEADER_PRIORITY, Header, Outgoing};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerStateTerminated,
    EmptyDirVolumeSource, EnvVar, KeyToPath, LocalObjectReference, Pod, PodSecurityContext,
    PodSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Fault, Verdict};

/// Where the message lies in the container.
const MESSAGE_FOLDER: &str = "/etc/fmsg";
/// Where the authority, the certificate and the key lie.
const SECRET_FOLDER: &str = "/etc/pki/fmsg";
/// Their names there, in that order.
const SECRET_FILES: [&str; 3] = ["cacert.pem", "cert.pem", "key.pem"];
/// The kubelet ends the pod after this time: the Python command may hang for ever when a broker takes nothing.
const DEADLINE_SECONDS: i64 = 90;
/// A node that did not say anything so long after the deadline says nothing any more.
const LOST: SignedDuration = SignedDuration::from_secs(DEADLINE_SECONDS + 60);
/// Whoever wrote an attempt down and died makes its pod within this time; after it the pod was there and went.
const UNMADE: SignedDuration = SignedDuration::from_secs(30);
/// How long a pod stays after a success.
const KEPT_SENT: SignedDuration = SignedDuration::from_secs(60);
/// How long it stays otherwise, for whoever looks into it.
const KEPT_FAILED: SignedDuration = SignedDuration::from_hours(1);
/// Exit code 1 of the Python command is any trouble: one that stays is not worth more attempts.
const VAGUE_ATTEMPTS: u32 = 3;
/// The user in the container.
const USER: i64 = 65532;

/// Which command the pod runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Program {
    /// `drover publish`, which says exactly what went wrong.
    #[default]
    Drover,
    /// `fedora-messaging publish` of the Python library.
    Python,
}

/// How pods are made: the operator's configuration, never part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSettings {
    /// The image that has the program.
    pub image: String,
    /// What it runs.
    pub program: Program,
    /// For a registry that asks who one is; a secret of the message's namespace.
    pub pull_secret: Option<String>,
}

/// Where the pod sends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// See [`super::Place`].
    pub url: &'a str,
    /// Goes before every topic.
    pub topic_prefix: &'a str,
    /// Where it is published.
    pub exchange: &'a str,
}

/// The secret to mount, and the names of authority, certificate and key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted<'a> {
    /// In the namespace of the message.
    pub secret: &'a str,
    /// In that order.
    pub keys: [&'a str; 3],
}

/// The result that `drover publish --result FILE` leaves when it fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// A reason of the condition.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// The name of the pod of an attempt: whoever makes it twice makes it once.
pub fn pod_name(message: &FedoraMessage, attempt: u32) -> String {
    format!("{}-a{attempt}", map_name(message))
}

/// The name of the ConfigMap with the message.
pub fn map_name(message: &FedoraMessage) -> String {
    let uid = message.metadata.uid.as_deref().unwrap_or_default();
    let short: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(12)
        .collect();
    let generation = message.metadata.generation.unwrap_or(1);
    format!("fmsg-{short}-g{generation}")
}

/// The ConfigMap with the message as a line of the Python command's file.
pub fn map(message: &FedoraMessage, outgoing: &Outgoing, route: &Route<'_>) -> ConfigMap {
    let data = BTreeMap::from([
        ("message.json".to_owned(), line(message, outgoing)),
        ("config.toml".to_owned(), config(route)),
    ]);
    ConfigMap {
        metadata: meta(message, map_name(message)),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The pod of the attempt whose status was written.
pub fn pod(
    message: &FedoraMessage,
    attempt: u32,
    route: &Route<'_>,
    secret: &Mounted<'_>,
    settings: &PodSettings,
) -> Pod {
    let pull = settings
        .pull_secret
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() });
    let pull: Vec<_> = pull.collect();
    Pod {
        metadata: meta(message, pod_name(message, attempt)),
        spec: Some(PodSpec {
            containers: vec![container(route, settings)],
            volumes: Some(volumes(message, secret)),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            termination_grace_period_seconds: Some(5),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: (!pull.is_empty()).then_some(pull),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn container(route: &Route<'_>, settings: &PodSettings) -> Container {
    let owned = |words: &[&str]| {
        words
            .iter()
            .map(|&word| word.to_owned())
            .collect::<Vec<_>>()
    };
    let [ca, cert, key] = SECRET_FILES.map(|name| format!("{SECRET_FOLDER}/{name}"));
    let line = format!("{MESSAGE_FOLDER}/message.json");
    let (command, args) = match settings.program {
        // The image's own entry point is the program.
        Program::Drover => (
            None,
            owned(&[
                "publish",
                "--url",
                route.url,
                "--topic-prefix",
                route.topic_prefix,
                "--exchange",
                route.exchange,
                "--ca",
                &ca,
                "--cert",
                &cert,
                "--key",
                &key,
                "--file",
                &line,
                "--result",
                "/dev/termination-log",
            ]),
        ),
        Program::Python => {
            let config = format!("{MESSAGE_FOLDER}/config.toml");
            let command = owned(&["fedora-messaging", "--conf", &config, "publish"]);
            (Some(command), owned(&["--exchange", route.exchange, &line]))
        }
    };
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    let amounts = |cpu: Option<&str>, memory: &str| {
        let cpu = cpu.map(|cpu| ("cpu".to_owned(), Quantity(cpu.to_owned())));
        let memory = ("memory".to_owned(), Quantity(memory.to_owned()));
        Some(cpu.into_iter().chain([memory]).collect())
    };
    Container {
        name: "publish".to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command,
        args: Some(args),
        env: Some(vec![
            variable("HOME", "/tmp"),
            variable("PYTHONDONTWRITEBYTECODE", "1"),
        ]),
        volume_mounts: Some(vec![
            mount("message", MESSAGE_FOLDER, true),
            mount("secret", SECRET_FOLDER, true),
            mount("tmp", "/tmp", false),
        ]),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        resources: Some(ResourceRequirements {
            requests: amounts(Some("50m"), "64Mi"),
            limits: amounts(None, "256Mi"),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn volumes(message: &FedoraMessage, secret: &Mounted<'_>) -> Vec<Volume> {
    let named = |name: &str| Volume {
        name: name.to_owned(),
        ..Volume::default()
    };
    let items = secret
        .keys
        .iter()
        .zip(SECRET_FILES)
        .map(|(key, path)| KeyToPath {
            key: (*key).to_owned(),
            path: path.to_owned(),
            mode: None,
        });
    vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: map_name(message),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("message")
        },
        Volume {
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.secret.to_owned()),
                items: Some(items.collect()),
                default_mode: Some(0o440),
                optional: None,
            }),
            ..named("secret")
        },
        Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("16Mi".to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..named("tmp")
        },
    ]
}

fn meta(message: &FedoraMessage, name: String) -> ObjectMeta {
    let uid = message.metadata.uid.clone().unwrap_or_default();
    let labels = [
        (names::MANAGED_BY_LABEL, names::MANAGED_BY.to_owned()),
        (names::MESSAGE_UID_LABEL, uid.clone()),
    ];
    ObjectMeta {
        name: Some(name),
        namespace: message.metadata.namespace.clone(),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        owner_references: Some(vec![OwnerReference {
            api_version: "apps.fedoraproject.org/v1alpha1".to_owned(),
            kind: "FedoraMessage".to_owned(),
            name: message.name_any(),
            uid,
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// One line of JSON, as `fedora-messaging publish` and `drover publish --file` read it.
fn line(message: &FedoraMessage, outgoing: &Outgoing) -> String {
    let headers: Map<String, Value> = outgoing
        .headers
        .iter()
        .filter(|(name, _)| name.as_str() != HEADER_PRIORITY)
        .map(|(name, value)| (name.clone(), Header::to_json(value)))
        .collect();
    let wanted = &message.spec.message;
    json!({
        "topic": wanted.topic, "id": outgoing.message_id, "priority": outgoing.priority,
        "headers": headers, "body": wanted.body,
    })
    .to_string()
}

/// What the Python library reads. Every text is written as TOML writes it, which for these is as JSON does.
fn config(route: &Route<'_>) -> String {
    let [ca, cert, key] = SECRET_FILES.map(|name| format!("{SECRET_FOLDER}/{name}"));
    let text = |value: &str| Value::from(value).to_string();
    format!(
        "amqp_url = {}\ntopic_prefix = {}\npublish_exchange = {}\npassive_declares = true\n\n\
         [tls]\nca_cert = \"{ca}\"\ncertfile = \"{cert}\"\nkeyfile = \"{key}\"\n\n\
         [client_properties]\napp = \"drover\"\n",
        text(route.url),
        text(route.topic_prefix),
        text(route.exchange),
    )
}

/// Whether an object was made for this message, and not for one of the same name before it.
pub fn made_for(message: &FedoraMessage, meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) == message.metadata.uid.as_ref()
    })
}

/// What became of the attempt of a pod, if that is known.
pub fn outcome(
    message: &FedoraMessage,
    pod: &Pod,
    program: Program,
    now: Timestamp,
) -> Option<Result<(), Fault>> {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.container_statuses.as_deref());
    let container = statuses.unwrap_or_default().first();
    let state = container.and_then(|container| container.state.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref());
    let attempts = message.status.as_ref().map_or(0, |status| status.attempts);
    if let Some(ended) = ended {
        return Some(of_end(ended, program, attempts));
    }
    let started = state.is_some_and(|state| state.running.is_some());
    let phase = status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    let why = status.and_then(|status| status.reason.clone().or_else(|| status.message.clone()));
    let why = why.unwrap_or_else(|| "no reason given".to_owned());
    let overdue = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .is_some_and(|created| now.duration_since(created.0) > LOST);
    match phase {
        "Failed" if started => Some(Err(uncertain(&format!(
            "the pod failed while it sent: {why}"
        )))),
        "Failed" => Some(Err(unsent(&format!(
            "the pod failed before it sent: {why}"
        )))),
        "Succeeded" => Some(Ok(())),
        _ if overdue && (started || phase == "Running") => Some(Err(uncertain(
            "its node does not say what became of the pod",
        ))),
        _ if overdue => {
            let waiting = state.and_then(|state| state.waiting.as_ref());
            let why = waiting.and_then(|waiting| waiting.reason.as_deref());
            Some(Err(unsent(&format!(
                "the pod did not start: {}",
                why.unwrap_or("not scheduled")
            ))))
        }
        _ => None,
    }
}

/// What to do about an attempt whose pod is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was not made yet.
    Make,
    /// It was there, and somebody removed it.
    Gone(Fault),
}

/// Tells the two apart, by the time since the attempt was written down.
pub fn missing(message: &FedoraMessage, now: Timestamp) -> Missing {
    let begun = message
        .status
        .as_ref()
        .and_then(|status| status.last_attempt_time.as_ref());
    match begun {
        Some(begun) if now.duration_since(begun.0) <= UNMADE => Missing::Make,
        _ => Missing::Gone(uncertain(
            "the pod went before it said what became of the message",
        )),
    }
}

/// When a pod whose end is written down may go; `None` while it is needed.
pub fn removable_at(message: &FedoraMessage, pod: &ObjectMeta) -> Option<Timestamp> {
    let status = message.status.as_ref()?;
    let needed = super::interrupted(message) && status.sender_pod == pod.name;
    if needed {
        return None;
    }
    let sent = status.status == Some(true);
    let since = |time: Option<&Time>| time.map(|time| time.0);
    let ended = since(status.completion_time.as_ref())
        .or_else(|| since(status.last_attempt_time.as_ref()))?;
    ended
        .saturating_add(if sent { KEPT_SENT } else { KEPT_FAILED })
        .ok()
}

fn of_end(ended: &ContainerStateTerminated, program: Program, attempts: u32) -> Result<(), Fault> {
    if ended.exit_code == 0 {
        return Ok(());
    }
    let said = ended.message.as_deref().unwrap_or_default().trim();
    let report = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Report>(line).ok());
    if let (Program::Drover, Some(report)) = (program, report) {
        return Err(Fault::reported(&report.reason, report.message));
    }
    let text = |why: &str| {
        let reason = ended.reason.as_deref().unwrap_or("Error");
        let tail: String = said
            .chars()
            .rev()
            .take(1024)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        format!("{why} (exit code {}, {reason}): {tail}", ended.exit_code)
    };
    Err(match ended.exit_code {
        1 if attempts < VAGUE_ATTEMPTS => unsent(&text("the sender failed")),
        1 => Fault::new(
            names::REASON_POD_FAILED,
            Verdict::Never,
            text("the sender failed again"),
        ),
        2 => Fault::new(
            names::REASON_INVALID,
            Verdict::Never,
            text("the sender refused the message"),
        ),
        111 if said.contains("Unable to connect") => Fault::new(
            names::REASON_CONNECTION_FAILED,
            Verdict::Later,
            text("the broker was not reached"),
        ),
        111 => uncertain(&text("the broker did not confirm in time")),
        121 if said.contains("ACCESS_REFUSED") || said.contains("403") => Fault::new(
            names::REASON_FORBIDDEN,
            Verdict::Never,
            text("the broker forbade the message"),
        ),
        121 => Fault::new(
            names::REASON_REJECTED,
            Verdict::Later,
            text("the broker rejected the message"),
        ),
        // Killed: by its deadline, by its node, for its memory.
        _ => uncertain(&text("the sender was ended")),
    })
}

fn uncertain(text: &str) -> Fault {
    let text = format!("Nobody knows whether the message arrived: {text}");
    Fault::new(names::REASON_UNCERTAIN, Verdict::Again, text)
}

fn unsent(text: &str) -> Fault {
    Fault::new(names::REASON_POD_FAILED, Verdict::Later, text)
}

#[cfg(test)]
mod tests;
