//! Pods that may do nothing but run the program.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Volume,
    VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::named;
use super::rbac::Account;

/// Where probes ask.
pub const PROBES: i32 = 8081;
/// Where Prometheus asks.
pub const METRICS: i32 = 8082;
/// Somebody who is nobody else: what distroless images call nonroot.
const USER: i64 = 65532;
/// Longer than the program takes to hand over: calls in progress end, the lease is given up.
const GRACE: i64 = 30;
/// The label that finds the pods of a deployment.
const APP: &str = "app.kubernetes.io/name";

/// What runs.
pub struct Program<'a> {
    /// Name of the deployment, and of the container.
    pub name: &'a str,
    pub account: Account<'a>,
    pub image: &'a str,
    pub args: Vec<String>,
    pub ports: Vec<(&'static str, i32)>,
    pub replicas: u8,
    /// What it takes at rest: CPU, memory.
    pub requests: (&'static str, &'static str),
    pub mounts: Vec<(Volume, VolumeMount)>,
    pub strategy: DeploymentStrategy,
}

/// The label that finds the pods.
pub fn app(name: &str) -> BTreeMap<String, String> {
    [(APP.to_owned(), name.to_owned())].into()
}

/// A new copy serves before an old one goes.
pub fn rolling() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

/// At most one copy is taken away at a time.
pub fn budget(name: &str, namespace: &str) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: named(name, Some(namespace)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(app(name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

impl Program<'_> {
    pub fn deployment(self) -> Deployment {
        let mut metadata = named(self.name, Some(self.account.namespace));
        metadata
            .labels
            .get_or_insert_default()
            .extend(app(self.name));
        let labels = metadata.labels.clone();
        let selector = LabelSelector {
            match_labels: Some(app(self.name)),
            ..LabelSelector::default()
        };
        let (replicas, strategy) = (i32::from(self.replicas), self.strategy.clone());
        Deployment {
            metadata,
            spec: Some(DeploymentSpec {
                replicas: Some(replicas),
                strategy: Some(strategy),
                selector: selector.clone(),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels,
                        ..ObjectMeta::default()
                    }),
                    spec: Some(self.pod(selector)),
                },
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }

    fn pod(self, selector: LabelSelector) -> PodSpec {
        let affinity = (self.replicas > 1).then(|| apart(&selector));
        let (volumes, mounts): (Vec<Volume>, Vec<VolumeMount>) = self.mounts.into_iter().unzip();
        let mut ports: Vec<ContainerPort> = self
            .ports
            .iter()
            .map(|(name, number)| port(name, *number))
            .collect();
        ports.push(port("health", PROBES));
        let (cpu, memory) = self.requests;
        PodSpec {
            service_account_name: Some(self.account.name.to_owned()),
            automount_service_account_token: Some(true),
            affinity,
            termination_grace_period_seconds: Some(GRACE),
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
            containers: vec![Container {
                name: self.name.to_owned(),
                image: Some(self.image.to_owned()),
                args: Some(self.args),
                env: Some(vec![own_name()]),
                ports: Some(ports),
                liveness_probe: Some(probe("/livez", 6)),
                readiness_probe: Some(probe("/readyz", 2)),
                resources: Some(ResourceRequirements {
                    requests: Some(
                        [("cpu", cpu), ("memory", memory)]
                            .map(|(name, value)| (name.to_owned(), Quantity(value.to_owned())))
                            .into(),
                    ),
                    ..ResourceRequirements::default()
                }),
                security_context: Some(SecurityContext {
                    allow_privilege_escalation: Some(false),
                    privileged: Some(false),
                    read_only_root_filesystem: Some(true),
                    run_as_non_root: Some(true),
                    capabilities: Some(Capabilities {
                        drop: Some(vec!["ALL".to_owned()]),
                        ..Capabilities::default()
                    }),
                    ..SecurityContext::default()
                }),
                volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
                ..Container::default()
            }],
            volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
            ..PodSpec::default()
        }
    }
}

/// The name of the pod is part of the name of the candidate, so that people find the leader.
fn own_name() -> EnvVar {
    EnvVar {
        name: "HOSTNAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "metadata.name".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(5),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// On other nodes, and in other zones, than each other, as far as there are any.
fn apart(selector: &LabelSelector) -> Affinity {
    let than = |key: &str, weight: i32| WeightedPodAffinityTerm {
        weight,
        pod_affinity_term: PodAffinityTerm {
            label_selector: Some(selector.clone()),
            topology_key: key.to_owned(),
            ..PodAffinityTerm::default()
        },
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                than("topology.kubernetes.io/zone", 70),
                than("kubernetes.io/hostname", 30),
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}
