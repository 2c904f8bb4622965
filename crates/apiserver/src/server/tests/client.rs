use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::{Client, Error};

use super::*;

fn things(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "example.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "example.io/v1".to_owned(),
        kind: "Thing".to_owned(),
        plural: "things".to_owned(),
    };
    Api::namespaced_with(client.clone(), "default", &resource)
}

#[tokio::test]
async fn a_client_in_process() {
    let world = World::new().await;
    let client = Client::new(world.server.clone(), "default");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).unwrap();
    let created = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(created.data.unwrap()["a"], "1");
    let replaced = maps
        .replace("m", &PostParams::default(), &map)
        .await
        .unwrap();
    assert_eq!(replaced.metadata.uid, created.metadata.uid);
    let patch = json!({"data": {"b": "2"}});
    let params = PatchParams::default();
    let patched = maps
        .patch("m", &params, &Patch::Strategic(&patch))
        .await
        .unwrap();
    assert_eq!(patched.data.unwrap().len(), 2);
    assert_eq!(
        maps.list(&ListParams::default()).await.unwrap().items.len(),
        1
    );
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("m").await.unwrap().is_none());
}

#[tokio::test]
async fn apply_and_watch_in_process() {
    let world = World::new().await;
    let things = things(&Client::new(world.server.clone(), "default"));
    let mut events = things
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap()
        .boxed();
    let config = json!({
        "apiVersion": "example.io/v1", "kind": "Thing", "metadata": {"name": "t"},
        "spec": {"b": "1"},
    });
    let one = PatchParams::apply("one");
    things
        .patch("t", &one, &Patch::Apply(&config))
        .await
        .unwrap();
    let event = events.next().await.unwrap().unwrap();
    assert!(matches!(event, WatchEvent::Added(object) if object.data["spec"]["a"] == "x"));
    let mut other = config.clone();
    other["spec"]["b"] = "2".into();
    let two = PatchParams::apply("two");
    let refused = things
        .patch("t", &two, &Patch::Apply(&other))
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Api(status) if status.code == 409));
    let status = json!({"status": {"phase": "Ready"}});
    let params = PatchParams::default();
    let object = things
        .patch_status("t", &params, &Patch::Merge(&status))
        .await
        .unwrap();
    assert_eq!(object.data["status"]["phase"], "Ready");
    let event = events.next().await.unwrap().unwrap();
    assert!(
        matches!(event, WatchEvent::Modified(object) if object.data["status"]["phase"] == "Ready")
    );
}

/// Whoever is in process is an administrator, unless he says that he acts for somebody else.
#[tokio::test]
async fn somebody_else_in_process() {
    let world = World::new().await;
    let client = Client::new(world.server.acting_as(User::system()), "default");
    let ask = |user: Option<&str>| {
        let mut request = http::Request::get("/api/v1/namespaces/default/configmaps");
        if let Some(user) = user {
            request = request.header("impersonate-user", user);
        }
        client.request::<serde_json::Value>(request.body(Vec::new()).unwrap())
    };
    ask(None).await.unwrap();
    let refused = ask(Some("ann")).await.unwrap_err();
    assert!(matches!(refused, Error::Api(status) if status.code == 403));
}
