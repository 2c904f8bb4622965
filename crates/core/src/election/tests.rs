use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Act, BadTiming, Candidate, Record, Seen, Timing};

const TIMING: Timing = Timing {
    lease: Duration::from_secs(15),
    renew: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn held_by(holder: &str, version: &str) -> Seen {
    Seen {
        record: Record {
            holder: holder.to_owned(),
            seconds: 15,
            ..Record::default()
        },
        version: version.to_owned(),
    }
}

fn says(act: &Act) -> String {
    match act {
        Act::Create(record) => format!("create {} {}", record.holder, record.transitions),
        Act::Replace(record, version) => {
            format!("replace {version} {} {}", record.holder, record.transitions)
        }
        Act::Wait => "wait".to_owned(),
    }
}

/// Looks at the lease at these times, as `holder/version`; `-` is no lease.
#[track_caller]
fn check(looks: &[(u64, &str)], expected: &[&str]) {
    let mut candidate = Candidate::new("me", TIMING);
    let done: Vec<String> = looks
        .iter()
        .map(|(at, lease)| {
            let seen = lease
                .split_once('/')
                .map(|(holder, version)| held_by(holder, version));
            says(&candidate.decide(seen, seconds(*at), Timestamp::UNIX_EPOCH))
        })
        .collect();
    assert_eq!(done, expected);
}

#[test]
fn a_lease_that_is_not_there_is_created() {
    check(&[(0, "-")], &["create me 0"]);
}

#[test]
fn a_lease_that_nobody_holds_is_taken_at_once() {
    check(&[(0, "/7")], &["replace 7 me 1"]);
}

#[test]
fn a_lease_that_changes_is_never_taken() {
    check(
        &[(0, "a/1"), (14, "a/2"), (28, "a/3")],
        &["wait", "wait", "wait"],
    );
}

#[test]
fn a_lease_is_taken_after_its_whole_duration() {
    check(
        &[(3, "a/1"), (17, "a/1"), (18, "a/1")],
        &["wait", "wait", "replace 1 me 1"],
    );
}

#[test]
fn a_lease_that_somebody_deleted_is_waited_for_all_the_same() {
    check(
        &[(3, "a/1"), (17, "-"), (18, "-")],
        &["wait", "wait", "create me 0"],
    );
}

#[test]
fn its_own_lease_is_renewed() {
    check(
        &[(0, "me/1"), (2, "me/2")],
        &["replace 1 me 0", "replace 2 me 0"],
    );
}

#[test]
fn a_leader_counts_from_before_it_asked() {
    let mut candidate = Candidate::new("me", TIMING);
    candidate.decide(None, seconds(100), Timestamp::UNIX_EPOCH);
    assert_eq!(candidate.leads_until(seconds(100)), None);
    candidate.written(held_by("me", "1"), seconds(100), seconds(104));
    assert_eq!(candidate.leads_until(seconds(109)), Some(seconds(110)));
    assert_eq!(candidate.leads_until(seconds(110)), None);
    // Read to be somebody else's: it is over at once.
    candidate.written(held_by("me", "2"), seconds(110), seconds(110));
    candidate.decide(Some(held_by("a", "3")), seconds(111), Timestamp::UNIX_EPOCH);
    assert_eq!(candidate.leads_until(seconds(111)), None);
}

#[test]
fn what_is_given_up_is_free() {
    let mut candidate = Candidate::new("me", TIMING);
    assert_eq!(candidate.release(Timestamp::UNIX_EPOCH), None);
    candidate.written(held_by("me", "5"), seconds(0), seconds(0));
    let act = candidate.release(Timestamp::UNIX_EPOCH).map(|a| says(&a));
    assert_eq!(act.as_deref(), Some("replace 5  0"));
    assert_eq!(candidate.leads_until(seconds(1)), None);
}

#[test]
fn times_that_let_two_lead_are_refused() {
    let new = |lease, renew, retry| Timing::new(seconds(lease), seconds(renew), seconds(retry));
    let usual = Timing::default();
    assert_eq!(
        Timing::new(usual.lease, usual.renew, usual.retry),
        Ok(usual)
    );
    assert_eq!(new(15, 10, 2), Ok(TIMING));
    assert!(matches!(new(15, 13, 2), Err(BadTiming::Overlap { .. })));
    assert!(matches!(new(15, 10, 6), Err(BadTiming::Rare { .. })));
    assert!(matches!(new(15, 10, 0), Err(BadTiming::Rare { .. })));
    assert!(matches!(new(0, 0, 0), Err(BadTiming::Seconds(_))));
}

/// Small, and the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// What happens, at a time in milliseconds of the world. Each candidate has a number that grows when it starts anew, so that what
/// was meant for the one before is lost.
#[derive(Clone, Debug)]
enum Event {
    Look(usize, u32),
    Read(usize, u32, Option<Seen>),
    Arrive(usize, u32, Act, Duration, bool),
    Answer(usize, u32, Option<Seen>, Duration),
    Crash(usize),
    Leave(usize),
    Start(usize),
}

struct Member {
    candidate: Candidate,
    life: u32,
    alive: bool,
    /// Its clock: where it began, and how fast it is in thousandths.
    begin: u64,
    speed: u64,
    day: i64,
}

impl Member {
    fn clock(&self, now: u64) -> Duration {
        Duration::from_millis(self.begin + now * self.speed / 1000)
    }
}

/// A lease, some who want it, and an API that fails.
struct World {
    dice: Dice,
    now: u64,
    number: u64,
    events: BTreeMap<(u64, u64), Event>,
    members: Vec<Member>,
    lease: Option<Seen>,
    version: u64,
    faults: bool,
    leaders: Vec<String>,
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let members = (0..count)
            .map(|number| Member {
                candidate: Candidate::new(format!("{number}.0"), TIMING),
                life: 0,
                alive: true,
                begin: dice.roll(1_000_000),
                // A clock may run a twentieth too fast or too slow.
                speed: 950 + dice.roll(101),
                day: dice.roll(1_200) as i64 - 600,
            })
            .collect();
        let mut world = Self {
            dice,
            now: 0,
            number: 0,
            events: BTreeMap::new(),
            members,
            lease: None,
            version: 0,
            faults: true,
            leaders: Vec::new(),
        };
        for who in 0..count {
            world.at(0, Event::Look(who, 0));
        }
        world
    }

    fn at(&mut self, after: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now + after, self.number), event);
    }

    fn fails(&mut self, one_in: u64) -> bool {
        self.faults && self.dice.roll(one_in) == 0
    }

    /// Mostly quick; while things fail, sometimes as long as a lease.
    fn delay(&mut self) -> u64 {
        if self.fails(12) {
            self.dice.roll(20_000)
        } else {
            self.dice.roll(80)
        }
    }

    fn again(&mut self, who: usize) {
        let life = self.members[who].life;
        let wait = 2_000 + self.dice.roll(400);
        self.at(wait, Event::Look(who, life));
    }

    fn is(&self, who: usize, life: u32) -> bool {
        self.members[who].alive && self.members[who].life == life
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Look(who, life) if self.is(who, life) => {
                if self.fails(25) {
                    let event = if self.dice.roll(2) == 0 {
                        Event::Crash(who)
                    } else {
                        Event::Leave(who)
                    };
                    return self.at(0, event);
                }
                if self.fails(6) {
                    return self.again(who);
                }
                let (seen, delay) = (self.lease.clone(), self.delay());
                self.at(delay, Event::Read(who, life, seen));
            }
            Event::Read(who, life, seen) if self.is(who, life) => self.decide(who, life, seen),
            Event::Arrive(who, life, act, sent, answered) => {
                let taken = self.write(&act);
                if answered && self.is(who, life) {
                    let delay = self.delay();
                    self.at(delay, Event::Answer(who, life, taken, sent));
                }
            }
            Event::Answer(who, life, taken, sent) if self.is(who, life) => {
                let now = self.members[who].clock(self.now);
                // Whoever waited longer has given up already.
                if let Some(seen) = taken.filter(|_| now < sent + TIMING.renew / 2) {
                    self.members[who].candidate.written(seen, sent, now);
                }
                self.again(who);
            }
            Event::Crash(who) => self.end(who),
            Event::Leave(who) => {
                let act = self.members[who].candidate.release(Timestamp::UNIX_EPOCH);
                if let Some(act) = act {
                    let (sent, delay) = (Duration::ZERO, self.delay());
                    let life = self.members[who].life;
                    self.at(delay, Event::Arrive(who, life, act, sent, false));
                }
                self.end(who);
            }
            Event::Start(who) => {
                let member = &mut self.members[who];
                member.life += 1;
                member.alive = true;
                member.candidate = Candidate::new(format!("{who}.{}", member.life), TIMING);
                let life = member.life;
                self.at(0, Event::Look(who, life));
            }
            // Meant for one that is no more.
            Event::Look(..) | Event::Read(..) | Event::Answer(..) => {}
        }
    }

    fn end(&mut self, who: usize) {
        self.members[who].alive = false;
        let rest = self.dice.roll(30_000);
        self.at(rest, Event::Start(who));
    }

    fn decide(&mut self, who: usize, life: u32, seen: Option<Seen>) {
        let member = &mut self.members[who];
        let now = member.clock(self.now);
        let day = Timestamp::from_second(member.day).unwrap_or_default();
        let act = member.candidate.decide(seen, now, day);
        if act == Act::Wait || self.fails(8) {
            return self.again(who);
        }
        let (delay, answered) = (self.delay(), !self.fails(8));
        self.at(delay, Event::Arrive(who, life, act, now, answered));
        if !answered {
            self.again(who);
        }
    }

    /// What the API does with a write; nothing when it is not the newest that the writer knows.
    fn write(&mut self, act: &Act) -> Option<Seen> {
        let record = match (act, &self.lease) {
            (Act::Create(record), None) => record,
            (Act::Replace(record, version), Some(seen)) if *version == seen.version => record,
            _ => return None,
        };
        self.version += 1;
        self.lease = Some(Seen {
            record: record.clone(),
            version: self.version.to_string(),
        });
        self.lease.clone()
    }

    fn run(&mut self, until: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.step(event);
            self.judge();
        }
        self.now = until;
        self.judge();
    }

    /// Never two leaders.
    fn judge(&mut self) {
        let leads = |member: &&Member| {
            let now = member.clock(self.now);
            member.alive && member.candidate.leads_until(now).is_some()
        };
        let all: Vec<&str> = self
            .members
            .iter()
            .filter(leads)
            .map(|member| member.candidate.me())
            .collect();
        assert!(all.len() < 2, "{all:?} lead at {} ms", self.now);
        if let Some(one) = all.first()
            && self.leaders.last().map(String::as_str) != Some(*one)
        {
            self.leaders.push((*one).to_owned());
        }
    }
}

/// One world: an hour of faults, then quiet. The answer is how many led.
fn simulate(seed: u64) -> usize {
    let mut world = World::new(seed, 3 + (seed % 3) as usize);
    world.run(3_600_000);
    world.faults = false;
    // Those that are gone come back, what was sent is taken, and the last lease runs out: then one leads, and stays.
    world.run(3_700_000);
    let leader = world.leaders.last().cloned();
    assert!(leader.is_some(), "nobody leads");
    world.run(3_900_000);
    let leads = world.members.iter().any(|member| {
        let now = member.clock(world.now);
        member.alive && member.candidate.leads_until(now).is_some()
    });
    assert!(leads && world.leaders.last() == leader.as_ref(), "it lasts");
    world.leaders.len()
}

#[test]
fn never_two_lead_and_always_one_in_the_end() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("SIM_SEED is a number");
            seed..=seed
        }
        Err(_) => 1..=300,
    };
    let mut changes = 0;
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| simulate(seed));
        changes += ran.unwrap_or_else(|_| panic!("the world of SIM_SEED={seed} is broken"));
    }
    assert!(changes > 0, "the world lets somebody lead");
}
