use drover_api::cluster::v1::TaintEffect;
use jiff::SignedDuration;

use super::leave::Belonging;
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A hub that does what it is told, to plan against.
#[derive(Clone)]
struct Hub {
    cluster: ManagedCluster,
    namespace: bool,
    renewal: Option<Renewal>,
    belongings: Belongings,
    roles_written: bool,
    gone: bool,
}

impl Hub {
    fn new(accepted: bool) -> Self {
        let mut cluster = ManagedCluster::default();
        cluster.metadata.name = Some("edge".to_owned());
        cluster.metadata.generation = Some(1);
        cluster.spec.hub_accepts_client = accepted;
        Self {
            cluster,
            namespace: false,
            renewal: None,
            belongings: Belongings::default(),
            roles_written: false,
            gone: false,
        }
    }

    /// The agent renews; its clock is so much ahead.
    fn renew(&mut self, now: Timestamp, ahead: i64) {
        let written = now + SignedDuration::from_secs(ahead);
        self.renewal = Some(Renewal::hear(self.renewal, written, now));
    }

    fn plan(&self, policy: &Policy, now: Timestamp) -> Vec<Action> {
        let seen = Seen {
            cluster: &self.cluster,
            namespace: self.namespace,
            renewal: self.renewal,
            belongings: &self.belongings,
            roles_written: self.roles_written,
        };
        plan(&seen, policy, now)
    }

    fn act(&mut self, actions: &[Action], now: Timestamp) {
        let meta = &mut self.cluster.metadata;
        for action in actions {
            match action {
                Action::Accept { at } => {
                    self.cluster.spec.hub_accepts_client = true;
                    meta.annotations.get_or_insert_default().insert(
                        names::AUTOMATICALLY_ACCEPTED_ON_ANNOTATION.to_owned(),
                        at.clone(),
                    );
                    meta.generation = meta.generation.map(|g| g + 1);
                }
                Action::SetFinalizers(wanted) => {
                    self.gone = meta.deletion_timestamp.is_some() && wanted.is_empty();
                    meta.finalizers = Some(wanted.clone());
                }
                Action::Ensure(objects) => {
                    self.namespace |= objects.iter().any(|object| object["kind"] == "Namespace");
                }
                Action::RolesWritten => self.roles_written = true,
                Action::CreateLease => self.renewal = Some(Renewal::hear(None, now, now)),
                Action::DeleteAddOns(gone) => {
                    self.belongings
                        .addons
                        .retain(|one| !gone.contains(&one.name));
                }
                Action::DeleteWorks(gone) => {
                    self.belongings
                        .works
                        .retain(|one| !gone.contains(&one.name));
                }
                Action::SetTaints(taints) => self.cluster.spec.taints.clone_from(taints),
                Action::SetConditions(news) => {
                    let status = self.cluster.status.get_or_insert_default();
                    status.conditions = conditions::merge(&status.conditions, news.clone());
                }
                Action::Remove(_) | Action::WakeAt(_) => {}
            }
        }
    }

    fn settle(&mut self, policy: &Policy, now: Timestamp) {
        for _ in 0..10 {
            let actions = self.plan(policy, now);
            self.act(&actions, now);
            if self.gone
                || actions
                    .iter()
                    .all(|action| matches!(action, Action::WakeAt(_)))
            {
                return;
            }
        }
        panic!("the plan never comes to rest: {:?}", self.plan(policy, now));
    }

    fn condition(&self, type_: &str) -> String {
        conditions::find(conditions_of(&self.cluster), type_)
            .map_or_else(|| "-".to_owned(), |c| format!("{}/{}", c.status, c.reason))
    }

    fn taint_keys(&self) -> Vec<&str> {
        self.cluster
            .spec
            .taints
            .iter()
            .map(|taint| taint.key.as_str())
            .collect()
    }
}

#[test]
fn a_cluster_that_nobody_accepted_gets_nothing() {
    let mut hub = Hub::new(false);
    hub.settle(&Policy::default(), at(0));
    assert!(!hub.namespace);
    assert_eq!(hub.condition(words::HUB_ACCEPTED), "-");
    assert_eq!(hub.taint_keys(), [names::taint::UNREACHABLE]);
}

#[test]
fn acceptance_gives_namespace_roles_lease_and_condition() {
    for (accepted, policy) in [(true, Policy::default()), (false, all())] {
        let mut hub = Hub::new(accepted);
        hub.settle(&policy, at(0));
        assert!(hub.namespace && hub.roles_written && hub.renewal.is_some());
        assert_eq!(
            hub.condition(words::HUB_ACCEPTED),
            "True/HubClusterAdminAccepted"
        );
    }
}

#[test]
fn a_denial_after_an_automatic_acceptance_sticks() {
    let policy = all();
    let mut hub = Hub::new(false);
    hub.settle(&policy, at(0));
    hub.cluster.spec.hub_accepts_client = false;
    hub.roles_written = false;
    hub.settle(&policy, at(1));
    assert!(!hub.cluster.spec.hub_accepts_client);
    assert_eq!(
        hub.condition(words::HUB_ACCEPTED),
        "False/HubClusterAdminDenied"
    );
}

#[test]
fn a_stopped_lease_makes_the_cluster_unknown_once_and_only_the_agent_heals_it() {
    let mut hub = Hub::new(true);
    hub.settle(&Policy::default(), at(0));
    let available =
        |status, reason| condition(words::AVAILABLE, status, reason, "", None, &Time(at(0)));
    hub.act(
        &[Action::SetConditions(vec![available(
            Status::True,
            words::REASON_AVAILABLE,
        )])],
        at(0),
    );
    hub.settle(&Policy::default(), at(1));
    assert!(hub.taint_keys().is_empty());
    assert_eq!(
        hub.plan(&Policy::default(), at(299)),
        [Action::WakeAt(at(300))]
    );
    hub.settle(&Policy::default(), at(300));
    assert_eq!(
        hub.condition(words::AVAILABLE),
        "Unknown/ManagedClusterLeaseUpdateStopped"
    );
    assert_eq!(hub.taint_keys(), [names::taint::UNREACHABLE]);
    hub.renew(at(400), 0);
    hub.settle(&Policy::default(), at(400));
    assert_eq!(
        hub.condition(words::AVAILABLE),
        "Unknown/ManagedClusterLeaseUpdateStopped"
    );
    hub.act(
        &[Action::SetConditions(vec![available(
            Status::False,
            words::REASON_API_UNAVAILABLE,
        )])],
        at(401),
    );
    hub.settle(&Policy::default(), at(401));
    assert_eq!(hub.taint_keys(), [names::taint::UNAVAILABLE]);
}

#[test]
fn taints_of_others_stay() {
    let mut hub = Hub::new(true);
    let theirs = Taint {
        key: "gpu".into(),
        value: String::new(),
        effect: TaintEffect::NoSelect,
        time_added: None,
    };
    hub.cluster.spec.taints.push(theirs);
    hub.settle(&Policy::default(), at(0));
    assert_eq!(hub.taint_keys(), ["gpu", names::taint::UNREACHABLE]);
    // When a taint was put on says admission, and refuses who says it.
    let taints = &hub.cluster.spec.taints;
    assert!(taints.iter().all(|taint| taint.time_added.is_none()));
}

fn all() -> Policy {
    Policy {
        accept: vec!["*".to_owned()],
    }
}

#[test]
fn patterns_of_names_say_who_is_let_in() {
    let check = |pattern: &str, name: &str, expected| {
        let policy = Policy {
            accept: vec!["other".to_owned(), pattern.to_owned()],
        };
        assert_eq!(policy.accepts(name), expected, "{pattern} {name}");
    };
    check("edge-*", "edge-1", true);
    check("edge-*", "edge-", true);
    check("edge-*", "core-1", false);
    check("*-prod", "eu-prod", true);
    check("*-prod", "eu-prod-2", false);
    check("eu-*-prod-*", "eu-1-prod-2", true);
    check("eu-*-prod-*", "eu-prod-2", false);
    check("edge", "edge", true);
    check("edge", "edge1", false);
    check("", "edge", false);
    assert!(!Policy::default().accepts("edge"));
}

#[test]
fn what_a_person_denied_is_not_accepted_by_policy() {
    let mut hub = Hub::new(true);
    hub.settle(&Policy::default(), at(0));
    hub.cluster.spec.hub_accepts_client = false;
    hub.roles_written = false;
    hub.settle(&all(), at(1));
    assert!(!hub.cluster.spec.hub_accepts_client);
}

#[test]
fn an_agent_with_a_wrong_clock_is_told_so_and_not_lost() {
    for (ahead, expected) in [
        (600, "False/ManagedClusterClockOutOfSync"),
        (-600, "False/ManagedClusterClockOutOfSync"),
        (299, "True/ManagedClusterClockSynced"),
        (-299, "True/ManagedClusterClockSynced"),
    ] {
        let mut hub = Hub::new(true);
        hub.settle(&Policy::default(), at(0));
        assert_eq!(hub.condition(words::CLOCK_SYNCED), "-");
        for minute in 1..20 {
            hub.renew(at(minute * 60), ahead);
            hub.settle(&Policy::default(), at(minute * 60));
            assert_eq!(hub.condition(words::CLOCK_SYNCED), expected, "{ahead}");
            assert_eq!(hub.condition(words::AVAILABLE), "-", "{ahead}");
        }
        // Its last renewal was in minute 19: it is lost five renewals later, whatever it wrote.
        hub.settle(&Policy::default(), at(24 * 60 - 1));
        assert_eq!(hub.condition(words::AVAILABLE), "-", "{ahead}");
        hub.settle(&Policy::default(), at(24 * 60));
        assert_eq!(
            hub.condition(words::AVAILABLE),
            "Unknown/ManagedClusterLeaseUpdateStopped",
            "{ahead}"
        );
        // The clock is set right, and the agent renews again.
        hub.renew(at(25 * 60), 0);
        hub.settle(&Policy::default(), at(25 * 60));
        assert_eq!(
            hub.condition(words::CLOCK_SYNCED),
            "True/ManagedClusterClockSynced"
        );
    }
}

#[test]
fn a_hub_that_was_away_gives_agents_the_time_to_come_back() {
    let mut hub = Hub::new(true);
    hub.settle(&Policy::default(), at(0));
    hub.renew(at(60), 0);
    hub.settle(&Policy::default(), at(60));
    // It starts anew after an hour and finds the lease as it was.
    hub.renewal = Some(Renewal::hear(None, at(60), at(3660)));
    hub.settle(&Policy::default(), at(3660 + 119));
    assert_eq!(hub.condition(words::AVAILABLE), "-");
    hub.settle(&Policy::default(), at(3660 + 120));
    assert_eq!(
        hub.condition(words::AVAILABLE),
        "Unknown/ManagedClusterLeaseUpdateStopped"
    );
}

#[test]
fn a_lease_lasts_as_long_as_the_cluster_says() {
    let mut hub = Hub::new(true);
    hub.cluster.spec.lease_duration_seconds = Some(10);
    hub.settle(&Policy::default(), at(0));
    hub.renew(at(10), 0);
    hub.settle(&Policy::default(), at(59));
    assert_eq!(hub.condition(words::AVAILABLE), "-");
    hub.settle(&Policy::default(), at(60));
    assert_eq!(
        hub.condition(words::AVAILABLE),
        "Unknown/ManagedClusterLeaseUpdateStopped"
    );
}

#[test]
fn what_a_leaving_cluster_has_goes_in_order() {
    let one = |name: &str, priority| Belonging {
        name: name.to_owned(),
        priority,
        waits: false,
    };
    let mut hub = Hub::new(true);
    hub.settle(&Policy::default(), at(0));
    hub.belongings = Belongings {
        addons: vec![one("last", 100), one("first", 0), one("too", 0)],
        works: vec![one("web", 10), one("base", 20)],
    };
    hub.cluster.metadata.deletion_timestamp = Some(Time(at(1)));
    let mut order = Vec::new();
    let mut said = Vec::new();
    while !hub.gone {
        let actions = hub.plan(&Policy::default(), at(2));
        for action in &actions {
            match action {
                Action::DeleteAddOns(names) => order.push(format!("add-ons {}", names.join(" "))),
                Action::DeleteWorks(names) => order.push(format!("works {}", names.join(" "))),
                Action::Remove(_) => order.push("roles".to_owned()),
                Action::SetFinalizers(left) => order.push(format!("finalizers {left:?}")),
                _ => {}
            }
        }
        hub.act(&actions, at(2));
        said.push(hub.condition(words::DELETING));
    }
    let expected = [
        "add-ons first too",
        "add-ons last",
        "works web",
        "works base",
        "roles",
        "finalizers []",
    ];
    assert_eq!(order, expected);
    let last = said.pop();
    assert_eq!(last.as_deref(), Some("True/NoResource"));
    assert!(said.iter().all(|said| said == "False/ResourceRemaining"));
}

#[test]
fn what_waits_for_its_finalizers_is_not_deleted_again_and_holds_back_the_rest() {
    let mut hub = Hub::new(true);
    hub.settle(&Policy::default(), at(0));
    hub.belongings.works = vec![
        Belonging {
            name: "stuck".to_owned(),
            priority: 0,
            waits: true,
        },
        Belonging {
            name: "later".to_owned(),
            priority: 1,
            waits: false,
        },
    ];
    hub.cluster.metadata.deletion_timestamp = Some(Time(at(1)));
    let first = hub.plan(&Policy::default(), at(1));
    let said = "2 manifestworks remain, 1 of them wait for their finalizers";
    assert!(
        matches!(first.as_slice(), [Action::SetConditions(news)] if news[0].message == said),
        "{first:?}"
    );
}

#[test]
fn priorities_are_read_as_upstream_reads_them() {
    let check = |text: Option<&str>, expected| {
        let mut metadata = kube::core::ObjectMeta::default();
        if let Some(text) = text {
            let key = names::CLEANUP_PRIORITY_ANNOTATION.to_owned();
            metadata.annotations = Some([(key, text.to_owned())].into());
        }
        assert_eq!(Belonging::of(&metadata).priority, expected, "{text:?}");
    };
    check(None, 0);
    check(Some("0"), 0);
    check(Some("7"), 7);
    check(Some("100"), 100);
    check(Some("101"), 0);
    check(Some("-1"), 0);
    check(Some("soon"), 0);
}

#[test]
fn a_cluster_of_another_hub_software_goes_with_both_finalizers() {
    let mut hub = Hub::new(true);
    let theirs = "example.com/keep".to_owned();
    let both = [names::CLUSTER_FINALIZER, names::CLUSTER_RESOURCE_FINALIZER];
    let mut finalizers: Vec<String> = both.map(ToOwned::to_owned).to_vec();
    finalizers.push(theirs.clone());
    hub.cluster.metadata.finalizers = Some(finalizers);
    hub.cluster.metadata.deletion_timestamp = Some(Time(at(1)));
    let actions = hub.plan(&Policy::default(), at(1));
    assert_eq!(actions.last(), Some(&Action::SetFinalizers(vec![theirs])));
    hub.act(&actions, at(1));
    assert_eq!(hub.plan(&Policy::default(), at(2)), []);
}
