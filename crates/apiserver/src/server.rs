//! Requests in, responses out: the Kubernetes REST API of one logical cluster as a tower service.
//!
//! A request walks: `path` says what it is about, `auth` who sends it and whether they may,
//! then `read`, `watch`, `write`, `patch`, `remove` or `subresource` answer it in the form that
//! `wire` negotiates. What is served is a `Registry`, replaced as a whole when a definition
//! changes (`definitions`).

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use drover_schema::field_error::FieldError;
use http::request::Parts;
use http::{HeaderName, Method, Request};
use jiff::Timestamp;
use serde_json::Value;

use crate::auth::{Attributes, Auth, Decision, PeerCertificates, User};
use crate::resource::Resource;
use crate::resource::registry::Registry;
use crate::status::{ApiError, ApiResult};
use crate::store::Store;

mod background;
mod decode;
mod definitions;
pub(crate) mod discovery;
pub(crate) mod meta;
pub(crate) mod openapi;
mod patch;
mod path;
mod prepare;
mod query;
mod read;
mod remove;
mod select;
mod subresource;
mod watch;
mod wire;
mod write;

pub use self::wire::{Body, Response};

pub use crate::auth::Clock;
/// Fills a buffer with random bytes.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;
/// Renders metrics in the Prometheus text format.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What an [`ApiServer`] needs to know of the world.
#[derive(Clone)]
pub struct Config {
    /// Tells the time.
    pub clock: Clock,
    /// Source of unique ids and generated names.
    pub random: Random,
    /// `gitVersion` of `/version`; clients compare it with their own.
    pub version: String,
    /// `host:port` that clients are told to use.
    pub external_address: String,
    /// What `/metrics` answers; without it the path is not served.
    pub metrics: Option<Metrics>,
    /// Rules in process, asked in order about every write.
    pub admission: Vec<Arc<dyn Admission>>,
    /// PEM of the authority that signs this server's certificate: every namespace gets it in the
    /// config map `kube-root-ca.crt`.
    pub root_ca: Option<Arc<str>>,
    /// How often a watch that asks for bookmarks gets one.
    pub bookmark_every: Duration,
    /// How long a watch lasts that does not say (a random time up to twice as long).
    pub watch_for: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clock: Arc::new(Timestamp::now),
            random: Arc::new(|buffer| rand::RngCore::fill_bytes(&mut rand::rng(), buffer)),
            version: "v1.36.0+drover".to_owned(),
            external_address: String::new(),
            metrics: None,
            admission: Vec::new(),
            root_ca: None,
            bookmark_every: Duration::from_mins(1),
            watch_for: Duration::from_mins(30),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("version", &self.version)
            .field("external_address", &self.external_address)
            .finish_non_exhaustive()
    }
}

/// What a write wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object, by any verb.
    Update,
    /// An object that goes.
    Delete,
}

/// A write on its way in.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// What it wants.
    pub operation: Operation,
    /// Of which resource.
    pub resource: &'a Resource,
    /// Empty for the main endpoint.
    pub subresource: &'a str,
    /// Empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Of the object.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a User,
    /// What is there (not for a create).
    pub old: Option<&'a Value>,
    /// Whether nothing will be written in the end.
    pub dry_run: bool,
}

/// A rule about writes. Errors are answered as they are.
pub trait Admission: Send + Sync {
    /// May change the object, or refuse the request; `object` is absent for a delete.
    fn admit(&self, request: &AdmissionRequest<'_>, object: Option<&mut Value>) -> ApiResult<()> {
        let _ = (request, object);
        Ok(())
    }

    /// May refuse an object that is valid as far as its kind's schema tells: nobody changes it any more.
    fn validate(&self, request: &AdmissionRequest<'_>, object: &Value) -> ApiResult<()> {
        let _ = (request, object);
        Ok(())
    }
}

/// All warnings of a response together, in bytes; the rest is dropped, as in Kubernetes.
const MAX_WARNINGS: usize = 4 * 1024;

struct Inner {
    store: Store,
    auth: Auth,
    config: Config,
    registry: RwLock<Arc<Registry>>,
    openapi: openapi::Cache,
    /// Held while a definition is looked at, so that they are registered one after the other.
    defining: tokio::sync::Mutex<()>,
}

/// A Kubernetes API over one [`Store`]. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
    identity: Option<Arc<User>>,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Serves what is in a store, definitions included.
    pub fn new(store: Store, auth: Auth, config: Config) -> Self {
        let registry = definitions::load(&store);
        let inner = Inner {
            store,
            auth,
            config,
            registry: RwLock::new(registry),
            openapi: openapi::Cache::default(),
            defining: tokio::sync::Mutex::new(()),
        };
        Self {
            inner: Arc::new(inner),
            identity: None,
        }
    }

    /// The same server for callers in process: requests without a [`User`] extension come from
    /// this user, without any credentials.
    pub fn acting_as(&self, user: User) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            identity: Some(Arc::new(user)),
        }
    }

    /// Where the objects are.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Who may do what.
    pub fn auth(&self) -> &Auth {
        &self.inner.auth
    }

    /// What is served at the moment.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(
            &self
                .inner
                .registry
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn set_registry(&self, registry: Registry) {
        *self
            .inner
            .registry
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
    }

    fn config(&self) -> &Config {
        &self.inner.config
    }

    fn now(&self) -> Timestamp {
        (self.config().clock)()
    }

    /// RFC 3339 in whole seconds, as in `metadata.creationTimestamp`.
    fn now_text(&self) -> String {
        self.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn new_uid(&self) -> String {
        uuid::Builder::from_random_bytes(self.random_bytes())
            .into_uuid()
            .to_string()
    }

    fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        (self.config().random)(&mut bytes);
        bytes
    }

    /// Answers one request. Never fails: what goes wrong is a Status.
    pub async fn respond<B>(&self, request: Request<B>) -> Response
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: fmt::Display,
    {
        let (parts, body) = request.into_parts();
        let answer = match self.identify(&parts) {
            Ok(user) => self.dispatch(&parts, body, &user).await,
            Err(error) => Err(error),
        };
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => wire::failure(&error, &parts.headers),
        };
        let headers = response.headers_mut();
        headers
            .entry("cache-control")
            .or_insert(wire::value("no-cache, private"));
        if parts.method == Method::HEAD {
            *response.body_mut() = wire::empty();
        }
        wire::compress(&parts.headers, response).await
    }

    fn identify(&self, parts: &Parts) -> ApiResult<Arc<User>> {
        let (auth, headers) = (&self.inner.auth, &parts.headers);
        if let Some(user) = parts.extensions.get::<User>() {
            return auth.impersonate(user.clone(), headers).map(Arc::new);
        }
        if let Some(user) = &self.identity {
            let impersonates = |name: &HeaderName| name.as_str().starts_with("impersonate-");
            return if headers.keys().any(impersonates) {
                auth.impersonate(User::clone(user), headers).map(Arc::new)
            } else {
                Ok(Arc::clone(user))
            };
        }
        let peer = parts.extensions.get::<PeerCertificates>();
        auth.authenticate(headers, peer).map(Arc::new)
    }

    async fn dispatch<B>(&self, parts: &Parts, body: B, user: &Arc<User>) -> ApiResult<Response>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: fmt::Display,
    {
        let path = path::decode(parts.uri.path())?;
        let query = query::Query::parse(parts.uri.query().unwrap_or_default());
        let Some(target) = path::Target::parse(&path) else {
            let verb = parts.method.as_str().to_ascii_lowercase();
            let asked = Attributes {
                verb: &verb,
                path: &path,
                ..Attributes::default()
            };
            self.authorize(user, &asked)?;
            return self.serve_path(parts, &path, &query);
        };
        let verb = target.verb(&parts.method, &query)?;
        let selected = query.selected_name();
        let name = match (target.name.is_empty(), verb) {
            (true, "list" | "watch" | "deletecollection") => selected.as_deref().unwrap_or(""),
            _ => target.name,
        };
        let asked = Attributes {
            verb,
            group: target.group,
            version: target.version,
            resource: target.plural,
            subresource: target.subresource,
            namespace: target.namespace,
            name,
            path: "",
        };
        self.authorize(user, &asked)?;
        let registry = self.registry();
        let Some(resource) = registry
            .get(target.group, target.version, target.plural)
            .cloned()
        else {
            // The real server serves a group of built-in kinds in one place, whatever the version.
            let known = drover_schema::builtin::kinds()
                .iter()
                .any(|kind| kind.group == target.group);
            return if known {
                Err(ApiError::no_such_resource())
            } else {
                Ok(wire::text(404, "404 page not found\n"))
            };
        };
        drop(registry);
        if resource.namespaced && target.namespace.is_empty() && !target.name.is_empty()
            || !resource.namespaced && !target.namespace.is_empty()
        {
            return Err(ApiError::no_such_resource());
        }
        let body = match parts.method {
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                wire::collect(body).await?
            }
            _ => Bytes::new(),
        };
        let call = Call {
            server: self,
            user,
            headers: &parts.headers,
            query: &query,
            namespace: target.namespace,
            name: target.name,
            subresource: target.subresource,
            body,
            warnings: resource.deprecation.iter().cloned().collect(),
            resource,
        };
        call.answer(verb).await
    }

    fn authorize(&self, user: &User, asked: &Attributes<'_>) -> ApiResult<()> {
        match self.inner.auth.authorize(user, asked) {
            Decision::Allow => Ok(()),
            Decision::Deny { reason } => Err(asked.forbidden(&reason)),
        }
    }
}

/// One request for a resource.
struct Call<'a> {
    server: &'a ApiServer,
    resource: Arc<Resource>,
    user: &'a Arc<User>,
    headers: &'a http::HeaderMap,
    query: &'a query::Query,
    namespace: &'a str,
    name: &'a str,
    subresource: &'a str,
    body: Bytes,
    warnings: Vec<String>,
}

impl Call<'_> {
    async fn answer(mut self, verb: &str) -> ApiResult<Response> {
        if !self.subresource.is_empty() && !self.resource.has_subresource(self.subresource) {
            return Err(self.unknown_subresource());
        }
        let allowed = match self.subresource {
            "" => {
                let everywhere = self.resource.namespaced && self.namespace.is_empty();
                let unnamed = self.name.is_empty() && matches!(verb, "update" | "patch");
                !(unnamed || everywhere && matches!(verb, "create" | "deletecollection"))
            }
            "status" | "approval" => matches!(verb, "get" | "update" | "patch"),
            "finalize" => verb == "update",
            _ => true,
        };
        if !allowed {
            return Err(ApiError::method_not_allowed(
                "the server does not allow this method on the requested resource",
            ));
        }
        let special = !matches!(self.subresource, "" | "status" | "approval" | "finalize");
        let mut response = if special {
            self.serve_subresource(verb).await
        } else if !self.resource.stored {
            self.serve_review(verb)
        } else {
            match verb {
                "get" => self.get(),
                "list" => self.list().await,
                "watch" => self.watch().await,
                "create" => self.create().await,
                "update" => self.update().await,
                "patch" => self.patch().await,
                "delete" => self.delete().await,
                "deletecollection" => self.delete_collection().await,
                other => Err(ApiError::method_not_allowed(format!(
                    "{other} is not supported"
                ))),
            }
        }
        .or_else(|error| {
            if self.warnings.is_empty() {
                Err(error)
            } else {
                // Warnings go with errors as well.
                Ok(wire::failure(&error, self.headers))
            }
        })?;
        let mut room = MAX_WARNINGS;
        for warning in &self.warnings {
            let text = format!("299 - {warning:?}");
            let Some(left) = room.checked_sub(text.len()) else {
                break;
            };
            room = left;
            if let Ok(value) = http::HeaderValue::from_str(&text) {
                response.headers_mut().append("warning", value);
            }
        }
        Ok(response)
    }

    fn unknown_subresource(&self) -> Box<ApiError> {
        if self.resource.is_custom() {
            ApiError::not_found(self.resource.subject(self.name))
        } else {
            ApiError::no_such_resource()
        }
    }

    fn key(&self, name: &str) -> crate::store::Key {
        crate::store::Key {
            resource: Arc::clone(&self.resource.storage),
            namespace: self.namespace.into(),
            name: name.into(),
        }
    }

    fn live(&self) -> ApiResult<Arc<crate::store::Object>> {
        self.server
            .store()
            .get(&self.key(self.name))
            .ok_or_else(|| ApiError::not_found(self.resource.subject(self.name)))
    }

    fn invalid(&self, name: &str, errors: &[FieldError]) -> Box<ApiError> {
        ApiError::invalid(self.resource.kind_subject(name), errors)
    }

    fn admit(
        &self,
        operation: Operation,
        name: &str,
        old: Option<&Value>,
        mut object: Option<&mut Value>,
        dry_run: bool,
    ) -> ApiResult<()> {
        let request = self.admission_request(operation, name, old, dry_run);
        for rule in &self.server.config().admission {
            rule.admit(&request, object.as_deref_mut())?;
        }
        Ok(())
    }

    /// Refuses what the schema refuses, and then what a rule refuses.
    fn validate(
        &self,
        operation: Operation,
        name: &str,
        old: Option<&Value>,
        object: &Value,
        dry_run: bool,
    ) -> ApiResult<()> {
        self.refuse_invalid(object, old)?;
        let request = self.admission_request(operation, name, old, dry_run);
        let mut rules = self.server.config().admission.iter();
        rules.try_for_each(|rule| rule.validate(&request, object))
    }

    fn admission_request<'r>(
        &'r self,
        operation: Operation,
        name: &'r str,
        old: Option<&'r Value>,
        dry_run: bool,
    ) -> AdmissionRequest<'r> {
        AdmissionRequest {
            operation,
            resource: &self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name,
            user: self.user,
            old,
            dry_run,
        }
    }
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: fmt::Display,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.respond(request).await) })
    }
}

#[cfg(test)]
mod tests;
