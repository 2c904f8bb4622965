//! The same reviews to OCM's webhooks and to ours: the same answers, in other words.

use drover_apiserver::auth::ca::Authority;
use drover_apiserver::tls::{self, ReloadableTls, TlsFiles};
use drover_core::admission::{Policy, Rule};
use drover_hub::webhook::service;
use drover_runtime::clock::Clock;
use drover_testkit::{KubeApi, KubeOptions, ocm};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::DeleteParams;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::judged::Judged;
use crate::world::{api, apply, config_map};

const SET_LABEL: &str = "cluster.open-cluster-management.io/clusterset";
const THEN: &str = "2025-01-01T00:00:00Z";
const RANDOM: usize = 3000;

/// What a server says of a review.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Taken, and what becomes of the object.
    Allowed(Value),
    /// Refused: code and reason.
    Refused(i64, String),
}

/// An HTTPS client that believes every certificate.
fn client_of(url: &str) -> Client {
    let mut config = kube::Config::new(url.parse().unwrap());
    config.accept_invalid_certs = true;
    Client::try_from(config).unwrap()
}

/// API servers escape more than is needed.
fn as_go_writes(review: &Value) -> String {
    let mut text = review.to_string();
    for (plain, escaped) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
    ] {
        text = text.replace(plain, escaped);
    }
    text
}

async fn ask(server: &Client, rule: Rule, review: &Value) -> (Verdict, String) {
    let request = http::Request::post(rule.path())
        .header("content-type", "application/json")
        .body(as_go_writes(review).into_bytes())
        .unwrap();
    let text = server.request_text(request).await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1", "{text}");
    let response = &answer["response"];
    assert_eq!(response["uid"], review["request"]["uid"], "{text}");
    if response["allowed"] != true {
        let code = response["status"]["code"].as_i64().unwrap_or_default();
        let reason = response["status"]["reason"].as_str().unwrap_or_default();
        return (Verdict::Refused(code, reason.to_owned()), text);
    }
    let mut object = review["request"]["object"].clone();
    if let Some(patch) = response["patch"].as_str() {
        use base64::Engine as _;
        let patch = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    (Verdict::Allowed(canonical(object)), text)
}

/// Without what means nothing, times as moments: those that nobody named are now.
fn canonical(value: Value) -> Value {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(key, member)| {
                let member = canonical(member);
                let time = member.as_str().filter(|_| key == "timeAdded").map(moment);
                (key, time.map_or(member, Value::String))
            });
            members.filter(|(_, member)| !empty(member)).collect()
        }
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        other => other,
    }
}

fn moment(text: &str) -> String {
    let time: Timestamp = text.parse().unwrap();
    let known: Timestamp = THEN.parse().unwrap();
    if time.as_second() < 0 {
        return String::new();
    }
    if time == known { "then" } else { "now" }.to_owned()
}

fn review(rule: Rule, operation: &str, user: &str, old: Value, new: Value) -> Value {
    let (group, resource) = rule.resource();
    let (version, kind) = match rule {
        Rule::FillCluster | Rule::Cluster => ("v1", "ManagedCluster"),
        Rule::Binding => ("v1beta2", "ManagedClusterSetBinding"),
        Rule::Work => ("v1", "ManifestWork"),
        Rule::ReplicaSet => ("v1alpha1", "ManifestWorkReplicaSet"),
    };
    let typed = |mut object: Value| {
        if let Some(members) = object.as_object_mut() {
            members.insert("apiVersion".to_owned(), format!("{group}/{version}").into());
            members.insert("kind".to_owned(), kind.into());
        }
        object
    };
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "a-uid", "operation": operation, "name": new["metadata"]["name"], "namespace": new["metadata"]["namespace"],
            "kind": {"group": group, "version": version, "kind": kind},
            "resource": {"group": group, "version": version, "resource": resource},
            "userInfo": {"username": user, "groups": ["system:authenticated"], "extra": {"a": ["b"]}},
            "object": typed(new), "oldObject": typed(old), "dryRun": false, "options": null,
        },
    })
}

/// The one difference that is meant: a new cluster whose name no namespace can have is refused even if it gives
/// no addresses.
fn is_meant(rule: Rule, review: &Value) -> bool {
    let request = &review["request"];
    let object = &request["object"];
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let no_addresses = object["spec"]["managedClusterClientConfigs"]
        .as_array()
        .is_none_or(Vec::is_empty);
    rule == Rule::Cluster
        && request["operation"] == "CREATE"
        && ["dotted.name", "Upper"].contains(&name)
        && no_addresses
}

struct Pair {
    theirs: Client,
    ours: Client,
}

impl Pair {
    async fn compare(&self, rule: Rule, review: &Value) -> bool {
        let ((theirs, their_text), (ours, our_text)) = tokio::join!(
            ask(&self.theirs, rule, review),
            ask(&self.ours, rule, review)
        );
        if is_meant(rule, review) {
            assert_eq!(
                ours,
                Verdict::Refused(400, "BadRequest".to_owned()),
                "{review}"
            );
            return true;
        }
        let shown: String = review["request"].to_string().chars().take(2000).collect();
        assert_eq!(
            theirs, ours,
            "{rule:?} {shown}\n{their_text:.1000}\n{our_text:.1000}"
        );
        matches!(ours, Verdict::Refused(..))
    }
}

/// One of the values.
fn one(random: &mut SmallRng, values: &[Value]) -> Value {
    values[random.random_range(0..values.len())].clone()
}

fn some(random: &mut SmallRng, values: &[Value], most: usize) -> Value {
    let count = random.random_range(0..=most);
    (0..count).map(|_| one(random, values)).collect()
}

/// Sets a member, or leaves it out when the value is `"-"`.
fn put(object: &mut Value, member: &str, value: Value) {
    if value != "-" {
        object[member] = value;
    }
}

fn cluster(random: &mut SmallRng) -> Value {
    let names = ["one", "gone", "fine", "dotted.name", "Upper"].map(Value::from);
    let mut cluster = json!({"metadata": {"name": one(random, &names)}, "spec": {}});
    let label = |set: &str| json!({SET_LABEL: set});
    let labels = [
        json!("-"),
        Value::Null,
        json!({"a": "b"}),
        label(""),
        label("default"),
        label("blue"),
        label("blue"),
        label("red"),
    ];
    put(&mut cluster["metadata"], "labels", one(random, &labels));
    let accepts = [
        json!("-"),
        Value::Null,
        json!(true),
        json!(true),
        json!(false),
    ];
    put(
        &mut cluster["spec"],
        "hubAcceptsClient",
        one(random, &accepts),
    );
    let urls = [
        "https://h",
        "https://h:6443/p",
        "https://[::1]:1",
        "http://h",
        "h",
        "https:",
        "https://h:port",
        "HTTPS://h",
        "https://h h",
        "",
    ]
    .map(|url| json!({"url": url}));
    let good = &urls[..3];
    let configs = [
        json!("-"),
        Value::Null,
        some(random, good, 2),
        some(random, good, 2),
        some(random, &urls, 2),
    ];
    put(
        &mut cluster["spec"],
        "managedClusterClientConfigs",
        one(random, &configs),
    );
    let taints = [
        json!("-"),
        Value::Null,
        taints(random),
        taints(random),
        taints(random),
    ];
    put(&mut cluster["spec"], "taints", one(random, &taints));
    cluster
}

fn taints(random: &mut SmallRng) -> Value {
    let mut taints = Vec::new();
    for key in ["a", "b"] {
        if random.random_bool(0.5) {
            continue;
        }
        let mut taint = json!({"key": key, "effect": one(random, &["NoSelect", "NoSelect", "PreferNoSelect"].map(Value::from))});
        put(
            &mut taint,
            "value",
            one(random, &["-", "x", "x", "y"].map(Value::from)),
        );
        let times = [
            json!("-"),
            Value::Null,
            json!(THEN),
            json!(THEN),
            json!("2025-01-01T01:00:00+01:00"),
            json!("0001-01-01T00:00:00Z"),
        ];
        put(&mut taint, "timeAdded", one(random, &times));
        taints.push(taint);
    }
    taints.into()
}

fn binding(random: &mut SmallRng) -> Value {
    let names = ["blue", "blue", "red", ""].map(Value::from);
    let mut binding =
        json!({"metadata": {"namespace": "one", "name": one(random, &names)}, "spec": {}});
    put(
        &mut binding["spec"],
        "clusterSet",
        one(random, &["blue", "blue", "red", "-", ""].map(Value::from)),
    );
    binding
}

fn manifests(random: &mut SmallRng) -> Value {
    let map = |name: &str| config_map(name, "<&>\u{2028}\n");
    let good = [
        map("a"),
        map("b"),
        map("c"),
        map("d"),
        json!({"kind": "A", "metadata": {"name": "a"}}),
    ];
    let odd = [
        json!({"apiVersion": "v1", "metadata": {"name": "a"}}),
        json!({"kind": "A"}),
        json!({"kind": "A", "metadata": null}),
        json!({"kind": "A", "metadata": {"generateName": "a"}}),
        json!({"kind": "A", "metadata": {"name": "a", "generateName": "a"}}),
        json!({"kind": "A", "metadata": {"name": 7}}),
        json!({"kind": 7, "metadata": {"name": "a"}}),
        json!({"kind": "A", "metadata": "a"}),
        json!({"apiVersion": "a/b/c", "kind": "A", "metadata": {"name": "a"}}),
        Value::Null,
        json!("text"),
        json!([1]),
        json!({}),
        json!({"kind": "A", "metadata": {"name": "a", "labels": {"a": 1}}}),
        json!({"kind": "A", "metadata": {"name": "a", "labels": null}}),
        json!({"kind": "A", "metadata": {"name": "a", "creationTimestamp": "never"}}),
        json!({"kind": "A", "metadata": {"name": "a", "ownerReferences": [{"uid": 7}]}}),
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"name": "a"}, "items": []}),
    ];
    let mut list = some(random, &good, 3);
    if random.random_bool(0.3)
        && let Some(list) = list.as_array_mut()
    {
        list.push(one(random, &odd));
    }
    one(
        random,
        &[list.clone(), list.clone(), list, Value::Null, json!([])],
    )
}

fn work(random: &mut SmallRng) -> Value {
    let executor = |namespace: &str, name: &str| {
        let account = json!({"namespace": namespace, "name": name});
        json!({"subject": {"type": "ServiceAccount", "serviceAccount": account}})
    };
    let mut work = json!({"metadata": {"namespace": "one", "name": "w"}, "spec": {"workload": {"manifests": manifests(random)}}});
    let executors = [
        json!("-"),
        Value::Null,
        executor("shop", "runner"),
        executor("shop", "runner"),
        executor("shop", "root"),
        json!({"subject": {"type": "ServiceAccount"}}),
    ];
    put(&mut work["spec"], "executor", one(random, &executors));
    work
}

fn replica_set(random: &mut SmallRng) -> Value {
    json!({
        "metadata": {"namespace": "one", "name": "s"},
        "spec": {"manifestWorkTemplate": {"workload": {"manifests": manifests(random)}}, "placementRefs": [{"name": "p"}]},
    })
}

fn object(rule: Rule, random: &mut SmallRng) -> Value {
    match rule {
        Rule::FillCluster | Rule::Cluster => cluster(random),
        Rule::Binding => binding(random),
        Rule::Work => work(random),
        Rule::ReplicaSet => replica_set(random),
    }
}

/// Cases that chance does not find: sizes at the limit, operations, objects that are none.
fn table() -> Vec<(Rule, Value)> {
    let mut table = Vec::new();
    let manifest = |size: usize| {
        let mut filled = config_map("a", "");
        filled["data"]["value"] = "<".into();
        let bare = filled.to_string().len() + 5;
        filled["data"]["value"] = format!("<{}", "x".repeat(size - bare)).into();
        filled
    };
    // The tag takes a byte, the length three.
    for size in [500 * 1024 - 4, 500 * 1024 - 3] {
        let new = json!({"metadata": {"name": "w", "namespace": "one"}, "spec": {"workload": {"manifests": [manifest(size)]}}});
        table.push((
            Rule::Work,
            review(Rule::Work, "CREATE", "ann", Value::Null, new),
        ));
    }
    for rule in Rule::ALL {
        let mut random = SmallRng::seed_from_u64(1);
        let (old, new) = (object(rule, &mut random), object(rule, &mut random));
        for operation in ["DELETE", "CONNECT"] {
            // What goes is the old object.
            let new = if operation == "DELETE" {
                Value::Null
            } else {
                new.clone()
            };
            if operation == "DELETE" || rule != Rule::FillCluster {
                table.push((rule, review(rule, operation, "bob", old.clone(), new)));
            }
        }
        table.push((
            rule,
            review(rule, "CREATE", "ann", Value::Null, Value::Null),
        ));
        table.push((
            rule,
            review(
                rule,
                "CREATE",
                "ann",
                Value::Null,
                json!({"metadata": {"name": "one"}, "spec": "text"}),
            ),
        ));
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_answered_as_upstream_answers_them() {
    let kube = KubeApi::start(KubeOptions::default()).await.unwrap();
    let judged = Judged::prepare(&kube.kubeconfig()).await;
    // A namespace on its way out.
    let maps = api(&judged.admin, "v1/ConfigMap", Some("gone"));
    let mut held = config_map("held", "1");
    held["metadata"] =
        json!({"name": "held", "namespace": "gone", "finalizers": ["example.com/held"]});
    apply(&maps, &held).await.unwrap();
    let namespaces = api(&judged.admin, "v1/Namespace", None);
    namespaces
        .delete("gone", &DeleteParams::default())
        .await
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (_process, theirs) = ocm::webhooks(&kube.kubeconfig(), folder.path())
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let ours = serve(&judged.admin, stop).await;
    let pair = Pair {
        theirs: client_of(&theirs),
        ours: client_of(&ours),
    };
    for (rule, review) in table() {
        pair.compare(rule, &review).await;
    }
    let mut random = SmallRng::seed_from_u64(20_260_101);
    let mut refusals = 0;
    for _ in 0..RANDOM {
        let rule = Rule::ALL[random.random_range(0..Rule::ALL.len())];
        let new = object(rule, &mut random);
        let user = ["ann", "bob"][random.random_range(0..2)];
        let (operation, old) = if random.random_bool(0.5) {
            ("CREATE", Value::Null)
        } else {
            let mut old = object(rule, &mut random);
            old["metadata"]["name"] = new["metadata"]["name"].clone();
            if random.random_bool(0.3) {
                old = new.clone();
            }
            ("UPDATE", old)
        };
        let review = review(rule, operation, user, old, new);
        refusals += usize::from(pair.compare(rule, &review).await);
    }
    // Neither all nor nothing is refused.
    assert!(
        (RANDOM / 10..RANDOM * 9 / 10).contains(&refusals),
        "{refusals} of {RANDOM}"
    );
}

/// Our webhooks on a port of their own.
async fn serve(client: &Client, stop: CancellationToken) -> String {
    let day = SignedDuration::from_hours(24);
    let authority = Authority::create("webhooks", day, Timestamp::now()).unwrap();
    let issued = authority
        .issue_server(&["127.0.0.1".to_owned()], day, Timestamp::now())
        .unwrap();
    let files = TlsFiles {
        certificate: issued.certificate,
        key: issued.key,
        client_ca: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let router = service(client.clone(), Policy::default(), Clock::system());
    let tls = ReloadableTls::new(&files).unwrap();
    tokio::spawn(tls::serve(listener, tls, router, stop));
    url
}
