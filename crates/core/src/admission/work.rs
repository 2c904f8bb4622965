//! ManifestWork and ManifestWorkReplicaSet (ocm: pkg/work/webhook).

use std::collections::BTreeSet;

use drover_api::ObjectMeta;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Access, Check, Operation, Policy, Question, Refusal, Request, go, nullable, read};

pub(super) const GROUP: &str = "work.open-cluster-management.io";
/// The account of an agent of which nothing else is known (ocm: pkg/work/webhook/v1).
const AGENT_ACCOUNT: &str = "klusterlet-work-sa";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Work {
    #[serde(deserialize_with = "nullable")]
    metadata: Metadata,
    #[serde(deserialize_with = "nullable")]
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(deserialize_with = "nullable")]
    namespace: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(deserialize_with = "nullable")]
    workload: Workload,
    executor: Option<Executor>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Workload {
    #[serde(deserialize_with = "nullable")]
    manifests: Vec<Value>,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Executor {
    #[serde(deserialize_with = "nullable")]
    subject: Subject,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Subject {
    #[serde(rename = "type", deserialize_with = "nullable")]
    kind: String,
    service_account: Option<Account>,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Account {
    #[serde(deserialize_with = "nullable")]
    namespace: String,
    #[serde(deserialize_with = "nullable")]
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplicaSet {
    #[serde(deserialize_with = "nullable")]
    spec: ReplicaSetSpec,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ReplicaSetSpec {
    #[serde(deserialize_with = "nullable")]
    manifest_work_template: Spec,
}

pub(super) fn judge(request: &Request<'_>, policy: &Policy) -> Result<Vec<Check>, Refusal> {
    let new: Work = read(request.new)?;
    let old: Option<Work> = match request.operation {
        Operation::Update => Some(read(request.old)?),
        Operation::Create | Operation::Other => None,
    };
    manifests(&new.spec.workload.manifests, policy)?;
    if old.is_some_and(|old| old.spec.executor == new.spec.executor) {
        return Ok(Vec::new());
    }
    execution(new, &request.user.name, policy)
}

pub(super) fn judge_set(request: &Request<'_>, policy: &Policy) -> Result<Vec<Check>, Refusal> {
    let new: ReplicaSet = read(request.new)?;
    if request.operation == Operation::Update {
        read::<ReplicaSet>(request.old)?;
    }
    manifests(&new.spec.manifest_work_template.workload.manifests, policy)?;
    Ok(Vec::new())
}

/// Whoever says in whose name a work is applied must be allowed to speak in that name.
fn execution(work: Work, user: &str, policy: &Policy) -> Result<Vec<Check>, Refusal> {
    let account = match work.spec.executor {
        None if !policy.nil_executor => return Ok(Vec::new()),
        None => Account {
            namespace: String::new(),
            name: AGENT_ACCOUNT.to_owned(),
        },
        Some(executor) => executor.subject.service_account.ok_or_else(|| {
            Refusal::Bad("spec.executor.subject.serviceAccount is missing".to_owned())
        })?,
    };
    let namespace = work.metadata.namespace;
    Ok(vec![Check {
        no: format!(
            "user {user:?} may not have works applied in the name of the service account {}/{} in {namespace}: \
             execute-as of manifestworks.{GROUP} is missing",
            account.namespace, account.name
        ),
        about: None,
        question: Question::Access(Access {
            verb: "execute-as",
            group: GROUP,
            resource: "manifestworks",
            subresource: "",
            namespace,
            name: format!(
                "system:serviceaccount:{}:{}",
                account.namespace, account.name
            ),
        }),
    }])
}

fn manifests(all: &[Value], policy: &Policy) -> Result<(), Refusal> {
    if all.is_empty() {
        return Err(Refusal::Bad("there are no manifests in it".to_owned()));
    }
    let size: usize = all.iter().map(size).sum();
    if size > policy.manifest_limit {
        return Err(Refusal::Bad(format!(
            "the manifests have {size} bytes, more than the {} that a work may have: make several works of them",
            policy.manifest_limit
        )));
    }
    let mut seen = BTreeSet::new();
    for (index, manifest) in all.iter().enumerate() {
        let wrong = |why: String| Refusal::Bad(format!("manifest {index}: {why}"));
        let identity = identity(manifest).map_err(wrong)?;
        let [version, kind, namespace, name] = identity;
        if !seen.insert(identity) {
            return Err(wrong(format!(
                "{version} {kind} {namespace}/{name} is in the work already"
            )));
        }
    }
    Ok(())
}

/// Manifests are counted as they stand in a protobuf message (api: work/v1/generated.pb.go): a byte of
/// tag, the length, the text. `null` has no text and no tag.
fn size(manifest: &Value) -> usize {
    if manifest.is_null() {
        return 0;
    }
    let length = go::json_length(manifest);
    let mut prefix = 1;
    while length >> (7 * prefix) > 0 {
        prefix += 1;
    }
    1 + prefix + length
}

/// apiVersion, kind, namespace and name.
fn identity(manifest: &Value) -> Result<[&str; 4], String> {
    let Some(object) = manifest.as_object() else {
        return Err("it is no object".to_owned());
    };
    let version = text(object, "apiVersion");
    let kind = text(object, "kind");
    if kind.is_empty() {
        return Err("kind is missing".to_owned());
    }
    if version.matches('/').count() > 1 {
        return Err(format!(
            "apiVersion {version:?} is none: use VERSION or GROUP/VERSION"
        ));
    }
    let metadata = match object.get("metadata") {
        None | Some(Value::Null) => return Err("metadata.name is missing".to_owned()),
        Some(metadata) => metadata.as_object().ok_or("metadata is no object")?,
    };
    let name = text(metadata, "name");
    if name.is_empty() {
        return Err("metadata.name is missing".to_owned());
    }
    if !text(metadata, "generateName").is_empty() {
        return Err("metadata.generateName is not for manifests: say the name".to_owned());
    }
    readable(metadata)?;
    Ok([version, kind, text(metadata, "namespace"), name])
}

fn text<'a>(object: &'a Map<String, Value>, member: &str) -> &'a str {
    object
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether metadata have the types of metadata; `null` stands for what is absent.
fn readable(metadata: &Map<String, Value>) -> Result<(), String> {
    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let kept = members.iter().filter(|(_, member)| !member.is_null());
                Value::Object(
                    kept.map(|(key, member)| (key.clone(), without_nulls(member)))
                        .collect(),
                )
            }
            Value::Array(items) => items.iter().map(without_nulls).collect(),
            other => other.clone(),
        }
    }
    let metadata = without_nulls(&Value::Object(metadata.clone()));
    ObjectMeta::deserialize(metadata)
        .map(drop)
        .map_err(|error| format!("metadata cannot be read: {error}"))
}
