//! Looks at the managed cluster: whether its API server answers, its version, its nodes, its claims.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use drover_api::cluster::v1alpha1::ClusterClaim;
use drover_core::registration::agent::status::{
    ClaimLimits, Health, Report, Resources, claims, health,
};
use drover_runtime::backoff::Backoff;
use drover_runtime::clock::Clock;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Time between checks while the API server does not answer (ocm: pkg/registration/spoke/managedcluster).
const FAILING_INTERVAL: Duration = Duration::from_secs(5);
/// A check that takes longer failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long changes of nodes are gathered, which tell of themselves all the time.
const NODES_QUIET: Duration = Duration::from_secs(10);
/// How long changes of claims are gathered.
const CLAIMS_QUIET: Duration = Duration::from_millis(200);
/// Waits after a watch failed.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Objects for each list request.
const PAGE: u32 = 100;

/// Looks at one cluster, again and again.
#[derive(Clone)]
pub struct Observer {
    /// How the cluster is reached.
    pub client: Client,
    /// The time.
    pub clock: Clock,
    /// Time between looks.
    pub interval: Duration,
    /// Which claims are reported.
    pub claims: watch::Receiver<ClaimLimits>,
}

impl Observer {
    /// Looks until `cancel`; each report that differs from the one before goes to `reports`.
    pub async fn run(self, reports: watch::Sender<Option<Arc<Report>>>, cancel: CancellationToken) {
        let changed = Notify::new();
        tokio::select! {
            () = self.rounds(reports, &changed, &cancel) => {}
            () = tell::<Node>(&self.client, NODES_QUIET, &changed) => {}
            () = tell::<ClusterClaim>(&self.client, CLAIMS_QUIET, &changed) => {}
        }
    }

    async fn rounds(
        &self,
        reports: watch::Sender<Option<Arc<Report>>>,
        changed: &Notify,
        cancel: &CancellationToken,
    ) {
        let mut limits = self.claims.clone();
        let mut state = Health::Well;
        loop {
            let looked = tokio::select! {
                () = cancel.cancelled() => return,
                looked = self.look() => looked,
            };
            state = health(state, looked.is_ok(), self.clock.now());
            let report = match (looked, state) {
                (Ok(report), _) => Some(report),
                (Err(why), Health::Unavailable(_)) => Some(unavailable(why)),
                (Err(why), Health::Well | Health::Failing(_)) => {
                    tracing::warn!(
                        why,
                        "the cluster's API server did not answer; will look again soon"
                    );
                    None
                }
            };
            if let Some(report) = report {
                reports.send_if_modified(|last| {
                    let changed = last.as_deref() != Some(&report);
                    if changed {
                        *last = Some(Arc::new(report));
                    }
                    changed
                });
            }
            let wait = if state == Health::Well {
                self.interval
            } else {
                FAILING_INTERVAL.min(self.interval)
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = changed.notified() => {}
                Ok(()) = limits.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn look(&self) -> Result<Report, String> {
        let look = async {
            self.live().await?;
            self.observe().await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        }
    }

    /// `/livez`, or `/healthz` where that is not there or not allowed.
    async fn live(&self) -> Result<(), String> {
        match self.get("/livez").await {
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                self.get("/healthz").await
            }
            outcome => outcome,
        }
        .map_err(|error| match error {
            kube::Error::Api(status) => format!("status code {}, {}", status.code, status.message),
            error => error.to_string(),
        })
    }

    async fn get(&self, path: &str) -> Result<(), kube::Error> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(drop)
    }

    async fn observe(&self) -> Result<Report, kube::Error> {
        let version = self.client.apiserver_version().await?.git_version;
        let mut resources = Resources::default();
        let nodes: Api<Node> = Api::all(self.client.clone());
        optional("nodes", each(&nodes, |node| resources.count(&node)).await)?;
        let mut found = Vec::new();
        let api: Api<ClusterClaim> = Api::all(self.client.clone());
        optional("claims", each(&api, |claim| found.push(claim)).await)?;
        let limits = self.claims.borrow().clone();
        let (claims, dropped) = claims(&found, &limits);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                most = limits.max_custom,
                "the cluster has more claims than are reported"
            );
        }
        let Resources {
            capacity,
            allocatable,
        } = resources;
        Ok(Report {
            available: Ok(()),
            version,
            capacity,
            allocatable,
            claims,
        })
    }
}

/// Tells of changes of a kind, once for all that change within a time; for ever.
async fn tell<K>(client: &Client, quiet: Duration, changed: &Notify)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    // Only that something changed is of interest: the look reads it.
    let api: Api<PartialObjectMeta<K>> = Api::all(client.clone());
    let events = watcher::watcher(api, watcher::Config::default());
    let mut backoff = Backoff::new(MIN_WAIT, MAX_WAIT);
    futures::pin_mut!(events);
    loop {
        match events.next().await {
            Some(Ok(Event::Apply(_) | Event::Delete(_) | Event::InitDone)) => {
                // What comes meanwhile waits in the stream, and is read at once then.
                tokio::time::sleep(quiet).await;
                while let Some(Some(_)) = events.next().now_or_never() {}
                backoff.reset();
                changed.notify_one();
            }
            Some(Ok(Event::Init | Event::InitApply(_))) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "a watch of the cluster was interrupted");
                tokio::time::sleep(backoff.next_wait()).await;
            }
            None => std::future::pending().await,
        }
    }
}

fn unavailable(why: String) -> Report {
    Report {
        available: Err(why),
        version: String::new(),
        capacity: std::collections::BTreeMap::new(),
        allocatable: std::collections::BTreeMap::new(),
        claims: Vec::new(),
    }
}

/// What a cluster does not know, or does not show its agent, it has not.
fn optional(what: &str, listed: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match listed {
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::debug!(what, code = status.code, "the cluster does not show them");
            Ok(())
        }
        listed => listed,
    }
}

/// Lists everything, a page at a time.
async fn each<K>(api: &Api<K>, mut visit: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut visit);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use http_body_util::Full;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// Looks at a cluster whose health endpoints answer with these codes.
    async fn look(livez: u16, healthz: u16) -> Result<Report, String> {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let empty = |kind: &str, version: &str| json!({"kind": kind, "apiVersion": version, "metadata": {}, "items": []});
            let version = json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            let status = |code: u16| json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "R"});
            let (code, body) = match request.uri().path() {
                "/livez" => (livez, status(livez)),
                "/healthz" => (healthz, status(healthz)),
                "/version" => (200, version),
                "/api/v1/nodes" if livez == 200 => (200, empty("NodeList", "v1")),
                "/api/v1/nodes" => (403, status(403)),
                _ => (404, status(404)),
            };
            let response = Response::builder().status(code);
            Ok::<_, Infallible>(
                response
                    .body(Full::new(body.to_string().into_bytes().into()))
                    .expect("it is valid"),
            )
        });
        let observer = Observer {
            client: Client::new(service, "default"),
            clock: Clock::system(),
            interval: Duration::from_secs(1),
            claims: watch::channel(ClaimLimits::default()).1,
        };
        observer.look().await
    }

    #[tokio::test]
    async fn the_old_health_endpoint_counts_where_the_new_one_is_not_there() {
        let well = Ok("v1.36.3".to_owned());
        let cases = [
            (200, 500, well.clone()),
            (403, 200, well.clone()),
            (404, 200, well),
            (404, 500, Err("status code 500, no".to_owned())),
            (500, 200, Err("status code 500, no".to_owned())),
        ];
        for (livez, healthz, expected) in cases {
            let looked = look(livez, healthz).await.map(|report| report.version);
            assert_eq!(looked, expected, "{livez} {healthz}");
        }
    }
}
