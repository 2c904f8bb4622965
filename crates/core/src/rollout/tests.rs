use std::collections::BTreeSet;

use drover_api::IntOrString;
use drover_api::cluster::v1alpha1::{
    MandatoryDecisionGroup, RolloutAll, RolloutConfig, RolloutProgressive,
    RolloutProgressivePerGroup, RolloutStrategy, RolloutType,
};
use jiff::{SignedDuration, Timestamp};

use super::*;

mod fleet;

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("small seconds are valid")
}

/// `0:a=c1,c2 1:=c3` is group 0, named a, and group 1, which has no name.
pub(super) fn groups(text: &str) -> Groups {
    let group = |part: &str| {
        let (key, clusters) = part.split_once('=').expect("index:name=clusters");
        let (index, name) = key.split_once(':').expect("index:name");
        let index = index.parse().expect("a number");
        let clusters: BTreeSet<String> = clusters
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        (
            GroupKey {
                index,
                name: name.to_owned(),
            },
            clusters,
        )
    };
    text.split_whitespace().map(group).collect()
}

/// `c1=P5` has been progressing since second 5. Also A (nothing heard, sent then; without a number not sent), S, F; T and X have
/// timed out or are skipped.
fn existing(text: &str) -> Vec<Existing> {
    let one = |part: &str| {
        let (cluster, state) = part.split_once('=').expect("cluster=state");
        let (kind, second) = state.split_at(1);
        let since = second.parse().ok().map(at);
        let known = || since.expect("this state has a time");
        let state = match kind {
            "A" => State::ToApply { sent: since },
            "P" => State::Progressing { since: known() },
            "S" => State::Succeeded { since: known() },
            "F" => State::Failed { since: known() },
            "T" => State::TimedOut,
            _ => State::Skip,
        };
        Existing {
            cluster: cluster.to_owned(),
            state,
        }
    };
    text.split_whitespace().map(one).collect()
}

fn letter(state: State) -> char {
    match state {
        State::ToApply { sent: None } => '+',
        State::ToApply { sent: Some(_) } => 'A',
        State::Progressing { .. } => 'P',
        State::Succeeded { .. } => 'S',
        State::Failed { .. } => 'F',
        State::TimedOut => 'T',
        State::Skip => 'X',
    }
}

fn show(outcome: &Outcome) -> String {
    let list = |steps: &[Step]| {
        let names = steps
            .iter()
            .map(|step| format!("{}{}", step.cluster, letter(step.state)));
        names.collect::<Vec<_>>().join(" ")
    };
    let mut parts = vec![list(&outcome.rollout)];
    for (name, steps) in [
        ("timed out", &outcome.timed_out),
        ("removed", &outcome.removed),
    ] {
        if !steps.is_empty() {
            parts.push(format!("{name} {}", list(steps)));
        }
    }
    if outcome.breached {
        parts.push("breached".to_owned());
    }
    let again = outcome.recheck_at.map(Timestamp::as_second);
    parts.extend(again.map(|second| format!("again at {second}")));
    parts.join("; ")
}

fn config(soak: &str, deadline: &str, failures: &str) -> RolloutConfig {
    RolloutConfig {
        min_success_time: soak.to_owned(),
        progress_deadline: deadline.to_owned(),
        max_failures: amount(failures),
    }
}

fn amount(text: &str) -> Option<IntOrString> {
    match text.parse() {
        Ok(number) => Some(IntOrString::Int(number)),
        Err(_) => Some(IntOrString::String(text.to_owned())).filter(|_| !text.is_empty()),
    }
}

/// Names like `canary` and indexes like `2`.
fn mandatory(text: &str) -> Vec<MandatoryDecisionGroup> {
    let one = |part: &str| match part.parse() {
        Ok(group_index) => MandatoryDecisionGroup {
            group_index,
            ..Default::default()
        },
        Err(_) => MandatoryDecisionGroup {
            group_name: part.to_owned(),
            ..Default::default()
        },
    };
    text.split_whitespace().map(one).collect()
}

fn all(deadline: &str) -> RolloutStrategy {
    RolloutStrategy {
        all: Some(RolloutAll {
            config: config("9h", deadline, ""),
        }),
        ..Default::default()
    }
}

fn progressive(at_once: &str, config: RolloutConfig, first: &str) -> RolloutStrategy {
    RolloutStrategy {
        type_: RolloutType::Progressive,
        progressive: Some(RolloutProgressive {
            config,
            mandatory_decision_groups: mandatory(first),
            max_concurrency: amount(at_once),
        }),
        ..Default::default()
    }
}

fn per_group(config: RolloutConfig, first: &str) -> RolloutStrategy {
    RolloutStrategy {
        type_: RolloutType::ProgressivePerGroup,
        progressive_per_group: Some(RolloutProgressivePerGroup {
            config,
            mandatory_decision_groups: mandatory(first),
        }),
        ..Default::default()
    }
}

/// What is decided at second 100.
#[track_caller]
fn check(strategy: &RolloutStrategy, groups_text: &str, known: &str, expected: &str) {
    let strategy = Strategy::read(strategy).expect("the strategy can be read");
    let outcome = plan(&strategy, &groups(groups_text), &existing(known), at(100));
    assert_eq!(show(&outcome), expected);
}

const TWO: &str = "0:=c1,c2,c3 1:=c4,c5,c6";

#[test]
fn all_are_reached_at_once_whatever_failed() {
    check(&all(""), TWO, "", "c1+ c2+ c3+ c4+ c5+ c6+");
    check(
        &all("None"),
        TWO,
        "c1=F1 c2=S99 c3=P1",
        "c1F c3P c4+ c5+ c6+",
    );
    check(
        &all("50s"),
        TWO,
        "c1=F10 c2=P60 c9=P1",
        "c2P c3+ c4+ c5+ c6+; timed out c1T; removed c9P; again at 110",
    );
    check(&all(""), "0:=", "c1=S1", "; removed c1S");
}

#[test]
fn a_few_at_a_time_in_the_order_of_names() {
    let two = progressive("2", config("", "", ""), "");
    check(&two, "0:=c4,c2 1:=c3,c1", "", "c1+ c2+");
    check(&two, TWO, "c1=S1 c2=P1", "c2P c3+");
    check(&two, TWO, "c1=S1 c2=S1 c3=X c4=S1", "c5+ c6+");
    check(
        &progressive("34%", config("", "", ""), ""),
        TWO,
        "",
        "c1+ c2+ c3+",
    );
    check(
        &progressive("", config("", "", ""), ""),
        TWO,
        "",
        "c1+ c2+ c3+ c4+ c5+ c6+",
    );
    check(
        &progressive("99", config("", "", ""), ""),
        TWO,
        "",
        "c1+ c2+ c3+ c4+ c5+ c6+",
    );
}

#[test]
fn what_was_sent_keeps_its_place_before_what_was_not() {
    let one = progressive("1", config("", "", ""), "");
    check(&one, TWO, "c5=P1", "c5P");
    check(&one, TWO, "c1=A c5=A9", "c5A");
    check(&one, TWO, "c1=A c2=A c5=S9", "c1+");
}

#[test]
fn a_cluster_that_says_nothing_times_out_as_well() {
    let slow = progressive("1", config("", "60s", "1"), "");
    check(&slow, TWO, "c1=A50", "c1A; again at 110");
    check(&slow, TWO, "c1=A40", "c2+; timed out c1T");
}

#[test]
fn too_many_failures_stop_the_rollout_wherever_they_are() {
    let one_may = progressive("3", config("", "90s", "1"), "");
    check(&one_may, TWO, "c1=F50", "c1F c2+ c3+; again at 140");
    check(
        &one_may,
        TWO,
        "c1=F50 c2=F50",
        "c1F c2F; breached; again at 140",
    );
    check(
        &one_may,
        TWO,
        "c1=A c5=T c6=F50",
        "c6F; breached; again at 140",
    );
    check(
        &one_may,
        TWO,
        "c1=F5 c2=P60",
        "c2P c3+ c4+; timed out c1T; again at 150",
    );
    // A number beyond the number of clusters tolerates all, as anyone would expect.
    check(
        &progressive("2", config("", "", "50"), ""),
        TWO,
        "c1=T c2=T c3=T",
        "c4+ c5+",
    );
    check(
        &progressive("2", config("", "", "50%"), ""),
        TWO,
        "c1=T c2=T c3=T",
        "c4+ c5+",
    );
    check(
        &progressive("2", config("", "", "33%"), ""),
        TWO,
        "c1=T c2=T c3=T",
        "; breached",
    );
}

#[test]
fn success_must_last_before_others_follow() {
    let soak = progressive("1", config("30s", "", ""), "");
    check(&soak, TWO, "c1=S80", "c1S; again at 110");
    check(&soak, TWO, "c1=S70", "c2+");
    check(
        &per_group(config("30s", "", ""), ""),
        TWO,
        "c1=S71 c2=S1 c3=S1",
        "c1S; again at 101",
    );
    check(
        &per_group(config("30s", "", ""), ""),
        TWO,
        "c1=S70 c2=S1 c3=S1",
        "c4+ c5+ c6+",
    );
}

#[test]
fn group_after_group() {
    let plain = per_group(config("", "90s", ""), "");
    check(&plain, TWO, "", "c1+ c2+ c3+");
    check(&plain, TWO, "c1=S1 c2=P50", "c2P c3+; again at 140");
    check(&plain, TWO, "c1=S1 c2=S1 c3=S1", "c4+ c5+ c6+");
    check(
        &plain,
        TWO,
        "c1=S1 c2=F50 c3=S1",
        "c2F; breached; again at 140",
    );
    let tolerant = per_group(config("", "90s", "34%"), "");
    check(
        &tolerant,
        TWO,
        "c1=S1 c2=F50 c3=S1",
        "c2F c4+ c5+ c6+; again at 140",
    );
    check(
        &tolerant,
        TWO,
        "c1=T c2=F1 c3=F50",
        "c3F; timed out c2T; breached; again at 140",
    );
    check(&tolerant, TWO, "c1=S1 c2=S1 c3=T c4=T c5=S1 c6=S1", "");
}

#[test]
fn timed_out_clusters_do_not_hide_those_that_are_on_their_way() {
    let tolerant = per_group(config("", "90s", "1"), "");
    check(
        &tolerant,
        TWO,
        "c1=P1 c2=P50 c3=S1",
        "c2P; timed out c1T; again at 140",
    );
    check(
        &tolerant,
        TWO,
        "c1=P1 c2=S99 c3=S1",
        "c4+ c5+ c6+; timed out c1T",
    );
}

#[test]
fn mandatory_groups_come_first_and_tolerate_nothing() {
    let first = progressive("2", config("", "90s", "100%"), "canary");
    let fleet = "0:=c1,c2,c3 1:canary=c7 2:canary=c8";
    check(&first, fleet, "", "c7+");
    check(&first, fleet, "c7=P50", "c7P; again at 140");
    check(&first, fleet, "c7=S1", "c8+");
    check(&first, fleet, "c7=S1 c8=S1", "c1+ c2+");
    check(&first, fleet, "c7=F50", "c7F; breached; again at 140");
    check(&first, fleet, "c7=P1", "; timed out c7T; breached");
    check(&first, fleet, "c7=T", "; breached");
    check(
        &per_group(config("", "", ""), "canary"),
        fleet,
        "c7=S1 c8=S1",
        "c1+ c2+ c3+",
    );
    check(&per_group(config("", "", ""), "2"), fleet, "", "c8+");
    check(
        &per_group(config("", "", ""), "nobody"),
        fleet,
        "",
        "c1+ c2+ c3+",
    );
    // A new canary is waited for; what is on its way elsewhere goes on.
    check(
        &first,
        fleet,
        "c7=S1 c1=P50 c2=P1 c3=A1",
        "c1P c8+; timed out c2T; again at 140",
    );
}

#[test]
fn an_empty_mandatory_entry_is_group_0() {
    let empty = RolloutStrategy {
        type_: RolloutType::ProgressivePerGroup,
        progressive_per_group: Some(RolloutProgressivePerGroup {
            mandatory_decision_groups: vec![MandatoryDecisionGroup::default()],
            ..Default::default()
        }),
        ..Default::default()
    };
    check(&empty, "0:a=c1 1:=c2", "", "c1+");
}

#[test]
fn what_moves_outside_of_mandatory_groups_does_not_hold_up_the_rest() {
    let first = progressive("2", config("", "90s", "2"), "0");
    check(
        &first,
        "0:=c1 1:=c2,c3,c4,c5",
        "c1=S1 c2=P50",
        "c2P c3+; again at 140",
    );
    check(
        &first,
        "0:=c1 1:=c2,c3,c4,c5",
        "c1=S1 c2=P1",
        "c3+ c4+; timed out c2T",
    );
}

#[test]
fn a_hole_in_the_indexes_hides_no_group() {
    check(&all(""), "0:=c1 2:=c2 7:=c3", "", "c1+ c2+ c3+");
    check(
        &per_group(config("", "", ""), "0"),
        "0:=c1 2:=c2 7:=c3",
        "c1=S1 c2=S1",
        "c3+",
    );
}

#[test]
fn durations_are_read_strictly() {
    for (text, seconds) in [
        ("0", Some(0.0)),
        ("90s", Some(90.0)),
        ("1h30m", Some(5400.0)),
        ("250ms", Some(0.25)),
        ("0s", Some(0.0)),
    ] {
        assert_eq!(
            duration(text).map(|read| read.as_secs_f64()),
            seconds,
            "{text}"
        );
    }
    for text in [
        "",
        "5",
        "5mXYZ",
        "m5",
        "-5m",
        "5|",
        "1.5h",
        "5 m",
        "xNone",
        "99999999999999999999h",
        "9223372036854775807h",
    ] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let bad = |strategy: &RolloutStrategy| {
        Strategy::read(strategy)
            .expect_err("cannot be read")
            .to_string()
    };
    assert_eq!(
        bad(&all("5mXYZ")),
        r#"progressDeadline of the rollout strategy is "5mXYZ": it must be a duration like 90m or 1h30m, or None"#
    );
    assert_eq!(
        bad(&progressive("many", config("", "", ""), "")),
        r#"maxConcurrency of the rollout strategy is "many": it must be a number like 3 or a share like 25%"#
    );
    assert_eq!(
        bad(&per_group(config("", "", "inf%"), "")),
        r#"maxFailures of the rollout strategy is "inf%": it must be a number like 3 or a share like 25%"#
    );
    assert_eq!(
        bad(&per_group(config("soon", "", ""), "")),
        r#"minSuccessTime of the rollout strategy is "soon": it must be a duration like 90m or 1h30m"#
    );
}

#[test]
fn a_number_may_be_written_as_text() {
    let text = |text: &str| Some(IntOrString::String(text.to_owned()));
    let mut strategy = progressive("", config("", "", ""), "");
    if let Some(progressive) = &mut strategy.progressive {
        progressive.max_concurrency = text("2");
        progressive.config.max_failures = text("1");
    }
    check(&strategy, TWO, "c1=T", "c2+ c3+");
}

#[test]
fn a_decision_without_a_group_is_named() {
    let decision: drover_api::cluster::v1beta1::PlacementDecision = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "p-decision-1", "labels": {"cluster.open-cluster-management.io/placement": "p"}},
        "status": {"decisions": [{"clusterName": "c1", "reason": ""}]},
    }))
    .expect("a decision");
    let error = Groups::read([&decision]).expect_err("no index").to_string();
    assert_eq!(
        error,
        r#"the label cluster.open-cluster-management.io/decision-group-index of PlacementDecision p-decision-1 is "": it must be a number"#
    );
    assert_eq!(duration("1h"), Some(SignedDuration::from_hours(1)));
}
