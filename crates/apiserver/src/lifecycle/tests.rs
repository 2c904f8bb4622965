use super::*;

const NOW: &str = "2026-11-21T10:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn facts(family: Family) -> Facts<'static> {
    Facts {
        group: "example.io",
        kind: "Thing",
        family,
    }
}

fn metadata_of(deletion: Deletion) -> Value {
    match deletion {
        Deletion::Mark(object) => object["metadata"].clone(),
        other => panic!("{other:?}"),
    }
}

fn run(live: &Value, options: &Value, family: Family) -> Deletion {
    delete(
        live,
        &DeleteOptions::from_json(options).unwrap(),
        &facts(family),
        now(),
    )
}

#[test]
fn objects_without_finalizers_go_at_once() {
    let live = json!({"metadata": {"name": "a"}});
    for options in [
        json!(null),
        json!({"propagationPolicy": "Background"}),
        json!({"gracePeriodSeconds": 30}),
    ] {
        assert_eq!(run(&live, &options, Family::Plain), Deletion::Remove);
    }
    let orphan = json!({"metadata": {"finalizers": ["orphan"]}});
    let background = json!({"propagationPolicy": "Background"});
    assert_eq!(run(&orphan, &background, Family::Plain), Deletion::Remove);
}

#[test]
fn finalizers_keep_an_object() {
    let live = json!({"metadata": {"generation": 3, "finalizers": ["example.io/x"]}});
    let marked = run(&live, &json!(null), Family::Plain);
    assert_eq!(
        metadata_of(marked.clone()),
        json!({"generation": 4, "finalizers": ["example.io/x"], "deletionTimestamp": NOW,
            "deletionGracePeriodSeconds": 0})
    );
    let Deletion::Mark(marked) = marked else {
        unreachable!()
    };
    assert_eq!(
        run(&marked, &json!(null), Family::Plain),
        Deletion::Unchanged
    );
    // A later request may still change what happens to the dependents.
    let later = run(
        &marked,
        &json!({"propagationPolicy": "Foreground"}),
        Family::Plain,
    );
    assert_eq!(
        metadata_of(later),
        json!({"generation": 4, "finalizers": ["example.io/x", "foregroundDeletion"],
            "deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0})
    );
    let ungenerated = json!({"metadata": {"finalizers": ["x"]}});
    assert!(metadata_of(run(&ungenerated, &json!(null), Family::Plain))["generation"].is_null());
}

#[test]
fn policies_become_finalizers() {
    use Family::{Childless, Orphaning, Plain};
    let check = |finalizers: Value, options: Value, family: Family, expected: Value| {
        let found = match run(
            &json!({"metadata": {"finalizers": finalizers}}),
            &options,
            family,
        ) {
            Deletion::Mark(object) => object["metadata"]["finalizers"].clone(),
            Deletion::Remove => json!([]),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{options} {family:?}");
    };
    let policy = |policy: &str| json!({"propagationPolicy": policy});
    check(json!([]), policy("Orphan"), Plain, json!(["orphan"]));
    check(
        json!([]),
        policy("Foreground"),
        Plain,
        json!(["foregroundDeletion"]),
    );
    check(
        json!(["orphan", "x"]),
        policy("Foreground"),
        Plain,
        json!(["x", "foregroundDeletion"]),
    );
    check(
        json!(["orphan", "x"]),
        policy("Background"),
        Plain,
        json!(["x"]),
    );
    check(
        json!(["orphan", "x"]),
        json!({}),
        Plain,
        json!(["orphan", "x"]),
    );
    check(
        json!(["foregroundDeletion"]),
        json!({}),
        Plain,
        json!(["foregroundDeletion"]),
    );
    check(
        json!([]),
        json!({"orphanDependents": true}),
        Plain,
        json!(["orphan"]),
    );
    check(
        json!(["orphan"]),
        json!({"orphanDependents": false}),
        Plain,
        json!([]),
    );
    check(json!([]), json!({}), Orphaning, json!(["orphan"]));
    check(json!([]), policy("Background"), Orphaning, json!([]));
    check(json!([]), policy("Orphan"), Childless, json!([]));
}

#[test]
fn preconditions_are_kept() {
    let live = json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "7"}});
    let refused = |preconditions: Value, family: Family| match run(
        &live,
        &json!({"preconditions": preconditions}),
        family,
    ) {
        Deletion::Refuse(error) => (error.code, error.message),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        run(
            &live,
            &json!({"preconditions": {"uid": "u", "resourceVersion": "7"}}),
            Family::Plain
        ),
        Deletion::Remove
    );
    let (code, message) = refused(json!({"uid": "v"}), Family::Plain);
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Operation cannot be fulfilled on Thing.example.io \"a\": the UID in the precondition (v) \
         does not match the UID in record (u). The object might have been deleted and then recreated"
    );
    assert!(refused(json!({"resourceVersion": "6"}), Family::Plain).1.ends_with(
        "the ResourceVersion in the precondition (6) does not match the ResourceVersion in record \
         (7). The object might have been modified"
    ));
    assert!(refused(json!({"uid": "v"}), Family::Namespace).1.contains(
        "namespaces.example.io \"a\": Precondition failed: UID in precondition: v, UID in object meta: u"
    ));
}

#[test]
fn options_are_checked() {
    let refused = |options: Value| DeleteOptions::from_json(&options).unwrap_err().message;
    assert_eq!(
        refused(json!({"propagationPolicy": "Sometimes"})),
        "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \
         \"Sometimes\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
    );
    assert!(
        refused(json!({"propagationPolicy": "Orphan", "orphanDependents": true}))
            .ends_with("orphanDependents and deletionPropagation cannot be both set")
    );
    assert!(refused(json!({"dryRun": ["Some"]})).contains("dryRun: Unsupported value"));
    assert!(
        DeleteOptions::from_json(&json!({"dryRun": ["All"]}))
            .unwrap()
            .dry_run
    );
}

#[test]
fn pods_on_nodes_are_marked_and_others_go() {
    let pod = |node: &str, phase: &str| {
        json!({"metadata": {"name": "p", "generation": 1},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}})
    };
    let bare = json!({});
    let run = |pod: &Value, options: &Value| run(pod, options, Family::Pod);
    assert_eq!(run(&pod("", "Pending"), &bare), Deletion::Remove);
    assert_eq!(run(&pod("n", "Succeeded"), &bare), Deletion::Remove);
    assert_eq!(run(&pod("n", "Failed"), &bare), Deletion::Remove);
    assert_eq!(
        run(&pod("n", "Running"), &json!({"gracePeriodSeconds": 0})),
        Deletion::Remove
    );
    let Deletion::Mark(marked) = run(&pod("n", "Running"), &bare) else {
        panic!()
    };
    assert_eq!(
        marked["metadata"],
        json!({"name": "p", "generation": 2, "deletionTimestamp": "2026-11-21T10:00:30Z",
            "deletionGracePeriodSeconds": 30})
    );
    // The end cannot be put off, but it can come sooner.
    assert_eq!(run(&marked, &bare), Deletion::Unchanged);
    assert_eq!(
        run(&marked, &json!({"gracePeriodSeconds": 60})),
        Deletion::Unchanged
    );
    let sooner = metadata_of(run(&marked, &json!({"gracePeriodSeconds": 5})));
    assert_eq!(
        (
            &sooner["deletionTimestamp"],
            &sooner["deletionGracePeriodSeconds"],
            &sooner["generation"]
        ),
        (&json!("2026-11-21T10:00:05Z"), &json!(5), &json!(2))
    );
    assert_eq!(
        run(&marked, &json!({"gracePeriodSeconds": 0})),
        Deletion::Remove
    );
    let mut late = marked.clone();
    late["metadata"]["deletionTimestamp"] = json!("2026-11-21T09:59:00Z");
    let late = metadata_of(run(&late, &json!({"gracePeriodSeconds": 5})));
    assert_eq!(
        (
            &late["deletionTimestamp"],
            &late["deletionGracePeriodSeconds"]
        ),
        (&json!(NOW), &json!(1))
    );
    let negative = metadata_of(run(
        &pod("n", "Running"),
        &json!({"gracePeriodSeconds": -7}),
    ));
    assert_eq!(negative["deletionGracePeriodSeconds"], 1);
    // The kubelet is done, the finalizer is not.
    let mut held = marked;
    held["metadata"]["finalizers"] = json!(["x"]);
    let held = metadata_of(run(&held, &json!({"gracePeriodSeconds": 0})));
    assert_eq!(
        (&held["deletionGracePeriodSeconds"], &held["generation"]),
        (&json!(0), &json!(2))
    );
}

#[test]
fn namespaces_wait_for_their_content() {
    let live = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let Deletion::Mark(marked) = run(
        &live,
        &json!({"propagationPolicy": "Background"}),
        Family::Namespace,
    ) else {
        panic!()
    };
    assert_eq!(
        marked,
        json!({"metadata": {"name": "a", "deletionTimestamp": NOW}, "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Terminating"}})
    );
    assert_eq!(
        run(&marked, &json!({}), Family::Namespace),
        Deletion::Unchanged
    );
    let mut done = marked.clone();
    done["spec"]["finalizers"] = json!([]);
    assert_eq!(run(&done, &json!({}), Family::Namespace), Deletion::Remove);
    assert_eq!(
        after_update(&marked, &marked, Family::Namespace),
        AfterUpdate::Store
    );
    assert_eq!(
        after_update(&marked, &done, Family::Namespace),
        AfterUpdate::Remove
    );
    done["metadata"]["finalizers"] = json!(["x"]);
    assert_eq!(
        after_update(&marked, &done, Family::Namespace),
        AfterUpdate::Store
    );
    let foreground = metadata_of(run(
        &live,
        &json!({"propagationPolicy": "Foreground"}),
        Family::Namespace,
    ));
    assert_eq!(foreground["finalizers"], json!(["foregroundDeletion"]));
}

#[test]
fn the_last_finalizer_ends_an_object() {
    let live = |grace: Value| json!({"metadata": {"deletionTimestamp": NOW, "deletionGracePeriodSeconds": grace, "finalizers": ["x"]}});
    let freed = json!({"metadata": {"deletionTimestamp": NOW}});
    assert_eq!(
        after_update(&live(json!(0)), &freed, Family::Plain),
        AfterUpdate::Remove
    );
    assert_eq!(
        after_update(&live(json!(null)), &freed, Family::Plain),
        AfterUpdate::Remove
    );
    assert_eq!(
        after_update(&live(json!(30)), &freed, Family::Pod),
        AfterUpdate::Store
    );
    assert_eq!(
        after_update(&live(json!(0)), &live(json!(0)), Family::Plain),
        AfterUpdate::Store
    );
    let alive = json!({"metadata": {}});
    assert_eq!(
        after_update(&alive, &alive, Family::Plain),
        AfterUpdate::Store
    );
}

#[test]
fn the_dying_get_no_new_finalizers() {
    let with = |finalizers: Value| json!({"metadata": {"deletionTimestamp": NOW, "finalizers": finalizers}});
    assert_eq!(
        check_finalizers(&with(json!(["a", "b"])), &with(json!(["b"]))),
        None
    );
    let error = check_finalizers(&with(json!(["a"])), &with(json!(["c", "a", "b"]))).unwrap();
    assert_eq!(
        error.to_string(),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being \
         deleted, found new finalizers []string{\"b\", \"c\"}"
    );
    let alive = json!({"metadata": {}});
    assert_eq!(
        check_finalizers(&alive, &json!({"metadata": {"finalizers": ["x"]}})),
        None
    );
}
