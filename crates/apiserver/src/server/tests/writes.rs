use super::*;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn bodies_that_are_not_what_the_path_serves() {
    let world = World::new().await;
    let check = async |body: &str, code: u16, message: &str| {
        let answer = world.send("POST", THINGS, &[], body.to_owned()).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{body}");
    };
    check(
        r#"{"metadata":{"name":"a"}}"#,
        400,
        "the object provided is unrecognized (must be of type Thing): Object 'Kind' is missing in \
         '{\"metadata\":{\"name\":\"a\"}}' ({\"metadata\":{\"name\":\"a\"}})",
    )
    .await;
    check(
        r#"{"kind":"Thing","metadata":{"name":"a"}}"#,
        400,
        "the API version in the data () does not match the expected API version (example.io/v1)",
    )
    .await;
    check(
        r#"{"apiVersion":"example.io/v2","kind":"Thing","metadata":{"name":"a"}}"#,
        400,
        "the API version in the data (example.io/v2) does not match the expected API version \
         (example.io/v1)",
    )
    .await;
    check(
        r#"{"apiVersion":"example.io/v1","kind":"Thingy","metadata":{"name":"a"}}"#,
        422,
        "Thingy.example.io \"a\" is invalid: kind: Invalid value: \"Thingy\": must be Thing",
    )
    .await;
    check(
        r#"{"apiVersion":"example.io/v1","kind":"Thing","metadata":{"name":"a","namespace":"b"}}"#,
        400,
        "the namespace of the provided object does not match the namespace sent on the request",
    )
    .await;
    check(
        r#"{"apiVersion":"example.io/v1","kind":"Thing","metadata":{"name":"a","resourceVersion":"5"}}"#,
        500,
        "resourceVersion should not be set on objects to be created",
    )
    .await;
    check(
        r#"{"apiVersion":"example.io/v1","kind":"Thing","metadata":{}}"#,
        422,
        "Thing.example.io \"\" is invalid: metadata.name: Required value: name or generateName is \
         required",
    )
    .await;
    check(
        r#"{"apiVersion":"example.io/v1","#,
        400,
        "the object provided is unrecognized (must be of type Thing): couldn't get version/kind; \
         json parse error: unexpected end of JSON input ({\"apiVersion\":\"example.io/v1\",)",
    )
    .await;
    check(
        "",
        400,
        "the object provided is unrecognized (must be of type Thing): couldn't get version/kind; \
         json parse error: unexpected end of JSON input (<empty>)",
    )
    .await;
}

#[tokio::test]
async fn bodies_of_built_in_kinds_need_not_say_what_they_are() {
    let world = World::new().await;
    let answer = world.post(
        CONFIGMAPS,
        json!({"metadata": {"name": "c1"}, "data": {"a": "1"}}),
    );
    let answer = answer.await;
    assert_eq!(
        (answer.code, &answer.body["kind"]),
        (201, &json!("ConfigMap"))
    );
    assert!(answer.body["metadata"].get("generation").is_none());
    let check = async |body: Value, message: &str| {
        let answer = world.post(CONFIGMAPS, body).await;
        answer.refused(400, "BadRequest", message);
    };
    check(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c2"}}),
        "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to \
         (core.ConfigMap): unknown conversion",
    )
    .await;
    check(
        json!({"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "c2"}}),
        "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is \
         registered for version \"v2\" in scheme \"pkg/runtime/scheme.go:111\"",
    )
    .await;
    check(
        json!({"metadata": {"name": "c3"}, "data": {"a": 1}}),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal \
         number into Go struct field ConfigMap.data of type string",
    )
    .await;
    let answer = world
        .send("POST", CONFIGMAPS, &[("content-type", "text/plain")], "{}")
        .await;
    answer.refused(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: \
         application/json, application/yaml, application/vnd.kubernetes.protobuf",
    );
    let answer = world.post(
        "/api/v1/namespaces/nope/configmaps",
        json!({"metadata": {"name": "a"}}),
    );
    let answer = answer.await;
    answer.refused(404, "NotFound", "namespaces \"nope\" not found");
    assert_eq!(
        answer.body["details"],
        json!({"name": "nope", "kind": "namespaces"})
    );
}

#[tokio::test]
async fn unknown_and_duplicate_fields() {
    let world = World::new().await;
    let body = r#"{"apiVersion":"example.io/v1","kind":"Thing","metadata":{"name":"a","bogus":1},
        "spec":{"bogus":1,"a":"1","a":"2"},"zzz":1,"zzz":2}"#;
    let strict = format!("{THINGS}?fieldValidation=Strict");
    world.send("POST", &strict, &[], body).await.refused(
        400,
        "BadRequest",
        "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: duplicate \
         field \"spec.a\", duplicate field \"zzz\", unknown field \"metadata.bogus\", unknown \
         field \"spec.bogus\", unknown field \"zzz\"",
    );
    let answer = world.send("POST", THINGS, &[], body).await;
    assert_eq!(
        (answer.code, &answer.body["spec"]),
        (201, &json!({"a": "2"}))
    );
    assert_eq!(
        answer.warnings(),
        [
            r#"299 - "duplicate field \"spec.a\"""#,
            r#"299 - "duplicate field \"zzz\"""#,
            r#"299 - "unknown field \"metadata.bogus\"""#,
            r#"299 - "unknown field \"spec.bogus\"""#,
            r#"299 - "unknown field \"zzz\"""#,
        ]
    );
    let answer = world
        .patch(&format!("{THINGS}/a"), MERGE, json!({"spec": {"bog": 1}}))
        .await;
    assert_eq!(answer.warnings(), [r#"299 - "unknown field \"spec.bog\"""#]);
    let uri = format!("{THINGS}/a?fieldValidation=Strict");
    let answer = world.patch(&uri, MERGE, json!({"spec": {"bog": 1}})).await;
    assert_eq!(
        (answer.code, &answer.body["reason"]),
        (422, &json!("Invalid"))
    );
    assert!(
        answer
            .message()
            .starts_with(" \"\" is invalid: patch: Invalid value: ")
    );
    assert!(
        answer
            .message()
            .ends_with(": strict decoding error: unknown field \"spec.bog\"")
    );
}

#[tokio::test]
async fn options_that_are_wrong() {
    let world = World::new().await;
    let check = async |query: &str, message: &str| {
        let answer = world.post(&format!("{THINGS}?{query}"), thing("a")).await;
        let text = format!("CreateOptions.meta.k8s.io \"\" is invalid: {message}");
        answer.refused(422, "Invalid", &text);
    };
    check(
        "fieldValidation=Bogus",
        "fieldValidation: Unsupported value: \"Bogus\": supported values: \"\", \"Ignore\", \
         \"Strict\", \"Warn\"",
    )
    .await;
    check(
        "dryRun=Some",
        "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
    )
    .await;
    let long = format!("fieldManager={}", "a".repeat(129));
    check(
        &long,
        "fieldManager: Too long: may not be more than 128 bytes",
    )
    .await;
    let uri = format!("{THINGS}/zz");
    let answer = world.patch(&uri, APPLY, thing("zz")).await;
    assert_eq!(
        answer.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
         apply patch"
    );
    let answer = world
        .patch(&format!("{uri}?force=true"), MERGE, json!({}))
        .await;
    assert_eq!(
        answer.message(),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for \
         non-apply patch"
    );
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let world = World::new().await;
    let answer = world
        .post(&format!("{THINGS}?dryRun=All"), thing("a"))
        .await;
    assert_eq!(answer.code, 201);
    assert!(answer.body["metadata"]["uid"].is_string());
    assert!(answer.body["metadata"].get("resourceVersion").is_none());
    assert_eq!(world.get(&format!("{THINGS}/a")).await.code, 404);
    world.thing("a").await;
    let uri = format!("{THINGS}/a?dryRun=All");
    let answer = world.patch(&uri, MERGE, json!({"spec": {"b": "2"}})).await;
    assert_eq!((answer.code, &answer.body["spec"]["b"]), (200, &json!("2")));
    assert_eq!(world.delete(&uri, Value::Null).await.code, 200);
    let answer = world.get(&format!("{THINGS}/a")).await;
    assert_eq!(
        (answer.code, answer.body["spec"]["b"].is_null()),
        (200, true)
    );
}

#[tokio::test]
async fn a_create_gives_an_object_what_every_object_has() {
    let world = World::new().await;
    let mut body = thing("a");
    body["spec"] = json!({"b": "1"});
    body["status"] = json!({"phase": "lost"});
    let answer = world.post(THINGS, body.clone()).await;
    let metadata = &answer.body["metadata"];
    assert_eq!(metadata["creationTimestamp"], "2026-01-02T03:04:05Z");
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["managedFields"][0]["manager"], "me");
    assert_eq!(answer.body["spec"], json!({"a": "x", "b": "1"}));
    assert!(answer.body.get("status").is_none());
    let answer = world.post(THINGS, body).await;
    answer.refused(
        409,
        "AlreadyExists",
        "things.example.io \"a\" already exists",
    );
    assert_eq!(
        answer.body["details"],
        json!({"name": "a", "group": "example.io", "kind": "things"})
    );
    let mut body = thing("a");
    body["metadata"] = json!({"generateName": "gen-"});
    let answer = world.post(THINGS, body).await;
    let name = answer.body["metadata"]["name"].as_str().unwrap();
    assert_eq!((answer.code, name.len(), &name[..4]), (201, 9, "gen-"));
}

#[tokio::test]
async fn updates() {
    let world = World::new().await;
    let uri = format!("{THINGS}/a");
    let created = world.thing("a").await;
    let mut body = created.body.clone();
    body["metadata"]["resourceVersion"] = Value::Null;
    world.put(&uri, body.clone()).await.refused(
        422,
        "Invalid",
        "things.example.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be \
         specified for an update",
    );
    body["metadata"]["resourceVersion"] = "1".into();
    world.put(&uri, body.clone()).await.refused(
        409,
        "Conflict",
        "Operation cannot be fulfilled on things.example.io \"a\": the object has been modified; \
         please apply your changes to the latest version and try again",
    );
    body["metadata"]["resourceVersion"] = "x".into();
    let text = "strconv.ParseUint: parsing \"x\": invalid syntax";
    world.put(&uri, body.clone()).await.refused(500, "", text);
    world
        .put(&format!("{THINGS}/b"), body.clone())
        .await
        .refused(
            400,
            "BadRequest",
            "the name of the object (a) does not match the name on the URL (b)",
        );
    let mut absent = thing("b");
    absent["metadata"]["resourceVersion"] = "1".into();
    let answer = world.put(&format!("{THINGS}/b"), absent).await;
    answer.refused(404, "NotFound", "things.example.io \"b\" not found");
    // Nothing changes: nothing is written.
    let answer = world.put(&uri, created.body.clone()).await;
    assert_eq!(answer.revision(), created.revision());
    // Labels do not count as a generation, the specification does.
    let mut body = created.body.clone();
    body["metadata"]["labels"] = json!({"l": "1"});
    let answer = world.put(&uri, body).await;
    assert_eq!(answer.body["metadata"]["generation"], 1);
    assert!(answer.revision() > created.revision());
    let mut body = answer.body;
    body["spec"] = json!({"b": "2"});
    body["status"] = json!({"phase": "dropped"});
    let answer = world.put(&uri, body).await;
    assert_eq!(answer.body["metadata"]["generation"], 2);
    assert!(answer.body.get("status").is_none());
    // Status writes only the status.
    let mut body = answer.body;
    body["metadata"]["labels"]["l"] = "2".into();
    body["spec"]["b"] = "3".into();
    body["status"] = json!({"phase": "kept"});
    let answer = world.put(&format!("{uri}/status"), body).await;
    assert_eq!(answer.body["metadata"]["labels"]["l"], "1");
    assert_eq!(answer.body["spec"]["b"], "2");
    assert_eq!(answer.body["status"]["phase"], "kept");
    assert_eq!(answer.body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn patches() {
    let world = World::new().await;
    world.thing("a").await;
    let uri = format!("{THINGS}/a");
    let check = async |media: &str, body: &str, code: u16, message: &str| {
        let headers = [("content-type", media)];
        let answer = world.send("PATCH", &uri, &headers, body.to_owned()).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{body}");
    };
    check(
        "application/strategic-merge-patch+json",
        "{}",
        415,
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
    )
    .await;
    check(
        MERGE,
        "[",
        400,
        "error decoding patch: unexpected end of JSON input",
    )
    .await;
    check(
        MERGE,
        r#"{"metadata":{"resourceVersion":"1"}}"#,
        409,
        "Operation cannot be fulfilled on things.example.io \"a\": the object has been modified; \
         please apply your changes to the latest version and try again",
    )
    .await;
    check(
        MERGE,
        r#"{"metadata":{"name":"bb"}}"#,
        400,
        "the name of the object (bb) does not match the name on the URL (a)",
    )
    .await;
    check(
        MERGE,
        r#"{"kind":"bb"}"#,
        422,
        "bb.example.io \"a\" is invalid: kind: Invalid value: \"bb\": must be Thing",
    )
    .await;
    let generic = "the server rejected our request due to an error in our request";
    let test = r#"[{"op":"test","path":"/spec/a","value":"zz"}]"#;
    check("application/json-patch+json", test, 422, generic).await;
    let remove = r#"[{"op":"remove","path":"/spec/zz"}]"#;
    check("application/json-patch+json", remove, 422, generic).await;
    check(
        MERGE,
        r#"{"metadata":{"uid":"1"}}"#,
        422,
        "Thing.example.io \"a\" is invalid: metadata.uid: Invalid value: \"1\": field is immutable",
    )
    .await;
    let answer = world.patch(&format!("{THINGS}/zz"), MERGE, json!({})).await;
    answer.refused(404, "NotFound", "things.example.io \"zz\" not found");
}

#[tokio::test]
async fn server_side_apply() {
    let world = World::new().await;
    let uri = format!("{THINGS}/zz?fieldManager=one");
    let answer = world.patch(&uri, APPLY, json!({})).await;
    answer.refused(400, "BadRequest", "invalid object type: /, Kind=");
    let answer = world.patch(&uri, APPLY, thing("yy")).await;
    let text = "the name of the object (yy) does not match the name on the URL (zz)";
    answer.refused(400, "BadRequest", text);
    let mut config = thing("zz");
    config["spec"] = json!({"b": "1"});
    let answer = world.patch(&uri, APPLY, config.clone()).await;
    assert_eq!(
        (answer.code, &answer.body["spec"]),
        (201, &json!({"a": "x", "b": "1"}))
    );
    let again = world.patch(&uri, APPLY, config.clone()).await;
    assert_eq!((again.code, again.revision()), (200, answer.revision()));
    config["spec"]["b"] = "2".into();
    let other = format!("{THINGS}/zz?fieldManager=two");
    let answer = world.patch(&other, APPLY, config.clone()).await;
    answer.refused(
        409,
        "Conflict",
        "Apply failed with 1 conflict: conflict with \"one\": .spec.b",
    );
    assert_eq!(
        answer.body["details"]["causes"][0]["reason"],
        "FieldManagerConflict"
    );
    let answer = world
        .patch(&format!("{other}&force=true"), APPLY, config)
        .await;
    assert_eq!((answer.code, &answer.body["spec"]["b"]), (200, &json!("2")));
}

#[tokio::test]
async fn deletes() {
    let world = World::new().await;
    let created = world.thing("a").await;
    let uri = format!("{THINGS}/a");
    let uid = created.body["metadata"]["uid"].as_str().unwrap();
    let answer = world
        .delete(&uri, json!({"preconditions": {"uid": "x"}}))
        .await;
    let text = format!(
        "Operation cannot be fulfilled on Thing.example.io \"a\": the UID in the precondition (x) \
         does not match the UID in record ({uid}). The object might have been deleted and then \
         recreated"
    );
    answer.refused(409, "Conflict", &text);
    let answer = world
        .delete(&uri, json!({"propagationPolicy": "Bogus"}))
        .await;
    assert_eq!(
        answer.message(),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \
         \"Bogus\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
    );
    let answer = world
        .delete(&uri, json!({"propagationPolicy": "Background"}))
        .await;
    assert_eq!(
        answer.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "a", "group": "example.io", "kind": "things", "uid": uid},
        })
    );
    let answer = world.delete(&uri, Value::Null).await;
    answer.refused(404, "NotFound", "things.example.io \"a\" not found");
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let world = World::new().await;
    let mut body = thing("a");
    body["metadata"]["finalizers"] = json!(["example.io/hold"]);
    world.post(THINGS, body).await;
    let uri = format!("{THINGS}/a");
    let answer = world.delete(&uri, Value::Null).await;
    assert_eq!(
        answer.body["metadata"]["deletionTimestamp"],
        "2026-01-02T03:04:05Z"
    );
    assert_eq!(answer.body["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(answer.body["metadata"]["generation"], 2);
    let again = world.delete(&uri, Value::Null).await;
    assert_eq!((again.code, again.revision()), (200, answer.revision()));
    let more = json!({"metadata": {"finalizers": ["example.io/hold", "example.io/more"]}});
    let refused = world.patch(&uri, MERGE, more).await;
    assert_eq!(
        refused.message(),
        "Thing.example.io \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can \
         be added if the object is being deleted, found new finalizers \
         []string{\"example.io/more\"}"
    );
    let last = world
        .patch(&uri, MERGE, json!({"metadata": {"finalizers": null}}))
        .await;
    assert_eq!((last.code, last.revision()), (200, answer.revision()));
    assert_eq!(world.get(&uri).await.code, 404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_label() {
    let world = World::new().await;
    for (name, label) in [("a", "1"), ("b", "2"), ("c", "1")] {
        let mut body = thing(name);
        body["metadata"]["labels"] = json!({"l": label});
        world.post(THINGS, body).await;
    }
    let answer = world
        .delete(&format!("{THINGS}?labelSelector=l%3D1"), Value::Null)
        .await;
    assert_eq!(
        (answer.code, answer.body["items"].as_array().unwrap().len()),
        (200, 2)
    );
    let left = world.get(THINGS).await;
    assert_eq!(left.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(left.body["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn scales() {
    let world = World::new().await;
    world.thing("a").await;
    let uri = format!("{THINGS}/a/scale");
    world.get(&uri).await.refused(
        500,
        "InternalError",
        "Internal error occurred: the spec replicas field \".spec.replicas\" does not exist",
    );
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"},
        "spec": {"replicas": -3},
    });
    let answer = world.put(&uri, scale).await;
    assert_eq!(
        answer.message(),
        "Thing.example.io \"a\" is invalid: .spec.replicas: Invalid value: -3: should be a \
         non-negative integer"
    );
    let answer = world
        .patch(&uri, MERGE, json!({"spec": {"replicas": 3}}))
        .await;
    assert_eq!((answer.code, &answer.body["kind"]), (200, &json!("Scale")));
    assert_eq!(answer.body["spec"], json!({"replicas": 3}));
    assert_eq!(answer.body["status"], json!({"replicas": 0}));
    let answer = world.get(&format!("{THINGS}/a")).await;
    assert_eq!(answer.body["spec"]["replicas"], 3);
    assert_eq!(answer.body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn namespaces_end_by_being_finalized() {
    let world = World::new().await;
    let answer = world
        .post("/api/v1/namespaces", json!({"metadata": {"name": "n1"}}))
        .await;
    assert_eq!(
        answer.body["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "n1"
    );
    assert_eq!(answer.body["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(answer.body["status"]["phase"], "Active");
    let answer = world.delete("/api/v1/namespaces/n1", Value::Null).await;
    assert_eq!(answer.body["status"]["phase"], "Terminating");
    let body = json!({"metadata": {"name": "c"}});
    let refused = world.post("/api/v1/namespaces/n1/configmaps", body).await;
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (403, &json!("Forbidden"))
    );
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let mut namespace = answer.body;
    namespace["spec"]["finalizers"] = json!([]);
    let answer = world.put("/api/v1/namespaces/n1/finalize", namespace).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    assert_eq!(world.get("/api/v1/namespaces/n1").await.code, 404);
}

#[tokio::test]
async fn definitions_come_and_go() {
    let world = World::new().await;
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.io";
    let answer = world.get(uri).await;
    let conditions: Vec<(&str, &str)> = answer.body["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        conditions,
        [("NamesAccepted", "True"), ("Established", "True")]
    );
    assert_eq!(answer.body["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(
        answer.body["status"]["acceptedNames"]["listKind"],
        "ThingList"
    );
    let mut held = thing("held");
    held["metadata"]["finalizers"] = json!(["example.io/hold"]);
    world.post(THINGS, held).await;
    world.thing("free").await;
    let answer = world.delete(uri, Value::Null).await;
    assert_eq!(answer.code, 200);
    assert_eq!(world.get(&format!("{THINGS}/free")).await.code, 404);
    assert_eq!(world.post(THINGS, thing("late")).await.code, 405);
    assert_eq!(world.get(uri).await.code, 200);
    let patch = json!({"metadata": {"finalizers": null}});
    assert_eq!(
        world
            .patch(&format!("{THINGS}/held"), MERGE, patch)
            .await
            .code,
        200
    );
    assert_eq!(world.get(uri).await.code, 404);
    assert_eq!(world.get(THINGS).await.text, "404 page not found\n");
}

#[tokio::test]
async fn versions_share_their_objects() {
    let world = World::new().await;
    world.thing("a").await;
    let mut body = world
        .get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.io")
        .await
        .body;
    let mut second = body["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["c"] =
        json!({"type": "string", "default": "new"});
    body["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(second);
    let uri = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.io";
    let answer = world.put(uri, body).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    let v2 = "/apis/example.io/v2/namespaces/default/things";
    let mut body = thing("a");
    body["spec"] = json!({"b": "1"});
    let answer = world
        .patch(&format!("{THINGS}/a"), MERGE, json!({"spec": {"b": "1"}}))
        .await;
    assert_eq!(answer.body["spec"], json!({"b": "1", "a": "x"}));
    let answer = world.get(&format!("{v2}/a")).await;
    assert_eq!(answer.body["apiVersion"], "example.io/v2");
    assert_eq!(answer.body["spec"], json!({"a": "x", "b": "1", "c": "new"}));
    let list = world.get(v2).await;
    assert_eq!(list.body["items"][0]["apiVersion"], "example.io/v2");
}

#[tokio::test]
async fn events_are_one_in_two_groups() {
    let world = World::new().await;
    let body = json!({
        "metadata": {"name": "e"}, "reason": "Because", "message": "words", "type": "Normal",
        "involvedObject": {"kind": "Thing", "name": "a", "namespace": "default"},
    });
    let answer = world.post("/api/v1/namespaces/default/events", body).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    let answer = world
        .get("/apis/events.k8s.io/v1/namespaces/default/events/e")
        .await;
    assert_eq!(answer.body["apiVersion"], "events.k8s.io/v1");
    assert_eq!(answer.body["note"], "words");
    assert_eq!(answer.body["regarding"]["name"], "a");
    let uri = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Da";
    assert_eq!(
        world.get(uri).await.body["items"].as_array().unwrap().len(),
        1
    );
    let uri = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Db";
    assert_eq!(
        world.get(uri).await.body["items"].as_array().unwrap().len(),
        0
    );
}

#[tokio::test]
async fn absent_and_null_are_the_same() {
    let world = World::new().await;
    let body = json!({"metadata": {"name": "c", "labels": null}, "data": null});
    let answer = world.post(CONFIGMAPS, body).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert!(answer.body["metadata"].get("labels").is_none());
}

#[tokio::test]
async fn status_has_its_own_owners() {
    let world = World::new().await;
    world.thing("a").await;
    let mut config = thing("a");
    config["status"] = json!({"phase": "one"});
    let uri = format!("{THINGS}/a/status?fieldManager=one");
    let answer = world.patch(&uri, APPLY, config.clone()).await;
    assert_eq!(answer.body["status"]["phase"], "one", "{}", answer.text);
    let entry = answer.body["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["manager"] == "one")
        .unwrap();
    assert_eq!(entry["subresource"], "status");
    assert_eq!(entry["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
    let status = format!("{THINGS}/a/status");
    let merge = json!({"status": {"phase": "two"}, "spec": {"b": "dropped"}});
    let answer = world.patch(&status, MERGE, merge).await;
    assert_eq!(answer.body["status"]["phase"], "two");
    assert!(answer.body["spec"].get("b").is_none());
}

#[tokio::test]
async fn updates_without_a_revision_of_built_in_kinds() {
    let world = World::new().await;
    let body = json!({"metadata": {"name": "c"}, "data": {"a": "1"}});
    let created = world.post(CONFIGMAPS, body.clone()).await;
    let uri = format!("{CONFIGMAPS}/c");
    let same = world.put(&uri, body).await;
    assert_eq!((same.code, same.revision()), (200, created.revision()));
    let body = json!({"metadata": {"name": "c"}, "data": {"a": "2"}});
    let changed = world.put(&uri, body).await;
    assert!(changed.revision() > created.revision());
    let body = json!({"metadata": {"name": "c", "uid": "x"}});
    let refused = world.put(&uri, body).await;
    assert_eq!(
        (refused.code, &refused.body["reason"]),
        (409, &json!("Conflict"))
    );
    let refused = world.put(&uri, json!({"metadata": {}})).await;
    refused.refused(
        400,
        "BadRequest",
        "the name of the object (c based on URL) was undeterminable: name must be provided",
    );
}

#[tokio::test]
async fn yaml_and_protobuf_bodies() {
    let world = World::new().await;
    let yaml = "apiVersion: example.io/v1\nkind: Thing\nmetadata: {name: yy}\nspec: {b: 'on'}\n";
    let headers = [("content-type", "application/yaml")];
    let answer = world.send("POST", THINGS, &headers, yaml).await;
    assert_eq!(
        (answer.code, &answer.body["spec"]["b"]),
        (201, &json!("on"))
    );
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"}, "data": {"a": "1"},
    });
    let bytes = drover_schema::protobuf::encode(&map).unwrap();
    let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
    let answer = world
        .send("POST", CONFIGMAPS, &headers, bytes.clone())
        .await;
    assert_eq!((answer.code, &answer.body["data"]["a"]), (201, &json!("1")));
    let answer = world.send("POST", THINGS, &headers, bytes).await;
    assert_eq!(answer.code, 415);
}

#[tokio::test]
async fn reviews_are_answered_and_not_kept() {
    let world = World::new().await;
    let uri = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let body = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let answer = world.post(uri, body).await;
    assert_eq!(
        (answer.code, &answer.body["status"]["allowed"]),
        (201, &json!(true))
    );
    assert_eq!(answer.body["kind"], "SelfSubjectAccessReview");
    assert_eq!(world.get(uri).await.code, 405);
}

#[tokio::test]
async fn pods_are_bound_and_evicted() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({
        "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    assert_eq!(world.post(pods, pod).await.code, 201);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"},
    });
    let answer = world
        .post(&format!("{pods}/p/binding"), binding.clone())
        .await;
    assert_eq!(
        (answer.code, &answer.body["status"]),
        (201, &json!("Success")),
        "{}",
        answer.text
    );
    let bound = world.get(&format!("{pods}/p")).await;
    assert_eq!(bound.body["spec"]["nodeName"], "n");
    assert_eq!(
        world.post(&format!("{pods}/p/binding"), binding).await.code,
        409
    );
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 0},
    });
    assert_eq!(
        world
            .post(&format!("{pods}/p/eviction"), eviction)
            .await
            .code,
        201
    );
    assert_eq!(world.get(&format!("{pods}/p")).await.code, 404);
}

#[derive(Debug)]
struct NoB;

impl Admission for NoB {
    fn admit(&self, request: &AdmissionRequest<'_>, object: Option<&mut Value>) -> ApiResult<()> {
        let Some(object) = object.filter(|_| request.resource.is_custom()) else {
            return Ok(());
        };
        if object["spec"].get("b").is_some() {
            return Err(ApiError::forbidden(
                request.resource.subject(request.name),
                "no b",
            ));
        }
        object["spec"]["a"] = "admitted".into();
        Ok(())
    }

    fn validate(&self, request: &AdmissionRequest<'_>, object: &Value) -> ApiResult<()> {
        if request.resource.is_custom() && object["spec"].get("replicas").is_some() {
            let subject = request.resource.subject(request.name);
            return Err(ApiError::forbidden(subject, "no replicas"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn rules_in_process_judge_writes() {
    let world = World::with(Config {
        admission: vec![Arc::new(NoB)],
        ..Config::default()
    })
    .await;
    assert_eq!(world.thing("a").await.body["spec"]["a"], "admitted");
    let answer = world
        .patch(&format!("{THINGS}/a"), MERGE, json!({"spec": {"b": "1"}}))
        .await;
    answer.refused(
        403,
        "Forbidden",
        "things.example.io \"a\" is forbidden: no b",
    );
    // The schema speaks before those who only judge.
    for (replicas, code, text) in [
        (
            json!("x"),
            422,
            "spec.replicas in body must be of type integer",
        ),
        (json!(1), 403, "no replicas"),
    ] {
        let patch = json!({"spec": {"replicas": replicas}});
        let answer = world.patch(&format!("{THINGS}/a"), MERGE, patch).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert_eq!(answer.code, code);
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn leases_are_made_by_updates_and_guarded_by_revisions() {
    let world = World::new().await;
    let uri = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let mut lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    assert_eq!(world.put(uri, lease.clone()).await.code, 201);
    lease["spec"]["holderIdentity"] = "b".into();
    let refused = world.put(uri, lease).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused
            .message()
            .ends_with("must be specified for an update")
    );
}

#[tokio::test]
async fn methods_that_a_path_does_not_have() {
    let world = World::new().await;
    world.thing("a").await;
    let check = async |method: &str, uri: &str| {
        let answer = world.send(method, uri, &[], "{}").await;
        assert_eq!(answer.code, 405, "{method} {uri}: {}", answer.text);
    };
    check("DELETE", &format!("{THINGS}/a/status")).await;
    check("POST", &format!("{THINGS}/a/status")).await;
    check("POST", &format!("{THINGS}/a")).await;
    check("DELETE", &format!("{THINGS}/a/scale")).await;
    check("DELETE", "/apis/example.io/v1/things").await;
    check("POST", "/apis/example.io/v1/things").await;
    check("GET", "/api/v1/namespaces/default/finalize").await;
    check("DELETE", "/api/v1/namespaces/default/finalize").await;
    assert_eq!(world.get(&format!("{THINGS}/a")).await.code, 200);
}
