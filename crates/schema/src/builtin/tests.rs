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
    format!(
        "{}/{}",
        recording["plural"], recording["manifest"]["metadata"]["name"]
    )
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
        for name in [
            "uid",
            "creationTimestamp",
            "resourceVersion",
            "managedFields",
            "namespace",
        ] {
            metadata.remove(name);
        }
    }
    // Admission protects volumes, taints nodes and names the default class; controllers say when.
    match kind.kind {
        "Node" => drop(
            object["spec"]
                .as_object_mut()
                .map(|spec| spec.remove("taints")),
        ),
        "PersistentVolume" | "PersistentVolumeClaim" | "VolumeAttributesClass" => {
            drop(
                object["metadata"]
                    .as_object_mut()
                    .map(|metadata| metadata.remove("finalizers")),
            );
            drop(
                object["spec"]
                    .as_object_mut()
                    .map(|spec| spec.remove("storageClassName")),
            );
            drop(
                object["status"]
                    .as_object_mut()
                    .map(|status| status.remove("lastPhaseTransitionTime")),
            );
        }
        "APIService" | "CustomResourceDefinition" => {
            drop(object.as_object_mut().map(|object| object.remove("status")));
        }
        _ => {}
    }
    if kind.kind == "Pod" {
        // Admission gives pods a service account with its token, tolerations and a priority.
        if let Some(spec) = object["spec"].as_object_mut() {
            for name in [
                "tolerations",
                "priority",
                "preemptionPolicy",
                "serviceAccountName",
                "serviceAccount",
            ] {
                spec.remove(name);
            }
            if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
                volumes.retain(|volume| {
                    !volume["name"]
                        .as_str()
                        .is_some_and(|name| name.starts_with("kube-api-access"))
                });
            }
            if spec
                .get("volumes")
                .is_some_and(|volumes| volumes == &json!([]))
            {
                spec.remove("volumes");
            }
            for list in ["containers", "initContainers"] {
                for container in spec
                    .get_mut(list)
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                        mounts.retain(|mount| {
                            !mount["name"]
                                .as_str()
                                .is_some_and(|name| name.starts_with("kube-api-access"))
                        });
                    }
                    if container["volumeMounts"] == json!([]) || container["volumeMounts"].is_null()
                    {
                        container
                            .as_object_mut()
                            .expect("a container is an object")
                            .remove("volumeMounts");
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
        let bytes = STANDARD
            .decode(recording["protobuf"].as_str().unwrap_or_default())
            .expect("base64");
        let decoded = crate::protobuf::decode(&bytes).expect("a real server writes sound protobuf");
        differences(
            &label(&recording),
            &decoded,
            &recording["object"],
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn objects_encode_to_the_bytes_of_a_real_server() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let bytes = STANDARD
            .decode(recording["protobuf"].as_str().unwrap_or_default())
            .expect("base64");
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
        let normal = kind_of(&recording)
            .normalize(&recording["object"])
            .expect("the object fits its kind");
        assert_eq!(
            normal.unknown,
            Vec::<String>::new(),
            "{}",
            label(&recording)
        );
        differences(
            &label(&recording),
            &normal.object,
            &recording["object"],
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn manifests_become_what_a_real_server_makes_of_them() {
    let mut wrong = Vec::new();
    for recording in recordings() {
        let kind = kind_of(&recording);
        let expected = &recording["object"];
        let mut object = kind
            .normalize(&recording["manifest"])
            .expect("the manifest fits its kind")
            .object;
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
            let pool = AddressPool {
                address_used: &free,
                port_used: &|_| false,
            };
            assign_cluster_ips(&mut object, pool).expect("there are free addresses");
        }
        if kind.namespaced {
            object["metadata"]["namespace"] = json!("default");
        }
        let errors = kind.validate_create(&object);
        assert_eq!(errors, Vec::new(), "{}", label(&recording));
        let object = kind.from_storage(kind.to_storage(object));
        let object = kind
            .normalize(&object)
            .expect("a defaulted object fits its kind")
            .object;
        differences(
            &label(&recording),
            &anonymous(kind, &object),
            &anonymous(kind, expected),
            &mut wrong,
        );
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
        differences(
            &format!("{} columns", label(&recording)),
            &json!(columns),
            &recording["columns"],
            &mut wrong,
        );
        let object = &recording["object"];
        let created = object["metadata"]["creationTimestamp"]
            .as_str()
            .and_then(time::parse);
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
        let expected: Vec<Value> = recording["cells"]
            .as_array()
            .into_iter()
            .flatten()
            .map(settle)
            .collect();
        differences(
            &format!("{} cells", label(&recording)),
            &json!(cells),
            &json!(expected),
            &mut wrong,
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_has_a_shape() {
    let mut seen = BTreeMap::new();
    for kind in kinds() {
        let schema = kind.schema();
        assert_eq!(schema.node().ty().name.as_deref(), Some(kind.definition));
        assert!(
            schema.node().field("metadata").is_some(),
            "{}",
            kind.definition
        );
        assert_eq!(
            definition_of(&kind.api_version(), kind.kind),
            Registry::get().find(kind.definition)
        );
        assert!(
            seen.insert((kind.group, kind.version, kind.plural), kind.kind)
                .is_none()
        );
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
    let deployment = |spec: Value, expected: &str| {
        refuses("apps/v1", "Deployment", json!({"spec": spec}), expected);
    };
    deployment(
        json!({"replicas": "x"}),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    deployment(
        json!({"replicas": 1.5}),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    let pod =
        |spec: Value, expected: &str| deployment(json!({"template": {"spec": spec}}), expected);
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
    refuses(
        "v1",
        "Secret",
        json!({"data": {"a": "@@"}}),
        "illegal base64 data at input byte 0",
    );
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
        refuses(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            object,
            expected,
        );
    };
    schema(
        json!({"properties": {"a": 1}}),
        "json: cannot unmarshal number into Go struct field JSONSchemaProps.spec.versions.schema.openAPIV3Schema.properties of type v1.JSONSchemaProps",
    );
    schema(
        json!({"additionalProperties": 1}),
        "boolean or JSON schema expected",
    );
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let kind = find("apps", "v1", "deployments").expect("deployments are built in");
    let object = json!({"bogus": 1, "spec": {"template": {"spec": {"containers": [{"name": "c"}, {"x": {}}]}}}});
    let normal = kind.normalize(&object).expect("the types are right");
    assert_eq!(
        normal.unknown,
        ["bogus", "spec.template.spec.containers[1].x"]
    );
    assert!(normal.object.get("bogus").is_none());
}

/// Go writes the fields of a struct in its order, we in that of the alphabet.
fn sorted(text: &str) -> Vec<char> {
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters
}

fn both_have(a: &str, b: &str, part: &str) -> bool {
    a.contains(part) && b.contains(part)
}

#[test]
fn objects_are_refused_for_the_reasons_of_a_real_server() {
    let refused: Vec<Value> =
        serde_json::from_str(include_str!("tests/refused.json")).expect("the recordings are JSON");
    let mut wrong = Vec::new();
    for recording in refused {
        let kind = kind_of(&recording);
        let mut object = kind
            .normalize(&recording["manifest"])
            .expect("the manifest fits its kind")
            .object;
        object["metadata"]["uid"] = json!("u");
        if kind.namespaced {
            object["metadata"]["namespace"] = json!("default");
        }
        kind.fill_defaults(&mut object);
        kind.prepare_create(&mut object);
        let own: Vec<String> = kind
            .validate_create(&object)
            .into_iter()
            .map(|error| format!("{} {}: {}", error.kind.reason(), error.path, error.body()))
            .collect();
        let expected: Vec<String> = recording["causes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|cause| {
                let text = |at: usize| cause[at].as_str().unwrap_or_default();
                format!("{} {}: {}", text(0), text(1), text(2))
            })
            .collect();
        // Values that hold a fresh uid differ from recording to recording.
        let same = own.len() == expected.len()
            && own
                .iter()
                .zip(&expected)
                .all(|(a, b)| sorted(a) == sorted(b) || both_have(a, b, "controller-uid"));
        if !same {
            wrong.push(format!(
                "{}\n  own: {own:#?}\n  expected: {expected:#?}",
                label(&recording)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an update of a recorded object to one with `change` merged in is refused for.
#[track_caller]
fn update_refused(plural: &str, change: Value, expected: &[&str]) {
    let recording = recordings()
        .into_iter()
        .find(|recording| recording["plural"] == plural)
        .expect("it was recorded");
    let kind = kind_of(&recording);
    let old = kind
        .normalize(&recording["object"])
        .expect("the object fits its kind")
        .object;
    let merged = merge(old.clone(), &change);
    let mut new = kind
        .normalize(&merged)
        .expect("the change fits the kind")
        .object;
    kind.fill_defaults(&mut new);
    kind.prepare_update(&mut new, &old);
    let errors: Vec<String> = kind
        .validate_update(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(errors, expected);
}

fn merge(mut into: Value, change: &Value) -> Value {
    match (into.as_object_mut(), change) {
        (Some(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                let merged = merge(fields.remove(name).unwrap_or_default(), change);
                if !merged.is_null() {
                    fields.insert(name.clone(), merged);
                }
            }
            into
        }
        _ => change.clone(),
    }
}

#[test]
fn what_is_immutable_stays() {
    let selector = json!({"matchLabels": {"app": "y"}});
    let template = json!({"metadata": {"labels": {"app": "y"}}});
    for plural in ["deployments", "replicasets", "daemonsets"] {
        update_refused(
            plural,
            json!({"spec": {"selector": selector, "template": template}}),
            &[r#"spec.selector: Invalid value: {"matchLabels":{"app":"y"}}: field is immutable"#],
        );
    }
    update_refused(
        "statefulsets",
        json!({"spec": {"podManagementPolicy": "Parallel"}}),
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
    update_refused("statefulsets", json!({"spec": {"replicas": 3}}), &[]);
    update_refused(
        "jobs",
        json!({"spec": {"parallelism": 3, "suspend": true}}),
        &[],
    );
    update_refused(
        "jobs",
        json!({"spec": {"completionMode": "Indexed"}}),
        &[r#"spec.completionMode: Invalid value: "Indexed": field is immutable"#],
    );
    update_refused(
        "secrets",
        json!({"type": "x"}),
        &[r#"type: Invalid value: "x": field is immutable"#],
    );
    update_refused(
        "services",
        json!({"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}}),
        &[r#"spec.clusterIPs[0]: Invalid value: ["10.96.9.9"]: may not change once set"#],
    );
    update_refused(
        "services",
        json!({"spec": {"type": "ExternalName", "externalName": "x.y", "clusterIP": null, "clusterIPs": null, "internalTrafficPolicy": null}}),
        &[],
    );
    update_refused(
        "rolebindings",
        json!({"roleRef": {"name": "q"}}),
        &[
            r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"q"}: cannot change roleRef"#,
        ],
    );
    update_refused(
        "pods",
        json!({"spec": {"dnsPolicy": "Default"}}),
        &[
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ],
    );
    update_refused("pods", json!({"spec": {"activeDeadlineSeconds": 7}}), &[]);
    update_refused("leases", json!({"spec": {"leaseTransitions": 5}}), &[]);
    update_refused(
        "runtimeclasses",
        json!({"handler": "q"}),
        &[r#"handler: Invalid value: "q": field is immutable"#],
    );
    update_refused(
        "certificatesigningrequests",
        json!({"spec": {"usages": ["server auth"]}}),
        &[],
    );
}

#[test]
fn immutable_maps_and_secrets_are_frozen() {
    for plural in ["configmaps", "secrets"] {
        let kind = find("", "v1", plural).expect("it is built in");
        let old = json!({"data": {"a": "YQ=="}, "immutable": true, "type": "Opaque"});
        let errors = |new: Value| {
            kind.validate_update(&new, &old)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            errors(json!({"data": {"a": "Yg=="}, "type": "Opaque"})),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
        assert_eq!(errors(old.clone()), Vec::<String>::new());
    }
}

#[test]
fn generations_count_specs_only() {
    let recording = recordings()
        .into_iter()
        .find(|one| one["plural"] == "deployments")
        .expect("it was recorded");
    let kind = kind_of(&recording);
    let old = recording["object"].clone();
    let generation = |change: Value| {
        let mut new = merge(old.clone(), &change);
        kind.prepare_update(&mut new, &old);
        assert_eq!(new["status"], old["status"]);
        new["metadata"]["generation"].clone()
    };
    assert_eq!(generation(json!({"metadata": {"labels": {"a": "b"}}})), 1);
    assert_eq!(generation(json!({"status": {"replicas": 5}})), 1);
    assert_eq!(generation(json!({"spec": {"replicas": 5}})), 2);
    let mut new = merge(
        old.clone(),
        &json!({"spec": {"replicas": 5}, "status": {"replicas": 5}}),
    );
    kind.prepare_status_update(&mut new, &old);
    assert_eq!(
        (&new["spec"], &new["status"]["replicas"]),
        (&old["spec"], &json!(5))
    );
}

#[test]
fn services_get_free_addresses_and_ports() {
    let service = json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]},
    });
    let assigned = |taken: &[&str]| {
        let mut service = service.clone();
        let used = |address: std::net::Ipv4Addr| taken.contains(&address.to_string().as_str());
        let pool = AddressPool {
            address_used: &used,
            port_used: &|_| false,
        };
        assign_cluster_ips(&mut service, pool).expect("there are free addresses");
        service["spec"].clone()
    };
    let first = assigned(&[]);
    assert_eq!(first, assigned(&[]));
    let address = first["clusterIP"].as_str().unwrap_or_default();
    assert!(address.starts_with("10.96."), "{address}");
    assert_ne!(first["ports"][0]["nodePort"], first["ports"][1]["nodePort"]);
    assert_ne!(assigned(&[address])["clusterIP"], first["clusterIP"]);
    let mut asking = json!({"metadata": {}, "spec": {"type": "ClusterIP", "clusterIP": address}});
    let used = |_| true;
    let pool = AddressPool {
        address_used: &used,
        port_used: &|_| false,
    };
    assert!(assign_cluster_ips(&mut asking, pool).is_err());
    assert!(assign_cluster_ips(&mut service.clone(), pool).is_err());
}

#[test]
fn autoscalers_survive_both_shapes() {
    let v1 = find("autoscaling", "v1", "horizontalpodautoscalers").expect("it is built in");
    let spec = json!({"scaleTargetRef": {"kind": "D", "name": "d"}, "maxReplicas": 5, "targetCPUUtilizationPercentage": 50});
    let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": spec});
    let stored = v1.to_storage(object.clone());
    assert_eq!(stored["apiVersion"], "autoscaling/v2");
    assert_eq!(
        stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    assert_eq!(v1.from_storage(stored)["spec"], object["spec"]);
    let other = json!([
        {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "K", "name": "n"}, "metric": {"name": "o"}, "target": {"type": "Value", "value": "2"}}},
    ]);
    let stored = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": {"kind": "D", "name": "d"}, "maxReplicas": 5, "metrics": other, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}},
    });
    let seen = v1.from_storage(stored.clone());
    assert!(seen["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_string());
    assert_eq!(v1.to_storage(seen)["spec"], stored["spec"]);
}

#[test]
fn quantities_take_their_usual_form() {
    for (text, expected) in [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("0", "0"),
        ("-1", "-1"),
        ("1e3", "1e3"),
        ("1500", "1500"),
        ("1000", "1k"),
        ("100k", "100k"),
        ("0.1Ki", "102400m"),
        ("1E", "1E"),
        (
            "12345678901234567890123456789",
            "12345678901234567890123456789",
        ),
        ("1.2.3", "error"),
        ("abc", "error"),
        ("1x", "error"),
    ] {
        assert_eq!(
            quantity::canonical(text).unwrap_or_else(|_| "error".to_owned()),
            expected,
            "{text}"
        );
    }
}

#[test]
fn names_follow_the_rules_of_their_kind() {
    for (group, version, plural, name, fine) in [
        ("", "v1", "namespaces", "a.b", false),
        ("", "v1", "namespaces", "a-b", true),
        ("", "v1", "configmaps", "a.b", true),
        ("", "v1", "configmaps", "A", false),
        ("", "v1", "services", "1a", true),
        ("rbac.authorization.k8s.io", "v1", "roles", "system:a", true),
        ("rbac.authorization.k8s.io", "v1", "roles", "a/b", false),
        (
            "batch",
            "v1",
            "cronjobs",
            "a23456789012345678901234567890123456789012345678901234",
            false,
        ),
    ] {
        let kind = find(group, version, plural).expect("it is built in");
        assert_eq!(kind.validate_name(name).is_empty(), fine, "{plural} {name}");
    }
}

#[test]
fn the_table_refers_to_nothing_that_it_lacks() {
    let registry = Registry::get();
    for line in include_str!("types.txt").lines() {
        if let Some((_, name)) = line.split_once('@') {
            let name = name.split('\t').next().unwrap_or_default();
            assert!(registry.find(name).is_some(), "{name}");
        }
    }
}
