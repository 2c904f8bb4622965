use super::*;
use serde_json::{Value, json};

fn set(name: &str, spec: Value) -> ManagedClusterSet {
    let spec = serde_json::from_value(spec).unwrap();
    ManagedClusterSet::new(name, spec)
}

fn cluster(name: &str, labels: Value) -> ManagedCluster {
    let object = json!({"metadata": {"name": name, "labels": labels}});
    serde_json::from_value(object).unwrap()
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

#[test]
fn members_by_label_and_by_selector() {
    let sets = [
        set("a", json!({})),
        set(
            "east",
            json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {"matchLabels": {"region": "east"}}}}),
        ),
        set(
            "all",
            json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {}}}),
        ),
        set(
            "none",
            json!({"clusterSelector": {"selectorType": "LabelSelector"}}),
        ),
        set(
            "odd",
            json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "?"}]}}}),
        ),
    ];
    let check = |labels: Value, expected: &[&str]| {
        let cluster = cluster("c", labels);
        let found = of_labels(cluster.metadata.labels.as_ref(), &sets);
        assert_eq!(found, expected);
    };
    check(json!({}), &["all"]);
    check(json!({names::CLUSTER_SET_LABEL: "a"}), &["a", "all"]);
    check(json!({names::CLUSTER_SET_LABEL: "east"}), &["all"]);
    check(
        json!({names::CLUSTER_SET_LABEL: "a", "region": "east"}),
        &["a", "east", "all"],
    );
}

#[test]
fn a_set_says_how_many_clusters_it_has_once() {
    let mut set = set("a", json!({}));
    let mut said = |clusters: &[ManagedCluster]| {
        let found = set_condition(&set, clusters, now()).unwrap()?;
        let status = set.status.get_or_insert_default();
        conditions::set(&mut status.conditions, found.clone());
        Some(format!(
            "{} {}: {}",
            found.status, found.reason, found.message
        ))
    };
    let none = "True NoClusterMatched: No ManagedCluster selected";
    assert_eq!(said(&[]).as_deref(), Some(none));
    assert_eq!(said(&[cluster("x", json!({}))]), None);
    let member = || cluster("x", json!({names::CLUSTER_SET_LABEL: "a"}));
    let one = "False ClustersSelected: 1 ManagedClusters selected";
    assert_eq!(said(&[member()]).as_deref(), Some(one));
    assert_eq!(said(&[member()]), None);
    let two = "False ClustersSelected: 2 ManagedClusters selected";
    assert_eq!(said(&[member(), member()]).as_deref(), Some(two));
}

#[test]
fn a_leaving_set_says_nothing_and_an_odd_one_fails() {
    let mut leaving = set("a", json!({}));
    leaving.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(set_condition(&leaving, &[], now()), Ok(None));
    let selector = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    let odd =
        json!({"clusterSelector": {"selectorType": "LabelSelector", "labelSelector": selector}});
    assert_eq!(
        set_condition(&set("a", odd), &[], now()),
        Err(SelectorError::NoValues)
    );
}

#[test]
fn a_binding_says_whether_its_set_exists() {
    let spec = serde_json::from_value(json!({"clusterSet": "a"})).unwrap();
    let mut binding = ManagedClusterSetBinding::new("a", spec);
    let mut said = |exists| {
        let found = binding_condition(&binding, exists, now())?;
        let status = binding.status.get_or_insert_default();
        conditions::set(&mut status.conditions, found.clone());
        Some(format!("{} {}", found.status, found.reason))
    };
    assert_eq!(said(false).as_deref(), Some("False ClusterSetNotFound"));
    assert_eq!(said(false), None);
    assert_eq!(said(true).as_deref(), Some("True ClusterSetBound"));
    assert_eq!(said(true), None);
}

#[test]
fn built_in_sets_are_created_and_restored() {
    for built_in in BuiltIn::ALL {
        let Some(Repair::Create(mut set)) = built_in.plan(None) else {
            panic!("a set that is not there is created");
        };
        assert_eq!(built_in.plan(Some(&set)), None);
        set.spec.managed_namespaces =
            vec![drover_api::cluster::v1beta2::ManagedNamespaceConfig::default()];
        assert_eq!(built_in.plan(Some(&set)), None, "other fields are free");
        set.spec.cluster_selector.selector_type = SelectorType::LabelSelector;
        set.spec.cluster_selector.label_selector = Some(LabelSelector {
            match_labels: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
            ..LabelSelector::default()
        });
        let restore = Some(Repair::Restore(built_in.selector()));
        assert_eq!(built_in.plan(Some(&set)), restore);
        let left = BTreeMap::from([(AUTO_UPDATE_ANNOTATION.to_owned(), "false".to_owned())]);
        set.metadata.annotations = Some(left);
        assert_eq!(built_in.plan(Some(&set)), None);
    }
    // An API server may send an empty list where nothing was written.
    let mut global = set(
        "global",
        json!({"clusterSelector": BuiltIn::Global.selector()}),
    );
    let labels = global
        .spec
        .cluster_selector
        .label_selector
        .as_mut()
        .unwrap();
    labels.match_expressions = Some(Vec::new());
    assert_eq!(BuiltIn::Global.plan(Some(&global)), None);
}

#[test]
fn clusters_without_a_set_get_the_default_one() {
    let check = |labels: Value, expected: bool| {
        assert_eq!(lacks_set(&cluster("c", labels)), expected);
    };
    check(json!({}), true);
    check(json!({"a": "b"}), true);
    check(json!({names::CLUSTER_SET_LABEL: ""}), true);
    check(json!({names::CLUSTER_SET_LABEL: "a"}), false);
    let mut leaving = cluster("c", json!({}));
    leaving.metadata.deletion_timestamp = Some(Time(now()));
    assert!(!lacks_set(&leaving));
}
