//! ManagedCluster (ocm: pkg/registration/webhook/v1).

use std::collections::BTreeMap;

use drover_api::{Time, names};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    About, Access, Addition, Check, Operation, Policy, Question, Refusal, Request, go, nullable,
    read,
};

pub(super) const GROUP: &str = "cluster.open-cluster-management.io";
/// The set of clusters that name none.
const DEFAULT_SET: &str = "default";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    managed_cluster_client_configs: Vec<ClientConfig>,
    #[serde(deserialize_with = "nullable")]
    hub_accepts_client: bool,
    #[serde(deserialize_with = "nullable")]
    taints: Vec<Taint>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClientConfig {
    #[serde(deserialize_with = "nullable")]
    url: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Taint {
    #[serde(deserialize_with = "nullable")]
    key: String,
    #[serde(deserialize_with = "nullable")]
    value: String,
    #[serde(deserialize_with = "nullable")]
    effect: String,
    time_added: Option<Time>,
}

impl Taint {
    /// Go writes a time that is not set as the first moment of the first year.
    fn added(&self) -> Option<Timestamp> {
        const NEVER: i64 = -62_135_596_800;
        let added = self.time_added.as_ref().map(|time| time.0);
        added.filter(|time| time.as_second() != NEVER)
    }
}

impl Cluster {
    fn set(&self) -> &str {
        let label = self.metadata.labels.get(names::CLUSTER_SET_LABEL);
        label.map_or("", String::as_str)
    }
}

/// The set that a cluster names; empty for none.
pub(super) fn set_of(cluster: &Value) -> &str {
    let labels = cluster.get("metadata").and_then(|m| m.get("labels"));
    let label = labels.and_then(|labels| labels.get(names::CLUSTER_SET_LABEL));
    label.and_then(Value::as_str).unwrap_or_default()
}

/// What is added to a ManagedCluster: when its taints were put on, and the set `default` if it names none.
///
/// # Errors
/// When a taint says itself when it was put on.
pub fn fill(
    request: &Request<'_>,
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Addition>, Refusal> {
    if request.operation == Operation::Other {
        return Ok(Vec::new());
    }
    let new: Cluster = read(request.new)?;
    let old: Option<Cluster> = request.old.map(|old| read(Some(old))).transpose()?;
    let mut additions = stamp_taints(&new.spec.taints, old.as_ref(), now)?;
    if policy.default_cluster_set && new.set().is_empty() {
        additions.push(default_set(request.new, &new));
    }
    Ok(additions)
}

fn stamp_taints(
    taints: &[Taint],
    old: Option<&Cluster>,
    now: Timestamp,
) -> Result<Vec<Addition>, Refusal> {
    let (mut additions, mut wrong) = (Vec::new(), Vec::new());
    let now = json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    for (index, taint) in taints.iter().enumerate() {
        let before = old.and_then(|old| old.spec.taints.iter().find(|had| had.key == taint.key));
        let same = before.filter(|had| had.value == taint.value && had.effect == taint.effect);
        match same {
            Some(had) if had.added() == taint.added() => {}
            Some(_) => wrong.push(taint.key.as_str()),
            // A new cluster may say it, and is not believed.
            None if old.is_some() && taint.added().is_some() => wrong.push(&taint.key),
            None => additions.push(Addition {
                path: format!("/spec/taints/{index}/timeAdded"),
                value: now.clone(),
            }),
        }
    }
    if wrong.is_empty() {
        return Ok(additions);
    }
    Err(Refusal::Bad(format!(
        "the hub says when a taint was put on: leave timeAdded of {} as it is, or out",
        wrong.join(", ")
    )))
}

fn default_set(object: Option<&Value>, cluster: &Cluster) -> Addition {
    let metadata = object.and_then(|object| object.get("metadata"));
    if metadata.is_none_or(Value::is_null) {
        return Addition {
            path: "/metadata".to_owned(),
            value: json!({"labels": {names::CLUSTER_SET_LABEL: DEFAULT_SET}}),
        };
    }
    if cluster.metadata.labels.is_empty() {
        return Addition {
            path: "/metadata/labels".to_owned(),
            value: json!({names::CLUSTER_SET_LABEL: DEFAULT_SET}),
        };
    }
    Addition {
        path: format!(
            "/metadata/labels/{}",
            names::CLUSTER_SET_LABEL.replace('/', "~1")
        ),
        value: DEFAULT_SET.into(),
    }
}

pub(super) fn judge(request: &Request<'_>) -> Result<Vec<Check>, Refusal> {
    let new: Cluster = read(request.new)?;
    let old: Option<Cluster> = match request.operation {
        Operation::Update => Some(read(request.old)?),
        Operation::Create | Operation::Other => None,
    };
    well_formed(&new, old.is_none())?;
    let mut checks = Vec::new();
    let name = &new.metadata.name;
    if new.spec.hub_accepts_client && !old.as_ref().is_some_and(|old| old.spec.hub_accepts_client) {
        checks.extend(acceptance(name, &request.user.name));
    }
    let (before, after) = (old.as_ref().map_or("", Cluster::set), new.set());
    if before != after {
        let sets = [before, after].into_iter().filter(|set| !set.is_empty());
        checks.extend(sets.map(|set| join(set, &request.user.name)));
    }
    Ok(checks)
}

/// Upstream looks at the name only of clusters that give addresses. A cluster without them and with
/// such a name can never be let in, as nobody can make its namespace: no new one is taken.
fn well_formed(cluster: &Cluster, is_new: bool) -> Result<(), Refusal> {
    let (name, configs) = (
        &cluster.metadata.name,
        &cluster.spec.managed_cluster_client_configs,
    );
    let mut wrong = Vec::new();
    if !is_namespace_name(name) && (!configs.is_empty() || is_new && !name.is_empty()) {
        wrong.push(format!(
            "metadata.name {name:?} cannot be the name of a namespace, which every cluster has: use lower case \
             letters, digits and '-', at most 63, with a letter or digit at both ends"
        ));
    }
    for config in configs.iter().filter(|config| !go::is_https(&config.url)) {
        wrong.push(format!(
            "spec.managedClusterClientConfigs: {:?} is no https URL",
            config.url
        ));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Refusal::Bad(wrong.join("\n")))
}

fn is_namespace_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    name.len() <= 63
        && bytes.first().is_some_and(|&first| inner(first))
        && bytes.last().is_some_and(|&last| inner(last))
        && bytes.iter().all(|&byte| inner(byte) || byte == b'-')
}

fn acceptance(cluster: &str, user: &str) -> [Check; 2] {
    let about = Some(About {
        group: GROUP,
        resource: "managedclusters/accept",
        name: cluster.to_owned(),
    });
    [
        Check {
            question: Question::NamespaceStays(cluster.to_owned()),
            no: format!(
                "the cluster's namespace {cluster} is being deleted; accept the cluster when it is gone"
            ),
            about: about.clone(),
        },
        Check {
            question: Question::Access(Access {
                verb: "update",
                group: "register.open-cluster-management.io",
                resource: "managedclusters",
                subresource: "accept",
                namespace: String::new(),
                name: cluster.to_owned(),
            }),
            no: format!(
                "user {user:?} may not let clusters in: update of \
                 managedclusters/accept.register.open-cluster-management.io is missing"
            ),
            about,
        },
    ]
}

fn join(set: &str, user: &str) -> Check {
    Check {
        question: Question::Access(Access {
            verb: "create",
            group: GROUP,
            resource: "managedclustersets",
            subresource: "join",
            namespace: String::new(),
            name: set.to_owned(),
        }),
        no: format!(
            "user {user:?} may neither put clusters into the set {set:?} nor take them out: create of \
             managedclustersets/join.{GROUP} is missing"
        ),
        about: Some(About {
            group: GROUP,
            resource: "managedclustersets/join",
            name: set.to_owned(),
        }),
    }
}
