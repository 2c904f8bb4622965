use super::super::packet::{Framed, frame};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn config(filters: &[&str]) -> SessionConfig {
    SessionConfig {
        connect: Connect {
            client_id: "c".into(),
            keep_alive: 60,
            username: None,
            password: None,
            maximum_packet: 1000,
        },
        filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        subscribe_qos: 1,
        packet_timeout: 10 * SECOND,
    }
}

/// First bytes of the packets that were written since the last call.
fn sent(session: &mut Session<u32>) -> Vec<u8> {
    let out = std::mem::take(session.out());
    let mut rest = &out[..];
    let mut kinds = Vec::new();
    while let Some(first) = rest.first() {
        kinds.push(*first);
        let Ok(Framed::Whole(frame)) = frame(rest, 100_000) else {
            panic!("whole packets")
        };
        rest = &rest[frame.size..];
    }
    kinds
}

fn feed(session: &mut Session<u32>, now: Instant, bytes: &[u8]) -> Result<bool, Ended> {
    let Framed::Whole(frame) = frame(bytes, 1000).unwrap() else {
        panic!("a whole packet")
    };
    let packet = Packet::read(frame).unwrap();
    session.handle(now, packet).map(|message| message.is_some())
}

const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];

fn ready(now: Instant) -> Session<u32> {
    let mut session = Session::new(config(&[]), now);
    feed(&mut session, now, CONNACK).unwrap();
    sent(&mut session);
    session
}

fn message(qos: u8) -> Message {
    Message::new("t", qos, None, std::iter::empty(), b"x").unwrap()
}

fn done(session: &mut Session<u32>) -> Vec<(u32, Option<u8>)> {
    let done = session.done();
    done.map(|(waiter, result)| (waiter, result.err().map(|refusal| refusal.reason)))
        .collect()
}

#[test]
fn connects_then_subscribes_then_is_ready() {
    let now = Instant::now();
    let mut session = Session::new(config(&["a", "b"]), now);
    assert_eq!(sent(&mut session), [0x10]);
    let limits = [0x20, 11, 0, 0, 8, 0x21, 0, 2, 0x27, 0, 0, 1, 0];
    feed(&mut session, now, &limits).unwrap();
    assert_eq!(sent(&mut session), [0x82]);
    assert!(!session.is_ready() && !session.has_room());
    feed(&mut session, now, &[0x90, 5, 0, 1, 0, 1, 0]).unwrap();
    assert!(session.is_ready() && session.has_room());
    let expected = Limits {
        in_flight: 2,
        qos: 2,
        packet: 256,
    };
    assert_eq!(session.limits(), expected);
}

#[test]
fn refusals_end_it() {
    fn check(bytes: &[&[u8]], expected: &Ended) {
        let now = Instant::now();
        let mut session = Session::new(config(&["a", "b"]), now);
        let mut result = Ok(false);
        for bytes in bytes {
            result = result.and_then(|_| feed(&mut session, now, bytes));
        }
        assert_eq!(result.as_ref(), Err(expected));
    }
    let refusal = |reason, why: Option<&str>| Refusal {
        reason,
        why: why.map(str::to_owned),
    };
    check(
        &[&[0x20, 3, 0, 0x86, 0]],
        &Ended::NotConnected(refusal(0x86, None)),
    );
    check(
        &[&[0x20, 8, 0, 0x9c, 5, 0x1c, 0, 2, b'o', b'k']],
        &Ended::NotConnected(refusal(0x9c, Some("use ok"))),
    );
    check(
        &[CONNACK, &[0x90, 5, 0, 1, 0, 1, 0x87]],
        &Ended::NotSubscribed("b".into(), refusal(0x87, None)),
    );
    check(
        &[CONNACK, &[0x90, 4, 0, 1, 0, 1]],
        &Ended::Confused("a SUBACK with too few or too many reasons"),
    );
    check(&[&[0xd0, 0]], &Ended::Confused("a packet before CONNACK"));
    check(&[CONNACK, CONNACK], &Ended::Confused("a second CONNACK"));
    check(&[&[0xe0, 1, 0x8b]], &Ended::Closed(refusal(0x8b, None)));
}

#[test]
fn many_are_in_flight_and_answered_in_any_order() {
    let now = Instant::now();
    let mut session = ready(now);
    for waiter in 1..=3 {
        session.publish(now, &message(1), waiter);
    }
    assert_eq!(sent(&mut session), [0x32; 3]);
    // 0x10 says that nobody has subscribed: not our concern.
    feed(&mut session, now, &[0x40, 3, 0, 3, 0x10]).unwrap();
    feed(&mut session, now, &[0x40, 2, 0, 1]).unwrap();
    feed(&mut session, now, &[0x40, 3, 0, 2, 0x97]).unwrap();
    // Twice is as good as once, and what nobody sent is nobody's.
    feed(&mut session, now, &[0x40, 2, 0, 1]).unwrap();
    feed(&mut session, now, &[0x40, 2, 0, 9]).unwrap();
    assert_eq!(done(&mut session), [(3, None), (1, None), (2, Some(0x97))]);
}

#[test]
fn quality_two_takes_four_steps() {
    let now = Instant::now();
    let mut session = ready(now);
    session.publish(now, &message(2), 1);
    session.publish(now, &message(2), 2);
    session.publish(now, &message(0), 3);
    assert_eq!(sent(&mut session), [0x34, 0x34, 0x30]);
    feed(&mut session, now, &[0x50, 3, 0, 2, 0x87]).unwrap();
    feed(&mut session, now, &[0x50, 2, 0, 1]).unwrap();
    assert_eq!(sent(&mut session), [0x62]);
    assert_eq!(done(&mut session), [(3, None), (2, Some(0x87))]);
    feed(&mut session, now, &[0x70, 2, 0, 1]).unwrap();
    assert_eq!(done(&mut session), [(1, None)]);

    let publish = [0x34, 7, 0, 1, b't', 0, 5, 0, b'x'];
    assert_eq!(feed(&mut session, now, &publish), Ok(true));
    session.acknowledge(2, 5);
    assert_eq!(
        feed(&mut session, now, &publish),
        Ok(false),
        "it came before"
    );
    feed(&mut session, now, &[0x62, 2, 0, 5]).unwrap();
    assert_eq!(sent(&mut session), [0x50, 0x50, 0x70]);
    assert_eq!(
        feed(&mut session, now, &publish),
        Ok(true),
        "it is another one"
    );
}

#[test]
fn the_servers_limit_of_messages_in_flight_is_kept() {
    let now = Instant::now();
    let mut session = Session::new(config(&[]), now);
    feed(&mut session, now, &[0x20, 6, 0, 0, 3, 0x21, 0, 1]).unwrap();
    session.publish(now, &message(1), 1);
    assert!(!session.has_room());
    feed(&mut session, now, &[0x40, 2, 0, 1]).unwrap();
    assert!(session.has_room());
}

#[test]
fn ids_in_use_are_passed_over() {
    let now = Instant::now();
    let mut session = ready(now);
    session.publish(now, &message(1), 1);
    for waiter in 2..=65_535 {
        session.publish(now, &message(1), waiter);
        let id = (waiter as u16).to_be_bytes();
        feed(&mut session, now, &[0x40, 2, id[0], id[1]]).unwrap();
    }
    session.publish(now, &message(1), 7);
    feed(&mut session, now, &[0x40, 2, 0, 2]).unwrap();
    assert_eq!(done(&mut session).last(), Some(&(7, None)));
}

#[test]
fn silence_is_noticed() {
    fn check(
        prepare: impl Fn(&mut Session<u32>, Instant),
        after: u64,
        expected: Result<(), Ended>,
    ) {
        let now = Instant::now();
        let mut session = ready(now);
        prepare(&mut session, now);
        let due = session.wake_at();
        assert_eq!(due, Some(now + after as u32 * SECOND));
        session.tick(now + (after - 1) as u32 * SECOND).unwrap();
        assert_eq!(session.tick(now + after as u32 * SECOND), expected);
    }
    check(|_, _| (), 60, Ok(()));
    check(
        |s, now| s.publish(now, &message(1), 1),
        10,
        Err(Ended::NoAnswer("PUBLISH")),
    );
    check(
        |s, now| {
            s.publish(now, &message(1), 1);
            feed(s, now, &[0x40, 2, 0, 1]).unwrap();
        },
        60,
        Ok(()),
    );
    check(
        |s, now| {
            s.publish(now, &message(1), 1);
            s.excuse(now + 4 * SECOND);
        },
        14,
        Err(Ended::NoAnswer("PUBLISH")),
    );
    let now = Instant::now();
    let mut waiting = Session::<u32>::new(config(&["a"]), now);
    assert_eq!(
        waiting.tick(now + 10 * SECOND),
        Err(Ended::NoAnswer("CONNECT"))
    );
    feed(&mut waiting, now + SECOND, CONNACK).unwrap();
    assert_eq!(waiting.tick(now + 10 * SECOND), Ok(()));
    assert_eq!(
        waiting.tick(now + 11 * SECOND),
        Err(Ended::NoAnswer("SUBSCRIBE"))
    );
}

#[test]
fn an_idle_session_pings() {
    let now = Instant::now();
    let mut session = ready(now);
    session.wrote(now + 5 * SECOND);
    session.tick(now + 60 * SECOND).unwrap();
    assert!(sent(&mut session).is_empty());
    session.tick(now + 65 * SECOND).unwrap();
    assert_eq!(sent(&mut session), [0xc0]);
    feed(&mut session, now + 70 * SECOND, &[0xd0, 0]).unwrap();
    session.tick(now + 125 * SECOND).unwrap();
    assert_eq!(sent(&mut session), [0xc0]);
    let ended = session.tick(now + 135 * SECOND);
    assert_eq!(ended, Err(Ended::NoAnswer("PINGREQ")));
}

#[test]
fn those_who_wait_are_given_back() {
    let now = Instant::now();
    let mut session = ready(now);
    session.publish(now, &message(1), 1);
    session.publish(now, &message(1), 2);
    sent(&mut session);
    let mut waiters: Vec<u32> = session.close().collect();
    waiters.sort_unstable();
    assert_eq!(waiters, [1, 2]);
    assert_eq!(sent(&mut session), [0xe0]);
}
