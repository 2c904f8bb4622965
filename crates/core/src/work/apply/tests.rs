use super::*;
use crate::work::manifest::parse;

fn owner() -> Owner {
    Owner {
        name: "hub-work".to_owned(),
        uid: "u1".to_owned(),
    }
}

fn strategy(text: &str) -> UpdateStrategy {
    serde_json::from_str(text).expect("the strategy is valid")
}

/// The live object after the API server took the write.
fn taken(write: &Write) -> Value {
    let (Write::Create(object) | Write::Replace(object) | Write::Apply { object, .. }) = write
    else {
        panic!("a whole object is written: {write:?}")
    };
    let mut object = object.clone();
    object["metadata"]["uid"] = json!("x");
    object["metadata"]["resourceVersion"] = json!("7");
    object
}

fn deployment() -> Desired {
    parse(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
    }))
    .expect("it names an object")
}

#[test]
fn an_update_settles_and_leaves_filled_in_members_alone() {
    let desired = deployment();
    let created = write(&desired, None, None, &owner(), true)
        .expect("no field is ignored")
        .expect("it is absent");
    assert!(matches!(created, Write::Create(_)));
    let mut live = taken(&created);
    assert!(owners::owns(&owner(), &live));
    live["spec"]["strategy"] = json!({"type": "RollingUpdate"});
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    live["status"] = json!({"replicas": 2});
    assert_eq!(write(&desired, Some(&live), None, &owner(), true), Ok(None));

    live["spec"]["replicas"] = json!(5);
    let Ok(Some(Write::Replace(back))) = write(&desired, Some(&live), None, &owner(), true) else {
        panic!("drift is put right")
    };
    assert_eq!(back["spec"], desired.object["spec"]);
    assert_eq!(back["metadata"]["resourceVersion"], "7");
    assert_eq!(back["status"], live["status"]);
}

#[test]
fn a_member_that_left_the_manifest_is_removed() {
    let mut desired = deployment();
    desired.object["spec"]["paused"] = json!(true);
    let live = taken(
        &write(&desired, None, None, &owner(), true)
            .expect("no field is ignored")
            .expect("it is absent"),
    );
    let Ok(Some(Write::Replace(next))) = write(&deployment(), Some(&live), None, &owner(), true)
    else {
        panic!("the hash differs")
    };
    assert_eq!(next["spec"].get("paused"), None);
}

#[test]
fn an_adopted_object_only_gets_metadata() {
    let desired = deployment();
    let mut live = desired.object.clone();
    live["metadata"]["resourceVersion"] = json!("3");
    live["metadata"]["labels"] = json!({"team": "a"});
    let Ok(Some(Write::Merge(patch))) = write(&desired, Some(&live), None, &owner(), true) else {
        panic!("the content is so")
    };
    assert_eq!(patch["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(patch["metadata"]["resourceVersion"], "3");
    assert_eq!(patch["metadata"]["ownerReferences"][0]["name"], "hub-work");
}

#[test]
fn data_of_a_config_map_is_exact() {
    let desired = parse(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": {"a": "1"}})).expect("valid");
    let live = taken(
        &write(&desired, None, None, &owner(), true)
            .expect("no field is ignored")
            .expect("it is absent"),
    );
    let check = |change: fn(&mut Value), settled: bool| {
        let mut live = live.clone();
        change(&mut live);
        assert_eq!(
            write(&desired, Some(&live), None, &owner(), true) == Ok(None),
            settled,
            "{live}"
        );
    };
    check(|_| (), true);
    check(|live| live["data"]["b"] = json!("2"), false);
    check(|live| live["binaryData"] = json!({"b": "eA=="}), false);
    check(|live| live["binaryData"] = json!({}), true);
    check(|live| live["metadata"]["labels"] = json!({"x": "y"}), true);
}

#[test]
fn text_data_of_a_secret_is_compared_encoded() {
    let desired = parse(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "stringData": {"k": "v"}})).expect("valid");
    let live = taken(
        &write(&desired, None, None, &owner(), true)
            .expect("no field is ignored")
            .expect("it is absent"),
    );
    assert_eq!(live["data"], json!({"k": "dg=="}));
    assert_eq!(write(&desired, Some(&live), None, &owner(), true), Ok(None));
}

#[test]
fn zero_values_equal_absent_ones() {
    let check = |required: Value, live: Value, expected: bool| {
        assert_eq!(
            covers(&required, Some(&live)),
            expected,
            "{required} in {live}"
        );
    };
    check(
        json!({"a": null, "b": {}, "c": [], "d": false, "e": 0, "f": ""}),
        json!({}),
        true,
    );
    check(json!({"a": 1}), json!({}), false);
    check(json!({"a": [1, 2]}), json!({"a": [1]}), false);
    check(
        json!({"a": [{"b": 1}]}),
        json!({"a": [{"b": 1, "c": 2}]}),
        true,
    );
    check(json!({"a": 1}), json!({"a": 1.0}), true);
    check(json!({"a": "1"}), json!({"a": 1}), false);
}

#[test]
fn what_is_created_only_is_never_compared() {
    let only = strategy(r#"{"type": "CreateOnly"}"#);
    let desired = deployment();
    let mut live = taken(
        &write(&desired, None, Some(&only), &owner(), true)
            .expect("no field is ignored")
            .expect("it is absent"),
    );
    live["spec"]["replicas"] = json!(9);
    assert_eq!(
        write(&desired, Some(&live), Some(&only), &owner(), true),
        Ok(None)
    );
    let Ok(Some(Write::Merge(patch))) = write(&desired, Some(&live), Some(&only), &owner(), false)
    else {
        panic!("the owner goes")
    };
    assert_eq!(patch["metadata"]["ownerReferences"], json!([]));
}

#[test]
fn what_is_read_only_is_never_written() {
    let read_only = strategy(r#"{"type": "ReadOnly"}"#);
    assert_eq!(
        write(&deployment(), None, Some(&read_only), &owner(), true),
        Ok(None)
    );
    assert!(super::read_only(Some(&read_only)) && !super::read_only(None));
}

#[test]
fn a_server_side_apply_settles() {
    let apply = strategy(
        r#"{"type": "ServerSideApply", "serverSideApply": {"force": true, "fieldManager": "work-agent-a"}}"#,
    );
    let desired = deployment();
    let first = write(&desired, None, Some(&apply), &owner(), true)
        .expect("no field is ignored")
        .expect("it is absent");
    assert!(
        matches!(&first, Write::Apply { manager, force: true, .. } if manager == "work-agent-a")
    );
    let mut live = taken(&first);
    assert_eq!(
        write(&desired, Some(&live), Some(&apply), &owner(), true),
        Ok(None)
    );
    live["spec"]["replicas"] = json!(1);
    assert!(matches!(
        write(&desired, Some(&live), Some(&apply), &owner(), true),
        Ok(Some(Write::Apply { .. }))
    ));
}

#[test]
fn ignored_fields_are_the_clusters() {
    let apply = strategy(
        r#"{"type": "ServerSideApply", "serverSideApply": {"ignoreFields": [
            {"condition": "OnSpokePresent", "jsonPaths": [".spec.replicas"]},
            {"condition": "OnSpokeChange", "jsonPointers": ["/spec/template/spec/containers/0/image"]}]}}"#,
    );
    let mut desired = deployment();
    let first = write(&desired, None, Some(&apply), &owner(), true)
        .expect("the paths are right")
        .expect("it is absent");
    let mut live = taken(&first);
    assert_eq!(live["spec"]["replicas"], 2);
    live["spec"]["replicas"] = json!(7);
    live["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    assert_eq!(
        write(&desired, Some(&live), Some(&apply), &owner(), true),
        Ok(None)
    );

    desired.object["spec"]["minReadySeconds"] = json!(3);
    let Ok(Some(Write::Apply { object, .. })) =
        write(&desired, Some(&live), Some(&apply), &owner(), true)
    else {
        panic!("the manifest changed")
    };
    assert_eq!(object["spec"].get("replicas"), None);
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0]["image"],
        "web:1"
    );

    let wrong = strategy(
        r#"{"type": "ServerSideApply", "serverSideApply": {"ignoreFields": [{"condition": "OnSpokePresent", "jsonPaths": [".spec["]}]}}"#,
    );
    assert!(matches!(
        write(&desired, Some(&live), Some(&wrong), &owner(), true),
        Err(ApplyError::IgnoreField { .. })
    ));
}
