use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full};
use kube::client::Body as KubeBody;
use tower::ServiceExt as _;

use super::*;

/// An API that says the same to every question, and how often it was asked.
fn api(code: u16, answer: Value) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let service = tower::service_fn(move |_: http::Request<KubeBody>| {
        count.fetch_add(1, Ordering::Relaxed);
        let body = Full::new(answer.to_string().into_bytes().into());
        let response = http::Response::builder().status(code).body(body);
        async move { Ok::<_, Infallible>(response.unwrap()) }
    });
    (Client::new(service, "default"), asked)
}

async fn post(client: &Client, rule: Rule, body: impl Into<Body>) -> (u16, String) {
    let router = service(client.clone(), Policy::default(), Clock::system());
    let request = http::Request::post(rule.path()).body(body.into()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

fn review(rule: Rule, object: &Value) -> Value {
    let (group, resource) = rule.resource();
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "resource": {"group": group, "version": "v1", "resource": resource},
            "userInfo": {"username": "ann"}, "object": object, "oldObject": null,
        },
    })
}

async fn answered(client: &Client, rule: Rule, review: &Value) -> Value {
    let (code, text) = post(client, rule, review.to_string()).await;
    assert_eq!(code, 200, "{text}");
    serde_json::from_str::<Value>(&text).unwrap()["response"].take()
}

fn accepted() -> Value {
    json!({"metadata": {"name": "c", "labels": {"cluster.open-cluster-management.io/clusterset": "a"}}, "spec": {"hubAcceptsClient": true}})
}

#[tokio::test]
async fn what_is_no_review_is_told_so() {
    let (client, asked) = api(200, json!({}));
    let check = async |body: String, code: u16, part: &str| {
        let (found, text) = post(&client, Rule::Cluster, body).await;
        assert!(found == code && text.contains(part), "{found} {text}");
    };
    check(String::new(), 400, "AdmissionReview of admission.k8s.io/v1").await;
    check("[]".to_owned(), 400, "AdmissionReview").await;
    let mut beta = review(Rule::Cluster, &accepted());
    beta["apiVersion"] = "admission.k8s.io/v1beta1".into();
    check(beta.to_string(), 400, "\"admission.k8s.io/v1beta1\"").await;
    check(" ".repeat(MAX_BODY + 1), 413, "bytes").await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_not_judged_passes() {
    let (client, asked) = api(500, json!({}));
    let mut other = review(Rule::Cluster, &accepted());
    other["request"]["resource"]["resource"] = "placements".into();
    assert_eq!(
        answered(&client, Rule::Cluster, &other).await,
        json!({"uid": "u", "allowed": true})
    );
    let mut status = review(Rule::Cluster, &accepted());
    status["request"]["subResource"] = "status".into();
    assert_eq!(
        answered(&client, Rule::Cluster, &status).await["allowed"],
        true
    );
    let mut unknown = review(Rule::Cluster, &accepted());
    unknown["request"]["operation"] = "PATCH".into();
    assert_eq!(
        answered(&client, Rule::Cluster, &unknown).await["status"]["code"],
        400
    );
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_api_that_cannot_say_lets_nobody_in() {
    let failure = json!({"kind": "Status", "status": "Failure", "message": "etcd is away", "reason": "InternalError", "code": 500});
    let (client, _) = api(500, failure);
    let answer = answered(&client, Rule::Cluster, &review(Rule::Cluster, &accepted())).await;
    assert_eq!(
        (&answer["allowed"], &answer["status"]["code"]),
        (&json!(false), &json!(403))
    );
    let message = answer["status"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("etcd is away"), "{message}");
    // An answer without a verdict is no permission.
    let (client, asked) = api(201, json!({"metadata": {}, "spec": {}}));
    let answer = answered(&client, Rule::Cluster, &review(Rule::Cluster, &accepted())).await;
    assert_eq!(answer["allowed"], false);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_is_filled_in_is_a_patch() {
    let (client, _) = api(500, json!({}));
    let bare = review(
        Rule::FillCluster,
        &json!({"metadata": {"name": "c"}, "spec": {}}),
    );
    let answer = answered(&client, Rule::FillCluster, &bare).await;
    let patch = STANDARD
        .decode(answer["patch"].as_str().unwrap_or_default())
        .unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&patch).unwrap(),
        json!([{"op": "add", "path": "/metadata/labels", "value": {"cluster.open-cluster-management.io/clusterset": "default"}}])
    );
    assert_eq!(answer["patchType"], "JSONPatch");
    let full = review(Rule::FillCluster, &accepted());
    assert_eq!(
        answered(&client, Rule::FillCluster, &full).await,
        json!({"uid": "u", "allowed": true})
    );
}
