//! The pod that sends one attempt: what it looks like, and what its end says.
//!
//! The message lies in a ConfigMap of the same name, which never changes and is there before the pod. The secret is mounted, and
//! never passes through an argument or a variable. A pod is never restarted: that would be an attempt that nobody wrote down.

mod end;
mod python;

use std::collections::BTreeMap;

use drover_api::fedora::v1alpha1::FedoraMessage;
use drover_api::names::fedora as names;
use drover_protocol::fedora::{HEADER_PRIORITY, Header, Outgoing};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar,
    KeyToPath, LocalObjectReference, Pod, PodSecurityContext, PodSpec, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use end::{Missing, missing, outcome, removable_at, untaken};

/// Where the message lies in the container.
const MESSAGE_FOLDER: &str = "/etc/fmsg";
/// Where the authority, the certificate and the key lie.
const SECRET_FOLDER: &str = "/etc/pki/fmsg";
/// Their names there, in that order.
const SECRET_FILES: [&str; 3] = ["cacert.pem", "cert.pem", "key.pem"];
/// The only container that is ours: a cluster may add others.
const CONTAINER: &str = "publish";
/// The kubelet ends the pod after this time: the Python command may hang for ever when a broker takes nothing.
const DEADLINE_SECONDS: i64 = 90;
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

/// The name of the pod of an attempt, and of its ConfigMap: whoever makes them twice makes them once.
pub fn pod_name(message: &FedoraMessage, attempt: u32) -> String {
    let uid = message.metadata.uid.as_deref().unwrap_or_default();
    let short: String = uid
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(12)
        .collect();
    let generation = message.metadata.generation.unwrap_or(1);
    format!("fmsg-{short}-g{generation}-a{attempt}")
}

/// The ConfigMap of the pod called `name`, with the message as a line of the Python command's file.
pub fn map(
    message: &FedoraMessage,
    name: &str,
    outgoing: &Outgoing,
    route: &Route<'_>,
) -> ConfigMap {
    let data = BTreeMap::from([
        ("message.json".to_owned(), line(message, outgoing)),
        ("config.toml".to_owned(), python::config(route)),
    ]);
    ConfigMap {
        metadata: meta(message, name.to_owned()),
        data: Some(data),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// The pod of the attempt whose status was written, under the name that the status has.
pub fn pod(
    message: &FedoraMessage,
    name: &str,
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
        metadata: meta(message, name.to_owned()),
        spec: Some(PodSpec {
            containers: vec![container(route, settings)],
            volumes: Some(volumes(name, secret)),
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
        name: CONTAINER.to_owned(),
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

fn volumes(map: &str, secret: &Mounted<'_>) -> Vec<Volume> {
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
                name: map.to_owned(),
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

/// Whether an object was made for this message, and not for one of the same name before it.
pub fn made_for(message: &FedoraMessage, meta: &ObjectMeta) -> bool {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| {
        owner.controller == Some(true) && Some(&owner.uid) == message.metadata.uid.as_ref()
    })
}

#[cfg(test)]
mod tests;
