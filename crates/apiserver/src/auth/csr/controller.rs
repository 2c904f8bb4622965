//! Signs what was approved for the signers of Kubernetes, and removes requests that are of no use
//! any more (kubernetes: pkg/controller/certificates/{signer,cleaner}).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{CsrError, LIFE, MINIMAL_LIFE, RESOURCE, admission, check_signer};
use crate::auth::ca::Authority;
use crate::auth::{Auth, fields};
use crate::store::{Object, Store, WriteError};

/// How often old requests are looked for.
const SWEEP: Duration = Duration::from_mins(10);
/// How long a request stays that was answered.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// How long one stays that waits.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Signs approved requests of the signers `kubernetes.io/kube-apiserver-client`,
/// `…/kube-apiserver-client-kubelet` and `…/kubelet-serving`; other signers' are left alone.
/// Removes answered requests after an hour and waiting ones after a day, whoever signs them.
/// Runs until cancelled. Every step starts from what is stored, so it may be killed at any time.
pub async fn run(store: Store, auth: Auth, cancel: CancellationToken) {
    let work = async {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Whatever is there, then whatever changes; anew when the watch loses its place.
            let listing = store.list(RESOURCE, None);
            for object in &listing.items {
                handle(&store, &auth, object).await;
            }
            let Ok(mut watch) = store.watch(RESOURCE, listing.revision) else {
                tokio::task::yield_now().await;
                continue;
            };
            loop {
                tokio::select! {
                    change = watch.next() => match change {
                        Ok(change) => if let Some(object) = &change.new {
                            handle(&store, &auth, object).await;
                        },
                        Err(_expired) => break,
                    },
                    _ = sweep.tick() => clean(&store, auth.now()).await,
                }
            }
        }
    };
    // Dropping `work` between two steps loses nothing.
    cancel.run_until_cancelled(work).await;
}

async fn handle(store: &Store, auth: &Auth, object: &Arc<Object>) {
    let mut value = object.value();
    let Some(authority) = auth.authority() else {
        return;
    };
    if !answer(authority, &mut value, auth.now()) {
        return;
    }
    settle(
        object,
        store
            .update(object.key.clone(), object.revision, value)
            .await
            .map(drop),
    );
}

async fn clean(store: &Store, now: Timestamp) {
    for object in store.list(RESOURCE, None).items {
        if is_stale(&object.value(), now) {
            settle(
                &object,
                store
                    .delete(object.key.clone(), object.revision)
                    .await
                    .map(drop),
            );
        }
    }
}

/// A conflict is no error: the newer state comes through the watch, or with the next sweep.
fn settle(object: &Object, result: Result<(), WriteError>) {
    match result {
        Ok(()) | Err(WriteError::Changed(_) | WriteError::Missing | WriteError::Closed) => {}
        Err(error) => {
            tracing::warn!(name = %object.key.name, %error, "failed to write a certificate signing request");
        }
    }
}

/// Fills `status` of an approved request of our signers; says whether anything changed.
pub(super) fn answer(authority: &Authority, object: &mut Value, now: Timestamp) -> bool {
    let has = |kind| has_condition(object, kind);
    let done = !object["status"]["certificate"].is_null();
    if done || !has("Approved") || has("Denied") || has("Failed") {
        return false;
    }
    let spec = &object["spec"];
    let signer = spec["signerName"].as_str().unwrap_or_default();
    let usages = usages(spec);
    let outcome = match admission::read(spec) {
        Err(error) => Err(CsrError::Refused(error)),
        Ok(request) => match check_signer(signer, &request, &usages) {
            None => return false,
            Some(checked) => {
                checked.and_then(|()| request.sign(authority, life(spec), &usages, now))
            }
        },
    };
    match outcome {
        Ok(certificate) => {
            let Some(status) = fields(object, "status") else {
                return false;
            };
            status.insert(
                "certificate".to_owned(),
                STANDARD.encode(certificate).into(),
            );
            true
        }
        Err(CsrError::Authority(error)) => {
            // Not the requester's fault: it is signed once the authority is well again.
            tracing::warn!(%error, "failed to sign a certificate signing request");
            false
        }
        Err(error) if is_ours(signer) => {
            fail(object, &error.to_string(), now);
            true
        }
        Err(_other_signer) => false,
    }
}

fn is_ours(signer: &str) -> bool {
    [
        super::CLIENT_SIGNER,
        super::KUBELET_CLIENT_SIGNER,
        super::KUBELET_SERVING_SIGNER,
    ]
    .contains(&signer)
}

fn fail(object: &mut Value, message: &str, now: Timestamp) {
    let at = crate::auth::seconds(now);
    let condition = json!({
        "type": "Failed", "status": "True", "reason": "SignerValidationFailure",
        "message": message, "lastUpdateTime": at, "lastTransitionTime": at,
    });
    let Some(status) = fields(object, "status") else {
        return;
    };
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(conditions) => conditions.push(condition),
        None => {
            status.insert("conditions".to_owned(), json!([condition]));
        }
    }
}

fn life(spec: &Value) -> SignedDuration {
    match spec["expirationSeconds"].as_i64() {
        Some(seconds) => SignedDuration::from_secs(seconds).clamp(MINIMAL_LIFE, LIFE),
        None => LIFE,
    }
}

pub(super) fn usages(spec: &Value) -> Vec<String> {
    let list = spec["usages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    list.map(str::to_owned).collect()
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
}

fn has_condition(object: &Value, kind: &str) -> bool {
    conditions(object).any(|c| c["type"] == kind && (kind != "Failed" || c["status"] == "True"))
}

/// Whether nobody needs a request any more.
pub(super) fn is_stale(object: &Value, now: Timestamp) -> bool {
    let older = |time: &Value, than: SignedDuration| {
        let parsed = time
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        parsed.is_some_and(|at| now.duration_since(at) > than)
    };
    if conditions(object).next().is_none() {
        return older(&object["metadata"]["creationTimestamp"], PENDING);
    }
    let issued = !object["status"]["certificate"].is_null();
    conditions(object).any(|condition| {
        let limit = match condition["type"].as_str() {
            Some("Approved") if issued => ANSWERED,
            Some("Approved") => PENDING,
            Some("Denied" | "Failed") => ANSWERED,
            _ => return false,
        };
        older(&condition["lastUpdateTime"], limit)
    })
}
