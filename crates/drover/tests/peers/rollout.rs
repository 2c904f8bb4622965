//! Decisions about rollouts beside those of sdk-go's own handler, for many random fleets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use drover_api::cluster::v1alpha1::{RolloutStrategy, RolloutType};
use drover_core::rollout::{Existing, GroupKey, Groups, Outcome, State, Step, Strategy, plan};
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const NOW: i64 = 10_000;
const CASES: usize = 3000;

#[derive(Clone, Debug, Serialize)]
struct Group {
    index: i32,
    name: String,
    clusters: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Known {
    cluster: String,
    state: &'static str,
    since: Option<i64>,
    /// ToApply: whether it was sent.
    #[serde(skip)]
    sent: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Case {
    now: i64,
    strategy: Value,
    groups: Vec<Group>,
    existing: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct TheirStep {
    cluster: String,
    state: String,
    index: i32,
    name: String,
    #[serde(rename = "recheckAt")]
    recheck_at: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Theirs {
    error: String,
    rollout: Option<Vec<TheirStep>>,
    timed_out: Option<Vec<TheirStep>>,
    removed: Option<Vec<TheirStep>>,
    breached: bool,
    recheck_after: Option<i64>,
}

fn pick<'a, T>(random: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}

fn amount(random: &mut StdRng) -> Value {
    match random.random_range(0..4) {
        0 => json!(0),
        1 => json!(random.random_range(1..12)),
        _ => json!(format!("{}%", random.random_range(0..=100))),
    }
}

fn strategy(random: &mut StdRng) -> Value {
    let deadline = *pick(random, &["None", "", "90s", "2m", "1h30m", "90s", "5mXYZ"]);
    let mut part = json!({"progressDeadline": deadline, "maxFailures": amount(random)});
    part["minSuccessTime"] = json!(pick(random, &["0s", "0s", "30s", "5m0s"]));
    match random.random_range(0..7) {
        0 => json!({"type": "All", "all": part}),
        way => {
            if random.random_ratio(1, 3) {
                let first = [
                    json!({"groupName": "g"}),
                    json!({"groupIndex": 0}),
                    json!({"groupIndex": 2}),
                    json!({}),
                ];
                let count = random.random_range(1..3);
                let list: Vec<Value> = (0..count).map(|_| pick(random, &first).clone()).collect();
                part["mandatoryDecisionGroups"] = json!(list);
            }
            if way < 4 {
                part["maxConcurrency"] = amount(random);
                json!({"type": "Progressive", "progressive": part})
            } else {
                json!({"type": "ProgressivePerGroup", "progressivePerGroup": part})
            }
        }
    }
}

fn case(random: &mut StdRng) -> Case {
    let mut names: Vec<String> = (0..24).map(|number| format!("c{number:02}")).collect();
    for at in (1..names.len()).rev() {
        names.swap(at, random.random_range(0..=at));
    }
    let mut names = names.into_iter();
    let holes = random.random_ratio(1, 20);
    let groups: Vec<Group> = (0..random.random_range(1..5))
        .map(|index| Group {
            index: if holes && index > 0 { index + 1 } else { index },
            name: pick(random, &["", "g", "h"]).to_string(),
            clusters: names.by_ref().take(random.random_range(0..6)).collect(),
        })
        .collect();
    // Sets of works name those that were reached, add-ons name everybody.
    let all = random.random_ratio(1, 4);
    let well = random.random_ratio(1, 2);
    let members: Vec<String> = groups
        .iter()
        .flat_map(|group| group.clusters.clone())
        .collect();
    let reached = random.random_range(0..=members.len());
    let mut sorted = members.clone();
    sorted.sort();
    let mut existing = Vec::new();
    for (at, cluster) in sorted.iter().enumerate() {
        let kinds: &[&str] = match (all, well) {
            (true, _) => &[
                "ToApply",
                "ToApply",
                "Progressing",
                "Succeeded",
                "Failed",
                "TimeOut",
                "Skip",
            ],
            (false, true) => &[
                "Succeeded",
                "Succeeded",
                "Succeeded",
                "Progressing",
                "ToApply",
            ],
            (false, false) => &[
                "ToApply",
                "Progressing",
                "Succeeded",
                "Failed",
                "TimeOut",
                "Skip",
            ],
        };
        if all || at < reached {
            let state = pick(random, kinds);
            let since = (*state != "ToApply").then(|| NOW - random.random_range(0..400));
            existing.push(Known {
                cluster: cluster.clone(),
                state,
                since,
                sent: !all,
            });
        }
    }
    for cluster in names.take(random.random_range(0..2)) {
        existing.push(Known {
            cluster,
            state: "Progressing",
            since: Some(NOW - 5),
            sent: true,
        });
    }
    Case {
        now: NOW,
        strategy: strategy(random),
        groups,
        existing,
    }
}

/// What sdk-go's handler says to each case.
fn ask(cases: &[Case]) -> Vec<Theirs> {
    let program = drover_testkit::program("sdkgo-rollout-probe").unwrap();
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = serde_json::to_vec(cases).unwrap();
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn ours(case: &Case) -> Result<Outcome, String> {
    let strategy: RolloutStrategy = serde_json::from_value(case.strategy.clone()).unwrap();
    let strategy = Strategy::read(&strategy).map_err(|error| error.to_string())?;
    let groups: Groups = (case.groups.iter())
        .map(|group| {
            (
                GroupKey {
                    index: group.index,
                    name: group.name.clone(),
                },
                group.clusters.iter().cloned().collect(),
            )
        })
        .collect();
    let existing: Vec<Existing> = (case.existing.iter())
        .map(|known| {
            let since = at(known.since.unwrap_or(NOW));
            let state = match known.state {
                "ToApply" => State::ToApply {
                    sent: known.sent.then_some(since),
                },
                "Progressing" => State::Progressing { since },
                "Succeeded" => State::Succeeded { since },
                "Failed" => State::Failed { since },
                "TimeOut" => State::TimedOut,
                _ => State::Skip,
            };
            Existing {
                cluster: known.cluster.clone(),
                state,
            }
        })
        .collect();
    Ok(plan(&strategy, &groups, &existing, at(case.now)))
}

/// Cluster, state, and when to look again.
type Row = (String, String, Option<i64>);

fn rows(steps: &[Step]) -> BTreeSet<Row> {
    let name = |state| match state {
        State::ToApply { .. } => "ToApply",
        State::Progressing { .. } => "Progressing",
        State::Succeeded { .. } => "Succeeded",
        State::Failed { .. } => "Failed",
        State::TimedOut => "TimeOut",
        State::Skip => "Skip",
    };
    let row = |step: &Step| {
        let to_apply = matches!(step.state, State::ToApply { .. });
        let recheck = step
            .recheck_at
            .filter(|_| !to_apply)
            .map(Timestamp::as_second);
        (step.cluster.clone(), name(step.state).to_owned(), recheck)
    };
    steps.iter().map(row).collect()
}

fn their_rows(steps: Option<&Vec<TheirStep>>) -> BTreeSet<Row> {
    let steps = steps.into_iter().flatten();
    // A cluster whose time is over has been waited for until now; ours has no time any more.
    let recheck = |step: &TheirStep| step.recheck_at.filter(|_| step.state != "TimeOut");
    steps
        .map(|step| (step.cluster.clone(), step.state.clone(), recheck(step)))
        .collect()
}

/// When to look again, but for clusters that said nothing yet: theirs are waited for without end.
fn recheck_after(outcome: &Outcome) -> Option<i64> {
    let rows = rows(&outcome.rollout);
    let times = rows.iter().filter_map(|(_, _, recheck)| *recheck);
    times.min().map(|time| time - NOW)
}

/// The ways in which we differ on purpose: what docs/replica-sets.md says of them. Each is a look at the case, not at our answer.
fn differs(case: &Case, theirs: &Theirs, way: RolloutType) -> Option<&'static str> {
    let states = |name: &str| {
        case.existing
            .iter()
            .filter(|known| known.state == name)
            .count()
    };
    let timed_out = states("TimeOut") > 0
        || theirs
            .timed_out
            .as_ref()
            .is_some_and(|list| !list.is_empty());
    let failures = states("Failed") + states("TimeOut");
    let members: usize = case.groups.iter().map(|group| group.clusters.len()).sum();
    let part = ["all", "progressive", "progressivePerGroup"]
        .map(|name| &case.strategy[name])
        .into_iter()
        .find(|part| part.is_object())
        .unwrap();
    let mandatory = part["mandatoryDecisionGroups"].is_array();
    let indexes: Vec<i32> = case.groups.iter().map(|group| group.index).collect();
    if !indexes
        .iter()
        .zip(0..)
        .all(|(index, expected)| *index == expected)
    {
        return Some("a hole in the indexes hides no group");
    }
    if mandatory && (failures > 0 || timed_out || states("Progressing") + states("Succeeded") > 0) {
        return Some("mandatory groups are judged by their own clusters");
    }
    if way == RolloutType::ProgressivePerGroup {
        if timed_out {
            return Some("clusters that timed out hide none that is on its way");
        }
        let fails = |group: &Group| {
            let failed = case.existing.iter().filter(|known| known.state == "Failed");
            let mut failed = failed.map(|known| &known.cluster);
            failed.any(|cluster| group.clusters.contains(cluster))
        };
        if case.groups.iter().skip(1).any(fails) {
            return Some("a failure of a later group is not waited for");
        }
        if failures > 0 && theirs.breached {
            return Some("nothing new starts in a group with too many failures");
        }
        let limit = part["maxFailures"].as_i64().unwrap_or(0);
        if failures > 0
            && case
                .groups
                .iter()
                .any(|group| usize::try_from(limit).unwrap() > group.clusters.len())
        {
            return Some("a limit beyond the number of clusters is no limit of 0");
        }
    }
    if way != RolloutType::ProgressivePerGroup {
        if states("ToApply") > 0 && (failures > 0 || timed_out) {
            return Some("failures count wherever they stand in the alphabet");
        }
        let limit = part["maxFailures"].as_i64().unwrap_or(0);
        if way == RolloutType::Progressive
            && failures > 0
            && usize::try_from(limit).unwrap() > members
        {
            return Some("a limit beyond the number of clusters is no limit of 0");
        }
        // Their look at what is on its way ends when all places are taken; who comes later in the alphabet is not mentioned.
        let moving = case
            .existing
            .iter()
            .filter(|known| !matches!(known.state, "TimeOut" | "Skip"))
            .count();
        let places = theirs.rollout.as_ref().map_or(0, Vec::len);
        if moving + failures >= places && moving + failures > 0 {
            return Some("everything that is on its way is mentioned, and keeps its place");
        }
    }
    None
}

#[test]
fn decisions_are_those_of_sdk_go_or_differ_as_documented() {
    let mut random = StdRng::seed_from_u64(7);
    let cases: Vec<Case> = (0..CASES).map(|_| case(&mut random)).collect();
    let answers = ask(&cases);
    assert_eq!(answers.len(), cases.len());
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(&answers) {
        let ours = match ours(case) {
            Ok(ours) => ours,
            Err(error) => {
                assert!(
                    !theirs.error.is_empty(),
                    "we say {error}, they follow {}",
                    case.strategy
                );
                *seen.entry("cannot be read").or_default() += 1;
                continue;
            }
        };
        assert_eq!(theirs.error, "", "{}", case.strategy);
        let way: RolloutType = serde_json::from_value(case.strategy["type"].clone()).unwrap();
        let same = rows(&ours.rollout) == their_rows(theirs.rollout.as_ref())
            && rows(&ours.timed_out) == their_rows(theirs.timed_out.as_ref())
            && rows(&ours.removed) == their_rows(theirs.removed.as_ref())
            && ours.breached == theirs.breached
            && recheck_after(&ours) == theirs.recheck_after;
        if same {
            *seen.entry("the same").or_default() += 1;
            let known: BTreeSet<&str> = case
                .existing
                .iter()
                .map(|known| known.cluster.as_str())
                .collect();
            for step in theirs
                .rollout
                .iter()
                .flatten()
                .filter(|step| !known.contains(step.cluster.as_str()))
            {
                let group = ours
                    .rollout
                    .iter()
                    .find(|our| our.cluster == step.cluster)
                    .and_then(|our| our.group.clone());
                assert_eq!(
                    group,
                    Some(GroupKey {
                        index: step.index,
                        name: step.name.clone()
                    })
                );
            }
        } else if let Some(why) = differs(case, theirs, way) {
            *seen.entry(why).or_default() += 1;
        } else {
            wrong.push(format!(
                "{}\nours:   {ours:?}\ntheirs: {theirs:?}",
                serde_json::to_string(case).unwrap()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {CASES} differ ({seen:?}), for example\n{}",
        wrong.len(),
        wrong[0]
    );
    let enough = |what: &str, count: usize| {
        let found = seen.get(what).copied().unwrap_or(0);
        assert!(found >= count, "only {found} cases of {what:?}: {seen:?}");
    };
    enough("the same", CASES / 2);
    enough("cannot be read", 100);
}
