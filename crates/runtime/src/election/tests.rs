use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::*;

const TIMING: Timing = Timing {
    lease: Duration::from_secs(15),
    renew: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

/// One lease in memory.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Option<Value>>>);

impl Api {
    fn answer(&self, method: &Method, body: Value) -> (u16, Value) {
        let failure = |code: u16, reason: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": reason}),
            )
        };
        let mut lease = self.0.lock().unwrap();
        let next = |lease: &Value| {
            let version = lease["metadata"]["resourceVersion"].as_str();
            let version: u64 = version.and_then(|v| v.parse().ok()).unwrap_or(0);
            json!((version + 1).to_string())
        };
        match (method, lease.as_mut()) {
            (_, None) if *method != Method::POST => failure(404, "NotFound"),
            (&Method::GET, Some(lease)) => (200, lease.clone()),
            (&Method::POST, Some(_)) => failure(409, "AlreadyExists"),
            (_, None) => {
                let mut made = body;
                made["metadata"]["resourceVersion"] = next(&made);
                *lease = Some(made.clone());
                (201, made)
            }
            (_, Some(lease)) => {
                if body["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                    return failure(409, "Conflict");
                }
                lease["metadata"]["resourceVersion"] = next(lease);
                lease["spec"] = body["spec"].clone();
                (200, lease.clone())
            }
        }
    }

    /// A client that can be cut off.
    fn client(&self, up: Arc<AtomicBool>) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (api, up) = (api.clone(), up.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                if !up.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = api.answer(&parts.method, body);
                let bytes = Full::new(answer.to_string().into_bytes().into());
                Ok::<_, Infallible>(Response::builder().status(code).body(bytes).unwrap())
            }
        });
        Client::new(service, "default")
    }
}

/// A copy of a process with work for the leader; it counts how many work at once.
struct Copy {
    up: Arc<AtomicBool>,
    stop: CancellationToken,
    leadership: Leadership,
    tasks: Vec<JoinHandle<()>>,
}

impl Copy {
    fn start(api: &Api, me: &str, working: &Arc<AtomicI32>) -> Self {
        let up = Arc::new(AtomicBool::new(true));
        let stop = CancellationToken::new();
        let client = api.client(up.clone());
        let (election, leadership) =
            Election::new(client, "ns", "lock", me, TIMING, Clock::system());
        let campaign = tokio::spawn(election.run(stop.clone()));
        let (own, until, working) = (leadership.clone(), stop.clone(), working.clone());
        let work = tokio::spawn(async move {
            let work = |over: CancellationToken| {
                let working = working.clone();
                async move {
                    let busy = working.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(busy, 0, "two work at once");
                    over.cancelled().await;
                    // It takes a while to stop.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    working.fetch_sub(1, Ordering::SeqCst);
                }
            };
            own.each_term(&until, work).await;
        });
        Self {
            up,
            stop,
            leadership,
            tasks: vec![campaign, work],
        }
    }

    async fn leads(&self) {
        while !self.leadership.leads() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_handed_over_when_a_leader_leaves() {
    let (api, working) = (Api::default(), Arc::default());
    let first = Copy::start(&api, "first", &working);
    first.leads().await;
    let second = Copy::start(&api, "second", &working);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(first.leadership.leads() && !second.leadership.leads());
    let before = Instant::now();
    first.end().await;
    second.leads().await;
    assert!(
        before.elapsed() < TIMING.renew,
        "nobody waits for the lease to run out"
    );
    second.end().await;
    let lease = api.0.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_the_next_begins() {
    let (api, working) = (Api::default(), Arc::default());
    let first = Copy::start(&api, "first", &working);
    first.leads().await;
    let second = Copy::start(&api, "second", &working);
    first.up.store(false, Ordering::SeqCst);
    second.leads().await;
    assert!(!first.leadership.leads());
    // It may try again, and leads again one day.
    first.up.store(true, Ordering::SeqCst);
    second.up.store(false, Ordering::SeqCst);
    first.leads().await;
    assert!(!second.leadership.leads());
    second.end().await;
    first.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_survives_an_api_that_is_away_for_a_moment() {
    let (api, working) = (Api::default(), Arc::default());
    let first = Copy::start(&api, "first", &working);
    first.leads().await;
    let renewed = || api.0.lock().unwrap().clone().unwrap()["spec"]["renewTime"].clone();
    for _ in 0..5 {
        first.up.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let before = renewed();
        first.up.store(true, Ordering::SeqCst);
        while renewed() == before {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(first.leadership.leads());
    }
    first.end().await;
}

#[tokio::test]
async fn who_is_alone_leads() {
    let (stop, leadership) = (CancellationToken::new(), Leadership::alone());
    assert!(leadership.leads());
    let (began, mut begun) = mpsc::channel(1);
    let stopper = stop.clone();
    let work = leadership.each_term(&stop, |over| {
        let began = began.clone();
        async move {
            began.send(()).await.unwrap();
            over.cancelled().await;
        }
    });
    tokio::join!(work, async {
        begun.recv().await;
        stopper.cancel();
    });
}
