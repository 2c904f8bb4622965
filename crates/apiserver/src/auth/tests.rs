use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::*;
use crate::store::{Database, Key};

struct World {
    store: Store,
    auth: Auth,
    /// Holds the store's writer.
    _database: Database,
}

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().expect("a time")
}

fn authority() -> Authority {
    Authority::create("ca", jiff::SignedDuration::from_hours(48), now()).expect("an authority")
}

async fn world() -> World {
    let database = Database::memory();
    let store = database.store("hub").expect("a store");
    policy::ensure(&store, |_object| {}).await.expect("written");
    let admin = User {
        name: "admin".to_owned(),
        groups: vec![MASTERS.to_owned()],
        ..User::default()
    };
    let ann = User {
        name: "ann".to_owned(),
        ..User::default()
    };
    let options = Options {
        anonymous: true,
        tokens: vec![
            ("admin-token".to_owned(), admin),
            ("ann-token".to_owned(), ann),
        ],
        issuer: "https://hub".to_owned(),
        audiences: vec!["https://hub".to_owned()],
        keys: TokenKeys::generate().expect("keys"),
        authority: Some(Arc::new(authority())),
        clock: Arc::new(now),
    };
    let auth = Auth::new(store.clone(), options).expect("randomness");
    World {
        store,
        auth,
        _database: database,
    }
}

impl World {
    async fn put(&self, resource: &str, namespace: &str, name: &str, mut object: Value) {
        object["metadata"]["name"] = name.into();
        object["metadata"]["uid"] = format!("uid-of-{name}").into();
        let key = Key {
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        self.store.create(key, object).await.expect("written");
    }

    fn login(&self, lines: &[(&'static str, &str)]) -> Result<User, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        self.auth
            .authenticate(&headers, None)
            .map_err(|error| error.message)
    }

    async fn bind(&self, name: &str, role: &str, user: &str) {
        let binding = json!({
            "roleRef": {"apiGroup": rbac::GROUP, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": user}],
        });
        self.put(rbac::CLUSTER_ROLE_BINDINGS, "", name, binding)
            .await;
    }

    fn review(&self, kind: &str, spec: Value, caller: &User) -> Value {
        let object = json!({"kind": kind, "spec": spec});
        self.auth.review(kind, object, caller).expect("an answer")["status"].clone()
    }
}

fn ann() -> User {
    User {
        name: "ann".to_owned(),
        ..User::default()
    }
    .authenticated()
}

fn pods<'a>() -> Attributes<'a> {
    Attributes {
        verb: "list",
        version: "v1",
        resource: "pods",
        namespace: "n",
        ..Attributes::default()
    }
}

#[tokio::test]
async fn credentials() {
    let world = world().await;
    assert_eq!(world.login(&[]), Ok(User::anonymous()));
    assert_eq!(
        world.login(&[("authorization", "Bearer ann-token")]),
        Ok(ann())
    );
    assert_eq!(
        world.login(&[("authorization", "Bearer wrong")]),
        Err("Unauthorized".to_owned())
    );
    let secret = |token: &str| {
        let data = [
            ("token-id", "abcdef"),
            ("token-secret", token),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:managedcluster"),
            ("expiration", "2026-11-21T00:00:01Z"),
        ];
        let data: serde_json::Map<String, Value> = data
            .iter()
            .map(|(key, text)| ((*key).to_owned(), STANDARD.encode(text).into()))
            .collect();
        json!({"type": "bootstrap.kubernetes.io/token", "data": data})
    };
    world
        .put(
            "/secrets",
            "kube-system",
            "bootstrap-token-abcdef",
            secret("0123456789abcdef"),
        )
        .await;
    let found = world
        .login(&[("authorization", "Bearer abcdef.0123456789abcdef")])
        .expect("a user");
    assert_eq!(found.name, "system:bootstrap:abcdef");
    assert_eq!(
        found.groups,
        [
            "system:bootstrappers",
            "system:bootstrappers:managedcluster",
            "system:authenticated"
        ]
    );
    world
        .login(&[("authorization", "Bearer abcdef.0123456789abcdee")])
        .expect_err("a wrong secret");
    world
        .login(&[("authorization", "Bearer abcdeg.0123456789abcdef")])
        .expect_err("an unknown id");
}

#[tokio::test]
async fn service_account_tokens_live_as_long_as_what_they_are_bound_to() {
    let world = world().await;
    world.put("/serviceaccounts", "n", "sa", json!({})).await;
    world.put("/secrets", "n", "s", json!({})).await;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 600, "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s"}},
    });
    let answer = world
        .auth
        .issue_token("n", "sa", request, &ann())
        .expect("an answer");
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        "2026-11-21T00:10:00Z"
    );
    assert_eq!(answer["spec"]["audiences"], json!(["https://hub"]));
    let token = answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let bearer = format!("Bearer {token}");
    let found = world.login(&[("authorization", &bearer)]).expect("a user");
    assert_eq!(found.name, "system:serviceaccount:n:sa");
    assert_eq!(found.uid, "uid-of-sa");
    assert_eq!(
        found.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:n",
            "system:authenticated"
        ]
    );
    assert!(found.extra["authentication.kubernetes.io/credential-id"][0].starts_with("JTI="));

    let status = world.review("TokenReview", json!({"token": token}), &ann());
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:n:sa");
    assert_eq!(status["audiences"], json!(["https://hub"]));
    let status = world.review(
        "TokenReview",
        json!({"token": token, "audiences": ["other"]}),
        &ann(),
    );
    assert_eq!(
        status,
        json!({"user": {}, "error": "token audiences do not include one that is accepted here"})
    );
    let status = world.review("TokenReview", json!({"token": "ann-token"}), &ann());
    assert_eq!(
        status["user"],
        json!({"username": "ann", "groups": ["system:authenticated"]})
    );

    let key = Key {
        resource: "/secrets".into(),
        namespace: "n".into(),
        name: "s".into(),
    };
    let revision = world.store.get(&key).expect("there").revision;
    world.store.delete(key, revision).await.expect("deleted");
    world
        .login(&[("authorization", &bearer)])
        .expect_err("the secret is gone");
}

#[tokio::test]
async fn token_requests_that_are_refused() {
    #[track_caller]
    fn check(world: &World, name: &str, request: Value, expected: &str) {
        let error = world
            .auth
            .issue_token("n", name, request, &ann())
            .expect_err("refused");
        assert_eq!(format!("{} {}", error.code, error.message), expected);
    }
    let world = world().await;
    world.put("/serviceaccounts", "n", "sa", json!({})).await;
    check(
        &world,
        "no",
        json!({}),
        "404 serviceaccounts \"no\" not found",
    );
    check(
        &world,
        "sa",
        json!({"spec": {"expirationSeconds": 599}}),
        "422 TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
    );
    check(
        &world,
        "sa",
        json!({"metadata": {"name": "x"}}),
        "422 TokenRequest.authentication.k8s.io \"sa\" is invalid: metadata.name: Invalid value: \"x\": must match the service account name if specified",
    );
    check(
        &world,
        "sa",
        json!({"spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s"}}}),
        "404 secrets \"s\" not found",
    );
    check(
        &world,
        "sa",
        json!({"spec": {"boundObjectRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "s"}}}),
        "400 cannot bind token to object of type apps/v1, Kind=Deployment",
    );
}

#[tokio::test]
async fn refusals_have_the_words_of_kubernetes() {
    #[track_caller]
    fn check(world: &World, user: &User, asked: Attributes<'_>, expected: &str) {
        let Decision::Deny { reason } = world.auth.authorize(user, &asked) else {
            panic!("allowed")
        };
        assert_eq!(asked.forbidden(&reason).message, expected);
    }
    let world = world().await;
    let group = "example.io";
    let things = Attributes {
        verb: "list",
        group,
        resource: "things",
        namespace: "default",
        ..Attributes::default()
    };
    check(
        &world,
        &User::anonymous(),
        things,
        "things.example.io is forbidden: User \"system:anonymous\" cannot list resource \"things\" in API group \"example.io\" in the namespace \"default\"",
    );
    check(
        &world,
        &ann(),
        Attributes {
            namespace: "",
            name: "t",
            subresource: "status",
            ..things
        },
        "things.example.io \"t\" is forbidden: User \"ann\" cannot list resource \"things/status\" in API group \"example.io\" at the cluster scope",
    );
    check(
        &world,
        &ann(),
        Attributes {
            verb: "get",
            path: "/<b>",
            ..Attributes::default()
        },
        "forbidden: User \"ann\" cannot get path \"/&lt;b&gt;\"",
    );
    world.bind("lost", "gone", "ann").await;
    check(
        &world,
        &ann(),
        pods(),
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"n\": RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found",
    );
}

#[tokio::test]
async fn a_written_binding_counts_at_once() {
    let world = world().await;
    assert!(!world.auth.authorize(&ann(), &pods()).is_allowed());
    world.bind("b", "view", "ann").await;
    assert!(world.auth.authorize(&ann(), &pods()).is_allowed());
    // Other writes do not disturb.
    world.put("/configmaps", "n", "c", json!({})).await;
    assert!(world.auth.authorize(&ann(), &pods()).is_allowed());
    let key = Key {
        resource: rbac::CLUSTER_ROLE_BINDINGS.into(),
        namespace: "".into(),
        name: "b".into(),
    };
    let revision = world.store.get(&key).expect("there").revision;
    world.store.delete(key, revision).await.expect("deleted");
    assert!(!world.auth.authorize(&ann(), &pods()).is_allowed());
}

#[tokio::test]
async fn acting_as_another() {
    let world = world().await;
    let admin = ("authorization", "Bearer admin-token");
    let bob = world
        .login(&[admin, ("impersonate-user", "bob")])
        .expect("allowed");
    assert_eq!(
        (bob.name.as_str(), bob.groups.as_slice()),
        ("bob", ["system:authenticated".to_owned()].as_slice())
    );
    let refused = world.login(&[
        ("authorization", "Bearer ann-token"),
        ("impersonate-user", "bob"),
    ]);
    assert_eq!(
        refused,
        Err("users \"bob\" is forbidden: User \"ann\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope".to_owned())
    );
}

#[tokio::test]
async fn reviews() {
    #[track_caller]
    fn check(world: &World, kind: &str, object: Value, expected: &str) {
        let error = world
            .auth
            .review(kind, object, &ann())
            .expect_err("refused");
        assert_eq!(error.message, expected);
    }
    let world = world().await;
    world.bind("b", "view", "ann").await;
    let spec = |verb: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "n"}});
    let status = world.review("SelfSubjectAccessReview", spec("list"), &ann());
    let reason =
        "RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"view\" to User \"ann\"";
    assert_eq!(status, json!({"allowed": true, "reason": reason}));
    let status = world.review("SelfSubjectAccessReview", spec("delete"), &ann());
    assert_eq!(status, json!({"allowed": false}));
    let mut of_group = spec("delete");
    of_group["groups"] = json!(["system:masters"]);
    assert_eq!(
        world.review("SubjectAccessReview", of_group, &ann()),
        json!({"allowed": true})
    );
    let status = world.review("SelfSubjectReview", Value::Null, &ann());
    assert_eq!(
        status,
        json!({"userInfo": {"username": "ann", "groups": ["system:authenticated"]}})
    );
    let status = world.review("SelfSubjectRulesReview", json!({"namespace": "n"}), &ann());
    assert_eq!(status["incomplete"], false);
    let rules = status["resourceRules"].as_array().expect("rules");
    assert!(rules.contains(&json!({
        "verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"],
    })));
    assert!(
        status["nonResourceRules"]
            .as_array()
            .is_some_and(|rules| rules.len() >= 2)
    );
    check(
        &world,
        "TokenReview",
        json!({"spec": {}}),
        "token is required for TokenReview in authentication",
    );
    check(
        &world,
        "SelfSubjectRulesReview",
        json!({"spec": {}}),
        "no namespace on request",
    );
    check(
        &world,
        "SubjectAccessReview",
        json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}),
        ".authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified",
    );
    check(
        &world,
        "LocalSubjectAccessReview",
        json!({"metadata": {"namespace": "m"}, "spec": {"user": "x", "resourceAttributes": {"namespace": "n"}}}),
        ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"n\": must match metadata.namespace",
    );
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let world = world().await;
    world.bind("b", "view", "ann").await;
    let rule = |verb: &str| json!([{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]);
    let role = |verb: &str| json!({"metadata": {"name": "r"}, "rules": rule(verb)});
    let binding = |role: &str| {
        json!({
            "metadata": {"name": "b"}, "roleRef": {"apiGroup": rbac::GROUP, "kind": "ClusterRole", "name": role},
        })
    };
    let check = |kind: &str, object: Value| {
        world
            .auth
            .check_escalation(&ann(), kind, &object, "n")
            .map_err(|error| error.message)
    };
    check("Role", role("get")).expect("held");
    assert_eq!(
        check("Role", role("delete")),
        Err("roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) \
             is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}".to_owned())
    );
    let mut gathering = role("get");
    gathering["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    assert_eq!(
        check("ClusterRole", gathering),
        Err("clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: must have cluster-admin privileges to use the aggregationRule".to_owned())
    );
    check("RoleBinding", binding("view")).expect("held");
    check("ClusterRoleBinding", binding("edit")).expect_err("more");
    assert_eq!(
        check("RoleBinding", binding("none")),
        Err("rolebindings.rbac.authorization.k8s.io \"none\" not found".to_owned())
    );
    check("ConfigMap", role("delete")).expect("no rights in it");
    // The verb `bind` on one role lets it be bound.
    let rules = json!([{"verbs": ["bind"], "apiGroups": [rbac::GROUP], "resources": ["clusterroles"], "resourceNames": ["edit"]}]);
    world
        .put(rbac::CLUSTER_ROLES, "", "binder", json!({"rules": rules}))
        .await;
    world.bind("b2", "binder", "ann").await;
    check("RoleBinding", binding("edit")).expect("may bind");
    check("RoleBinding", binding("admin")).expect_err("another role");
    world
        .auth
        .check_escalation(&User::system(), "Role", &role("*"), "n")
        .expect("may do everything");
}

#[tokio::test]
async fn who_may_approve_and_sign() {
    let world = world().await;
    world
        .bind(
            "b",
            "system:certificates.k8s.io:kube-apiserver-client-approver",
            "ann",
        )
        .await;
    let object = |signer: &str| json!({"metadata": {"name": "c"}, "spec": {"signerName": signer}});
    let check = |signer: &str, subresource: &str, changed: bool| {
        let (old, mut new) = (object(signer), object(signer));
        if changed {
            new["status"]["certificate"] = "x".into();
        }
        world
            .auth
            .check_csr_update(&ann(), subresource, &old, &new)
            .map_err(|error| error.message)
    };
    let ours = csr::CLIENT_SIGNER;
    check(ours, "approval", false).expect("may approve");
    check(ours, "status", false).expect("changes nothing");
    assert_eq!(
        check(ours, "status", true),
        Err(format!(
            "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to sign requests with signerName \"{ours}\""
        ))
    );
    check("open-cluster-management.io/grpc", "approval", false).expect_err("another signer");
    let rules = json!([{"verbs": ["approve", "sign"], "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["open-cluster-management.io/*"]}]);
    world
        .put(rbac::CLUSTER_ROLES, "", "signer", json!({"rules": rules}))
        .await;
    world.bind("b2", "signer", "ann").await;
    check("open-cluster-management.io/grpc", "approval", false).expect("by domain");
    check("open-cluster-management.io/grpc", "status", true).expect("by domain");
}

/// Waits until an object is as wished.
async fn wait_for(store: &Store, resource: &str, wish: impl Fn(&str, &Value) -> bool) {
    let listing = store.list(resource, None);
    let is_it = |object: &crate::store::Object| wish(&object.key.name, &object.value());
    if listing.items.iter().any(|object| is_it(object)) {
        return;
    }
    let mut watch = store.watch(resource, listing.revision).expect("a watch");
    let wait = async {
        loop {
            let change = watch.next().await.expect("a change");
            if change.new.as_ref().is_some_and(|object| is_it(object)) {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .expect("in time");
}

#[tokio::test]
async fn approved_requests_are_signed() {
    let world = world().await;
    let cancel = tokio_util::sync::CancellationToken::new();
    let request = |approved: bool| {
        let conditions = if approved {
            json!([{"type": "Approved", "status": "True"}])
        } else {
            json!([])
        };
        json!({
            "spec": {
                "request": STANDARD.encode(include_str!("csr/fixtures/agent.csr")),
                "signerName": csr::CLIENT_SIGNER, "usages": ["client auth"], "expirationSeconds": 3600,
            },
            "status": {"conditions": conditions},
        })
    };
    // One before the controller runs, one after.
    world.put(csr::RESOURCE, "", "early", request(true)).await;
    world
        .put(csr::RESOURCE, "", "waiting", request(false))
        .await;
    let running = csr::run(world.store.clone(), world.auth.clone(), cancel.clone());
    let running = tokio::spawn(running);
    wait_for(&world.store, csr::RESOURCE, |name, object| {
        name == "early" && object["status"]["certificate"].is_string()
    })
    .await;
    world.put(csr::RESOURCE, "", "late", request(true)).await;
    wait_for(&world.store, csr::RESOURCE, |name, object| {
        name == "late" && object["status"]["certificate"].is_string()
    })
    .await;
    let key = Key {
        resource: csr::RESOURCE.into(),
        namespace: "".into(),
        name: "waiting".into(),
    };
    assert!(world.store.get(&key).expect("there").value()["status"]["certificate"].is_null());

    // Who shows such a certificate is who the request named.
    let key = Key {
        name: "late".into(),
        ..key
    };
    let object = world.store.get(&key).expect("there").value();
    let certificate = object["status"]["certificate"]
        .as_str()
        .expect("a certificate");
    let certificate = STANDARD.decode(certificate).expect("base64");
    let der = pem::parse(certificate).expect("PEM").into_contents();
    let peer = PeerCertificates(vec![der.into()]);
    let user = world
        .auth
        .authenticate(&HeaderMap::new(), Some(&peer))
        .expect("a user");
    assert_eq!(user.name, "system:open-cluster-management:cluster1:agent1");
    assert_eq!(
        user.groups,
        [
            "system:open-cluster-management:cluster1",
            "system:open-cluster-management:managed-clusters",
            "system:authenticated",
        ]
    );
    cancel.cancel();
    running.await.expect("stopped");
}

#[tokio::test]
async fn aggregated_roles_follow() {
    let world = world().await;
    let cancel = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(policy::run(world.store.clone(), cancel.clone()));
    let rule = json!({"verbs": ["get"], "apiGroups": ["example.io"], "resources": ["things"]});
    let role = json!({
        "metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}, "rules": [rule],
    });
    world
        .put(rbac::CLUSTER_ROLES, "", "things-viewer", role)
        .await;
    // Through view and edit up to admin.
    wait_for(&world.store, rbac::CLUSTER_ROLES, |name, object| {
        name == "admin"
            && object["rules"]
                .as_array()
                .is_some_and(|rules| rules.contains(&rule))
    })
    .await;
    cancel.cancel();
    running.await.expect("stopped");
}

#[tokio::test]
async fn questions_of_any_shape_are_answered() {
    let world = world().await;
    world.put("/serviceaccounts", "n", "sa", json!({})).await;
    let part = [json!(null), json!("x"), json!([1]), json!({}), json!(5)];
    for kind in [
        "TokenReview",
        "SelfSubjectReview",
        "SelfSubjectRulesReview",
        "SelfSubjectAccessReview",
        "SubjectAccessReview",
        "LocalSubjectAccessReview",
        "Other",
    ] {
        for shape in &part {
            let object = json!({"metadata": shape, "spec": shape});
            let answer = world.auth.review(kind, object, &ann());
            assert_eq!(
                answer.is_ok(),
                kind == "SelfSubjectReview",
                "{kind} {shape}"
            );
            world.auth.review(kind, shape.clone(), &ann()).ok();
        }
    }
    for shape in &part {
        let request = json!({"metadata": shape, "spec": shape});
        let answer = world
            .auth
            .issue_token("n", "sa", request, &ann())
            .expect("a token");
        assert_eq!(answer["metadata"]["name"], "sa");
    }
}
