use super::*;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn world_of(names: &[&str]) -> World {
    let world = World::new().await;
    for name in names {
        world.thing(name).await;
    }
    world
}

fn names(answer: &Answer) -> Vec<&str> {
    let items = answer.body["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let world = world_of(&["a", "b", "c", "d", "e"]).await;
    let first = world.get(&format!("{THINGS}?limit=2")).await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.body["metadata"]["remainingItemCount"], 3);
    assert_eq!(first.body["kind"], "ThingList");
    world.thing("bb").await;
    world.delete(&format!("{THINGS}/d"), Value::Null).await;
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    let second = world
        .get(&format!("{THINGS}?limit=2&continue={token}"))
        .await;
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second.revision(), first.revision());
    let token = second.body["metadata"]["continue"].as_str().unwrap();
    let third = world
        .get(&format!("{THINGS}?limit=2&continue={token}"))
        .await;
    assert_eq!(names(&third), ["e"]);
    assert!(third.body["metadata"].get("continue").is_none());
    let exact = format!(
        "{THINGS}?resourceVersion={}&resourceVersionMatch=Exact",
        first.revision()
    );
    assert_eq!(names(&world.get(&exact).await), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn lists_that_cannot_be() {
    let world = world_of(&["a"]).await;
    let check = async |query: &str, code: u16, message: &str| {
        let answer = world.get(&format!("{THINGS}?{query}")).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{query}");
    };
    check(
        "labelSelector=a+b",
        400,
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    )
    .await;
    check(
        "fieldSelector=spec.a%3D1",
        400,
        "field label not supported: spec.a",
    )
    .await;
    check(
        "fieldSelector=spec.a",
        400,
        "invalid selector: 'spec.a'; can't understand 'spec.a'",
    )
    .await;
    check(
        "resourceVersion=x",
        400,
        "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: \
         parsing \"x\": invalid syntax",
    )
    .await;
    let current = world.server.store().revision();
    check(
        "resourceVersion=99999999",
        504,
        &format!("Timeout: Too large resource version: 99999999, current: {current}"),
    )
    .await;
    check(
        "limit=x",
        400,
        "strconv.ParseInt: parsing \"x\": invalid syntax",
    )
    .await;
    check("limit=-1", 200, "").await;
    check(
        "resourceVersionMatch=Exact",
        422,
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
         resourceVersionMatch is forbidden unless resourceVersion is provided",
    )
    .await;
    check(
        "resourceVersionMatch=Exact&resourceVersion=0",
        422,
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
         resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
    )
    .await;
    check(
        "resourceVersionMatch=Bogus&resourceVersion=1",
        422,
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \
         \"Bogus\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
    )
    .await;
    check(
        "sendInitialEvents=true",
        422,
        "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents \
         is forbidden for list",
    )
    .await;
}

#[tokio::test]
async fn forms_and_encodings() {
    let world = world_of(&["a"]).await;
    let table = world.get_as(THINGS, TABLE).await;
    assert_eq!(table.body["kind"], "Table");
    assert_eq!(table.body["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table.body["rows"][0]["cells"][0], "a");
    assert_eq!(
        table.body["rows"][0]["object"]["kind"],
        "PartialObjectMetadata"
    );
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = world.get_as(THINGS, accept).await;
    assert_eq!(metadata.body["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata.body["items"][0]["metadata"]["name"], "a");
    assert!(metadata.body["items"][0].get("spec").is_none());
    let answer = world.get_as(THINGS, "text/html").await;
    answer.refused(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, \
         application/vnd.kubernetes.protobuf",
    );
    let uri = format!("{THINGS}/a");
    let yaml = world.get_as(&uri, "application/yaml").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(
        yaml.text
            .starts_with("apiVersion: example.io/v1\nkind: Thing\n"),
        "{}",
        yaml.text
    );
    let protobuf = world
        .get_as(&uri, "application/vnd.kubernetes.protobuf")
        .await;
    assert_eq!(protobuf.code, 406);
    assert!(protobuf.text.starts_with("k8s\0"));
    let either = "application/vnd.kubernetes.protobuf,application/json";
    assert_eq!(world.get_as(&uri, either).await.body["kind"], "Thing");
    let namespace = world.get_as("/api/v1/namespaces/default", either).await;
    assert!(namespace.text.starts_with("k8s\0"));
    assert_eq!(world.get_as(&uri, "application/xml, */*").await.code, 200);
}

#[tokio::test]
async fn large_lists_are_compressed_for_those_who_ask() {
    let world = World::new().await;
    for index in 0..3 {
        let body =
            json!({"metadata": {"name": format!("c{index}")}, "data": {"d": "x".repeat(100_000)}});
        world
            .post("/api/v1/namespaces/default/configmaps", body)
            .await;
    }
    let uri = "/api/v1/namespaces/default/configmaps";
    let answer = world
        .send("GET", uri, &[("accept-encoding", "gzip")], "")
        .await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    assert!(answer.text.len() < 100_000);
    assert_eq!(
        world.get(uri).await.body["items"].as_array().unwrap().len(),
        3
    );
}

#[tokio::test]
async fn paths_that_serve_nothing() {
    let world = World::new().await;
    for uri in [
        "/apis/nope.io/v1/foos",
        "/apis/example.io/v1/foos",
        "/foo",
        "/apis/example.io/v3/things",
    ] {
        let answer = world.get(uri).await;
        assert_eq!(
            (answer.code, answer.text.as_str()),
            (404, "404 page not found\n"),
            "{uri}"
        );
    }
    let answer = world.get("/api/v1/foos").await;
    answer.refused(
        404,
        "NotFound",
        "the server could not find the requested resource",
    );
    let answer = world.send("OPTIONS", THINGS, &[], "").await;
    assert_eq!(answer.code, 405);
    let answer = world
        .send("POST", THINGS, &[], vec![b' '; wire::MAX_BODY + 1])
        .await;
    assert_eq!(
        (answer.code, &answer.body["reason"]),
        (413, &json!("RequestEntityTooLarge"))
    );
}

#[tokio::test]
async fn discovery_tells_what_there_is() {
    let world = World::new().await;
    let list = world.get("/apis/example.io/v1").await;
    let names: Vec<&str> = list.body["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| resource["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["things", "things/status", "things/scale"]);
    let group = world.get("/apis/example.io").await;
    assert_eq!(
        group.body["preferredVersion"]["groupVersion"],
        "example.io/v1"
    );
    let hpa = world.get("/apis/autoscaling").await;
    assert_eq!(hpa.body["preferredVersion"]["version"], "v2");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let answer = world.get_as("/apis", accept).await;
    assert_eq!(answer.headers["content-type"], accept);
    let groups = answer.body["items"].as_array().unwrap();
    let ours = groups
        .iter()
        .find(|group| group["metadata"]["name"] == "example.io")
        .unwrap();
    let resource = &ours["versions"][0]["resources"][0];
    assert_eq!(resource["responseKind"]["kind"], "Thing");
    assert_eq!(resource["scope"], "Namespaced");
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    let headers = [("accept", accept), ("if-none-match", tag.as_str())];
    assert_eq!(world.send("GET", "/apis", &headers, "").await.code, 304);
    let version = world.get("/version").await;
    assert_eq!(
        (&version.body["major"], &version.body["minor"]),
        (&json!("1"), &json!("36"))
    );
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(world.get(path).await.text, "ok");
    }
}

#[tokio::test]
async fn nobody_reads_without_leave() {
    let world = World::new().await;
    let request = Request::builder()
        .uri(THINGS)
        .extension(User::anonymous())
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = world.server.respond(request).await;
    assert_eq!(response.status().as_u16(), 403);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        status["message"],
        "things.example.io is forbidden: User \"system:anonymous\" cannot list resource \"things\" \
         in API group \"example.io\" in the namespace \"default\""
    );
}
