//! Seeded histories of one message: a publisher that is killed at any call, answers of the API that are lost, caches that are late,
//! pods and nodes of every fate, people who change the resource, and a clock that steps. The broker is the judge.

use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, Pod, PodCondition, PodSpec, PodStatus,
};

use super::super::pod::{Missing, Program, Report, missing, outcome, pod_name, removable_at};
use super::*;

const HISTORIES: u64 = 10_000;
/// Steps in which anything may happen.
const WILD: usize = 50;
/// Steps after them, in which nothing goes wrong any more but what did already.
const CALM: usize = 600;

#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// What a process is in the middle of.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "there are two at most")]
enum Doing {
    Nothing,
    /// The attempt is written down; it publishes next.
    Publishing {
        begun: Seen,
        message: Outgoing,
    },
    /// The same; it makes the ConfigMap next, and then the pod.
    Preparing {
        begun: Seen,
        message: Outgoing,
    },
    Making {
        begun: Seen,
        message: Outgoing,
    },
    /// It knows the end, and writes it next.
    Concluding {
        begun: FedoraMessage,
        found: Seen,
        outcome: Result<(), Fault>,
    },
    /// Its write did not fit; it reads again next.
    Reading {
        begun: FedoraMessage,
        outcome: Result<(), Fault>,
    },
}

/// The message as somebody saw it, and in which version.
#[derive(Clone)]
struct Seen {
    message: FedoraMessage,
    version: u64,
}

struct Process {
    cache: Seen,
    doing: Doing,
}

/// A pod as the API has it, and what is really the case.
struct Sender {
    pod: Pod,
    message: Outgoing,
    started: bool,
    sent: bool,
    end: Option<ContainerStateTerminated>,
    /// Its node does not talk to the API any more.
    silent: bool,
}

struct World {
    seed: u64,
    dice: Dice,
    now: Timestamp,
    by_pods: bool,
    api: Seen,
    pods: BTreeMap<String, Sender>,
    maps: BTreeSet<String>,
    secret: bool,
    configured: bool,
    processes: Vec<Process>,
    copies: Vec<Outgoing>,
    sends: u32,
    most: u32,
    /// Something happened by which a copy may come after a success: nobody can take back what was let go.
    excused: bool,
    wild: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let max = 1 + u32::try_from(dice.roll(4)).expect("it is small");
        let api = Seen {
            message: changed(|m| {
                m.spec.max_attempts = Some(max);
                m.spec.deadline_seconds = Some(900);
            }),
            version: 1,
        };
        // Now and then the one that was thought to be dead goes on.
        let two = dice.one_in(5);
        let process = || Process {
            cache: api.clone(),
            doing: Doing::Nothing,
        };
        Self {
            seed,
            now: at(1),
            by_pods: dice.one_in(2),
            pods: BTreeMap::new(),
            maps: BTreeSet::new(),
            secret: true,
            configured: true,
            processes: (0..=u8::from(two)).map(|_| process()).collect(),
            copies: Vec::new(),
            sends: 0,
            most: max,
            excused: two,
            wild: true,
            api,
            dice,
        }
    }

    fn chance(&mut self, sides: u64) -> bool {
        self.wild && self.dice.one_in(sides)
    }

    fn pass(&mut self, seconds: i64) {
        let step = SignedDuration::from_secs(seconds);
        self.now = self.now.saturating_add(step).expect("the years are few");
    }

    fn is_sent(&self) -> bool {
        super::super::status::is_sent(&self.api.message)
    }

    /// The broker takes a copy.
    fn deliver(&mut self, copy: &Outgoing) {
        let seed = self.seed;
        if let Some(first) = self.copies.first() {
            assert_eq!(first, copy, "seed {seed}: every copy is the same");
        }
        assert!(
            !self.is_sent() || self.excused,
            "seed {seed}: sent after a success"
        );
        if self.copies.is_empty() {
            self.copies.push(copy.clone());
        }
        self.sends += 1;
    }

    /// A write of the status with a version; whether it was taken. `Err`: taken or not, nobody heard.
    fn write(&mut self, version: u64, status: &FedoraMessageStatus) -> Result<Option<Seen>, ()> {
        if self.chance(12) {
            return Err(());
        }
        if version != self.api.version {
            return Ok(None);
        }
        self.judge(status);
        self.api.message.status = Some(status.clone());
        self.api.version += 1;
        if self.chance(12) {
            return Err(());
        }
        Ok(Some(self.api.clone()))
    }

    /// Whether a status may follow the one that is there.
    fn judge(&self, new: &FedoraMessageStatus) {
        let seed = self.seed;
        reason_of(new);
        let old = self.api.message.status.clone().unwrap_or_default();
        let sent = |status: &FedoraMessageStatus| is(&status.conditions, names::SENT, Status::True);
        assert!(
            !sent(&old) || sent(new),
            "seed {seed}: a success is taken back"
        );
        assert!(
            old.completion_time.is_none() || new.completion_time.is_some(),
            "seed {seed}: what is over begins again"
        );
        for (before, after) in [
            (&old.message_id, &new.message_id),
            (
                &old.sent_at.map(|time| time.0.to_string()),
                &new.sent_at.clone().map(|time| time.0.to_string()),
            ),
        ] {
            assert!(
                before.is_none() || before == after,
                "seed {seed}: {before:?} became {after:?}"
            );
        }
        let step = new.attempts.checked_sub(old.attempts);
        assert!(matches!(step, Some(0 | 1)), "seed {seed}: attempts");
        assert!(
            new.attempts <= self.most + 1,
            "seed {seed}: {} attempts of {}",
            new.attempts,
            self.most
        );
        assert!(
            (old.uncertain_attempts..=new.attempts).contains(&new.uncertain_attempts),
            "seed {seed}: {} of {} attempts are uncertain",
            new.uncertain_attempts,
            new.attempts
        );
        assert!(
            old.observed_generation <= new.observed_generation,
            "seed {seed}: an older generation"
        );
    }

    /// One call of one process.
    fn work(&mut self, number: usize) -> bool {
        let doing = std::mem::replace(&mut self.processes[number].doing, Doing::Nothing);
        if self.chance(25) {
            // Killed. Whoever comes after it reads everything anew.
            self.processes[number].cache = self.api.clone();
            return true;
        }
        let next = match doing {
            Doing::Nothing => match self.round(number) {
                Some(next) => next,
                None => return false,
            },
            Doing::Publishing { begun, message } => {
                let outcome = self.publish(&message);
                let found = begun.clone();
                let begun = begun.message;
                Doing::Concluding {
                    begun,
                    found,
                    outcome,
                }
            }
            Doing::Preparing { begun, message } => {
                if self.chance(12) {
                    Doing::Nothing
                } else {
                    self.maps.insert(sender_of(&begun.message));
                    Doing::Making { begun, message }
                }
            }
            Doing::Making { begun, message } => {
                self.make(&begun.message, message);
                Doing::Nothing
            }
            Doing::Concluding {
                begun,
                found,
                outcome,
            } => match conclude(&found.message, &begun, outcome.clone(), self.now) {
                None => Doing::Nothing,
                Some(status) => match self.write(found.version, &status) {
                    Ok(Some(_)) => Doing::Nothing,
                    Ok(None) | Err(()) => Doing::Reading { begun, outcome },
                },
            },
            Doing::Reading { begun, outcome } => Doing::Concluding {
                begun,
                found: self.api.clone(),
                outcome,
            },
        };
        self.processes[number].doing = next;
        true
    }

    /// What a publisher does with the message of its cache; `None` when there is nothing to do now.
    fn round(&mut self, number: usize) -> Option<Doing> {
        let seen = self.processes[number].cache.clone();
        let message = &seen.message;
        let name = message.status.as_ref().and_then(|it| it.sender_pod.clone());
        if let Some(name) = name.filter(|_| interrupted(message)) {
            return self.look(seen.clone(), &name);
        }
        let (now, place) = (self.now, place());
        let removable =
            |sender: &Sender| removable_at(message, &sender.pod).is_some_and(|at| at <= now);
        let old = self.pods.iter().find(|(_, sender)| removable(sender));
        if let Some(name) = old.map(|(name, _)| name.clone()) {
            self.maps.remove(&name);
            self.remove(&name);
            return Some(Doing::Nothing);
        }
        let place = self.configured.then_some(&place);
        match next(message, place, now) {
            Step::Rest | Step::WakeAt(_) | Step::Delete => None,
            Step::Write(status) => {
                self.write(seen.version, &status).ok();
                Some(Doing::Nothing)
            }
            Step::Mark(_) => {
                if !self.chance(12) {
                    mark(&mut self.api.message);
                    self.api.version += 1;
                }
                Some(Doing::Nothing)
            }
            Step::Identify(_) => self.begin(&seen),
        }
    }

    fn begin(&mut self, seen: &Seen) -> Option<Doing> {
        let message = &seen.message;
        if !self.secret {
            let fault = Fault::new(names::REASON_SECRET_NOT_FOUND, Verdict::AfterChange, "none");
            let status = unidentified(message, &fault, self.now);
            if message.status.as_ref() == Some(&status) {
                return None;
            }
            self.write(seen.version, &status).ok();
            return Some(Doing::Nothing);
        }
        let mut attempt = attempt(message, &place(), self.now).expect("it can be sent");
        let name = pod_name(message, attempt.status.attempts);
        attempt.status.sender_pod = self.by_pods.then_some(name);
        Some(match self.write(seen.version, &attempt.status) {
            Ok(Some(begun)) if self.by_pods => Doing::Preparing {
                begun,
                message: attempt.message,
            },
            Ok(Some(begun)) => Doing::Publishing {
                begun,
                message: attempt.message,
            },
            Ok(None) | Err(()) => Doing::Nothing,
        })
    }

    /// A look at the pod of an attempt.
    fn look(&mut self, seen: Seen, name: &str) -> Option<Doing> {
        let now = self.now;
        let conclude = |outcome| {
            Some(Doing::Concluding {
                begun: seen.message.clone(),
                found: seen.clone(),
                outcome,
            })
        };
        if let Some(sender) = self.pods.get(name) {
            let found = outcome(&seen.message, &sender.pod, Program::Drover, now)?;
            // Its node is silent, or the clock stepped: it may still be at work.
            self.excused |= sender.end.is_none() && sender.started;
            return conclude(found);
        }
        let map = ConfigMap::default();
        let map = self.maps.contains(name).then_some(&map);
        match missing(&seen.message, map, now) {
            Missing::Gone(fault) => conclude(Err(fault)),
            Missing::Make => {
                let again = attempt(&seen.message, &place(), now).expect("it was sent before");
                Some(Doing::Preparing {
                    begun: seen,
                    message: again.message,
                })
            }
        }
    }

    fn make(&mut self, begun: &FedoraMessage, message: Outgoing) {
        if self.chance(12) {
            return;
        }
        let name = sender_of(begun);
        assert!(
            !self.is_sent() || self.excused,
            "seed {}: a pod after a success",
            self.seed
        );
        let now = self.now;
        self.pods.entry(name.clone()).or_insert_with(|| Sender {
            pod: Pod {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    creation_timestamp: Some(Time(now)),
                    ..ObjectMeta::default()
                },
                spec: Some(PodSpec::default()),
                status: Some(PodStatus::default()),
            },
            message,
            started: false,
            sent: false,
            end: None,
            silent: false,
        });
    }

    /// A publisher that sends by itself.
    fn publish(&mut self, message: &Outgoing) -> Result<(), Fault> {
        let (reason, verdict, taken) = match self.dice.roll(if self.wild { 7 } else { 12 }) {
            0 => (names::REASON_CONNECTION_FAILED, Verdict::Later, false),
            1 => (names::REASON_UNCERTAIN, Verdict::Again, true),
            2 => (names::REASON_UNCERTAIN, Verdict::Again, false),
            3 => (names::REASON_REJECTED, Verdict::Later, true),
            4 if self.wild => (names::REASON_FORBIDDEN, Verdict::Never, false),
            _ => {
                self.deliver(message);
                return Ok(());
            }
        };
        if taken {
            self.deliver(message);
        }
        Err(Fault::new(reason, verdict, "told by the broker"))
    }

    /// Something happens to a pod.
    fn node(&mut self) -> bool {
        let names: Vec<_> = self.pods.keys().cloned().collect();
        if names.is_empty() {
            return false;
        }
        let count = u64::try_from(names.len()).expect("they are few");
        let pick = usize::try_from(self.dice.roll(count)).expect("they are few");
        let name = &names[pick];
        if self.chance(20) {
            // Somebody deletes it by hand.
            self.remove(name);
            return true;
        }
        let (what, wild, now) = (self.dice.roll(9), self.wild, self.now);
        let sender = self.pods.get_mut(name).expect("it was picked");
        let spec = sender.pod.spec.as_mut().expect("it was made with one");
        match what {
            0 => spec.node_name = Some("n1".to_owned()),
            1 if wild => sender.silent |= spec.node_name.is_some(),
            _ if spec.node_name.is_none() || sender.end.is_some() => {}
            2 if !sender.started && wild => {
                sender.say("Failed", ContainerState::default(), Some("Evicted"));
                sender.end = Some(ContainerStateTerminated::default());
                sender.silent = true;
                return true;
            }
            3 if !sender.started && !sender.silent && wild => {
                sender.say("Pending", waiting("ImagePullBackOff"), None);
                return true;
            }
            4 if sender.started && !sender.sent => {
                let copy = sender.message.clone();
                sender.sent = true;
                self.deliver(&copy);
            }
            5 | 6 if sender.started => {
                sender.end = Some(end(sender.sent, self.dice.roll(4)));
            }
            7 if wild && sender.silent => {
                sender.say_given_up();
                return true;
            }
            _ => sender.started = true,
        }
        // The node reports, unless it is late.
        if self.dice.one_in(2)
            && let Some(sender) = self.pods.get_mut(name)
            && !sender.silent
        {
            sender.report(now);
        }
        true
    }

    /// A pod goes; what it was about to do it may have done.
    fn remove(&mut self, name: &str) {
        let Some(sender) = self.pods.remove(name) else {
            return;
        };
        if sender.started && sender.end.is_none() && self.dice.one_in(2) {
            self.deliver(&sender.message);
        }
    }

    /// Somebody changes the resource, or what it needs.
    fn people(&mut self) {
        let begun = self
            .api
            .message
            .status
            .as_ref()
            .is_some_and(|it| it.message_id.is_some());
        match self.dice.roll(6) {
            0 => self.secret = !self.secret,
            1 => self.configured = !self.configured,
            2 => {
                let spec = &mut self.api.message.spec;
                spec.suspend = !spec.suspend;
            }
            3 => {
                let max = 1 + u32::try_from(self.dice.roll(5)).expect("it is small");
                self.api.message.spec.max_attempts = Some(max);
                self.most = self.most.max(max);
            }
            4 if !begun => {
                let spec = &mut self.api.message.spec;
                spec.message
                    .body
                    .insert("changed".to_owned(), json!(self.api.version));
            }
            _ => return,
        }
        let generation = &mut self.api.message.metadata.generation;
        *generation = generation.map(|number| number + 1);
        self.api.version += 1;
    }

    fn wild_step(&mut self) {
        let count = u64::try_from(self.processes.len()).expect("there are two at most");
        let number = usize::try_from(self.dice.roll(count)).expect("there are two at most");
        match self.dice.roll(12) {
            0..=4 => {
                self.work(number);
            }
            5 | 6 => self.processes[number].cache = self.api.clone(),
            7 | 8 => {
                self.node();
            }
            9 => self.people(),
            10 => {
                let seconds = i64::try_from(self.dice.roll(40)).expect("it is small");
                self.pass(seconds);
            }
            _ if self.dice.one_in(6) => {
                // The clock is set right, or wrong.
                let seconds = i64::try_from(self.dice.roll(600)).expect("it is small") - 200;
                self.pass(seconds);
                self.excused = true;
            }
            _ => {}
        }
    }

    /// Everything is in order from now on: it must come to its end.
    fn settle(&mut self) {
        self.wild = false;
        self.processes.truncate(1);
        self.secret = true;
        self.configured = true;
        self.api.message.spec.suspend = false;
        self.api.version += 1;
        for _ in 0..CALM {
            let busy = !matches!(self.processes[0].doing, Doing::Nothing);
            if !busy {
                self.processes[0].cache = self.api.clone();
            }
            let worked = self.work(0);
            let moved = self.node();
            if !worked {
                if self.over() {
                    return;
                }
                self.pass(if moved { 2 } else { 20 });
            }
        }
        panic!("seed {}: no end: {:?}", self.seed, self.api.message.status);
    }

    fn over(&self) -> bool {
        let status = self.api.message.status.as_ref();
        status.is_some_and(|status| status.completion_time.is_some())
    }

    /// What the status says in the end is true.
    fn verify(&self) {
        let seed = self.seed;
        let status = self.api.message.status.as_ref().expect("it is over");
        let text = status.message.clone().unwrap_or_default();
        if self.is_sent() {
            assert!(self.sends > 0, "seed {seed}: {status:?}");
            let notes = self.api.message.metadata.annotations.clone();
            assert!(
                notes.is_some_and(|notes| notes.contains_key(names::SENT_ID_ANNOTATION)),
                "seed {seed}: it is marked"
            );
        } else {
            let admits = text.contains("may have been delivered");
            assert!(
                self.sends == 0 || admits || self.excused,
                "seed {seed}: what may have arrived is admitted: {status:?}"
            );
        }
    }
}

impl Sender {
    fn say(&mut self, phase: &str, state: ContainerState, reason: Option<&str>) {
        let status = self.pod.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        status.reason = reason.map(ToOwned::to_owned);
        status.container_statuses = Some(vec![ContainerStatus {
            name: "publish".to_owned(),
            state: Some(state),
            ..ContainerStatus::default()
        }]);
    }

    fn say_given_up(&mut self) {
        let status = self.pod.status.get_or_insert_default();
        status.phase = Some("Failed".to_owned());
        status.conditions = Some(vec![PodCondition {
            type_: "DisruptionTarget".to_owned(),
            reason: Some("DeletionByPodGC".to_owned()),
            ..PodCondition::default()
        }]);
    }

    fn report(&mut self, now: Timestamp) {
        if self.started {
            let status = self.pod.status.get_or_insert_default();
            status.start_time.get_or_insert(Time(now));
        }
        match &self.end {
            Some(end) => {
                let fine = end.exit_code == 0;
                let state = ContainerState {
                    terminated: Some(end.clone()),
                    ..ContainerState::default()
                };
                self.say(if fine { "Succeeded" } else { "Failed" }, state, None);
            }
            None if self.started => {
                let state = ContainerState {
                    running: Some(ContainerStateRunning::default()),
                    ..ContainerState::default()
                };
                self.say("Running", state, None);
            }
            None => self.say("Pending", waiting("ContainerCreating"), None),
        }
    }
}

fn waiting(reason: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: None,
        }),
        ..ContainerState::default()
    }
}

/// How a process ends that sent, or that did not.
fn end(sent: bool, how: u64) -> ContainerStateTerminated {
    let report = |reason: &str| {
        let report = Report {
            reason: reason.to_owned(),
            message: "told by the broker".to_owned(),
        };
        serde_json::to_string(&report).expect("it is JSON")
    };
    let (exit_code, message) = match (sent, how) {
        (true, 0) => (111, report(names::REASON_UNCERTAIN)),
        (true, 1) | (false, 0) => (137, String::new()),
        (true, _) => (0, String::new()),
        (false, 1) => (121, report(names::REASON_FORBIDDEN)),
        (false, _) => (111, report(names::REASON_CONNECTION_FAILED)),
    };
    ContainerStateTerminated {
        exit_code,
        message: Some(message),
        ..ContainerStateTerminated::default()
    }
}

fn sender_of(message: &FedoraMessage) -> String {
    let status = message.status.as_ref();
    status
        .and_then(|status| status.sender_pod.clone())
        .expect("an attempt by a pod names it")
}

/// How many of these histories ended with a success, and how many saw copies.
fn live(seeds: std::ops::Range<u64>) -> (u32, u32) {
    let (mut sent, mut many) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..WILD {
            world.wild_step();
        }
        world.settle();
        world.verify();
        sent += u32::from(world.is_sent());
        many += u32::from(world.sends > 1);
    }
    (sent, many)
}

#[test]
fn every_history_ends_in_the_truth_and_sends_one_message() {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = HISTORIES.div_ceil(threads);
    let (sent, many) = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| scope.spawn(move || live(part * share..(part + 1) * share)))
            .collect();
        let ends = parts.into_iter().map(|part| part.join().expect("it holds"));
        ends.fold((0, 0), |(sent, many), (one, two)| (sent + one, many + two))
    });
    // The histories are worth something: many end well, and many sent copies.
    assert!(sent > 3_000 && many > 1_000, "{sent} {many}");
}
