//! Which certificate signing requests of agents a hub approves
//! (ocm: pkg/registration/register/csr, pkg/registration/hub/csr).

use std::collections::BTreeMap;

use drover_api::names::CLUSTER_NAME_LABEL;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::roles::{ALL_CLUSTERS_GROUP, BOOTSTRAP_GROUP, agent_user, cluster_group};

/// Signed by the API server; the certificate is good for the hub's Kubernetes API.
pub const KUBE_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Signed by the hub; the certificate is good for the hub's CloudEvents broker.
pub const GRPC_SIGNER: &str = "open-cluster-management.io/grpc";
/// Who asked, when the broker created the request for somebody (ocm: pkg/server/services/csr).
pub const REQUESTER_ANNOTATION: &str = "open-cluster-management.io/csr-user";
/// The groups of who asked; upstream has no such note and knows only names.
pub const REQUESTER_GROUPS_ANNOTATION: &str = "registration.drover.dev/csr-groups";
/// The reason of an approval.
pub const APPROVED_REASON: &str = "AutoApprovedByHubCSRApprovingController";

/// The reason of an approval by a person.
const APPROVED_BY_HAND_REASON: &str = "ClusterAccepted";

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Approve it.
    Approve,
    /// Approve it if the requester may `renew` `managedclusters/clientcertificates`.
    ApproveIfMayRenew {
        /// Who asked.
        user: String,
        /// The requester's groups.
        groups: Vec<String>,
    },
    /// Approve it as soon as the hub knows the cluster.
    Wait {
        /// Name of the cluster.
        cluster: String,
    },
    /// Leave it to somebody else.
    Ignore {
        /// Why it is not ours.
        why: String,
    },
}

/// What a hub lets through by itself.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Whether bootstrap tokens are enough to get a first certificate.
    pub approve_bootstrap: bool,
    /// Further users whose first requests are approved (ocm: `--auto-approved-csr-users`).
    pub users: Vec<String>,
    /// Further groups whose first requests are approved.
    pub groups: Vec<String>,
    /// Users as whom brokers create requests for others: their notes about who asked are believed.
    pub brokers: Vec<String>,
}

impl Policy {
    /// Whether the first request of this user is approved without a person.
    fn approves(&self, user: &str, groups: &[String]) -> bool {
        let bootstrap = |group: &String| self.approve_bootstrap && group == BOOTSTRAP_GROUP;
        self.users.iter().any(|known| known == user)
            || groups
                .iter()
                .any(|group| bootstrap(group) || self.groups.contains(group))
    }
}

/// The agent that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The managed cluster.
    pub cluster: String,
    /// The agent's own name.
    pub agent: String,
}

/// Judges a request that has no verdict yet. A first certificate is of no use before the hub knows the cluster: OCM's agent
/// asks for both at once, and never tells of its cluster again once it has the certificate.
pub fn judge(
    request: &CertificateSigningRequest,
    policy: &Policy,
    is_known: impl Fn(&str) -> bool,
) -> Verdict {
    if decided(request) {
        return ignore("it has a verdict already");
    }
    let agent = match read(request) {
        Ok(agent) => agent,
        Err(why) => return Verdict::Ignore { why },
    };
    let (user, groups) = requester(request, policy);
    if user == agent_user(&agent.cluster, &agent.agent) {
        // OCM's server notes the name alone: it stands for the groups that go with it.
        let groups = if groups.is_empty() {
            vec![ALL_CLUSTERS_GROUP.to_owned(), cluster_group(&agent.cluster)]
        } else {
            groups
        };
        return Verdict::ApproveIfMayRenew { user, groups };
    }
    if policy.approves(&user, &groups) {
        let cluster = agent.cluster;
        return if is_known(&cluster) {
            Verdict::Approve
        } else {
            Verdict::Wait { cluster }
        };
    }
    ignore("a person must approve it")
}

/// The agent that a well-formed request of an agent is for; the error says what it is not.
pub fn read(request: &CertificateSigningRequest) -> Result<Agent, String> {
    let signer = request.spec.signer_name.as_str();
    if signer != KUBE_SIGNER && signer != GRPC_SIGNER {
        return Err(format!("signer {signer} is not for agents"));
    }
    let labels = request.metadata.labels.as_ref();
    let cluster = labels
        .and_then(|labels| labels.get(CLUSTER_NAME_LABEL))
        .ok_or_else(|| format!("label {CLUSTER_NAME_LABEL} is missing"))?;
    let (name, mut organizations) = subject(&request.spec.request.0)?;
    let prefix = format!("{}:", cluster_group(cluster));
    let agent = name
        .strip_prefix(&prefix)
        .filter(|agent| !agent.is_empty() && !agent.contains(':'))
        .ok_or_else(|| format!("common name {name:?} is not of the form {prefix}AGENT"))?;
    organizations.retain(|organization| organization != ALL_CLUSTERS_GROUP);
    if organizations != [cluster_group(cluster)] {
        return Err(format!(
            "organizations other than those of cluster {cluster}: {organizations:?}"
        ));
    }
    Ok(Agent {
        cluster: cluster.clone(),
        agent: agent.to_owned(),
    })
}

/// What becomes of a request when a person accepts its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It is not of this cluster, or has a verdict already.
    No,
    /// The person means it too.
    Approve,
    /// Somebody asked who need not be the cluster's agent.
    Doubt {
        /// Who.
        requester: String,
    },
}

/// Whether a person who accepts `cluster`, and trusts these `requesters` beside the holders of bootstrap tokens, means this
/// request as well. Notes about who asked count for nothing here: anybody who may ask can write them.
pub fn consent(
    request: &CertificateSigningRequest,
    cluster: &str,
    requesters: &[String],
) -> Consent {
    if decided(request) || !read(request).is_ok_and(|agent| agent.cluster == cluster) {
        return Consent::No;
    }
    let user = request.spec.username.clone().unwrap_or_default();
    let groups = request.spec.groups.as_deref().unwrap_or_default();
    if groups.iter().any(|group| group == BOOTSTRAP_GROUP) || requesters.contains(&user) {
        return Consent::Approve;
    }
    Consent::Doubt { requester: user }
}

/// The conditions of a request that a person approves, with those that it has.
pub fn approved_by_hand(
    request: &CertificateSigningRequest,
    now: Timestamp,
) -> Vec<CertificateSigningRequestCondition> {
    let known = request.status.as_ref().and_then(|s| s.conditions.clone());
    let mut conditions = known.unwrap_or_default();
    let time = Some(drover_api::Time(now));
    conditions.push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some(APPROVED_BY_HAND_REASON.to_owned()),
        message: Some("The hub's administrator accepted the cluster.".to_owned()),
        last_update_time: time.clone(),
        last_transition_time: time,
    });
    conditions
}

/// Whether a request was approved or denied.
pub fn decided(request: &CertificateSigningRequest) -> bool {
    has(request, "Approved") || has(request, "Denied")
}

/// Whether a request was approved, and neither denied nor failed since.
pub fn approved(request: &CertificateSigningRequest) -> bool {
    has(request, "Approved") && !has(request, "Denied") && !has(request, "Failed")
}

/// Whether a request has a certificate.
pub fn issued(request: &CertificateSigningRequest) -> bool {
    request
        .status
        .as_ref()
        .is_some_and(|status| status.certificate.as_ref().is_some_and(|c| !c.0.is_empty()))
}

fn has(request: &CertificateSigningRequest, condition: &str) -> bool {
    let conditions = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|list| {
        list.iter()
            .any(|c| c.type_ == condition && c.status == "True")
    })
}

/// Who asked. A broker creates requests for its callers and notes who they were; nobody else's note counts.
fn requester(request: &CertificateSigningRequest, policy: &Policy) -> (String, Vec<String>) {
    let user = request.spec.username.clone().unwrap_or_default();
    let groups = request.spec.groups.clone().unwrap_or_default();
    if request.spec.signer_name != GRPC_SIGNER || !policy.brokers.contains(&user) {
        return (user, groups);
    }
    let note = |key: &str| {
        request
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(key))
            .cloned()
    };
    let groups = note(REQUESTER_GROUPS_ANNOTATION).unwrap_or_default();
    (
        note(REQUESTER_ANNOTATION).unwrap_or_default(),
        groups
            .split(',')
            .filter(|group| !group.is_empty())
            .map(ToOwned::to_owned)
            .collect(),
    )
}

/// The notes of a broker about who asked.
pub fn requester_annotations(user: &str, groups: &[String]) -> BTreeMap<String, String> {
    BTreeMap::from([
        (REQUESTER_ANNOTATION.to_owned(), user.to_owned()),
        (REQUESTER_GROUPS_ANNOTATION.to_owned(), groups.join(",")),
    ])
}

fn ignore(why: &str) -> Verdict {
    Verdict::Ignore {
        why: why.to_owned(),
    }
}

/// Common name and all organizations, in whichever shape of names they come: Go writes several
/// organizations as one set, others as one name each.
fn subject(pem: &[u8]) -> Result<(String, Vec<String>), String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem)
        .map_err(|error| format!("the request is no PEM: {error}"))?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(format!(
            "the PEM has a {}, not a CERTIFICATE REQUEST",
            block.label
        ));
    }
    let (_, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("the request is no PKCS #10: {error}"))?;
    let subject = &request.certification_request_info.subject;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute
            .as_str()
            .map(ToOwned::to_owned)
            .map_err(|error| format!("a name is no text: {error}"))
    };
    let mut names = subject
        .iter_common_name()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    let organizations = subject
        .iter_organization()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok((name, organizations)),
        _ => Err("the request must have exactly one common name".to_owned()),
    }
}
