//! Who may do what: events and subscriptions as accesses to Kubernetes resources, and the rule that an event may only name
//! things of its own cluster.

use std::sync::Arc;

use drover_protocol::{
    Action, CloudEvent, Codec as _, DataType, EventType, Object, ObjectCodec, ObjectMeta,
    SubResource, names,
};

use crate::authn::Caller;

/// An access as a SubjectAccessReview puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Such as `update`.
    pub verb: &'static str,
    /// API group, empty for core.
    pub group: String,
    /// Plural resource.
    pub resource: String,
    /// `status`, `token` or empty.
    pub subresource: &'static str,
    /// The cluster.
    pub namespace: String,
    /// Name, empty for all.
    pub name: String,
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No, for this reason.
    Deny(String),
    /// Ask the next.
    NoOpinion,
}

/// What somebody wants to do as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceVerb {
    /// Send events in the name of the source.
    Publish,
    /// Receive what agents report to the source.
    Subscribe,
}

impl SourceVerb {
    /// The verb on the non-resource path `/sources/<id>` (maestro: pkg/server grpc authorizer).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "pub",
            Self::Subscribe => "sub",
        }
    }
}

/// Decides on accesses; on a hub by SubjectAccessReview.
#[crate::async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Whether `caller` may.
    async fn authorize(&self, caller: &Caller, access: &Access) -> Decision;

    /// Whether `caller` is this source. Only brokers that relay ask; what a source does to a cluster is asked as an access too.
    async fn authorize_source(
        &self,
        _caller: &Caller,
        _source: &str,
        _verb: SourceVerb,
    ) -> Decision {
        Decision::NoOpinion
    }
}

/// Asks each in order until one decides; nobody deciding means no.
pub async fn authorize(
    chain: &[Arc<dyn Authorizer>],
    caller: &Caller,
    access: &Access,
) -> Decision {
    for authorizer in chain {
        match authorizer.authorize(caller, access).await {
            Decision::NoOpinion => (),
            decision @ (Decision::Allow | Decision::Deny(_)) => return decision,
        }
    }
    Decision::NoOpinion
}

/// Asks each in order whether the caller is a source; nobody deciding means no.
pub async fn authorize_source(
    chain: &[Arc<dyn Authorizer>],
    caller: &Caller,
    source: &str,
    verb: SourceVerb,
) -> Decision {
    for authorizer in chain {
        match authorizer.authorize_source(caller, source, verb).await {
            Decision::NoOpinion => (),
            decision @ (Decision::Allow | Decision::Deny(_)) => return decision,
        }
    }
    Decision::NoOpinion
}

/// The access that publishing an event means. The error says why nobody may publish it.
pub fn publishing(event: &CloudEvent, event_type: &EventType) -> Result<Access, String> {
    let verb = match event_type.action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
        Action::ResyncRequest => "list",
        Action::ResyncResponse | Action::Watch | Action::Other(_) => {
            return Err(format!("unsupported action {}", event_type.action.as_str()));
        }
    };
    let cluster = event
        .text(names::EXT_CLUSTER_NAME)
        .map_err(|e| e.to_string())?;
    let mut access = resource(&event_type.data_type, cluster, verb)?;
    if event_type.subresource == SubResource::Status {
        access.subresource = "status";
    }
    if event_type.data_type == DataType::TOKEN_REQUESTS {
        if event_type.action != Action::Create {
            return Err(format!("unsupported action {}", event_type.action.as_str()));
        }
        access.subresource = "token";
        access.name = payload(event)?.name;
    }
    Ok(access)
}

/// The access that a subscription means.
pub fn subscribing(cluster: &str, data_type: &DataType) -> Result<Access, String> {
    let mut access = resource(data_type, cluster, "watch")?;
    if *data_type == DataType::TOKEN_REQUESTS {
        (access.verb, access.subresource) = ("subscribe", "token");
    }
    Ok(access)
}

fn resource(data_type: &DataType, cluster: &str, verb: &'static str) -> Result<Access, String> {
    let (group, resource) = if is_work(data_type) {
        ("work.open-cluster-management.io", "manifestworks")
    } else if *data_type == DataType::TOKEN_REQUESTS {
        ("", "serviceaccounts")
    } else if ObjectCodec::of(data_type).is_some() {
        (data_type.group(), data_type.resource())
    } else {
        return Err(format!("unsupported event type {data_type}"));
    };
    let name = if *data_type == DataType::MANAGED_CLUSTERS {
        cluster
    } else {
        ""
    };
    Ok(Access {
        verb,
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: "",
        namespace: cluster.to_owned(),
        name: name.to_owned(),
    })
}

/// Checks that what an event says inside belongs to the cluster that it says outside, on which access was decided.
pub fn confine(event: &CloudEvent, event_type: &EventType) -> Result<(), String> {
    let cluster = event
        .text(names::EXT_CLUSTER_NAME)
        .map_err(|e| e.to_string())?;
    if cluster.is_empty() {
        return Err("the extension clustername must not be empty".to_owned());
    }
    if event_type.action == Action::ResyncRequest {
        return Ok(());
    }
    let inside = if is_work(&event_type.data_type) {
        match event.text(names::EXT_METADATA) {
            Err(_) => return Ok(()),
            Ok(text) => {
                let meta: ObjectMeta =
                    serde_json::from_str(text).map_err(|e| format!("extension metadata: {e}"))?;
                if meta.namespace.is_empty() {
                    cluster.to_owned()
                } else {
                    meta.namespace
                }
            }
        }
    } else if event.is_deletion() && event.payload().is_empty() {
        return Ok(());
    } else {
        let meta = payload(event)?;
        ObjectCodec::cluster(&event_type.data_type, &meta)
            .map_err(|e| e.to_string())?
            .to_owned()
    };
    if inside == cluster {
        Ok(())
    } else {
        Err(format!(
            "the event is for cluster {cluster} but speaks of cluster {inside}"
        ))
    }
}

fn payload(event: &CloudEvent) -> Result<ObjectMeta, String> {
    let value = serde_json::from_slice(event.payload())
        .map_err(|e| format!("the data of the event: {e}"))?;
    let object: Object =
        Object::from_value(value).map_err(|e| format!("the data of the event: {e}"))?;
    Ok(object.metadata)
}

/// Whether a data type carries works, in whatever form.
pub fn is_work(data_type: &DataType) -> bool {
    data_type.group() == DataType::MANIFEST_BUNDLES.group()
}

/// Whether it is known what objects of a data type look like, and whose they are.
pub fn is_known(data_type: &DataType) -> bool {
    is_work(data_type) || ObjectCodec::of(data_type).is_some_and(|c| c.data_type() == data_type)
}

#[cfg(test)]
mod tests;
