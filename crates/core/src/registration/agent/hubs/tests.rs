use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

const A: &str = "https://a";
const B: &str = "https://b";
const C: &str = "https://c";

/// What is known at second 1000, and the step that follows.
#[derive(Clone)]
struct Case {
    listed: Vec<String>,
    kept: Option<&'static str>,
    at: Option<At<'static>>,
    verdicts: BTreeMap<String, (Verdict, Timestamp)>,
}

impl Case {
    fn new(listed: &[&str]) -> Self {
        Self {
            listed: listed.iter().map(|hub| (*hub).to_owned()).collect(),
            kept: None,
            at: None,
            verdicts: BTreeMap::new(),
        }
    }

    fn kept(mut self, hub: &'static str) -> Self {
        self.kept = Some(hub);
        self
    }

    fn tried(mut self, hub: &str, verdict: Verdict, second: i64) -> Self {
        self.verdicts.insert(hub.to_owned(), (verdict, at(second)));
        self
    }

    fn at(mut self, hub: &'static str, standing: Standing, since: i64, heard: i64) -> Self {
        self.at = Some(At {
            hub,
            since: at(since),
            standing,
            certified: standing == Standing::Accepted,
            heard: at(heard),
        });
        self
    }

    #[track_caller]
    fn check(&self, expected: &str) {
        let seen = Seen {
            listed: &self.listed,
            kept: self.kept,
            at: self.at,
            verdicts: &self.verdicts,
            timeout: DEFAULT_TIMEOUT,
        };
        let step = match plan(&seen, at(1000)) {
            Step::Try(hub) => format!("try {hub}"),
            Step::Go { hub, why } => format!("go {hub}: {why}"),
            Step::Wait(until) if until == Timestamp::MAX => "wait".to_owned(),
            Step::Wait(until) => format!("wait {}", until.as_second() - at(0).as_second()),
        };
        assert_eq!(step, expected);
    }
}

#[test]
fn the_only_hub_is_joined_without_a_try() {
    Case::new(&[A]).check("go https://a: it is the only one");
    Case::new(&[A])
        .kept(A)
        .check("go https://a: it is the only one");
    Case::new(&[])
        .kept(A)
        .check("go https://a: it is the only one");
    Case::new(&[]).check("wait 1060");
}

#[test]
fn hubs_are_tried_in_order_and_that_of_the_certificate_first() {
    Case::new(&[A, B]).check("try https://a");
    Case::new(&[A, B]).kept(B).check("try https://b");
    Case::new(&[A, B]).kept(C).check("try https://a");
    let one = Case::new(&[A, B]).tried(A, Verdict::Refused, 990);
    one.check("try https://b");
    let both = one.tried(B, Verdict::Absent, 995);
    both.check("go https://b: it takes the cluster");
    Case::new(&[A, B])
        .tried(A, Verdict::Unreachable, 990)
        .tried(B, Verdict::Denied, 995)
        .check("wait 1050");
    // An old outcome is none.
    Case::new(&[A, B])
        .tried(A, Verdict::Unreachable, 940)
        .check("try https://a");
}

#[test]
fn a_hub_that_did_not_decide_is_better_than_none() {
    Case::new(&[A, B])
        .tried(A, Verdict::Undecided, 990)
        .tried(B, Verdict::Refused, 995)
        .check("go https://a: it may take the cluster, and no other does");
    Case::new(&[A, B])
        .tried(A, Verdict::Undecided, 990)
        .tried(B, Verdict::Accepted, 995)
        .check("go https://b: it takes the cluster");
}

#[test]
fn the_hub_of_the_certificate_is_tried_last_when_it_is_not_listed() {
    Case::new(&[B])
        .kept(A)
        .tried(B, Verdict::Unreachable, 990)
        .check("try https://a");
}

#[test]
fn an_agent_stays_where_it_is_well() {
    Case::new(&[A, B])
        .at(A, Standing::Accepted, 0, 990)
        .check("wait 1590");
    Case::new(&[A]).at(A, Standing::Denied, 0, 0).check("wait");
    // Just arrived: an old lease is no sign of silence yet.
    Case::new(&[A, B])
        .at(A, Standing::Accepted, 995, 100)
        .check("wait 1005");
    // Who waits to be accepted is patient as well.
    Case::new(&[A, B])
        .at(A, Standing::Waiting, 900, 990)
        .check("wait 1500");
}

#[test]
fn an_agent_goes_only_where_it_is_taken() {
    let denied = Case::new(&[A, B, C]).at(A, Standing::Denied, 0, 990);
    denied.check("try https://b");
    let tried = denied.tried(B, Verdict::Undecided, 990);
    tried.check("try https://c");
    tried
        .clone()
        .tried(C, Verdict::Unreachable, 980)
        .check("wait 1040");
    tried
        .tried(C, Verdict::Absent, 999)
        .check("go https://c: the hub does not accept the cluster any more");
    let tried = |at: Case| at.tried(B, Verdict::Accepted, 999);
    tried(Case::new(&[A, B]).at(A, Standing::Accepted, 0, 400))
        .check("go https://b: the hub is silent");
    tried(Case::new(&[B]).kept(A).at(A, Standing::Accepted, 0, 999))
        .check("go https://b: the hub is not one of those to join");
    tried(Case::new(&[A, B]).at(A, Standing::Waiting, 0, 999))
        .check("go https://b: the hub does not let the cluster finish joining");
}

#[test]
fn a_new_list_moves_an_agent_that_is_well() {
    Case::new(&[B])
        .kept(A)
        .at(A, Standing::Accepted, 0, 999)
        .tried(B, Verdict::Unreachable, 990)
        .check("wait 1050");
    // Its own hub is still listed, and first: it has no reason to go.
    Case::new(&[A, B])
        .kept(A)
        .at(A, Standing::Accepted, 0, 999)
        .tried(B, Verdict::Accepted, 999)
        .check("wait 1599");
}
