//! The works that both agents get: one feature each.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{CLUSTER, Json};

/// Takes out of what is told where the two sides may differ: the act, whether it is OCM's side, and what is told.
pub(super) type But = fn(usize, bool, &mut Json);

/// One feature.
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// What happens, one after the other.
    pub(super) acts: Vec<(&'static str, Vec<Step>)>,
    pub(super) but: But,
}

/// One request to both sides.
#[derive(Clone)]
pub(super) enum Step {
    Work(Json),
    DeleteWork(String),
    Create(Json),
    /// Kind, namespace, name, merge patch.
    Patch(&'static str, &'static str, &'static str, Json),
    /// The same for the status.
    Status(&'static str, &'static str, &'static str, Json),
    Delete(&'static str, &'static str, &'static str),
}

impl Feature {
    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.acts.iter().flat_map(|(_, steps)| steps)
    }

    pub(super) fn works(&self) -> BTreeSet<String> {
        let works = self.steps().filter_map(|step| match step {
            Step::Work(work) => work["metadata"]["name"].as_str(),
            _ => None,
        });
        works.map(str::to_owned).collect()
    }

    /// Every object that a work names.
    pub(super) fn objects(&self) -> Vec<Json> {
        let works = self.steps().filter_map(|step| match step {
            Step::Work(work) => work["spec"]["workload"]["manifests"].as_array(),
            _ => None,
        });
        works
            .flatten()
            .filter(|it| it["metadata"]["name"].is_string())
            .cloned()
            .collect()
    }
}

fn feature(name: &'static str, acts: Vec<(&'static str, Vec<Step>)>) -> Feature {
    Feature {
        name,
        acts,
        but: |_, _, _| (),
    }
}

fn differs(name: &'static str, acts: Vec<(&'static str, Vec<Step>)>, but: But) -> Feature {
    Feature { name, acts, but }
}

fn work(name: &str, manifests: Vec<Json>) -> Step {
    configured(name, manifests, json!({}))
}

/// With more of the spec.
fn configured(name: &str, manifests: Vec<Json>, more: Json) -> Step {
    let mut spec = more;
    spec["workload"] = json!({"manifests": manifests});
    Step::Work(json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {"name": name, "namespace": CLUSTER}, "spec": spec,
    }))
}

/// Options for one object.
fn config(resource: &str, name: &str, options: Json) -> Json {
    let (group, resource) = resource.rsplit_once('/').unwrap_or(("", resource));
    let mut config = options;
    config["resourceIdentifier"] =
        json!({"group": group, "resource": resource, "namespace": "default", "name": name});
    json!({"manifestConfigs": [config]})
}

fn map(name: &str, data: Json) -> Json {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data})
}

fn deployment(name: &str, replicas: i64, image: &str) -> Json {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}}},
    })
}

fn job(name: &str) -> Json {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {"manualSelector": true, "selector": {"matchLabels": {"job": name}}, "template": {
            "metadata": {"labels": {"job": name}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}}},
    })
}

fn strategy(type_: &str) -> Json {
    json!({"updateStrategy": {"type": type_}})
}

fn applied(force: bool, ignored: Json) -> Json {
    let mut server_side = json!({"force": force});
    if !ignored.is_null() {
        server_side["ignoreFields"] = ignored;
    }
    json!({"updateStrategy": {"type": "ServerSideApply", "serverSideApply": server_side}})
}

fn delete(name: &str) -> Step {
    Step::DeleteWork(name.to_owned())
}

const MAP: &str = "v1/ConfigMap";
const DEPLOYMENT: &str = "apps/v1/Deployment";

pub(super) fn all() -> Vec<Feature> {
    [
        basics(),
        strategies(),
        deletion(),
        wrong(),
        status(),
        rules(),
        executors(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn basics() -> Vec<Feature> {
    let labelled = |labels: Json, annotations: Json| {
        let mut map = map("meta", json!({"a": "1"}));
        map["metadata"]["labels"] = labels;
        map["metadata"]["annotations"] = annotations;
        map
    };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}],
        },
    });
    let widget = |spec: Json| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}, "spec": spec});
    let role = |verb: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "basics-reader"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}],
        })
    };
    let service = |port: i64| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc", "namespace": "default"},
            "spec": {"selector": {"app": "a"}, "ports": [{"port": port, "targetPort": 8080}]},
        })
    };
    let secret = |text: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec", "namespace": "default"}, "stringData": {"key": text},
        })
    };
    vec![
        feature(
            "maps",
            vec![
                (
                    "two are made",
                    vec![work(
                        "maps",
                        vec![map("m1", json!({"a": "1"})), map("m2", json!({"a": "1"}))],
                    )],
                ),
                (
                    "one is changed, one is pruned",
                    vec![work(
                        "maps",
                        vec![map("m1", json!({"b": "2"})), map("m3", json!({}))],
                    )],
                ),
                ("the work goes", vec![delete("maps")]),
            ],
        ),
        feature(
            "metadata",
            vec![
                (
                    "it is there with labels of its own",
                    vec![Step::Create(labelled(
                        json!({"own": "1", "both": "old"}),
                        json!({"own": "1"}),
                    ))],
                ),
                (
                    "the work adds some",
                    vec![work(
                        "metadata",
                        vec![labelled(
                            json!({"both": "new", "ours": "1"}),
                            json!({"ours": "1"}),
                        )],
                    )],
                ),
                (
                    "the work drops some",
                    vec![work(
                        "metadata",
                        vec![labelled(json!({"ours": "2"}), json!({}))],
                    )],
                ),
                ("the work goes", vec![delete("metadata")]),
            ],
        ),
        feature(
            "definition",
            vec![
                (
                    "a kind and an object of it",
                    vec![work(
                        "definition",
                        vec![
                            widget(json!({"size": 1, "color": "red"})),
                            definition.clone(),
                        ],
                    )],
                ),
                (
                    "a field goes",
                    vec![work(
                        "definition",
                        vec![widget(json!({"size": 2})), definition],
                    )],
                ),
                (
                    "somebody adds a finalizer and an annotation",
                    vec![Step::Patch(
                        "example.com/v1/Widget",
                        "default",
                        "w",
                        json!({"metadata": {"finalizers": ["example.com/keep"], "annotations": {"own": "1"}}}),
                    )],
                ),
                (
                    "the object is free again and the work goes",
                    vec![
                        Step::Patch(
                            "example.com/v1/Widget",
                            "default",
                            "w",
                            json!({"metadata": {"finalizers": null}}),
                        ),
                        delete("definition"),
                    ],
                ),
            ],
        ),
        feature(
            "kinds",
            vec![
                (
                    "they are made",
                    vec![work(
                        "kinds",
                        vec![
                            role("get"),
                            service(80),
                            secret("one"),
                            deployment("dep", 1, "a:1"),
                        ],
                    )],
                ),
                (
                    "they are changed",
                    vec![work(
                        "kinds",
                        vec![
                            role("list"),
                            service(81),
                            secret("two"),
                            deployment("dep", 2, "a:2"),
                        ],
                    )],
                ),
                ("the work goes", vec![delete("kinds")]),
            ],
        ),
        feature(
            "server's metadata",
            vec![(
                "a manifest as kubectl get shows it",
                vec![work(
                    "server",
                    vec![json!({
                        "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
                        "metadata": {"name": "seen", "namespace": "default", "uid": "0d5a9f2e-0000-4000-8000-000000000000",
                            "creationTimestamp": null, "generation": 7},
                    })],
                )],
            )],
        ),
    ]
}

fn strategies() -> Vec<Feature> {
    let with = |resource: &'static str, name: &'static str, options: Json| {
        move |manifest: Json| {
            configured(
                name,
                vec![manifest],
                config(resource, name, options.clone()),
            )
        }
    };
    let create = with("configmaps", "create-only", strategy("CreateOnly"));
    let read = with("configmaps", "read-only", strategy("ReadOnly"));
    let absent = with("configmaps", "read-absent", strategy("ReadOnly"));
    let plain = with("apps/deployments", "ssa", applied(false, json!(null)));
    let forced = with("apps/deployments", "ssa", applied(true, json!(null)));
    let present = with(
        "apps/deployments",
        "present",
        applied(
            true,
            json!([{"condition": "OnSpokePresent", "jsonPaths": [".spec.replicas"]}]),
        ),
    );
    let change = with(
        "apps/deployments",
        "change",
        applied(
            true,
            json!([{"condition": "OnSpokeChange", "jsonPaths": [".spec.replicas"]}]),
        ),
    );
    let scaled = |name: &'static str| {
        Step::Patch(
            DEPLOYMENT,
            "default",
            name,
            json!({"spec": {"replicas": 5}}),
        )
    };
    vec![
        feature(
            "create only",
            vec![
                (
                    "it is made",
                    vec![create(map("create-only", json!({"a": "1"})))],
                ),
                (
                    "it is left alone",
                    vec![create(map("create-only", json!({"a": "2"})))],
                ),
                ("the work goes", vec![delete("create-only")]),
            ],
        ),
        feature(
            "read only",
            vec![
                (
                    "it is there",
                    vec![
                        Step::Create(map("read-only", json!({"a": "1"}))),
                        read(map("read-only", json!({}))),
                    ],
                ),
                ("the work goes", vec![delete("read-only")]),
            ],
        ),
        feature(
            "read only of nothing",
            vec![(
                "it is not there",
                vec![absent(map("read-absent", json!({})))],
            )],
        ),
        feature(
            "server-side apply",
            vec![
                ("it is made", vec![plain(deployment("ssa", 1, "a:1"))]),
                ("it is changed", vec![plain(deployment("ssa", 2, "a:2"))]),
                (
                    "somebody takes a field",
                    vec![scaled("ssa"), plain(deployment("ssa", 3, "a:2"))],
                ),
                (
                    "it is taken back by force",
                    vec![forced(deployment("ssa", 4, "a:2"))],
                ),
                ("the work goes", vec![delete("ssa")]),
            ],
        ),
        feature(
            "ignored when present",
            vec![
                (
                    "it is made with all fields",
                    vec![present(deployment("present", 1, "a:1"))],
                ),
                (
                    "the field is the cluster's",
                    vec![scaled("present"), present(deployment("present", 2, "a:2"))],
                ),
            ],
        ),
        feature(
            "ignored when changed",
            vec![
                (
                    "it is made with all fields",
                    vec![change(deployment("change", 1, "a:1"))],
                ),
                ("the change is kept", vec![scaled("change")]),
                (
                    "until the manifest changes",
                    vec![change(deployment("change", 2, "a:1"))],
                ),
            ],
        ),
    ]
}

fn deletion() -> Vec<Feature> {
    let option = |policy: &str| json!({"deleteOption": {"propagationPolicy": policy}});
    let some = json!({"deleteOption": {"propagationPolicy": "SelectivelyOrphan", "selectivelyOrphans": {"orphaningRules": [
        {"resource": "configmaps", "namespace": "default", "name": "kept-1"}]}}});
    let held = |name: &str| {
        let mut map = map(name, json!({"a": "1"}));
        map["metadata"]["finalizers"] = json!(["example.com/hold"]);
        map
    };
    vec![
        feature(
            "orphans",
            vec![
                (
                    "they are not owned",
                    vec![configured(
                        "orphans",
                        vec![map("o1", json!({})), map("o2", json!({}))],
                        option("Orphan"),
                    )],
                ),
                (
                    "one leaves the work and stays",
                    vec![configured(
                        "orphans",
                        vec![map("o1", json!({}))],
                        option("Orphan"),
                    )],
                ),
                (
                    "the option goes",
                    vec![work("orphans", vec![map("o1", json!({}))])],
                ),
                (
                    "and comes back; the work goes",
                    vec![
                        configured("orphans", vec![map("o1", json!({}))], option("Orphan")),
                        delete("orphans"),
                    ],
                ),
            ],
        ),
        feature(
            "some orphans",
            vec![
                (
                    "two are made",
                    vec![configured(
                        "some",
                        vec![map("kept-1", json!({})), map("lost-1", json!({}))],
                        some,
                    )],
                ),
                ("the work goes", vec![delete("some")]),
            ],
        ),
        feature(
            "shared",
            vec![
                (
                    "two works name one object",
                    vec![
                        work(
                            "shared-a",
                            vec![map("shared", json!({"a": "1"})), map("only-a", json!({}))],
                        ),
                        work(
                            "shared-b",
                            vec![map("shared", json!({"a": "1"})), map("only-b", json!({}))],
                        ),
                    ],
                ),
                (
                    "one lets go of it",
                    vec![work("shared-a", vec![map("only-a", json!({}))])],
                ),
                (
                    "and takes it again",
                    vec![work("shared-a", vec![map("shared", json!({"a": "1"}))])],
                ),
                ("the other one goes", vec![delete("shared-b")]),
                ("and the last one", vec![delete("shared-a")]),
            ],
        ),
        // OCM looks again later and later, up to a minute.
        differs(
            "held",
            vec![
                ("it is made", vec![work("held", vec![held("held")])]),
                ("the work goes and waits", vec![delete("held")]),
                (
                    "it is let go",
                    vec![Step::Patch(
                        MAP,
                        "default",
                        "held",
                        json!({"metadata": {"finalizers": null}}),
                    )],
                ),
            ],
            |at, _, told| {
                if at == 2 {
                    *told = Value::Null;
                }
            },
        ),
        feature(
            "deleted by hand",
            vec![
                (
                    "it is made",
                    vec![work(
                        "by-hand",
                        vec![map("by-hand", json!({})), map("by-hand-2", json!({}))],
                    )],
                ),
                (
                    "the record of it stays right",
                    vec![
                        Step::Delete(MAP, "default", "by-hand"),
                        work("by-hand", vec![map("by-hand-2", json!({"a": "1"}))]),
                    ],
                ),
            ],
        ),
    ]
}

fn wrong() -> Vec<Feature> {
    let binding = |role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "bind", "namespace": "default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
        })
    };
    let mut mismatched = deployment("mismatched", 1, "a:1");
    mismatched["spec"]["selector"]["matchLabels"]["app"] = json!("other");
    let nowhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nowhere"}});
    let unknown = json!({"apiVersion": "example.org/v1", "kind": "Unknown", "metadata": {"name": "u", "namespace": "default"}});
    let lost = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "lost", "namespace": "no-such-namespace"}});
    vec![
        // OCM records nothing before it knows every kind, so what is applied already is not pruned until then.
        differs(
            "unknown kind",
            vec![(
                "it is told",
                vec![work("unknown", vec![unknown, map("known", json!({}))])],
            )],
            |_, _, told| told["applied"] = Value::Null,
        ),
        // Drover keeps in its record what it tried to make.
        differs(
            "refused",
            vec![(
                "it is told",
                vec![work("refused", vec![mismatched, map("taken", json!({}))])],
            )],
            |_, _, told| told["applied"] = Value::Null,
        ),
        feature(
            "no namespace",
            vec![("it is told", vec![work("nowhere", vec![nowhere])])],
        ),
        // Drover keeps in its record what it tried to make.
        differs(
            "absent namespace",
            vec![("it is told", vec![work("lost", vec![lost])])],
            |_, _, told| told["applied"] = Value::Null,
        ),
        feature(
            "immutable",
            vec![
                ("it is made", vec![work("immutable", vec![binding("one")])]),
                (
                    "it cannot be changed",
                    vec![work("immutable", vec![binding("two")])],
                ),
            ],
        ),
    ]
}

fn status() -> Vec<Feature> {
    let feedback = |name: &'static str, rules: Json| {
        configured(
            name,
            vec![deployment(name, 2, "a:1")],
            config("apps/deployments", name, json!({"feedbackRules": rules})),
        )
    };
    let paths = |paths: &[(&str, &str)]| {
        let paths: Vec<Value> = paths
            .iter()
            .map(|(name, path)| json!({"name": name, "path": path}))
            .collect();
        json!([{"type": "JSONPaths", "jsonPaths": paths}])
    };
    let reached = |name: &'static str| {
        Step::Status(
            DEPLOYMENT,
            "default",
            name,
            json!({"status": {
            "observedGeneration": 1, "replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "unavailableReplicas": 1,
            "conditions": [{"type": "Available", "status": "True"}, {"type": "Progressing", "status": "False"}]}}),
        )
    };
    let many = paths(&[
        ("revision", ".metadata.generation"),
        ("absent", ".status.nothing.here"),
        ("first", ".status.conditions[*].type"),
        (
            "filtered",
            ".status.conditions[?(@.type==\"Progressing\")].status",
        ),
        ("text", ".metadata.name"),
        ("paused", ".spec.template.spec.containers[0].image"),
    ]);
    let mut versioned = paths(&[("replicas", ".status.replicas")]);
    versioned[0]["jsonPaths"][0]["version"] = json!("v1beta1");
    vec![
        feature(
            "well-known status",
            vec![
                (
                    "there is none yet",
                    vec![feedback("known", json!([{"type": "WellKnownStatus"}]))],
                ),
                ("there is one", vec![reached("known")]),
            ],
        ),
        feature(
            "paths",
            vec![
                ("there is no status yet", vec![feedback("paths", many)]),
                ("there is one", vec![reached("paths")]),
            ],
        ),
        feature(
            "wrong paths",
            vec![(
                "it is told",
                vec![feedback(
                    "bad-paths",
                    paths(&[
                        ("bad", ".status["),
                        ("list", ".spec.template.spec.containers"),
                        ("good", ".spec.replicas"),
                    ]),
                )],
            )],
        ),
        feature(
            "paths of another version",
            vec![("it is told", vec![feedback("versioned", versioned)])],
        ),
        feature(
            "nothing well-known",
            vec![(
                "it is told",
                vec![configured(
                    "no-rules",
                    vec![map("no-rules", json!({}))],
                    config(
                        "configmaps",
                        "no-rules",
                        json!({"feedbackRules": [{"type": "WellKnownStatus"}]}),
                    ),
                )],
            )],
        ),
        feature(
            "several options",
            vec![(
                "the first that says something counts",
                vec![{
                    let mut options = config(
                        "apps/deployments",
                        "dep*",
                        json!({"feedbackRules": paths(&[("one", ".spec.replicas")])}),
                    );
                    let second = config(
                        "apps/deployments",
                        "*",
                        json!({"feedbackRules": paths(&[("two", ".spec.replicas")]), "updateStrategy": {"type": "CreateOnly"}}),
                    );
                    options["manifestConfigs"]
                        .as_array_mut()
                        .unwrap()
                        .extend(second["manifestConfigs"].as_array().unwrap().clone());
                    configured(
                        "options",
                        vec![
                            deployment("dep-1", 1, "a:1"),
                            deployment("other-1", 1, "a:1"),
                        ],
                        options,
                    )
                }],
            )],
        ),
    ]
}

fn rules() -> Vec<Feature> {
    let known =
        || json!({"conditionRules": [{"condition": "Complete", "type": "WellKnownConditions"}]});
    let cel = |condition: &str, expression: &str, message: &str| json!({"condition": condition, "type": "CEL", "celExpressions": [expression], "messageExpression": message});
    let finished = |name: &'static str| {
        Step::Status(
            "batch/v1/Job",
            "default",
            name,
            json!({"status": {
            "startTime": "2026-01-01T00:00:00Z", "failed": 1,
            "conditions": [{"type": "FailureTarget", "status": "True", "reason": "R", "message": "m"}, {"type": "Failed", "status": "True", "reason": "R", "message": "m"}]}}),
        )
    };
    let several = json!({"conditionRules": [
        cel("Progressing", "object.spec.replicas > 5", "result ? 'rolls' : 'rests'"),
        cel("Degraded", "has(object.status.readyReplicas)", ""),
        cel("Available", "object.spec.replicas > 1", "'replicas: ' + string(object.spec.replicas)"),
        cel("Broken", "object.spec.nothing == 1", ""),
        cel("NotBool", "object.spec.replicas", ""),
        cel("BadMessage", "true", "nobody"),
        cel("Listed", "object.spec.template.spec.containers.all(c, c.image.startsWith('a:')) && hasConditions(object.status)", ""),
    ]});
    let both = |name: &'static str, options: Json| {
        configured(
            name,
            vec![deployment(name, 1, "a:1")],
            config("apps/deployments", name, options),
        )
    };
    vec![
        feature(
            "complete job",
            vec![
                (
                    "it runs",
                    vec![configured(
                        "done",
                        vec![job("done")],
                        config("batch/jobs", "done", known()),
                    )],
                ),
                ("it ends", vec![finished("done")]),
                (
                    "what is wanted then is not done any more",
                    vec![configured(
                        "done",
                        vec![job("done"), map("late", json!({}))],
                        config("batch/jobs", "done", known()),
                    )],
                ),
                ("the work goes", vec![delete("done")]),
            ],
        ),
        feature(
            "rules",
            vec![
                ("they are judged", vec![both("rules", several.clone())]),
                (
                    "they go",
                    vec![both("rules", json!({"updateStrategy": {"type": "Update"}}))],
                ),
            ],
        ),
        feature(
            "rules of nothing",
            vec![(
                "they are ignored",
                vec![configured(
                    "no-such",
                    vec![map("no-such", json!({}))],
                    config("configmaps", "no-such", known()),
                )],
            )],
        ),
    ]
}

fn executors() -> Vec<Feature> {
    let executor = |name: &str| json!({"executor": {"subject": {"type": "ServiceAccount", "serviceAccount": {"namespace": "default", "name": name}}}});
    let role = |name: &str, verbs: Json| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name, "namespace": "default"},
            "rules": [{"apiGroups": ["", "rbac.authorization.k8s.io"], "resources": ["configmaps", "roles"], "verbs": verbs}],
        })
    };
    let bind = |name: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": "default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        })
    };
    let may = |name: &'static str, verbs: Json| {
        vec![Step::Create(role(name, verbs)), Step::Create(bind(name))]
    };
    let all = json!(["create", "update", "patch", "get", "delete"]);
    let most = json!(["create", "update", "patch", "get"]);
    let mut orphan = executor("most");
    orphan["deleteOption"] = json!({"propagationPolicy": "Orphan"});
    let escalation = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "escalated", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}],
    });
    let fair = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "fair", "namespace": "default"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}],
    });
    vec![
        feature(
            "executor without rights",
            vec![(
                "nothing is done",
                vec![configured(
                    "nobody",
                    vec![map("nobody", json!({}))],
                    executor("nobody"),
                )],
            )],
        ),
        feature(
            "executor with rights",
            vec![
                (
                    "it is done",
                    [
                        may("mighty", all),
                        vec![configured(
                            "mighty",
                            vec![map("mighty", json!({}))],
                            executor("mighty"),
                        )],
                    ]
                    .concat(),
                ),
                (
                    "rights are not given away",
                    vec![configured(
                        "mighty",
                        vec![map("mighty", json!({})), escalation, fair],
                        executor("mighty"),
                    )],
                ),
            ],
        ),
        feature(
            "executor that may not delete",
            vec![
                (
                    "what would be owned is not made",
                    [
                        may("most", most),
                        vec![configured(
                            "most",
                            vec![map("most", json!({}))],
                            executor("most"),
                        )],
                    ]
                    .concat(),
                ),
                (
                    "what would not is",
                    vec![configured("most", vec![map("most", json!({}))], orphan)],
                ),
            ],
        ),
    ]
}
