use super::properties::{Value, id};
use super::write::{Connect, MAX_TEXT, Message, MessageError};
use super::*;

fn read(bytes: &[u8]) -> Result<Packet<'_>, PacketError> {
    match frame(bytes, 1000)? {
        Framed::Whole(frame) => {
            assert_eq!(frame.size, bytes.len());
            Packet::read(frame)
        }
        Framed::Needs(size) => panic!("needs {size} bytes"),
    }
}

#[test]
fn frames() {
    fn check(bytes: &[u8], expected: Result<Result<usize, usize>, PacketError>) {
        let got = frame(bytes, 300).map(|framed| match framed {
            Framed::Whole(frame) => Ok(frame.size),
            Framed::Needs(size) => Err(size),
        });
        assert_eq!(got, expected, "{bytes:?}");
    }
    check(&[], Ok(Err(2)));
    check(&[0xd0], Ok(Err(2)));
    check(&[0xd0, 0], Ok(Ok(2)));
    check(&[0xd0, 0, 0xd0, 0], Ok(Ok(2)));
    check(&[0x30, 3, 0, 0], Ok(Err(5)));
    check(&[0x30, 0x80], Ok(Err(3)));
    check(&[0x30, 0x80, 1], Ok(Err(131)));
    let too_large = PacketError::TooLarge {
        size: 268_435_460,
        limit: 300,
    };
    check(&[0x30, 0xff, 0xff, 0xff, 0x7f], Err(too_large));
    check(&[0x30, 0xff, 0xff, 0xff], Ok(Err(5)));
    check(&[0x30, 0xff, 0xff, 0xff, 0xff], Err(PacketError::Length));
}

#[test]
fn what_servers_send() {
    let connack = ConnAck {
        reason: 0,
        why: None,
        receive_maximum: 20,
        maximum_qos: 1,
        maximum_packet: Some(1024),
        keep_alive: Some(30),
        server_reference: None,
    };
    let bytes = [
        0x20, 16, 0, 0, 13, 0x21, 0, 20, 0x24, 1, 0x27, 0, 0, 4, 0, 0x13, 0, 30,
    ];
    assert_eq!(read(&bytes), Ok(Packet::ConnAck(connack)));
    assert!(matches!(read(&[0x20, 2, 0, 1]), Ok(Packet::ConnAck(old)) if old.reason == 1));
    let ack = |kind, reason, why: Option<&str>| {
        Ok(Packet::Ack(Ack {
            kind,
            id: 258,
            reason,
            why: why.map(str::to_owned),
        }))
    };
    assert_eq!(read(&[0x40, 2, 1, 2]), ack(AckKind::PubAck, 0, None));
    assert_eq!(
        read(&[0x40, 3, 1, 2, 0x10]),
        ack(AckKind::PubAck, 0x10, None)
    );
    let bytes = [0x50, 9, 1, 2, 0x87, 5, 0x1f, 0, 2, b'n', b'o'];
    assert_eq!(read(&bytes), ack(AckKind::PubRec, 0x87, Some("no")));
    assert_eq!(read(&[0x62, 2, 1, 2]), ack(AckKind::PubRel, 0, None));
    assert_eq!(read(&[0x70, 2, 1, 2]), ack(AckKind::PubComp, 0, None));
    let suback = Packet::SubAck {
        id: 1,
        reasons: &[1, 0x87],
        why: None,
    };
    assert_eq!(read(&[0x90, 5, 0, 1, 0, 1, 0x87]), Ok(suback));
    assert_eq!(read(&[0xd0, 0]), Ok(Packet::PingResp));
    let disconnect = |reason| Packet::Disconnect { reason, why: None };
    assert_eq!(read(&[0xe0, 0]), Ok(disconnect(0)));
    assert_eq!(read(&[0xe0, 1, 0x8e]), Ok(disconnect(0x8e)));
}

#[test]
fn what_no_server_sends() {
    fn check(bytes: &[u8], expected: PacketError) {
        assert_eq!(read(bytes), Err(expected), "{bytes:?}");
    }
    check(&[0x00, 0], PacketError::Unexpected(0));
    check(&[0x10, 0], PacketError::Unexpected(1));
    check(&[0xf0, 0], PacketError::Unexpected(15));
    check(&[0x20, 1, 0], PacketError::Short(2));
    check(&[0x20, 3, 0, 0, 9], PacketError::Short(2));
    check(&[0x40, 1, 0], PacketError::Short(4));
    check(&[0x90, 2, 0, 1], PacketError::Short(9));
    check(&[0x32, 4, 0, 1, b't', 0], PacketError::Short(3));
    check(&[0x30, 4, 0, 9, b't', 0], PacketError::Short(3));
    let wrong = |packet, what| PacketError::Value { packet, what };
    check(&[0x36, 4, 0, 1, b't', 0], wrong(3, "quality of service"));
    check(&[0x32, 6, 0, 1, b't', 0, 0, 0], wrong(3, "packet id"));
    check(&[0x40, 2, 0, 0], wrong(4, "packet id"));
    check(&[0x20, 6, 0, 0, 3, 0x21, 0, 0], wrong(2, "receive maximum"));
    check(&[0x20, 5, 0, 0, 2, 0x99, 0], wrong(2, "property"));
}

#[test]
fn a_message_comes_back_as_it_was_written() {
    let pairs = [("ce-id", "1"), ("ce-empty", ""), ("ce-id", "2")];
    for (qos, payload) in [
        (0, String::new()),
        (1, "x".repeat(200)),
        (2, "y".repeat(70_000)),
    ] {
        let content = Some("application/json");
        let message = Message::new("a/b", qos, content, pairs.into_iter(), payload.as_bytes());
        let mut out = vec![7];
        let message = message.unwrap();
        message.write(&mut out, 0x0102);
        assert_eq!(message.size(), out.len() - 1);
        let Framed::Whole(frame) = frame(&out[1..], 100_000).unwrap() else {
            panic!("a whole packet")
        };
        let Packet::Publish(got) = Packet::read(frame).unwrap() else {
            panic!("a message")
        };
        assert_eq!((got.qos, got.topic), (qos, &b"a/b"[..]));
        assert_eq!(got.id, if qos == 0 { 0 } else { 0x0102 });
        assert_eq!(got.payload, payload.as_bytes());
        let mut properties = got.properties.iter().map(Result::unwrap);
        assert_eq!(
            properties.next(),
            Some((id::CONTENT_TYPE, Value::Text(b"application/json")))
        );
        for (key, value) in pairs {
            let pair = Value::Pair(key.as_bytes(), value.as_bytes());
            assert_eq!(properties.next(), Some((id::USER_PROPERTY, pair)));
        }
        assert_eq!(properties.next(), None);
    }
}

#[test]
fn what_no_message_can_carry() {
    fn check(pair: (&str, &str), expected: &str, bytes: usize) {
        let name = expected.to_owned();
        let got = Message::new("t", 1, None, std::iter::once(pair), b"");
        assert_eq!(got, Err(MessageError::Text { name, bytes }));
    }
    let long = "x".repeat(MAX_TEXT + 1);
    check(("ce-metadata", &long), "ce-metadata", MAX_TEXT + 1);
    check(("ce-a", "\0"), "ce-a", 1);
    let longest = "x".repeat(MAX_TEXT);
    let pair = std::iter::once(("k", longest.as_str()));
    Message::new("t", 1, None, pair, b"").unwrap();
}

#[test]
fn properties_are_read_up_to_the_damage() {
    let all = [
        0x01, 1, 0x13, 0, 2, 0x02, 0, 0, 0, 3, 0x0b, 0x80, 1, 0x03, 0, 1, b'a', 0x26, 0, 1, b'k',
        0, 1, b'v', 0x26, 0, 9, b'k',
    ];
    let got: Vec<_> = Properties(&all).iter().collect();
    let expected = [
        (0x01, Value::U8(1)),
        (0x13, Value::U16(2)),
        (0x02, Value::U32(3)),
        (0x0b, Value::U32(128)),
        (0x03, Value::Text(b"a")),
        (0x26, Value::Pair(b"k", b"v")),
    ];
    assert_eq!(got.len(), expected.len() + 1);
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(*got, Ok(expected));
    }
    assert!(got[expected.len()].is_err());
}

#[test]
fn a_client_says_hello() {
    let connect = Connect {
        client_id: "c".into(),
        keep_alive: 60,
        username: Some("u".into()),
        password: Some("pw".into()),
        maximum_packet: 0x0102_0304,
    };
    let mut out = Vec::new();
    connect.write(&mut out);
    let expected = [
        0x10, 29, 0, 4, b'M', b'Q', b'T', b'T', 5, 0xc2, 0, 60, 8, 0x21, 255, 255, 0x27, 1, 2, 3,
        4, 0, 1, b'c', 0, 1, b'u', 0, 2, b'p', b'w',
    ];
    assert_eq!(out, expected);
    let mut out = Vec::new();
    write::subscribe(&mut out, 1, &["a/+".into(), "$share/g/b".into()], 1);
    let expected = [
        &[0x82, 22, 0, 1, 0, 0, 3][..],
        b"a/+",
        &[1, 0, 10],
        b"$share/g/b",
        &[1],
    ]
    .concat();
    assert_eq!(out, expected);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No bytes of a server make a client panic or claim memory.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let Ok(Framed::Whole(frame)) = frame(&bytes, 1000) else { return Ok(()) };
            prop_assert!(frame.size <= bytes.len());
            if let Ok(Packet::Publish(message)) = Packet::read(frame) {
                let read = message.properties.iter().count();
                prop_assert!(read <= bytes.len());
            }
        }

        /// The same with a plausible start, to get further.
        #[test]
        fn any_body_is_read_or_refused(first in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..120)) {
            let bytes = [&[first, body.len() as u8][..], &body].concat();
            let Ok(Framed::Whole(frame)) = frame(&bytes, 1000) else {
                return Err(TestCaseError::fail("a whole packet"));
            };
            if let Ok(Packet::Publish(message)) = Packet::read(frame) {
                prop_assert!(message.payload.len() + message.topic.len() <= body.len());
                crate::mqtt::event::from_message(&message).ok();
            }
        }
    }
}
