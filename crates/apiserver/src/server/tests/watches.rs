use super::*;

struct Events(Body);

impl Events {
    async fn next(&mut self) -> Option<Value> {
        let frame = self.0.frame().await?.unwrap();
        Some(serde_json::from_slice(frame.data_ref().unwrap()).unwrap())
    }

    async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..count {
            let event = self.next().await.unwrap();
            let name = event["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or("-")
                .to_owned();
            all.push(format!("{} {name}", event["type"].as_str().unwrap()));
        }
        all
    }
}

async fn watch(world: &World, query: &str) -> Events {
    let request = Request::builder()
        .uri(format!("{THINGS}?watch=true&{query}"))
        .body(Full::new(Bytes::new()))
        .unwrap();
    let response = world.server.respond(request).await;
    assert_eq!(response.status().as_u16(), 200);
    Events(response.into_body())
}

#[tokio::test]
async fn everything_and_then_what_changes() {
    let world = World::new().await;
    world.thing("a").await;
    let mut events = watch(&world, "").await;
    assert_eq!(events.kinds(1).await, ["ADDED a"]);
    world.thing("b").await;
    world
        .patch(&format!("{THINGS}/a"), MERGE, json!({"spec": {"b": "1"}}))
        .await;
    world.delete(&format!("{THINGS}/a"), Value::Null).await;
    assert_eq!(
        events.kinds(3).await,
        ["ADDED b", "MODIFIED a", "DELETED a"]
    );
    drop(events);
}

#[tokio::test]
async fn the_end_of_the_beginning_is_marked() {
    let world = World::new().await;
    world.thing("a").await;
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = watch(&world, query).await;
    assert_eq!(events.kinds(1).await, ["ADDED a"]);
    let revision = world.server.store().revision().to_string();
    assert_eq!(
        events.next().await.unwrap(),
        json!({"type": "BOOKMARK", "object": {
            "apiVersion": "example.io/v1", "kind": "Thing",
            "metadata": {
                "annotations": {"k8s.io/initial-events-end": "true"}, "resourceVersion": revision,
            },
        }})
    );
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let world = World::new().await;
    world.thing("a").await;
    let mut events = watch(&world, "labelSelector=l%3D1").await;
    let uri = format!("{THINGS}/a");
    world
        .patch(&uri, MERGE, json!({"metadata": {"labels": {"l": "1"}}}))
        .await;
    world.patch(&uri, MERGE, json!({"spec": {"b": "1"}})).await;
    let last = world
        .patch(&uri, MERGE, json!({"metadata": {"labels": {"l": "2"}}}))
        .await;
    assert_eq!(events.kinds(2).await, ["ADDED a", "MODIFIED a"]);
    let left = events.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["l"], "1");
    assert_eq!(
        left["object"]["metadata"]["resourceVersion"],
        last.body["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn a_deleted_object_has_the_revision_of_its_end() {
    let world = World::new().await;
    world.thing("a").await;
    let from = world.server.store().revision();
    let mut events = watch(&world, &format!("resourceVersion={from}")).await;
    world.delete(&format!("{THINGS}/a"), Value::Null).await;
    let event = events.next().await.unwrap();
    let end = world.server.store().revision();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(
        event["object"]["metadata"]["resourceVersion"],
        end.to_string()
    );
}

#[tokio::test]
async fn tables_tell_their_columns_once() {
    let world = World::new().await;
    world.thing("a").await;
    world.thing("b").await;
    let request = Request::builder()
        .uri(format!("{THINGS}?watch=true"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let mut events = Events(world.server.respond(request).await.into_body());
    let first = events.next().await.unwrap();
    assert_eq!(first["object"]["columnDefinitions"][0]["name"], "Name");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    let second = events.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
}

#[tokio::test]
async fn a_watch_ends_with_a_bookmark() {
    let world = World::new().await;
    let from = world.server.store().revision();
    let query = format!("resourceVersion={from}&timeoutSeconds=1&allowWatchBookmarks=true");
    let mut events = watch(&world, &query).await;
    assert_eq!(events.kinds(1).await, ["BOOKMARK -"]);
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn watches_that_cannot_be() {
    let world = World::new().await;
    let answer = world
        .get(&format!("{THINGS}?watch=true&sendInitialEvents=true"))
        .await;
    answer.refused(
        422,
        "Invalid",
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
         sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    );
    let answer = world
        .get(&format!("{THINGS}?watch=true&resourceVersion=x"))
        .await;
    let text =
        "resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax";
    answer.refused(500, "", text);
}
