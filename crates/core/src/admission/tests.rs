use super::*;
use jiff::Timestamp;

const NOW: &str = "2026-03-04T05:06:07Z";

fn user() -> User {
    User {
        name: "ann".to_owned(),
        ..User::default()
    }
}

fn request<'a>(user: &'a User, old: Option<&'a Value>, new: &'a Value) -> Request<'a> {
    Request {
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        user,
        old,
        new: Some(new),
    }
}

/// What is asked, or why it is refused: `REASON: MESSAGE`.
fn judged(
    rule: Rule,
    old: Option<&Value>,
    new: &Value,
    policy: &Policy,
) -> Result<Vec<String>, String> {
    let user = user();
    let checks = rule.judge(&request(&user, old, new), policy);
    let checks =
        checks.map_err(|refusal| format!("{}: {refusal}", refusal.reason().unwrap_or("-")))?;
    let asked = checks.iter().map(|check| match &check.question {
        Question::NamespaceStays(name) => format!("{name} stays"),
        Question::Access(access) => {
            let (resource, subresource) = (access.resource, access.subresource);
            format!(
                "{} {resource}/{subresource} {}/{}",
                access.verb, access.namespace, access.name
            )
        }
    });
    Ok(asked.collect())
}

fn check(rule: Rule, old: Option<&Value>, new: &Value, expected: Result<&[&str], &str>) {
    let found = judged(rule, old, new, &Policy::default());
    match (&found, expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{new}"),
        (Err(found), Err(expected)) => assert!(found.contains(expected), "{found} for {new}"),
        _ => panic!("{found:?}, not {expected:?}, for {new}"),
    }
}

fn cluster(name: &str, set: &str, spec: Value) -> Value {
    let mut cluster = json!({"metadata": {"name": name}, "spec": spec});
    if !set.is_empty() {
        cluster["metadata"]["labels"] =
            json!({"cluster.open-cluster-management.io/clusterset": set});
    }
    cluster
}

#[test]
fn clusters_are_let_in_and_grouped_by_those_who_may() {
    let (accepted, waiting) = (
        json!({"hubAcceptsClient": true}),
        json!({"hubAcceptsClient": false}),
    );
    let accept = ["c stays", "update managedclusters/accept /c"];
    let join = |set: &str| format!("create managedclustersets/join /{set}");
    let check = |old: Option<&Value>, new: &Value, expected: &[&str]| {
        check(Rule::Cluster, old, new, Ok(expected));
    };
    let plain = cluster("c", "", waiting.clone());
    let inside = cluster("c", "", accepted.clone());
    check(None, &plain, &[]);
    check(None, &inside, &accept);
    check(Some(&plain), &inside, &accept);
    check(Some(&inside), &inside, &[]);
    // Whoever may write clusters may shut one out.
    check(Some(&inside), &plain, &[]);
    let (a, b) = (
        cluster("c", "a", waiting.clone()),
        cluster("c", "b", waiting),
    );
    check(None, &a, &[&join("a")]);
    check(Some(&a), &a, &[]);
    check(Some(&a), &b, &[&join("a"), &join("b")]);
    check(Some(&a), &plain, &[&join("a")]);
    let both = cluster("c", "a", accepted);
    check(None, &both, &[accept[0], accept[1], &join("a")]);
    check(
        None,
        &json!({"metadata": {"name": "c", "labels": null}, "spec": null}),
        &[],
    );
}

#[test]
fn clusters_have_good_names_and_addresses() {
    let url = |url: &str| json!({"managedClusterClientConfigs": [{"url": url}]});
    let check = |old: Option<&Value>, new: &Value, expected: Result<&[&str], &str>| {
        check(Rule::Cluster, old, new, expected);
    };
    check(
        None,
        &cluster("c", "", url("https://127.0.0.1:6443")),
        Ok(&[]),
    );
    check(
        None,
        &cluster("c", "", url("http://127.0.0.1")),
        Err("BadRequest: spec.managedClusterClientConfigs"),
    );
    check(
        None,
        &cluster("c.d", "", url("https://h")),
        Err("BadRequest: metadata.name"),
    );
    check(None, &cluster("c.d", "", json!({})), Err("metadata.name"));
    let odd = cluster("c.d", "", json!({}));
    // It is there: it must be possible to let it go.
    check(Some(&odd), &odd, Ok(&[]));
    check(
        Some(&odd),
        &cluster("c.d", "", url("https://h")),
        Err("metadata.name"),
    );
    check(None, &cluster(&"c".repeat(63), "", json!({})), Ok(&[]));
    check(
        None,
        &cluster(&"c".repeat(64), "", json!({})),
        Err("metadata.name"),
    );
    check(
        None,
        &cluster("c", "", json!({"hubAcceptsClient": "yes"})),
        Err("-: "),
    );
    check(None, &cluster("c", "", json!([1])), Err("-: "));
}

#[test]
fn bindings_are_named_as_their_set() {
    let binding =
        |name: &str, set: &str| json!({"metadata": {"name": name}, "spec": {"clusterSet": set}});
    let asks = ["create managedclustersets/bind /a"];
    check(Rule::Binding, None, &binding("a", "a"), Ok(&asks));
    check(
        Rule::Binding,
        None,
        &binding("a", "b"),
        Err("BadRequest: a binding has"),
    );
    check(
        Rule::Binding,
        Some(&binding("a", "a")),
        &binding("a", "a"),
        Ok(&[]),
    );
    check(
        Rule::Binding,
        Some(&binding("a", "a")),
        &binding("a", "b"),
        Err("BadRequest"),
    );
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n", "name": name}})
}

fn work(manifests: Value, executor: Value) -> Value {
    json!({"metadata": {"name": "w", "namespace": "c"}, "spec": {"workload": {"manifests": manifests}, "executor": executor}})
}

#[test]
fn manifests_are_whole_and_said_once() {
    let check = |manifests: Value, expected: Result<&[&str], &str>| {
        check(
            Rule::Work,
            None,
            &work(manifests.clone(), Value::Null),
            expected,
        );
        let set = json!({"spec": {"manifestWorkTemplate": {"workload": {"manifests": manifests}}}});
        super::tests::check(Rule::ReplicaSet, None, &set, expected);
        super::tests::check(Rule::ReplicaSet, Some(&set), &set, expected);
    };
    check(json!([map("a"), map("b")]), Ok(&[]));
    check(json!([]), Err("BadRequest: there are no manifests"));
    check(Value::Null, Err("BadRequest: there are no manifests"));
    check(
        json!([map("a"), map("a")]),
        Err("BadRequest: manifest 1: v1 ConfigMap n/a is in"),
    );
    check(
        json!([null]),
        Err("BadRequest: manifest 0: it is no object"),
    );
    check(json!(["text"]), Err("it is no object"));
    check(json!([{"metadata": {"name": "a"}}]), Err("kind is missing"));
    check(json!([{"kind": "A"}]), Err("metadata.name is missing"));
    check(
        json!([{"kind": "A", "metadata": "a"}]),
        Err("metadata is no object"),
    );
    check(
        json!([{"kind": "A", "metadata": {"name": 7}}]),
        Err("metadata.name is missing"),
    );
    check(json!([{"kind": "A", "metadata": {"name": "a"}}]), Ok(&[]));
    check(
        json!([{"apiVersion": "a/b/c", "kind": "A", "metadata": {"name": "a"}}]),
        Err("apiVersion"),
    );
    check(
        json!([{"kind": "A", "metadata": {"name": "a", "generateName": "a-"}}]),
        Err("generateName"),
    );
    check(
        json!([{"kind": "A", "metadata": {"name": "a", "labels": {"a": 1}}}]),
        Err("metadata cannot be read"),
    );
    check(
        json!([{"kind": "A", "metadata": {"name": "a", "labels": {"a": null}, "creationTimestamp": null}}]),
        Ok(&[]),
    );
}

#[test]
fn works_may_be_as_large_as_upstream_lets_them() {
    let policy = |limit| Policy {
        manifest_limit: limit,
        ..Policy::default()
    };
    // One byte of tag, two of length, as Go writes it: `<` is `\u003c`.
    let manifest =
        json!({"kind": "A", "metadata": {"name": "a"}, "data": {"text": "<".repeat(100)}});
    let written = manifest.to_string().len() + 5 * 100;
    let judged = |limit| {
        judged(
            Rule::Work,
            None,
            &work(json!([manifest]), Value::Null),
            &policy(limit),
        )
    };
    assert_eq!(judged(written + 3), Ok(Vec::new()));
    let refused = judged(written + 2).unwrap_err();
    assert!(
        refused.contains(&format!("have {} bytes", written + 3)),
        "{refused}"
    );
}

#[test]
fn works_are_done_in_the_name_of_those_whom_one_may_be() {
    let executor = |name: &str| json!({"subject": {"type": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": name}}});
    let one = json!([map("a")]);
    let asks = ["execute-as manifestworks/ c/system:serviceaccount:n:x"];
    let (x, y) = (
        work(one.clone(), executor("x")),
        work(one.clone(), executor("y")),
    );
    let none = work(one.clone(), Value::Null);
    check(Rule::Work, None, &x, Ok(&asks));
    check(Rule::Work, Some(&x), &x, Ok(&[]));
    check(Rule::Work, Some(&y), &x, Ok(&asks));
    check(Rule::Work, Some(&none), &x, Ok(&asks));
    check(Rule::Work, Some(&x), &none, Ok(&[]));
    check(
        Rule::Work,
        None,
        &work(one, json!({"subject": {"type": "ServiceAccount"}})),
        Err("BadRequest: spec.executor"),
    );
    let strict = Policy {
        nil_executor: true,
        ..Policy::default()
    };
    let asked = judged(Rule::Work, None, &none, &strict).unwrap();
    assert_eq!(
        asked,
        ["execute-as manifestworks/ c/system:serviceaccount::klusterlet-work-sa"]
    );
}

#[test]
fn answers_decide() {
    let user = user();
    let accepted = cluster("c", "", json!({"hubAcceptsClient": true}));
    let checks = Rule::Cluster
        .judge(&request(&user, None, &accepted), &Policy::default())
        .unwrap();
    let access = checks.last().unwrap();
    assert_eq!(access.decide(Ok(true)), Ok(()));
    let no = access.decide(Ok(false)).unwrap_err();
    assert_eq!((no.code(), no.reason()), (403, Some("Forbidden")));
    assert_eq!(
        no.status()["details"],
        json!({"name": "c", "group": "cluster.open-cluster-management.io", "kind": "managedclusters/accept"})
    );
    let unknown = access
        .decide(Err("the API is away".to_owned()))
        .unwrap_err();
    assert!(unknown.to_string().contains("the API is away"), "{unknown}");
    assert_eq!(unknown.code(), 403);
    let Question::Access(asked) = &access.question else {
        panic!("{access:?}");
    };
    assert_eq!(
        asked.review(&user),
        json!({
            "user": "ann", "uid": "", "groups": [], "extra": {},
            "resourceAttributes": {
                "group": "register.open-cluster-management.io", "resource": "managedclusters", "subresource": "accept",
                "verb": "update", "name": "c",
            },
        })
    );
}

#[test]
fn whatever_else_happens_is_not_judged() {
    let user = user();
    for rule in Rule::ALL {
        let request = Request {
            operation: Operation::Other,
            user: &user,
            old: None,
            new: None,
        };
        assert_eq!(rule.judge(&request, &Policy::default()), Ok(Vec::new()));
        assert!(!rule.concerns(&request, &Policy::default()));
    }
}

/// Fills a cluster in.
fn filled(old: Option<&Value>, new: &Value, policy: &Policy) -> Result<Value, Refusal> {
    let (user, now): (_, Timestamp) = (user(), NOW.parse().unwrap());
    let additions = fill(&request(&user, old, new), policy, now)?;
    let mut object = new.clone();
    add(&mut object, &additions);
    Ok(object)
}

#[test]
fn clusters_get_a_set() {
    let default = json!({"cluster.open-cluster-management.io/clusterset": "default"});
    let check = |metadata: Value, expected: Value| {
        let found = filled(
            None,
            &json!({"metadata": metadata, "spec": {}}),
            &Policy::default(),
        )
        .unwrap();
        assert_eq!(found["metadata"]["labels"], expected);
    };
    check(json!({}), default.clone());
    check(Value::Null, default.clone());
    check(json!({"labels": null}), default.clone());
    check(
        json!({"labels": {"cluster.open-cluster-management.io/clusterset": ""}}),
        default.clone(),
    );
    check(
        json!({"labels": {"a": "b"}}),
        json!({"a": "b", "cluster.open-cluster-management.io/clusterset": "default"}),
    );
    let own = json!({"cluster.open-cluster-management.io/clusterset": "own"});
    check(json!({"labels": own}), own.clone());
    let off = Policy {
        default_cluster_set: false,
        ..Policy::default()
    };
    let bare = json!({"metadata": {}, "spec": {}});
    assert_eq!(filled(None, &bare, &off), Ok(bare.clone()));
    // Taking the label away puts the cluster back.
    let moved = filled(
        Some(&json!({"metadata": {"labels": own}})),
        &bare,
        &Policy::default(),
    )
    .unwrap();
    assert_eq!(moved["metadata"]["labels"], default);
}

#[test]
fn taints_know_when_they_were_put_on() {
    let taint = |key: &str, value: &str, added: Option<&str>| {
        let mut taint = json!({"key": key, "value": value, "effect": "NoSelect"});
        if let Some(added) = added {
            taint["timeAdded"] = added.into();
        }
        taint
    };
    let tainted = |taints: Value| cluster("c", "a", json!({"taints": taints}));
    let then = "2025-01-01T00:00:00Z";
    let check = |old: Option<Value>, new: Value, expected: Result<&[Option<&str>], &str>| {
        let old = old.map(tainted);
        let found = filled(old.as_ref(), &tainted(new.clone()), &Policy::default());
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                let taints = found["spec"]["taints"].as_array().unwrap().iter();
                let times: Vec<_> = taints.map(|taint| taint["timeAdded"].as_str()).collect();
                assert_eq!(times, expected, "{new}");
            }
            (Err(found), Err(expected)) => assert!(found.to_string().contains(expected), "{found}"),
            (found, _) => panic!("{found:?}, not {expected:?}, for {new}"),
        }
    };
    let (fresh, had) = (taint("a", "1", None), taint("a", "1", Some(then)));
    check(None, json!([fresh]), Ok(&[Some(NOW)]));
    check(None, json!([had]), Ok(&[Some(NOW)]));
    check(Some(json!([])), json!([fresh]), Ok(&[Some(NOW)]));
    check(Some(json!([])), json!([had]), Err("timeAdded of a "));
    check(
        Some(json!([had])),
        json!([had, taint("b", "", None)]),
        Ok(&[Some(then), Some(NOW)]),
    );
    // To leave it out is to change it.
    check(Some(json!([had])), json!([fresh]), Err("timeAdded of a "));
    check(
        Some(json!([had])),
        json!([taint("a", "2", None)]),
        Ok(&[Some(NOW)]),
    );
    check(
        Some(json!([had])),
        json!([taint("a", "2", Some(then))]),
        Err("timeAdded of a "),
    );
    check(
        Some(json!([had])),
        json!([taint("a", "1", Some("2025-01-01T01:00:00+01:00"))]),
        Ok(&[Some("2025-01-01T01:00:00+01:00")]),
    );
    check(
        Some(json!([fresh])),
        json!([taint("a", "1", Some("0001-01-01T00:00:00Z"))]),
        Ok(&[Some("0001-01-01T00:00:00Z")]),
    );
    check(
        Some(json!([])),
        json!([had, taint("b", "", Some(then))]),
        Err("timeAdded of a, b "),
    );
}

#[test]
fn only_changes_of_what_counts_are_judged() {
    let concerns = |rule: Rule, old: &Value, new: &Value| {
        rule.concerns(&request(&user(), Some(old), new), &Policy::default())
    };
    let a = cluster("c", "a", json!({"leaseDurationSeconds": 60}));
    let mut leaving = a.clone();
    leaving["metadata"]["finalizers"] = json!([]);
    let (bare, b) = (
        cluster("c", "", a["spec"].clone()),
        cluster("c", "b", a["spec"].clone()),
    );
    let other = cluster("c", "a", json!({"leaseDurationSeconds": 61}));
    let table = [
        (Rule::Cluster, &a, &leaving, false),
        (Rule::Cluster, &a, &b, true),
        (Rule::Cluster, &a, &bare, true),
        (Rule::Cluster, &a, &other, true),
        (Rule::FillCluster, &a, &leaving, false),
        (Rule::FillCluster, &a, &b, false),
        (Rule::FillCluster, &a, &bare, true),
        (Rule::FillCluster, &a, &other, true),
        (Rule::Work, &a, &leaving, false),
        (Rule::Work, &a, &other, true),
    ];
    for (rule, old, new, expected) in table {
        assert_eq!(
            concerns(rule, old, new),
            expected,
            "{rule:?}: {old} to {new}"
        );
    }
}

#[test]
fn urls_are_those_of_go() {
    let check = |url: &str, expected: bool| assert_eq!(go::is_https(url), expected, "{url:?}");
    for good in [
        "https://h",
        "https://h:6443/path?query#fragment",
        "HTTPS://h",
        "https://",
        "https:",
        "https:opaque",
        "https:/path",
        "https://user:pass@h",
        "https://[::1]:6443",
        "https://[fe80::1%25en0]",
        "https://h:",
        "https:///path",
        "https://h/%2f",
        "https://ü",
        "https://h?a=%zz",
    ] {
        check(good, true);
    }
    for bad in [
        "",
        "h",
        "//h",
        "http://h",
        "https://h:port",
        "https://h:1:2",
        "https://h h",
        "https://h/%2",
        "https://h\n",
        "https://[::1",
        "https://[::1]x",
        "https://[127.0.0.1]",
        "https://a[b]",
        "https://h%41",
        "https://u ser@h",
        "https://h#%",
        " https://h",
        "1https://h",
        "https//h",
    ] {
        check(bad, false);
    }
}

#[test]
fn lengths_are_those_of_go() {
    let check =
        |value: Value, text: &str| assert_eq!(go::json_length(&value), text.len(), "{value}");
    check(
        json!({"a": [1, true, false, null, -2], "b": {}}),
        r#"{"a":[1,true,false,null,-2],"b":{}}"#,
    );
    check(json!([]), "[]");
    check(json!("a\"\\\n\t\r\u{8}\u{c}"), r#""a\"\\\n\t\r\b\f""#);
    check(
        json!("<&>\u{1}\u{2028}ü"),
        r#""\u003c\u0026\u003e\u0001\u2028ü""#,
    );
}
