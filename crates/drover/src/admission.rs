//! The rules of a hub inside an embedded API: what webhooks do elsewhere, without a way out of the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use drover_apiserver::auth::{Attributes, Auth, Decision};
use drover_apiserver::resource::NAMESPACES;
use drover_apiserver::server::{Admission, AdmissionRequest, Operation};
use drover_apiserver::status::{ApiError, ApiResult};
use drover_apiserver::store::{Key, Store};
use drover_core::admission::{self, Check, Policy, Question, Refusal, Rule, User};
use drover_runtime::clock::Clock;
use serde_json::Value;

/// Judges writes of the kinds of a fleet; all others pass. An API without these kinds has no use for it.
pub struct Rules {
    auth: Auth,
    store: Store,
    clock: Clock,
    policy: Policy,
}

impl Rules {
    /// The usual rules for an API with this store, whose users may do what `auth` says.
    pub fn new(auth: &Auth, store: &Store) -> Arc<Self> {
        Arc::new(Self {
            auth: auth.clone(),
            store: store.clone(),
            clock: Clock::system(),
            policy: Policy::default(),
        })
    }

    fn apply(
        &self,
        rule: Rule,
        user: &User,
        write: &AdmissionRequest<'_>,
        object: &mut Value,
    ) -> Result<(), Refusal> {
        let request = admission::Request {
            operation: match write.operation {
                Operation::Create => admission::Operation::Create,
                Operation::Update => admission::Operation::Update,
                Operation::Delete => admission::Operation::Other,
            },
            user,
            old: write.old,
            new: Some(object),
        };
        if !rule.concerns(&request, &self.policy) {
            return Ok(());
        }
        if rule == Rule::FillCluster {
            let additions = admission::fill(&request, &self.policy, self.clock.now())?;
            admission::add(object, &additions);
            return Ok(());
        }
        let checks = rule.judge(&request, &self.policy)?;
        let mut checks = checks.iter();
        checks.try_for_each(|check| check.decide(Ok(self.is_so(check, write))))
    }

    fn is_so(&self, check: &Check, write: &AdmissionRequest<'_>) -> bool {
        match &check.question {
            Question::NamespaceStays(name) => {
                let found = self.store.get(&Key::new(NAMESPACES, "", name.as_str()));
                found.is_none_or(|namespace| !namespace.meta.terminating)
            }
            Question::Access(access) => {
                let asked = Attributes {
                    verb: access.verb,
                    group: access.group,
                    version: "*",
                    resource: access.resource,
                    subresource: access.subresource,
                    namespace: &access.namespace,
                    name: &access.name,
                    path: "",
                };
                matches!(self.auth.authorize(write.user, &asked), Decision::Allow)
            }
        }
    }
}

impl Admission for Rules {
    fn admit(&self, request: &AdmissionRequest<'_>, object: Option<&mut Value>) -> ApiResult<()> {
        let Some(object) = object.filter(|_| request.subresource.is_empty()) else {
            return Ok(());
        };
        let written = (&*request.resource.group, &*request.resource.plural);
        let mut user = None;
        for rule in Rule::ALL {
            if rule.resource() != written {
                continue;
            }
            let user = user.get_or_insert_with(|| user_of(request));
            match self.apply(rule, user, request, object) {
                // What cannot be read is not valid either, and validation says where.
                Ok(()) | Err(Refusal::Unreadable(_)) => {}
                Err(refusal) => return Err(refused(rule, &refusal)),
            }
        }
        Ok(())
    }
}

fn user_of(request: &AdmissionRequest<'_>) -> User {
    User {
        name: request.user.name.clone(),
        uid: request.user.uid.clone(),
        groups: request.user.groups.clone(),
        extra: BTreeMap::clone(&request.user.extra),
    }
}

/// The answer of an API server whose webhook refuses (apiserver: pkg/admission/plugin/webhook/errors).
fn refused(rule: Rule, refusal: &Refusal) -> Box<ApiError> {
    let text = format!(
        "admission webhook {:?} denied the request: {refusal}",
        rule.webhook()
    );
    let mut error = ApiError::new(refusal.code(), refusal.reason().unwrap_or_default(), text);
    error.details = refusal.details();
    error
}
