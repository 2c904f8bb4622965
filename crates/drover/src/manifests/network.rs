//! What the publisher and the pods that send may reach, and who reaches them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use drover_api::names::fedora as names;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::pod::{METRICS, PROBES, app};
use super::publisher::NAME;
use super::{named, object};
use crate::cli::Manifests;
use crate::publisher::targets;

/// The policy of the pods that send.
const SENDERS: &str = "drover-publisher-senders";
/// Of name servers: their service's, and the one that OpenShift's pods have behind it.
const NAMES: [u16; 2] = [53, 5353];
/// Of brokers, where the URL names none.
const AMQPS: u16 = 5671;
const AMQP: u16 = 5672;

/// For the publisher in its own namespace, and for the pods in those of the messages.
pub fn policies(args: &Manifests, own: &str) -> Result<Vec<Value>> {
    let brokers = brokers(args)?;
    let mut reached = brokers.clone();
    reached.extend(&args.api_port);
    let mut all = vec![object(&policy(
        NAME,
        own,
        app(NAME),
        &[PROBES, METRICS],
        &reached,
    ))?];
    if !args.messaging.messaging_in_process {
        let senders = || {
            BTreeMap::from([(
                names::MANAGED_BY_LABEL.to_owned(),
                names::MANAGED_BY.to_owned(),
            )])
        };
        for namespace in &args.message_namespace {
            let policy = policy(SENDERS, namespace, senders(), &[], &brokers);
            all.push(object(&policy)?);
        }
    }
    Ok(all)
}

/// The ports of the brokers.
fn brokers(args: &Manifests) -> Result<BTreeSet<u16>> {
    let targets = targets(&args.messaging);
    let port = |url: &str| {
        let uri: http::Uri = url
            .parse()
            .with_context(|| format!("{url:?} is no URL of a broker"))?;
        let usual = if uri.scheme_str() == Some("amqp") {
            AMQP
        } else {
            AMQPS
        };
        Ok(uri.port_u16().unwrap_or(usual))
    };
    targets.values().map(|target| port(&target.url)).collect()
}

fn policy(
    name: &str,
    namespace: &str,
    pods: BTreeMap<String, String>,
    open: &[i32],
    reached: &BTreeSet<u16>,
) -> NetworkPolicy {
    let port = |protocol: &str, number: i32| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        ..NetworkPolicyPort::default()
    };
    let both = |number: u16| [port("UDP", number.into()), port("TCP", number.into())];
    let to = |ports: Vec<NetworkPolicyPort>| NetworkPolicyEgressRule {
        ports: Some(ports),
        ..NetworkPolicyEgressRule::default()
    };
    let reached = reached.iter().map(|&number| port("TCP", number.into()));
    let from = NetworkPolicyIngressRule {
        ports: Some(open.iter().map(|&number| port("TCP", number)).collect()),
        ..NetworkPolicyIngressRule::default()
    };
    NetworkPolicy {
        metadata: named(name, Some(namespace)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(pods),
                ..LabelSelector::default()
            }),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            // Without a rule nobody comes in.
            ingress: (!open.is_empty()).then(|| vec![from]),
            egress: Some(vec![
                to(NAMES.into_iter().flat_map(both).collect()),
                to(reached.collect()),
            ]),
        }),
    }
}
