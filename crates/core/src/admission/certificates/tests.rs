use super::*;
use proptest::prelude::*;

const HOUR: i64 = 3600;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + hours * HOUR).unwrap()
}

fn lives() -> Lives {
    Lives {
        authority: SignedDuration::from_hours(900),
        serving: SignedDuration::from_hours(90),
        settle: SignedDuration::from_hours(2),
    }
}

fn period(from: i64, hours: i64) -> Period {
    Period {
        from: at(from),
        until: at(from + hours),
    }
}

fn authority(from: i64, trusted: bool) -> Authority {
    Authority {
        period: period(from, 900),
        trusted,
    }
}

fn serving(from: i64, issuer: Option<usize>) -> Serving {
    Serving {
        period: period(from, 90),
        issuer,
        named: true,
    }
}

#[test]
fn one_step_at_a_time() {
    fn check(
        authorities: &[Authority],
        serving: impl Into<Option<Serving>>,
        hour: i64,
        expected: Option<Step>,
    ) {
        let found = plan(authorities, serving.into(), &lives(), at(hour));
        assert_eq!(found, expected, "{authorities:?} at {hour}");
    }
    check(&[], None::<Serving>, 0, Some(Step::AddAuthority));
    // The first one signs at once: there is nobody else.
    check(
        &[authority(0, false)],
        None::<Serving>,
        0,
        Some(Step::Sign(0)),
    );
    check(&[authority(0, true)], serving(0, Some(0)), 1, None);
    check(&[authority(0, true)], serving(0, Some(0)), 59, None);
    check(
        &[authority(0, true)],
        serving(0, Some(0)),
        61,
        Some(Step::Sign(0)),
    );
    check(
        &[authority(0, true)],
        serving(0, None),
        1,
        Some(Step::Sign(0)),
    );
    check(
        &[authority(0, true)],
        Serving {
            named: false,
            ..serving(0, Some(0))
        },
        1,
        Some(Step::Sign(0)),
    );
    check(
        &[authority(0, true)],
        serving(590, Some(0)),
        601,
        Some(Step::AddAuthority),
    );
    let both = |trusted| [authority(0, true), authority(601, trusted)];
    check(
        &both(false),
        serving(590, Some(0)),
        700,
        Some(Step::Sign(0)),
    );
    check(&both(false), serving(650, Some(0)), 700, None);
    check(&both(true), serving(590, Some(0)), 602, None);
    check(&both(true), serving(590, Some(0)), 603, Some(Step::Sign(1)));
    check(&both(true), serving(603, Some(1)), 604, None);
    check(
        &both(true),
        serving(603, Some(1)),
        605,
        Some(Step::Forget(0)),
    );
    check(
        &both(true),
        serving(603, Some(1)),
        901,
        Some(Step::Forget(0)),
    );
}

/// The Secret, and what API servers and a replica last saw of it.
#[derive(Clone, Default)]
struct World {
    authorities: Vec<(u32, Period)>,
    serving: Option<(u32, Period)>,
    made: u32,
    published: Vec<u32>,
    followed: Vec<u32>,
    shown: Option<(u32, Period)>,
}

impl World {
    fn round(&mut self, now: Timestamp) {
        for _ in 0..8 {
            let authorities: Vec<_> = self
                .authorities
                .iter()
                .map(|(id, period)| Authority {
                    period: *period,
                    trusted: self.published.contains(id),
                })
                .collect();
            let serving = self.serving.map(|(issuer, period)| Serving {
                period,
                issuer: self.authorities.iter().position(|(id, _)| *id == issuer),
                named: true,
            });
            let fresh = |life| Period {
                from: now,
                until: now + life,
            };
            match plan(&authorities, serving, &lives(), now) {
                None => return,
                Some(Step::AddAuthority) => {
                    self.made += 1;
                    self.authorities.push((self.made, fresh(lives().authority)));
                }
                Some(Step::Forget(index)) => {
                    self.authorities.remove(index);
                }
                Some(Step::Sign(index)) => {
                    let (issuer, period) = self.authorities[index];
                    let mut signed = fresh(lives().serving);
                    signed.until = signed.until.min(period.until);
                    self.serving = Some((issuer, signed));
                }
            }
        }
        panic!(
            "it does not come to rest: {:?} {:?}",
            self.authorities, self.serving
        );
    }
}

proptest! {
    /// Whatever a replica shows is trusted by whatever an API server knows, though both see things late.
    #[test]
    fn nobody_is_refused_while_things_are_renewed(
        // Whether the configuration and the replica see the Secret in an hour.
        seen in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 3000),
    ) {
        let mut world = World::default();
        let (mut unpublished, mut unseen) = (0, 0);
        for (hour, (writes, publishes, shows)) in seen.into_iter().enumerate() {
            let now = at(i64::try_from(hour).unwrap());
            if writes || hour == 0 {
                world.round(now);
            }
            let ids: Vec<u32> = world.authorities.iter().map(|(id, _)| *id).collect();
            // API servers follow a configuration within an hour, replicas the Secret too.
            world.followed = world.published.clone();
            if publishes || unpublished >= 5 || hour == 0 {
                world.published = ids;
                unpublished = 0;
            } else {
                unpublished += 1;
            }
            if hour == 0 {
                world.followed = world.published.clone();
            }
            if shows || unseen >= 1 {
                world.shown = world.serving;
                unseen = 0;
            } else {
                unseen += 1;
            }
            if let Some((issuer, period)) = world.shown {
                prop_assert!(world.followed.contains(&issuer), "hour {hour}: {issuer} of {:?}", world.followed);
                prop_assert!(period.until > now, "hour {hour}: the certificate is over");
            }
            prop_assert!(world.authorities.len() <= 3);
        }
    }
}
