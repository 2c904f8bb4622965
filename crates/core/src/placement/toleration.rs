//! Taints keep clusters away, tolerations let them in, for some time (ocm: pkg/placement/plugins/tainttoleration).

use drover_api::cluster::v1::{ManagedCluster, Taint, TaintEffect};
use drover_api::cluster::v1beta1::Toleration;
use jiff::{SignedDuration, Timestamp};

use super::Misconfigured;

/// How a cluster's taints leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tolerated {
    /// Only where it is chosen already.
    pub only_if_chosen: bool,
    /// When the first toleration ends.
    pub until: Option<Timestamp>,
}

const PART: &str = "TaintToleration";

/// Whether the tolerations can be followed.
pub(super) fn check(tolerations: &[Toleration]) -> Result<(), Misconfigured> {
    for toleration in tolerations {
        let exists = toleration.operator == Toleration::EXISTS;
        if toleration.key.is_empty() && !exists {
            let detail = "If the key is empty, operator must be Exists.";
            return Err(Misconfigured::new(PART, detail));
        }
        if exists && !toleration.value.is_empty() {
            let detail = "If the operator is Exists, the value should be empty.";
            return Err(Misconfigured::new(PART, detail));
        }
    }
    Ok(())
}

/// None: a taint keeps the cluster away.
pub(super) fn tolerated(
    cluster: &ManagedCluster,
    tolerations: &[Toleration],
    now: Timestamp,
) -> Option<Tolerated> {
    let mut all = Tolerated {
        only_if_chosen: false,
        until: None,
    };
    for taint in &cluster.spec.taints {
        match (taint.effect, time(taint, tolerations, now)) {
            (TaintEffect::NoSelect, Time::Until(end)) => {
                all.until = Some(all.until.map_or(end, |until| until.min(end)));
            }
            (TaintEffect::NoSelect, Time::Never) => return None,
            (TaintEffect::NoSelectIfNew, Time::Never) => all.only_if_chosen = true,
            // A cluster that was let in while the toleration lasted may stay.
            (TaintEffect::NoSelectIfNew, Time::Until(_))
            | (TaintEffect::PreferNoSelect, _)
            | (_, Time::Always) => (),
        }
    }
    Some(all)
}

/// How long a taint is tolerated.
enum Time {
    Never,
    Until(Timestamp),
    Always,
}

fn time(taint: &Taint, tolerations: &[Toleration], now: Timestamp) -> Time {
    let mut latest = None;
    for toleration in tolerations.iter().filter(|it| fits(taint, it)) {
        let Some(seconds) = toleration.toleration_seconds else {
            return Time::Always;
        };
        // A taint without a time was put on long ago.
        let Some(added) = &taint.time_added else {
            continue;
        };
        let end = added.0.saturating_add(SignedDuration::from_secs(seconds));
        let end = end.unwrap_or(Timestamp::MAX);
        if now < end {
            latest = latest.max(Some(end));
        }
    }
    latest.map_or(Time::Never, Time::Until)
}

fn fits(taint: &Taint, toleration: &Toleration) -> bool {
    let effect = toleration
        .effect
        .is_none_or(|effect| effect == taint.effect);
    let key = toleration.key.is_empty() || toleration.key == taint.key;
    let value = match toleration.operator.as_str() {
        "" | Toleration::EQUAL => toleration.value == taint.value,
        Toleration::EXISTS => true,
        _ => false,
    };
    effect && key && value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: i64 = 1000;

    #[track_caller]
    fn check(taints: Value, tolerations: Value, expected: Option<(bool, Option<i64>)>) {
        let cluster = json!({"metadata": {"name": "c"}, "spec": {"taints": taints}});
        let cluster: ManagedCluster = serde_json::from_value(cluster).unwrap();
        let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
        let found = tolerated(&cluster, &tolerations, Timestamp::from_second(NOW).unwrap());
        let found = found.map(|it| (it.only_if_chosen, it.until.map(Timestamp::as_second)));
        assert_eq!(found, expected);
    }

    fn taint(effect: &str) -> Value {
        let added = Timestamp::from_second(NOW - 10).unwrap().to_string();
        json!({"key": "k", "value": "v", "effect": effect, "timeAdded": added})
    }

    #[test]
    fn taints_and_tolerations_meet_as_upstream() {
        let open = Some((false, None));
        let equal = json!([{"key": "k", "value": "v"}]);
        check(json!([]), json!([]), open);
        check(json!([taint("NoSelect")]), json!([]), None);
        check(json!([taint("NoSelect")]), equal.clone(), open);
        check(
            json!([taint("NoSelect")]),
            json!([{"key": "k", "operator": "Equal", "value": "w"}]),
            None,
        );
        check(
            json!([taint("NoSelect")]),
            json!([{"key": "k", "operator": "Exists"}]),
            open,
        );
        check(
            json!([taint("NoSelect")]),
            json!([{"operator": "Exists"}]),
            open,
        );
        check(
            json!([taint("NoSelect")]),
            json!([{"key": "k", "operator": "Near"}]),
            None,
        );
        check(
            json!([taint("NoSelect")]),
            json!([{"operator": "Exists", "effect": "NoSelectIfNew"}]),
            None,
        );
        check(json!([taint("PreferNoSelect")]), json!([]), open);
        check(
            json!([taint("NoSelectIfNew")]),
            json!([]),
            Some((true, None)),
        );
        check(json!([taint("NoSelectIfNew")]), equal.clone(), open);
        check(
            json!([taint("NoSelect"), taint("NoSelectIfNew")]),
            json!([{"operator": "Exists", "effect": "NoSelect"}]),
            Some((true, None)),
        );
    }

    #[test]
    fn tolerations_end() {
        let seconds = |seconds: i64| json!([{"operator": "Exists", "tolerationSeconds": seconds}]);
        check(
            json!([taint("NoSelect")]),
            seconds(11),
            Some((false, Some(NOW + 1))),
        );
        check(json!([taint("NoSelect")]), seconds(10), None);
        check(
            json!([taint("NoSelectIfNew")]),
            seconds(10),
            Some((true, None)),
        );
        check(
            json!([taint("NoSelectIfNew")]),
            seconds(11),
            Some((false, None)),
        );
        check(
            json!([taint("NoSelect")]),
            seconds(i64::MAX),
            Some((false, Some(Timestamp::MAX.as_second()))),
        );
        check(
            json!([{"key": "k", "effect": "NoSelect"}]),
            seconds(100),
            None,
        );
        let both = json!([{"operator": "Exists", "tolerationSeconds": 20}, {"key": "k", "operator": "Exists", "tolerationSeconds": 30}]);
        check(
            json!([taint("NoSelect")]),
            both,
            Some((false, Some(NOW + 20))),
        );
    }

    #[test]
    fn what_no_toleration_can_mean() {
        let check = |toleration: Value, expected: Option<&str>| {
            let toleration: Toleration = serde_json::from_value(toleration).unwrap();
            let found = super::check(&[toleration])
                .err()
                .map(|wrong| wrong.to_string());
            assert_eq!(found.as_deref(), expected);
        };
        check(json!({"operator": "Exists"}), None);
        check(json!({"key": "k", "operator": "Near"}), None);
        check(
            json!({"operator": "Equal"}),
            Some("TaintToleration:If the key is empty, operator must be Exists."),
        );
        check(
            json!({}),
            Some("TaintToleration:If the key is empty, operator must be Exists."),
        );
        check(
            json!({"key": "k", "operator": "Exists", "value": "v"}),
            Some("TaintToleration:If the operator is Exists, the value should be empty."),
        );
    }
}
