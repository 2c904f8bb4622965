use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A hub that does what it is told, to plan against.
#[derive(Clone)]
struct Hub {
    cluster: ManagedCluster,
    namespace: bool,
    renewed: Option<Timestamp>,
    works: Vec<String>,
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
            renewed: None,
            works: Vec::new(),
            roles_written: false,
            gone: false,
        }
    }

    fn plan(&self, policy: Policy, now: Timestamp) -> Vec<Action> {
        let seen = Seen {
            cluster: &self.cluster,
            namespace: self.namespace,
            renewed: self.renewed,
            works: &self.works,
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
                Action::AddFinalizer => {
                    meta.finalizers
                        .get_or_insert_default()
                        .push(names::CLUSTER_FINALIZER.to_owned());
                }
                Action::Ensure(objects) => {
                    self.namespace |= objects.iter().any(|object| object["kind"] == "Namespace");
                }
                Action::RolesWritten => self.roles_written = true,
                Action::CreateLease => self.renewed = Some(now),
                Action::DeleteWorks(names) => self.works.retain(|work| !names.contains(work)),
                Action::SetTaints(taints) => self.cluster.spec.taints.clone_from(taints),
                Action::SetConditions(news) => {
                    let status = self.cluster.status.get_or_insert_default();
                    status.conditions = conditions::merge(&status.conditions, news.clone());
                }
                Action::RemoveFinalizer => self.gone = true,
                Action::Remove(_) | Action::WakeAt(_) => {}
            }
        }
    }

    fn settle(&mut self, policy: Policy, now: Timestamp) {
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
    hub.settle(Policy::default(), at(0));
    assert!(!hub.namespace);
    assert_eq!(hub.condition(words::HUB_ACCEPTED), "-");
    assert_eq!(hub.taint_keys(), [names::taint::UNREACHABLE]);
}

#[test]
fn acceptance_gives_namespace_roles_lease_and_condition() {
    for (accepted, policy) in [
        (true, Policy::default()),
        (false, Policy { accept_all: true }),
    ] {
        let mut hub = Hub::new(accepted);
        hub.settle(policy, at(0));
        assert!(hub.namespace && hub.roles_written && hub.renewed.is_some());
        assert_eq!(
            hub.condition(words::HUB_ACCEPTED),
            "True/HubClusterAdminAccepted"
        );
    }
}

#[test]
fn a_denial_after_an_automatic_acceptance_sticks() {
    let policy = Policy { accept_all: true };
    let mut hub = Hub::new(false);
    hub.settle(policy, at(0));
    hub.cluster.spec.hub_accepts_client = false;
    hub.roles_written = false;
    hub.settle(policy, at(1));
    assert!(!hub.cluster.spec.hub_accepts_client);
    assert_eq!(
        hub.condition(words::HUB_ACCEPTED),
        "False/HubClusterAdminDenied"
    );
}

#[test]
fn a_stopped_lease_makes_the_cluster_unknown_once_and_only_the_agent_heals_it() {
    let mut hub = Hub::new(true);
    hub.settle(Policy::default(), at(0));
    let available =
        |status, reason| condition(words::AVAILABLE, status, reason, "", None, &Time(at(0)));
    hub.act(
        &[Action::SetConditions(vec![available(
            Status::True,
            words::REASON_AVAILABLE,
        )])],
        at(0),
    );
    hub.settle(Policy::default(), at(1));
    assert!(hub.taint_keys().is_empty());
    assert_eq!(
        hub.plan(Policy::default(), at(299)),
        [Action::WakeAt(at(300))]
    );
    hub.settle(Policy::default(), at(300));
    assert_eq!(
        hub.condition(words::AVAILABLE),
        "Unknown/ManagedClusterLeaseUpdateStopped"
    );
    assert_eq!(hub.taint_keys(), [names::taint::UNREACHABLE]);
    hub.renewed = Some(at(400));
    hub.settle(Policy::default(), at(400));
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
    hub.settle(Policy::default(), at(401));
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
    hub.settle(Policy::default(), at(0));
    assert_eq!(hub.taint_keys(), ["gpu", names::taint::UNREACHABLE]);
}

#[test]
fn a_leaving_cluster_loses_its_works_before_its_roles() {
    let mut hub = Hub::new(true);
    hub.settle(Policy::default(), at(0));
    hub.works = vec!["web".to_owned()];
    hub.cluster.metadata.deletion_timestamp = Some(Time(at(1)));
    let first = hub.plan(Policy::default(), at(1));
    assert!(
        matches!(first.as_slice(), [Action::SetConditions(_), Action::DeleteWorks(works)] if works == &["web"])
    );
    hub.act(&first, at(1));
    let last = hub.plan(Policy::default(), at(2));
    assert!(matches!(
        last.as_slice(),
        [
            Action::SetConditions(_),
            Action::Remove(_),
            Action::RemoveFinalizer
        ]
    ));
}
