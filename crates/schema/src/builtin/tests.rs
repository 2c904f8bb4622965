//! Against a real API server (1.36.3): `tests/objects.json` holds manifests, the objects that it
//! made of them as JSON and as protobuf, and the rows that it printed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

fn recordings() -> Vec<Value> {
    serde_json::from_str(include_str!("tests/objects.json")).expect("the recordings are JSON")
}

fn kind_of(recording: &Value) -> &'static Kind {
    let text = |name: &str| recording[name].as_str().unwrap_or_default().to_owned();
    find(&text("group"), &text("version"), &text("plural")).expect("the kind is built in")
}

fn label(recording: &Value) -> String {
    format!("{}/{}", recording["plural"], recording["manifest"]["metadata"]["name"])
}

/// Paths at which two values differ.
fn differences(path: &str, left: &Value, right: &Value, out: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (x, y) = (a.get(name), b.get(name));
                match (x, y) {
                    (Some(x), Some(y)) => differences(&format!("{path}.{name}"), x, y, out),
                    _ => out.push(format!("{path}.{name}: {x:?} != {y:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (x, y)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{index}]"), x, y, out);
            }
        }
        _ if left == right => {}
        _ => out.push(format!("{path}: {left} != {right}")),
    }
}

/// Drops what depends on who created an object, when, and where.
fn anonymous(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for name in ["uid", "creationTimestamp", "resourceVersion", "managedFields", "namespace"] {
            metadata.remove(name);
        }
    }
    // Admission protects volumes, taints nodes and names the default class; controllers say when.
    match kind.kind {
        "Node" => drop(object["spec"].as_object_mut().map(|spec| spec.remove("taints"))),
        "PersistentVolume" | "PersistentVolumeClaim" | "VolumeAttributesClass" => {
            drop(object["metadata"].as_object_mut().map(|metadata| metadata.remove("finalizers")));
            drop(object["spec"].as_object_mut().map(|spec| spec.remove("storageClassName")));
            drop(object["status"].as_object_mut().map(|status| status.remove("lastPhaseTransitionTime")));
        }
        "APIService" => drop(object.as_object_mut().map(|object| object.remove("status"))),
        _ => {}
    }
    if kind.kind == "Pod" {
        // Admission gives pods a service account with its token, tolerations and a priority.
        if let Some(spec) = object["spec"].as_object_mut() {
            for name in ["tolerations", "priority", "preemptionPolicy", "serviceAccountName", "serviceAccount"] {
                spec.remove(name);
            }
            if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
                volumes.retain(|volume| !volume["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access")));
            }
            if spec.get("volumes").is_some_and(|volumes| volumes == &json!([])) {
                spec.remove("volumes");
            }
            for list in ["containers", "initContainers"] {
                for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                        mounts.retain(|mount| !mount["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access")));
                    }
                    if container["volumeMounts"] == json!([]) || container["volumeMounts"].is_null() {
                        container.as_object_mut().expect("a container is an object").remove("volumeMounts");
                    }
                }
            }
        }
    }
    object
}

#[test]
fn protobuf_of_a_real_server_decodes_to_its_json() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let bytes = STANDARD.decode(recording["protobuf"].as_str().unwrap_or_default()).expect("base64");
        let decoded = crate::protobuf::decode(&bytes).expect("a real server writes sound protobuf");
        differences(&label(&recording), &decoded, &recording["object"], &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn objects_encode_to_the_bytes_of_a_real_server() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let bytes = STANDARD.decode(recording["protobuf"].as_str().unwrap_or_default()).expect("base64");
        let encoded = crate::protobuf::encode(&recording["object"]).expect("the kind is known");
        // Raw JSON keeps its spelling there, not here.
        if encoded != bytes && recording["plural"] != "controllerrevisions" {
            let again = crate::protobuf::decode(&encoded).map_err(|error| error.to_string());
            wrong.push(format!(
                "{}: {} bytes instead of {}; the same object: {}",
                label(&recording),
                encoded.len(),
                bytes.len(),
                again.as_ref() == Ok(&recording["object"]),
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn normal_objects_stay_as_they_are() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let normal = kind_of(&recording).normalize(&recording["object"]).expect("the object fits its kind");
        assert_eq!(normal.unknown, Vec::<String>::new(), "{}", label(&recording));
        differences(&label(&recording), &normal.object, &recording["object"], &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn manifests_become_what_a_real_server_makes_of_them() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let kind = kind_of(&recording);
        if kind.group == "apiextensions.k8s.io" {
            continue;
        }
        let expected = &recording["object"];
        let mut object = kind.normalize(&recording["manifest"]).expect("the manifest fits its kind").object;
        object["metadata"]["uid"] = expected["metadata"]["uid"].clone();
        if kind.kind == "CertificateSigningRequest" {
            // The server stamps who asks.
            for name in ["username", "groups", "uid", "extra"] {
                if let Some(value) = expected["spec"].get(name) {
                    object["spec"][name] = value.clone();
                }
            }
        }
        kind.fill_defaults(&mut object);
        kind.prepare_create(&mut object);
        if kind.kind == "Service" {
            let own = [&object["spec"]["clusterIP"], &expected["spec"]["clusterIP"]];
            if *own[0] != "None" && expected["spec"]["type"] != "ExternalName" {
                object["spec"]["clusterIP"] = own[1].clone();
            }
            let free = |_| false;
            let pool = AddressPool { address_used: &free, port_used: &|_| false };
            assign_cluster_ips(&mut object, pool).expect("there are free addresses");
        }
        let errors = kind.validate_create(&object);
        assert_eq!(errors, Vec::new(), "{}", label(&recording));
        let object = kind.from_storage(kind.to_storage(object));
        let object = kind.normalize(&object).expect("a defaulted object fits its kind").object;
        differences(&label(&recording), &anonymous(kind, &object), &anonymous(kind, expected), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rows_are_those_of_a_real_server() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let kind = kind_of(&recording);
        let columns: Vec<Value> = kind
            .columns()
            .into_iter()
            .map(|column| json!([column.name, column.kind, column.format, column.priority]))
            .collect();
        differences(&format!("{} columns", label(&recording)), &json!(columns), &recording["columns"], &mut wrong);
        let object = &recording["object"];
        let created = object["metadata"]["creationTimestamp"].as_str().and_then(time::parse);
        let now = created.map_or(0, jiff::Timestamp::as_second);
        // The recording took up to two seconds.
        let settle = |cell: &Value| match cell.as_str() {
            Some("0s" | "1s" | "2s") => json!("0s"),
            // Old events: their age grows with every recording.
            Some(text) if text.ends_with('d') && text.len() > 4 => json!("old"),
            Some(text) if text.contains('y') && text.ends_with('d') => json!("old"),
            _ => cell.clone(),
        };
        let cells: Vec<Value> = kind.cells(object, now).iter().map(settle).collect();
        let expected: Vec<Value> = recording["cells"].as_array().into_iter().flatten().map(settle).collect();
        differences(&format!("{} cells", label(&recording)), &json!(cells), &json!(expected), &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_has_a_shape() {
    let mut seen = BTreeMap::new();
    for kind in kinds() {
        let schema = kind.schema();
        assert_eq!(schema.node().ty().name.as_deref(), Some(kind.definition));
        assert!(schema.node().field("metadata").is_some(), "{}", kind.definition);
        assert_eq!(definition_of(&kind.api_version(), kind.kind), Registry::get().find(kind.definition));
        assert!(seen.insert((kind.group, kind.version, kind.plural), kind.kind).is_none());
    }
    for (api_version, kind) in [
        ("autoscaling/v1", "Scale"),
        ("policy/v1", "Eviction"),
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("apps/v1", "DeleteOptions"),
        ("v1", "Status"),
    ] {
        assert!(schema_of(api_version, kind).is_some(), "{kind}");
    }
    assert!(schema_of("v1", "Container").is_none());
}

#[track_caller]
fn refuses(api_version: &str, kind: &str, object: Value, expected: &str) {
    let answer = normalize_as(api_version, kind, &object).expect("the kind is known");
    assert_eq!(answer.expect_err("the types are wrong"), expected);
}

#[test]
fn wrong_types_are_refused_in_the_words_of_a_real_server() {
    let deployment = |spec: Value, expected: &str| refuses("apps/v1", "Deployment", json!({"spec": spec}), expected);
    deployment(
        json!({"replicas": "x"}),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    deployment(
        json!({"replicas": 1.5}),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    let pod = |spec: Value, expected: &str| deployment(json!({"template": {"spec": spec}}), expected);
    pod(
        json!({"containers": [{"image": 1}]}),
        "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
    );
    pod(
        json!({"containers": ["a"]}),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
    );
    pod(
        json!({"volumes": [{"hostPath": 1}]}),
        "json: cannot unmarshal number into Go struct field Volume.spec.template.spec.volumes.VolumeSource.hostPath of type v1.HostPathVolumeSource",
    );
    pod(
        json!({"volumes": [{"hostPath": {"path": true}}]}),
        "json: cannot unmarshal bool into Go struct field HostPathVolumeSource.spec.template.spec.volumes.VolumeSource.hostPath.path of type string",
    );
    pod(
        json!({"containers": [{"imagePullPolicy": {}}]}),
        "json: cannot unmarshal object into Go struct field Container.spec.template.spec.containers.imagePullPolicy of type v1.PullPolicy",
    );
    pod(
        json!({"containers": [{"resources": {"limits": {"cpu": "x"}}}]}),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    pod(
        json!({"containers": [{"livenessProbe": {"httpGet": {"port": {}}}}]}),
        "json: cannot unmarshal object into Go struct field HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
    );
    refuses(
        "v1",
        "ConfigMap",
        json!({"metadata": {"labels": ["a"]}}),
        "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
    );
    refuses(
        "v1",
        "ConfigMap",
        json!({"metadata": []}),
        "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
    );
    refuses(
        "v1",
        "ConfigMap",
        json!({"metadata": {"creationTimestamp": 1}}),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
    );
    refuses(
        "v1",
        "ConfigMap",
        json!({"metadata": {"creationTimestamp": "x"}}),
        r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
    );
    refuses("v1", "Secret", json!({"data": {"a": "@@"}}), "illegal base64 data at input byte 0");
    refuses(
        "v1",
        "Secret",
        json!({"data": "a"}),
        "json: cannot unmarshal string into Go struct field Secret.data of type map[string][]uint8",
    );
    refuses(
        "authentication.k8s.io/v1",
        "TokenReview",
        json!({"status": {"user": {"extra": {"a": "b"}}}}),
        "json: cannot unmarshal string into Go struct field UserInfo.status.user.extra of type v1.ExtraValue",
    );
    let schema = |schema: Value, expected: &str| {
        let object = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
        refuses("apiextensions.k8s.io/v1", "CustomResourceDefinition", object, expected);
    };
    schema(
        json!({"properties": {"a": 1}}),
        "json: cannot unmarshal number into Go struct field JSONSchemaProps.spec.versions.schema.openAPIV3Schema.properties of type v1.JSONSchemaProps",
    );
    schema(json!({"additionalProperties": 1}), "boolean or JSON schema expected");
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let kind = find("apps", "v1", "deployments").expect("deployments are built in");
    let object = json!({"bogus": 1, "spec": {"template": {"spec": {"containers": [{"name": "c"}, {"x": {}}]}}}});
    let normal = kind.normalize(&object).expect("the types are right");
    assert_eq!(normal.unknown, ["bogus", "spec.template.spec.containers[1].x"]);
    assert!(normal.object.get("bogus").is_none());
}
