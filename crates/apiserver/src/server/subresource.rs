//! Scales, tokens, bindings, evictions, and objects that are only answered.

use drover_schema::apply;
use drover_schema::crd::Scale;
use drover_schema::field_error::FieldError;
use drover_schema::jsonpath::JsonPath;
use drover_schema::patch;
use serde_json::{Map, Value, json};

use super::patch::{Patch, patch_error};
use super::query::WriteOptions;
use super::wire::{self, Response};
use super::write::Outcome;
use super::{Call, decode, meta};
use crate::lifecycle::DeleteOptions;
use crate::resource::Source;
use crate::status::{ApiError, ApiResult};

const ATTEMPTS: usize = 5;

impl Call<'_> {
    pub(super) async fn serve_subresource(&mut self, verb: &str) -> ApiResult<Response> {
        match (self.subresource, verb) {
            ("scale", "get") => {
                let live = self.live()?;
                let scale = self.scale_of(&self.resource.read(&live))?;
                wire::tree(200, &scale, self.wanted()?)
            }
            ("scale", "update") => self.update_scale().await,
            ("scale", "patch") => self.patch_scale().await,
            ("token", "create") => self.token(),
            ("binding", "create") => self.bind(self.name.to_owned()).await,
            ("eviction", "create") => self.evict().await,
            _ => Err(ApiError::method_not_allowed(
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    /// Kinds that are not stored: the answer is the object with its status.
    pub(super) fn serve_review(&mut self, verb: &str) -> ApiResult<Response> {
        if verb != "create" || !self.name.is_empty() {
            return Err(ApiError::method_not_allowed(
                "the server does not allow this method on the requested resource",
            ));
        }
        let wanted = self.wanted()?;
        let options = self
            .query
            .write_options("CreateOptions", false, self.user_agent())?;
        let mut object = decode::object(&self.resource, self.headers, &self.body)?.object;
        if self.resource.namespaced {
            self.place(&mut object)?;
        }
        let now = self.server.now_text();
        let node = self.resource.schema.node();
        apply::track_update(node, None, &mut object, self.writer(&options, &now));
        let (kind, version) = (
            self.resource.kind.clone(),
            self.resource.api_version.clone(),
        );
        let mut answer = self.server.auth().review(&kind, object, self.user)?;
        answer["kind"] = (*kind).into();
        answer["apiVersion"] = (*version).into();
        wire::tree(201, &answer, wanted)
    }

    fn token(&self) -> ApiResult<Response> {
        let wanted = wire::negotiate(self.headers, true, false)?;
        self.live()?;
        let request = decode::document(decode::media(self.headers), &self.body, true)?.object;
        let answer =
            self.server
                .auth()
                .issue_token(self.namespace, self.name, request, self.user)?;
        wire::tree(201, &answer, wanted)
    }

    async fn bind(&mut self, name: String) -> ApiResult<Response> {
        let wanted = wire::negotiate(self.headers, true, false)?;
        let options = self
            .query
            .write_options("CreateOptions", false, self.user_agent())?;
        let binding = decode::document(decode::media(self.headers), &self.body, true)?.object;
        let Some(node) = binding["target"]["name"]
            .as_str()
            .filter(|node| !node.is_empty())
        else {
            let error = FieldError::required("target.name", "");
            let subject = crate::status::Subject {
                group: "",
                resource: "Binding",
                name: &name,
            };
            return Err(ApiError::invalid(subject, &[error]));
        };
        let node = node.to_owned();
        for _ in 0..ATTEMPTS {
            let live = self.live()?;
            let old = self.resource.read(&live);
            if let Some(bound) = old["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                return Err(ApiError::conflict(
                    crate::status::Subject {
                        group: "",
                        resource: "pods/binding",
                        name: &name,
                    },
                    &format!("pod {name} is already assigned to node {bound:?}"),
                ));
            }
            let mut new = old.clone();
            if let Some(spec) = new["spec"].as_object_mut() {
                spec.insert("nodeName".to_owned(), node.as_str().into());
            }
            let now = self.server.now_text();
            let scheduled = json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": now,
            });
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            let mut conditions = new["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions.retain(|condition| condition["type"] != "PodScheduled");
            conditions.push(scheduled);
            new["status"]["conditions"] = Value::Array(conditions);
            if self
                .replace(&live, &old, new, &options, true)
                .await?
                .is_some()
            {
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                    "code": 201,
                });
                return wire::tree(201, &status, wanted);
            }
        }
        Err(ApiError::stale(self.resource.subject(self.name)))
    }

    async fn evict(&mut self) -> ApiResult<Response> {
        let wanted = wire::negotiate(self.headers, true, false)?;
        let options = self
            .query
            .write_options("CreateOptions", false, self.user_agent())?;
        let eviction = decode::document(decode::media(self.headers), &self.body, true)?.object;
        let mut wish = DeleteOptions::from_json(&eviction["deleteOptions"])?;
        wish.dry_run |= options.dry_run;
        let options = wish;
        self.remove(&self.key(self.name), &options).await?;
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        wire::tree(201, &status, wanted)
    }

    fn scale_paths(&self) -> ApiResult<Scale> {
        self.resource
            .scale
            .clone()
            .ok_or_else(ApiError::no_such_resource)
    }

    /// The `autoscaling/v1` Scale of an object.
    fn scale_of(&self, object: &Value) -> ApiResult<Value> {
        let paths = self.scale_paths()?;
        let number = |path: &str| {
            let path = JsonPath::compile(path).map_err(ApiError::internal)?;
            Ok::<_, Box<ApiError>>(path.find(object).first().and_then(|value| value.as_i64()))
        };
        let Some(replicas) = number(&paths.spec_replicas)? else {
            return Err(ApiError::internal(format!(
                "the spec replicas field {:?} does not exist",
                paths.spec_replicas
            )));
        };
        let mut status = json!({"replicas": number(&paths.status_replicas)?.unwrap_or(0)});
        if let Some(path) = &paths.label_selector {
            let path = JsonPath::compile(path).map_err(ApiError::internal)?;
            let selector = path.find(object).first().map(|value| selector_text(value));
            if let Some(text) = selector.filter(|text| !text.is_empty()) {
                status["selector"] = text.into();
            }
        }
        let mut metadata = Map::new();
        for field in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
        ] {
            if let Some(value) = object["metadata"].get(field) {
                metadata.insert(field.to_owned(), value.clone());
            }
        }
        Ok(json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
            "spec": {"replicas": replicas}, "status": status,
        }))
    }

    async fn update_scale(&mut self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let options = self
            .query
            .write_options("UpdateOptions", false, self.user_agent())?;
        let scale = decode::document(decode::media(self.headers), &self.body, true)?.object;
        for _ in 0..ATTEMPTS {
            let live = self.live()?;
            if let Some(outcome) = self.rescale(&live, &scale, &options).await? {
                return wire::tree(200, &self.scale_of(&outcome)?, wanted);
            }
        }
        Err(ApiError::stale(self.resource.subject(self.name)))
    }

    async fn patch_scale(&mut self) -> ApiResult<Response> {
        let wanted = self.wanted()?;
        let media = decode::media(self.headers);
        let is_apply = Patch::is_apply(media);
        let options = self
            .query
            .write_options("PatchOptions", is_apply, self.user_agent())?;
        let patch = Patch::decode(media, &self.body, true)?;
        for _ in 0..ATTEMPTS {
            let live = self.live()?;
            let object = self.resource.read(&live);
            let current = self
                .scale_of(&object)
                .or_else(|error| match self.resource.source {
                    // An object without the number still can be given one.
                    Source::Custom { .. } => Ok(json!({
                        "kind": "Scale", "apiVersion": "autoscaling/v1",
                        "metadata": {"name": self.name}, "spec": {}, "status": {"replicas": 0},
                    })),
                    Source::Builtin(_) => Err(error),
                })?;
            let scale = match &patch {
                Patch::Json(patch) => patch::json(&current, patch),
                // An apply of a scale names nothing but the number.
                Patch::Merge(patch) | Patch::Strategic(patch) | Patch::Apply(patch) => {
                    patch::merge(&current, patch)
                }
            }
            .map_err(patch_error)?;
            if let Some(outcome) = self.rescale(&live, &scale, &options).await? {
                return wire::tree(200, &self.scale_of(&outcome)?, wanted);
            }
        }
        Err(ApiError::stale(self.resource.subject(self.name)))
    }

    async fn rescale(
        &mut self,
        live: &std::sync::Arc<crate::store::Object>,
        scale: &Value,
        options: &WriteOptions,
    ) -> ApiResult<Option<Value>> {
        let paths = self.scale_paths()?;
        if let Some(why) = meta::mistyped(scale) {
            return Err(ApiError::bad_request(why));
        }
        let expected = scale["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if !matches!(expected, "" | "0") && expected != live.revision.to_string() {
            return Err(ApiError::stale(self.resource.subject(self.name)));
        }
        let replicas = match &scale["spec"]["replicas"] {
            Value::Null => 0,
            value => value.as_i64().ok_or_else(|| {
                ApiError::bad_request(format!("spec.replicas must be an integer, not {value}"))
            })?,
        };
        if replicas < 0 {
            let why = "should be a non-negative integer";
            let error = FieldError::invalid(paths.spec_replicas.clone(), replicas, why);
            return Err(self.invalid(self.name, &[error]));
        }
        let old = self.resource.read(live);
        let mut new = old.clone();
        let fields: Vec<&str> = paths
            .spec_replicas
            .split('.')
            .filter(|field| !field.is_empty())
            .collect();
        set_number(&mut new, &fields, replicas)?;
        Ok(match self.replace(live, &old, new, options, true).await? {
            None => None,
            Some(Outcome::Stored(object)) => Some(self.resource.read(&object)),
            Some(Outcome::Tree(tree)) => Some(tree),
        })
    }
}

fn set_number(object: &mut Value, fields: &[&str], number: i64) -> ApiResult<()> {
    let not_an_object = || ApiError::internal("the path of the replicas leads through no object");
    let mut place = object;
    let Some((last, parents)) = fields.split_last() else {
        return Err(not_an_object());
    };
    for field in parents {
        let map = place.as_object_mut().ok_or_else(not_an_object)?;
        place = map.entry(*field).or_insert_with(|| json!({}));
    }
    place
        .as_object_mut()
        .ok_or_else(not_an_object)?
        .insert((*last).to_owned(), number.into());
    Ok(())
}

/// A label selector as text: it is text already, a map of labels, or a LabelSelector.
fn selector_text(selector: &Value) -> String {
    let Some(map) = selector.as_object() else {
        return selector.as_str().unwrap_or_default().to_owned();
    };
    let is_selector = map
        .keys()
        .all(|key| key == "matchLabels" || key == "matchExpressions");
    let labels = if is_selector {
        selector["matchLabels"].as_object()
    } else {
        Some(map)
    };
    let mut parts: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let expressions = selector["matchExpressions"]
        .as_array()
        .filter(|_| is_selector);
    for expression in expressions.into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}
