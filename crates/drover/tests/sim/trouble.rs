//! An API that answers wrongly, late or not at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use drover_apiserver::server::ApiServer;
use http::{Method, Request, Response};
use http_body_util::{Either, Full};
use kube::Client;
use kube::client::Body;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tower::Service;

/// How long nobody answers.
const SILENCE: Duration = Duration::from_millis(200);

/// What goes wrong between a client and its API. Clones are the same.
#[derive(Clone)]
pub(crate) struct Trouble(Arc<Mutex<(SmallRng, f64)>>);

enum Verdict {
    Pass,
    /// Answered without being done.
    Refused(u16),
    /// Done, but the answer gets lost.
    Unheard,
    /// Never done, never answered.
    Lost,
}

impl Trouble {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new((SmallRng::seed_from_u64(seed), 0.0))))
    }

    /// This share of requests goes wrong from now on.
    pub(crate) fn set(&self, share: f64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = share;
    }

    fn verdict(&self, method: &Method) -> Verdict {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = state.1;
        let random = &mut state.0;
        if !random.random_bool(share) {
            return Verdict::Pass;
        }
        let writes = *method != Method::GET;
        match random.random_range(0..6) {
            0 => Verdict::Refused(429),
            1 => Verdict::Refused(503),
            2 if writes => Verdict::Refused(409),
            3 if writes => Verdict::Unheard,
            4 => Verdict::Lost,
            _ => Verdict::Refused(500),
        }
    }

    /// A client of the API behind this trouble.
    pub(crate) fn client(&self, server: &ApiServer) -> Client {
        let (trouble, server) = (self.clone(), server.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (trouble, mut server) = (trouble.clone(), server.clone());
            async move {
                let verdict = trouble.verdict(request.method());
                match verdict {
                    Verdict::Refused(code) => return Ok(refusal(code).map(Either::Right)),
                    Verdict::Lost => {
                        tokio::time::sleep(SILENCE).await;
                        return Err("nobody answers");
                    }
                    Verdict::Pass | Verdict::Unheard => (),
                }
                let Ok(answer) = server.call(request).await;
                match verdict {
                    Verdict::Unheard => Err("the connection broke"),
                    _ => Ok(answer.map(Either::Left)),
                }
            }
        });
        Client::new(service, "default")
    }
}

fn refusal(code: u16) -> Response<Full<Bytes>> {
    let reason = match code {
        409 => "Conflict",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": "an accident",
    });
    let answer = Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(status.to_string())));
    answer.unwrap()
}
