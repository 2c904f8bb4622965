use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use drover_core::publish::pod::{Program, pod_name};
use drover_core::publish::{Place, attempt};
use drover_runtime::queue::WorkQueue;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::runtime::reflector;
use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("small seconds are valid")
}

/// An API that keeps what is made, after the answers that it was told to give first.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    map: Option<Value>,
    pod: Option<Value>,
    of_maps: VecDeque<(u16, &'static str, &'static str)>,
    of_pods: VecDeque<(u16, &'static str, &'static str)>,
    /// What was asked, and with which body.
    asked: Vec<(String, Value)>,
}

impl Kept {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let pods = path.contains("/pods");
        let kind = if pods { "pod" } else { "map" };
        self.asked.push((format!("{method} {kind}"), body.clone()));
        let (kept, answers) = if pods {
            (&mut self.pod, &mut self.of_pods)
        } else {
            (&mut self.map, &mut self.of_maps)
        };
        let says = |code: u16, reason: &str, text: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": text,
                                "reason": reason, "code": code});
            (code, status)
        };
        let writes = *method == Method::POST || *method == Method::DELETE;
        if let Some((code, reason, text)) = answers.pop_front_if(|_| writes) {
            return says(code, reason, text);
        }
        match *method {
            Method::POST if kept.is_some() => says(409, "AlreadyExists", "it exists"),
            Method::POST => {
                let mut made = body;
                made["metadata"]["uid"] = json!("u");
                (201, kept.insert(made).clone())
            }
            Method::DELETE if kept.is_some() => (200, kept.take().unwrap_or_default()),
            _ => match kept {
                Some(found) => (200, found.clone()),
                None => says(404, "NotFound", "it is not there"),
            },
        }
    }
}

impl Fake {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panicked")
    }

    fn pods(&self) -> Pods {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.expect("it is whole").to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = fake.kept().answer(&parts.method, parts.uri.path(), body);
                let body = Body::from(answer.to_string().into_bytes());
                let answer = Response::builder().status(code).body(body);
                Ok::<_, Infallible>(answer.expect("it is an answer"))
            }
        });
        let settings = PodSettings {
            image: "registry/drover:1".to_owned(),
            program: Program::Drover,
            pull_secret: None,
        };
        let places = Places::new(BOUNDS, Arc::new(WorkQueue::new()));
        Pods::new(
            Client::new(service, "default"),
            settings,
            reflector::store().0,
            places,
        )
    }

    async fn make(&self) -> Result<Result<(), Fault>, PublisherError> {
        let (message, name, outgoing) = begun();
        let target = Target {
            url: "amqps://broker".to_owned(),
            topic_prefix: "org".to_owned(),
            exchange: "amq.topic".to_owned(),
        };
        let secret = Mounted {
            secret: "fm",
            keys: ["ca", "cert", "key"],
        };
        let pods = self.pods();
        pods.make(&message, &name, &outgoing, &target, &secret)
            .await
    }
}

fn begun() -> (FedoraMessage, String, Outgoing) {
    let mut message: FedoraMessage = serde_json::from_value(json!({
        "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
        "metadata": {"name": "one", "namespace": "team", "uid": "11111111-2222", "generation": 1,
                     "creationTimestamp": at(0).to_string()},
        "spec": {"env": "stg", "message": {"topic": "a", "body": {}}, "authentication": {"secret_ref": {"name": "fm"}}},
    }))
    .expect("it is a message");
    let place = Place {
        topic_prefix: "org".to_owned(),
    };
    let mut attempt = attempt(&message, &place, at(1)).expect("it can be sent");
    let name = pod_name(&message, 1);
    attempt.status.sender_pod = Some(name.clone());
    message.status = Some(attempt.status);
    (message, name, attempt.message)
}

const RACE: (u16, &str, &str) = (409, "Conflict", "the quota changed");
const BUSY: (u16, &str, &str) = (429, "TooManyRequests", "later");
const ABSENT: (u16, &str, &str) = (503, "ServiceUnavailable", "not ready");
const SLOW: (u16, &str, &str) = (504, "Timeout", "no answer in time");
const QUOTA: (u16, &str, &str) = (403, "Forbidden", "exceeded quota");
const RIGHTS: (u16, &str, &str) = (403, "Forbidden", "cannot create resource \"pods\"");
const WEBHOOK: (u16, &str, &str) = (500, "InternalError", "failed calling webhook \"w\"");

#[tokio::test(start_paused = true)]
async fn what_passes_is_tried_again_and_leaves_no_trace_where_nothing_was_made() {
    enum End {
        Made,
        /// With this text.
        Refused(&'static str),
        /// The next round makes it.
        Unmade,
        /// The next round cannot know.
        Unknown,
    }
    let all = |one| vec![one; 1 + PAUSES.len()];
    for (number, (of_maps, of_pods, expected)) in [
        (vec![], vec![], End::Made),
        (vec![], vec![RACE, BUSY, ABSENT], End::Made),
        (vec![BUSY], vec![SLOW], End::Made),
        (all(BUSY), vec![], End::Unmade),
        (all(SLOW), vec![], End::Unmade),
        (vec![], all(RACE), End::Unmade),
        (vec![], all(ABSENT), End::Unmade),
        (vec![], all(SLOW), End::Unknown),
        (vec![], vec![SLOW, QUOTA], End::Unknown),
        (vec![], vec![BUSY, QUOTA], End::Refused("exceeded quota")),
        (vec![], vec![RIGHTS], End::Refused("--message-namespace")),
        (vec![RIGHTS], vec![], End::Refused("--message-namespace")),
        (vec![], all(WEBHOOK), End::Refused("failed calling webhook")),
    ]
    .into_iter()
    .enumerate()
    {
        let fake = Fake::default();
        fake.kept().of_maps = of_maps.into();
        fake.kept().of_pods = of_pods.into();
        let made = fake.make().await;
        let (map, pod) = {
            let kept = fake.kept();
            (kept.map.is_some(), kept.pod.is_some())
        };
        let (message, name, _) = begun();
        let next = fake.pods().look(&message, &name, at(2)).await;
        let next = next.expect("it can be looked at");
        match expected {
            End::Made => assert!(matches!(made, Ok(Ok(()))) && map && pod, "{number}"),
            End::Refused(part) => {
                let fault = made.expect("it is known").expect_err("it was refused");
                assert_eq!(fault.reason, "SenderPodFailed");
                assert!(fault.text.contains(part), "{}", fault.text);
                assert!(!map && !pod, "{number}");
            }
            End::Unmade => {
                made.expect_err("it goes on");
                assert!(!map && matches!(next, Found::Unmade), "{number}");
            }
            End::Unknown => {
                made.expect_err("it goes on");
                let Found::Gone(fault) = next else {
                    panic!("{number}");
                };
                assert_eq!(fault.reason, "DeliveryUncertain");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_node_took_sent_nothing_only_when_it_is_gone() {
    let fake = Fake::default();
    fake.make().await.expect("it answers").expect("it is made");
    if let Some(pod) = &mut fake.kept().pod {
        pod["metadata"]["creationTimestamp"] = json!(at(1).to_string());
        pod["metadata"]["resourceVersion"] = json!("7");
    }
    let (message, name, _) = begun();
    let pods = fake.pods();
    let look = async |second| {
        let found = pods.look(&message, &name, at(second)).await;
        found.expect("it can be looked at")
    };
    assert!(matches!(look(10).await, Found::Running));
    // A node took it just now: the API has another version.
    fake.kept().of_pods = vec![RACE].into();
    assert!(matches!(look(1000).await, Found::Running));
    let Found::Gone(fault) = look(1000).await else {
        panic!("it is gone");
    };
    assert_eq!(fault.reason, "SenderPodFailed");
    assert!(fake.kept().pod.is_none());
    let same = json!({"uid": "u", "resourceVersion": "7"});
    let asked = &fake.kept().asked;
    let deleted = asked.iter().filter(|(what, _)| what == "DELETE pod");
    let deleted: Vec<_> = deleted.map(|(_, body)| &body["preconditions"]).collect();
    assert_eq!(deleted, [&same, &same]);
}
