//! `drover publish` against a real broker: what arrives, and the exit codes of the Python command.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use drover_testkit::RabbitMq;
use drover_testkit::pki::Authority;
use drover_testkit::process::free_port;
use drover_testkit::rabbitmq::{CAPTURE, POWERLESS, PUBLISHER};

use crate::stage::{header, id_of, program, take};

/// A configuration file of the Python library.
pub(crate) fn conf(broker: &RabbitMq, folder: &Path, user: &str) -> String {
    let pair = broker.client(user).unwrap();
    let text = format!(
        "amqp_url = \"{}\"\ntopic_prefix = \"org.fedoraproject.stg\"\npassive_declares = true\n\
         [tls]\nca_cert = \"{}\"\nkeyfile = \"{}\"\ncertfile = \"{}\"\n\
         [client_properties]\napp = \"tests\"\napp_contacts_email = [\"a@example.org\"]\n",
        broker.url(),
        broker.authority().ca().display(),
        pair.key.display(),
        pair.cert.display()
    );
    let path = folder.join(format!("{user}.toml"));
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn publish(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .arg("publish")
        .args(args)
        .env_remove("FEDORA_MESSAGING_CONF")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments before it reads: a closed pipe is no failure of the test.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn check(args: &[&str], input: &str, code: i32, expected: &str) {
    let output = publish(args, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?} {input}: {said}");
    assert!(said.contains(expected), "{args:?} {input}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_the_command_line_and_of_a_file_arrive() {
    let broker = RabbitMq::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conf = conf(&broker, folder.path(), PUBLISHER);
    let reader = broker.reader().await.unwrap();
    let one = [
        "--conf",
        &conf,
        "--topic",
        "a.b",
        "--body",
        r#"{"x": 1}"#,
        "--headers",
        r#"{"k": "v"}"#,
        "--severity",
        "error",
        "--schema",
        "my.schema",
        "--schema-package",
        "My-Schemas",
        "--id",
        "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1",
        "--priority",
        "3",
        "-o",
        "json",
    ];
    let output = publish(&one, "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["topic"], "org.fedoraproject.stg.a.b");
    let got = take(&reader).await;
    assert_eq!(id_of(&got), "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1");
    assert_eq!(got.data, br#"{"x": 1}"#);
    assert_eq!(*got.properties.priority(), Some(3));
    for (name, value) in [
        ("k", "v"),
        ("fedora_messaging_schema", "my.schema"),
        ("fedora_messaging_schema_package", "my_schemas"),
        ("fedora_messaging_severity", "40"),
    ] {
        assert!(header(&got, name).contains(value), "{name}");
    }

    let mut lines = String::new();
    for n in 0..50 {
        writeln!(lines, r#"{{"topic": "t{n}", "body": {{"n": {n}}}}}"#).unwrap();
    }
    for window in ["1", "20"] {
        let output = publish(
            &["--conf", &conf, "--file", "-", "--in-flight", window],
            &lines,
        );
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for n in 0..50 {
            let got = take(&reader).await;
            assert_eq!(
                got.routing_key.as_str(),
                format!("org.fedoraproject.stg.t{n}"),
                "in order"
            );
        }
    }
    // What stands before a bad line is sent.
    let output = publish(
        &["--conf", &conf, "--file", "-"],
        "{\"topic\": \"x\", \"body\": {}}\n\n",
    );
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    take(&reader).await;
    let dry = ["--conf", &conf, "--topic", "a", "--body", "{}", "--dry-run"];
    assert_eq!(publish(&dry, "").status.code(), Some(0));
    assert!(reader.take(CAPTURE).await.unwrap().is_none());
    // On a bus it is normal that nobody listens.
    reader.unbind(CAPTURE, "#").await.unwrap();
    let unheard = ["--conf", &conf, "--topic", "a", "--body", "{}"];
    assert_eq!(publish(&unheard, "").status.code(), Some(0));
    assert!(reader.take(CAPTURE).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_those_of_the_python_command() {
    let broker = RabbitMq::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let good = conf(&broker, folder.path(), PUBLISHER);
    let weak = conf(&broker, folder.path(), POWERLESS);
    let file = |more: &str| {
        let path = folder.path().join(format!("{}.toml", more.len()));
        let text = std::fs::read_to_string(&good).unwrap();
        std::fs::write(&path, format!("{more}\n{text}")).unwrap();
        path.display().to_string()
    };
    let fine = r#"{"topic": "a.b", "body": {}}"#;
    let on = |conf: &str, line: &str, code, expected: &str| {
        check(
            &["--conf", conf, "--file", "-", "--timeout", "2"],
            line,
            code,
            expected,
        );
    };
    on(&good, "", 0, "");
    on(&good, "nonsense", 2, "not a message");
    on(&good, r#"{"body": {}}"#, 2, "topic");
    on(&good, r#"{"topic": "a", "body": []}"#, 2, "JSON object");
    on(
        &good,
        r#"{"topic": "a", "body": {}, "headers": {"fedora_messaging_severity": 5}}"#,
        2,
        "10, 20, 30 or 40",
    );
    on(
        &good,
        r#"{"topic": "a", "body": {}, "headers": {"x": 1.5}}"#,
        1,
        "fraction",
    );
    let long = format!(r#"{{"topic": "{}", "body": {{}}}}"#, "x".repeat(250));
    on(&good, &long, 1, "the most that AMQP carries");
    on(&file("nonsense = 1"), fine, 2, "nonsense is no key");
    check(
        &["--conf", "/nowhere.toml", "--file", "-"],
        fine,
        2,
        "failed to read",
    );
    check(
        &["--conf", &good, "--file", "/nowhere.json"],
        "",
        2,
        "failed to open",
    );
    check(&["--file", "-"], fine, 2, "where to?");
    on(&weak, fine, 1, "refused the login");
    let elsewhere = [
        "--conf",
        &good,
        "--topic-prefix",
        "org.example",
        "--file",
        "-",
    ];
    check(&elsewhere, fine, 121, "ACCESS_REFUSED");
    let full = r#"{"topic": "full.x", "body": {}}"#;
    on(&good, full, 0, "");
    on(&good, full, 121, "took no more");
    let nowhere = ["--conf", &good, "--exchange", "nowhere", "--file", "-"];
    check(&nowhere, fine, 111, "no exchange");
    let url = format!("amqps://localhost:{}/%2Fpubsub", free_port().unwrap());
    let refused = [
        "--conf",
        &good,
        "--url",
        &url,
        "--timeout",
        "1",
        "--file",
        "-",
    ];
    check(&refused, fine, 111, "failed to reach the broker");
    let other = Authority::new(&folder.path().join("other")).unwrap();
    let pair = broker.client(PUBLISHER).unwrap();
    let [ca, cert, key] = [other.ca(), pair.cert, pair.key].map(|path| path.display().to_string());
    let result = folder.path().join("result").display().to_string();
    let stranger = [
        "--url",
        &broker.url(),
        "--ca",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
        "--topic",
        "a",
        "--body",
        "{}",
        "--result",
        &result,
    ];
    check(&stranger, "", 1, "failed to agree on TLS");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    assert_eq!(report["reason"], "TLSVerificationFailed");
}
