use std::time::Duration;

use super::*;

#[cfg(any(feature = "mqtt", feature = "grpc"))]
#[test]
fn durations() {
    fn check(text: &str, nanos: Option<u64>) {
        let got = duration::parse(text).ok();
        assert_eq!(got, nanos.map(Duration::from_nanos), "{text:?}");
    }
    for (text, seconds) in [
        ("10s", 10),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("0", 0),
        ("+2m", 120),
    ] {
        check(text, Some(seconds * 1_000_000_000));
    }
    for (text, nanos) in [
        ("300ms", 300_000_000),
        ("1us", 1000),
        ("2µs", 2000),
        ("7ns", 7),
        (".5s", 500_000_000),
    ] {
        check(text, Some(nanos));
    }
    for wrong in [
        "",
        "+",
        "5",
        "-1s",
        "1",
        "s",
        "1d",
        "1s2",
        "1..2s",
        "1 s",
        "99999999999999999999h",
    ] {
        check(wrong, None);
    }
}

#[cfg(feature = "mqtt")]
mod mqtt {
    use super::*;
    use crate::mqtt::MqttConfig;

    const TOPICS: &str = "topics:\n  sourceEvents: sources/hub1/clusters/+/sourceevents\n  agentEvents: sources/hub1/clusters/+/agentevents\n";

    fn read(text: &str) -> Result<MqttConfig, ConfigError> {
        match Config::parse(Driver::Mqtt, text)? {
            Config::Mqtt(file) => Ok(file.config(&Client::Agent("c1-agent".to_owned()))),
            #[allow(unreachable_patterns, reason = "depends on the features")]
            other => unreachable!("asked for mqtt, got {other:?}"),
        }
    }

    #[test]
    fn errors() {
        fn check(text: &str, expected: &str) {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
        }
        check("", "brokerHost is required");
        check("{}", "brokerHost is required");
        check("brokerHost: ''", "brokerHost is required");
        check("broker: test", "brokerHost is required");
        check("brokerHost: test", "the topics must be set");
        check("brokerHost: test\ntopics:", "the topics must be set");
        let half = "either both or none of clientCertFile and clientKeyFile must be set";
        check(
            &format!("brokerHost: test\nclientCertFile: test\n{TOPICS}"),
            half,
        );
        check(
            &format!("brokerHost: test\nclientKeyData: dGVzdA==\n{TOPICS}"),
            half,
        );
        check(
            &format!("brokerHost: test\npubQoS: 3\n{TOPICS}"),
            "pubQoS must be 0, 1 or 2, not 3",
        );
        check(
            &format!("brokerHost: test\ncaData: '?'\n{TOPICS}"),
            "caData is not base64: Invalid symbol 63, offset 0.",
        );
        check(
            "brokerHost: test\ntopics:\n  sourceEvents: wrong\n  agentEvents: sources/hub1/clusters/+/agentevents\n",
            r#"invalid source events topic "wrong", it should match `^(\$share/[a-z0-9-]+/)?([a-z]+)/([a-z0-9-]+|\+)/([a-z]+)/([a-z0-9-]+|\+)/sourceevents$`"#,
        );
        for syntax in [
            "brokerHost: [",
            "{\"brokerHost\": 1,",
            "keepAlive: 70000",
            "dialTimeout: soon",
        ] {
            let error = read(syntax).unwrap_err();
            assert!(matches!(error, ConfigError::Syntax(_)), "{syntax}: {error}");
        }
    }

    #[test]
    fn usual_values() {
        let config = read(&format!("brokerHost: test:1883\nunknown: 1\n{TOPICS}")).unwrap();
        assert_eq!(config.broker, "test:1883");
        assert_eq!(config.client_id, "c1-agent-client");
        assert_eq!(config.keep_alive, Duration::from_mins(1));
        assert_eq!(config.dial_timeout, Duration::from_mins(1));
        assert_eq!((config.publish_qos, config.subscribe_qos), (1, 1));
        assert!(config.tls.is_none() && config.username.is_none() && config.password.is_none());
    }

    #[test]
    fn everything_as_json() {
        let text = r#"{"brokerHost": "b:1", "username": "u", "password": "p", "keepAlive": 30, "dialTimeout": "10s", "pubQoS": 0, "subQoS": 2,
            "caData": "Q0E=", "caFile": "ca.crt", "clientCertFile": "cert.pem", "clientKeyFile": "key.pem",
            "topics": {"sourceEvents": "sources/hub1/clusters/+/sourceevents", "agentEvents": "sources/hub1/clusters/+/agentevents",
                       "sourceBroadcast": "sources/+/sourcebroadcast", "agentBroadcast": "clusters/+/agentbroadcast"}}"#;
        let config = read(text).unwrap();
        assert_eq!(config.username.as_deref(), Some("u"));
        assert_eq!(config.password.as_deref(), Some("p"));
        assert_eq!(config.keep_alive, Duration::from_secs(30));
        assert_eq!(config.dial_timeout, Duration::from_secs(10));
        assert_eq!((config.publish_qos, config.subscribe_qos), (0, 2));
        assert_eq!(config.topics.agent_filters("c").unwrap().len(), 2);
        let tls = format!("{:?}", config.tls.unwrap());
        assert!(tls.contains("ca: Some(Inline(..))"), "data wins: {tls}");
        assert!(
            tls.contains(r#"File("cert.pem"), File("key.pem")"#),
            "{tls}"
        );
    }

    #[test]
    fn a_ca_alone_is_tls_and_plain_numbers_are_text() {
        let text = format!("brokerHost: b:1\npassword: 12345\ncaFile: ca.crt\n{TOPICS}");
        let config = read(&text).unwrap();
        assert!(config.tls.is_some());
        assert_eq!(config.password.as_deref(), Some("12345"));
    }

    #[tokio::test]
    async fn data_in_a_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let write = |data: &str| {
            let text = format!("brokerHost: b:1\ncaData: {data}\n{TOPICS}");
            std::fs::write(&path, text).unwrap();
        };
        write("b25l");
        #[allow(irrefutable_let_patterns, reason = "depends on the features")]
        let Config::Mqtt(file) = Config::load(Driver::Mqtt, &path).unwrap() else {
            unreachable!("asked for mqtt")
        };
        let client = Client::Source("hub".to_owned());
        let ca = file.config(&client).tls.unwrap().ca.unwrap();
        assert_eq!(ca.read().await.unwrap(), b"one");
        write("dHdv");
        assert_eq!(ca.read().await.unwrap(), b"two");
        std::fs::remove_file(&path).unwrap();
        let error = ca.read().await.unwrap_err().to_string();
        assert!(error.contains("caData in"), "{error}");
    }
}

#[cfg(feature = "grpc")]
mod grpc {
    use super::*;
    use crate::grpc::{GrpcConfig, Pem};

    fn read(text: &str) -> Result<GrpcConfig, ConfigError> {
        match Config::parse(Driver::Grpc, text)? {
            Config::Grpc(file) => Ok(file.config()),
            #[allow(unreachable_patterns, reason = "depends on the features")]
            other => unreachable!("asked for grpc, got {other:?}"),
        }
    }

    #[test]
    fn errors() {
        fn check(text: &str, expected: &str) {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
        }
        check("", "url is required");
        check("url: ''", "url is required");
        check(
            "url: test\nclientCertFile: test",
            "either both or none of clientCertFile and clientKeyFile must be set",
        );
        let token = "setting token requires authority certificates";
        check("url: test\ntoken: test", token);
        check("url: test\ntokenFile: test", token);
    }

    #[test]
    fn values() {
        let config = read("{\"url\": \"h:1\"}").unwrap();
        assert_eq!(config.url, "h:1");
        assert!(config.keepalive.is_none() && config.heartbeat_timeout.is_none());
        let config = read(
            "url: h:1\ntoken: t\ntokenFile: f\ncaFile: ca\nserverHealthinessTimeout: 20s\nkeepAliveConfig:\n  enable: true\n  time: 1s\n",
        )
        .unwrap();
        let seconds = Duration::from_secs;
        assert_eq!(config.keepalive, Some((seconds(10), seconds(10))));
        assert_eq!(config.heartbeat_timeout, Some(seconds(20)));
        assert!(matches!(config.token, Some(Pem::Inline(token)) if token == b"t"));
    }
}

#[test]
fn drivers_have_names() {
    for word in ["mqtt", "grpc", "pubsub"] {
        match word.parse::<Driver>() {
            Ok(driver) => assert_eq!(driver.to_string(), word),
            Err(error) => assert_eq!(error.to_string(), format!("unsupported config type {word}")),
        }
    }
}
