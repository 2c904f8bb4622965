//! Fleets that follow the answers, with clusters that are slow, silent or broken: what must hold in every round.

use std::collections::BTreeMap;

use proptest::prelude::{
    Just, ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof,
    proptest,
};
use proptest::strategy::Strategy as Generate;

use super::*;

/// What a cluster does when a change reaches it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Succeeds after so many seconds.
    Well(i64),
    /// Fails after so many seconds, for good.
    Broken(i64),
    /// Fails, and recovers so many seconds after that.
    Shaky(i64),
    /// Progresses for ever.
    Stuck,
    /// Says nothing.
    Silent,
}

impl Fate {
    fn state(self, sent: i64, now: i64) -> State {
        match self {
            Self::Silent => State::ToApply {
                sent: Some(at(sent)),
            },
            _ if now <= sent => State::ToApply {
                sent: Some(at(sent)),
            },
            Self::Well(after) if now >= sent + after => State::Succeeded {
                since: at(sent + after),
            },
            Self::Shaky(after) if now >= sent + 2 * after => State::Succeeded {
                since: at(sent + 2 * after),
            },
            Self::Broken(after) | Self::Shaky(after) if now >= sent + after => State::Failed {
                since: at(sent + after),
            },
            _ => State::Progressing {
                since: at(sent + 1),
            },
        }
    }
}

#[derive(Clone, Debug)]
struct World {
    strategy: RolloutStrategy,
    groups: Groups,
    fates: BTreeMap<String, Fate>,
    /// Whether those who were not reached are named as such, as add-ons do, or not at all, as sets of works do.
    names_all: bool,
}

impl World {
    fn existing(&self, sent: &BTreeMap<String, i64>, now: i64) -> Vec<Existing> {
        let known = self.fates.iter().filter_map(|(cluster, fate)| {
            let state = match sent.get(cluster) {
                Some(sent) => fate.state(*sent, now),
                None if self.names_all => State::ToApply { sent: None },
                None => return None,
            };
            Some(Existing {
                cluster: cluster.clone(),
                state,
            })
        });
        known.collect()
    }
}

fn fate() -> impl Generate<Value = Fate> {
    prop_oneof![
        6 => (1..60_i64).prop_map(Fate::Well),
        1 => (1..60_i64).prop_map(Fate::Broken),
        1 => (1..60_i64).prop_map(Fate::Shaky),
        1 => Just(Fate::Stuck),
        1 => Just(Fate::Silent),
    ]
}

fn size() -> impl Generate<Value = Option<IntOrString>> {
    prop_oneof![
        Just(None),
        (-1..9_i32).prop_map(|number| Some(IntOrString::Int(number))),
        (0..=100_u8).prop_map(|share| Some(IntOrString::String(format!("{share}%")))),
    ]
}

fn strategies() -> impl Generate<Value = RolloutStrategy> {
    let config = (size(), prop_oneof![Just(""), Just("20s"), Just("2m")]).prop_map(
        |(max_failures, soak)| RolloutConfig {
            min_success_time: soak.to_owned(),
            progress_deadline: "90s".to_owned(),
            max_failures,
        },
    );
    let first = prop_oneof![Just(""), Just("0"), Just("g1"), Just("2 g1")];
    (config, first, size(), 0..3_u8).prop_map(|(config, first, at_once, way)| match way {
        0 => all("90s"),
        1 => {
            let mut strategy = progressive("", config, first);
            if let Some(progressive) = &mut strategy.progressive {
                progressive.max_concurrency = at_once;
            }
            strategy
        }
        _ => per_group(config, first),
    })
}

fn worlds() -> impl Generate<Value = World> {
    let sizes = prop::collection::vec(0..8_usize, 1..5);
    (
        strategies(),
        sizes,
        prop::collection::vec(fate(), 40),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(strategy, sizes, fates, names_all, shuffle)| {
            let mut names: Vec<String> = (0..40).map(|number| format!("c{number:02}")).collect();
            // Names are not in the order of groups.
            let turn = usize::try_from(shuffle % 39).unwrap_or(0) + 1;
            names.rotate_left(turn);
            let step = names.len() / 2;
            let names: Vec<String> = (0..step)
                .flat_map(|at| [names[at].clone(), names[at + step].clone()])
                .collect();
            let mut rest = names.into_iter();
            let groups: Groups = (0_i32..)
                .zip(&sizes)
                .map(|(index, size)| {
                    let name = if index % 2 == 1 { "g1" } else { "" };
                    (
                        GroupKey {
                            index,
                            name: name.to_owned(),
                        },
                        rest.by_ref().take(*size).collect(),
                    )
                })
                .collect();
            let fates = groups
                .clusters()
                .into_iter()
                .map(str::to_owned)
                .zip(fates)
                .collect();
            World {
                strategy,
                groups,
                fates,
                names_all,
            }
        })
}

/// Follows the answers until nothing is on its way, checking each one.
fn follow(world: &World) -> Result<(), TestCaseError> {
    let strategy = Strategy::read(&world.strategy).expect("the strategy can be read");
    let first = world.groups.select(&strategy.mandatory);
    let rest = world.groups.without(&first);
    let mut sent: BTreeMap<String, i64> = BTreeMap::new();
    let mut quiet = false;
    for now in (0..40 * 400).step_by(3) {
        let existing = world.existing(&sent, now);
        let outcome = plan(&strategy, &world.groups, &existing, at(now));
        prop_assert_eq!(
            &outcome,
            &plan(&strategy, &world.groups, &existing, at(now))
        );
        let new: Vec<&Step> = outcome
            .rollout
            .iter()
            .filter(|step| step.state == State::ToApply { sent: None })
            .collect();
        let moving = |groups: &Groups| {
            outcome
                .rollout
                .iter()
                .filter(|step| groups.clusters().contains(step.cluster.as_str()))
                .count()
        };
        if let Pace::Clusters { at_once } = strategy.pace {
            let places = at_once.of(rest.cluster_count(), rest.cluster_count());
            let stopped = first
                .clusters()
                .iter()
                .any(|cluster| outcome.rollout.iter().any(|step| step.cluster == *cluster));
            prop_assert!(
                stopped || moving(&rest) <= places,
                "{} move, {places} may",
                moving(&rest)
            );
        }
        if outcome.breached {
            prop_assert!(new.is_empty(), "{new:?} after too many failures");
        }
        // Failures are counted as they stand now: no new cluster while there are more than may be.
        let failed = |groups: &Groups| {
            let clusters = groups.clusters();
            let failed = existing.iter().filter(|known| {
                clusters.contains(known.cluster.as_str())
                    && (known.state.is_failure()
                        || outcome
                            .timed_out
                            .iter()
                            .any(|step| step.cluster == known.cluster))
            });
            failed.count()
        };
        let started = |groups: &Groups| {
            new.iter()
                .any(|step| groups.clusters().contains(step.cluster.as_str()))
        };
        if started(&rest) {
            prop_assert_eq!(failed(&first), 0, "a mandatory group failed, others start");
            let done = first.clusters().iter().all(|cluster| {
                existing.iter().any(|known| {
                    known.cluster == *cluster && matches!(known.state, State::Succeeded { .. })
                })
            });
            prop_assert!(done, "others start before the mandatory groups succeeded");
            if matches!(strategy.pace, Pace::Clusters { .. }) {
                let may = strategy.max_failures.of(world.groups.cluster_count(), 0);
                prop_assert!(failed(&rest) <= may, "{} failed, {may} may", failed(&rest));
            }
        }
        for step in &outcome.rollout {
            prop_assert!(step.group.is_some());
            prop_assert!(step.recheck_at.is_none_or(|time| time > at(now)));
        }
        prop_assert!(outcome.removed.is_empty());
        for step in new {
            // What was reached stays reached: nobody is told twice.
            prop_assert!(sent.insert(step.cluster.clone(), now).is_none());
        }
        if outcome.rollout.is_empty() {
            quiet = true;
            break;
        }
    }
    prop_assert!(quiet, "it does not come to an end");
    ended(world, &strategy, &sent)
}

/// At the end everybody was reached, or failures stopped it.
fn ended(
    world: &World,
    strategy: &Strategy,
    sent: &BTreeMap<String, i64>,
) -> Result<(), TestCaseError> {
    let end = 1_000_000;
    let existing = world.existing(sent, end);
    let outcome = plan(strategy, &world.groups, &existing, at(end));
    let all = sent.len() == world.groups.cluster_count();
    prop_assert!(
        all || outcome.breached,
        "{} of {} reached",
        sent.len(),
        world.groups.cluster_count()
    );
    if strategy.max_failures == Amount::ALL && strategy.mandatory.is_empty() {
        prop_assert!(all);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_fleet_keeps_the_limits_and_comes_to_an_end(world in worlds()) {
        follow(&world)?;
    }

    #[test]
    fn the_order_of_what_is_known_does_not_matter(world in worlds(), sent in prop::collection::vec(0..80_i64, 40)) {
        let strategy = Strategy::read(&world.strategy).expect("the strategy can be read");
        let sent = world.fates.keys().cloned().zip(sent).collect();
        let mut existing = world.existing(&sent, 100);
        let one = plan(&strategy, &world.groups, &existing, at(100));
        existing.reverse();
        prop_assert_eq!(one, plan(&strategy, &world.groups, &existing, at(100)));
    }

    #[test]
    fn more_success_never_takes_a_place_away(world in worlds(), sent in prop::collection::vec(0..80_i64, 40)) {
        let strategy = Strategy::read(&world.strategy).expect("the strategy can be read");
        let sent: BTreeMap<String, i64> = world.fates.keys().cloned().zip(sent).filter(|(_, second)| second % 3 != 0).collect();
        let before = world.existing(&sent, 100);
        let mut after = before.clone();
        for known in &mut after {
            if !matches!(known.state, State::ToApply { sent: None }) {
                known.state = State::Succeeded { since: at(-100_000) };
            }
        }
        let reached = |existing: &[Existing]| -> BTreeSet<String> {
            let outcome = plan(&strategy, &world.groups, existing, at(100));
            let new = outcome.rollout.into_iter().filter(|step| step.state == State::ToApply { sent: None });
            new.map(|step| step.cluster).collect()
        };
        let (before, after) = (reached(&before), reached(&after));
        prop_assert!(before.is_subset(&after), "{before:?} before, {after:?} after");
    }
}
