//! The Python library beside us: its consumer takes what we send, and its command sends what we send.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use drover_testkit::RabbitMq;
use drover_testkit::rabbitmq::{PUBLISHER, READER};
use lapin::message::BasicGetMessage;

use crate::command::conf;
use crate::stage::{program, take};

pub(crate) fn python() -> PathBuf {
    let folder = drover_testkit::program("fedora-messaging").unwrap();
    folder.join("bin/fedora-messaging")
}

/// Everything of a message that two senders must agree on.
pub(crate) fn looks(message: &BasicGetMessage) -> BTreeMap<String, String> {
    let properties = &message.properties;
    let mut looks = BTreeMap::from([
        ("exchange".to_owned(), message.exchange.to_string()),
        ("routing key".to_owned(), message.routing_key.to_string()),
        (
            "mode".to_owned(),
            format!("{:?}", properties.delivery_mode()),
        ),
        (
            "type".to_owned(),
            format!("{:?}", properties.content_type()),
        ),
        (
            "encoding".to_owned(),
            format!("{:?}", properties.content_encoding()),
        ),
        (
            "priority".to_owned(),
            format!("{:?}", properties.priority()),
        ),
        (
            "correlation".to_owned(),
            format!("{:?}", properties.correlation_id()),
        ),
        ("reply".to_owned(), format!("{:?}", properties.reply_to())),
        (
            "expiration".to_owned(),
            format!("{:?}", properties.expiration()),
        ),
        (
            "timestamp".to_owned(),
            format!("{:?}", properties.timestamp()),
        ),
        ("kind".to_owned(), format!("{:?}", properties.kind())),
        ("user".to_owned(), format!("{:?}", properties.user_id())),
        ("app".to_owned(), format!("{:?}", properties.app_id())),
        ("id".to_owned(), format!("{:?}", properties.message_id())),
    ]);
    let body: serde_json::Value = serde_json::from_slice(&message.data).unwrap();
    looks.insert("body".to_owned(), body.to_string());
    for (name, value) in properties.headers().clone().unwrap_or_default().inner() {
        looks.insert(format!("header {name}"), format!("{value:?}"));
    }
    looks
}

#[tokio::test(flavor = "multi_thread")]
async fn both_commands_send_the_same_message() {
    let broker = RabbitMq::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let conf = conf(&broker, folder.path(), PUBLISHER);
    let at = "2026-11-20T21:43:07+00:00";
    let lines = [
        format!(
            r#"{{"topic": "a.b", "id": "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1", "body": {{"é": "ü", "n": [1, 2.5, null, true]}}, "headers": {{"sent-at": "{at}", "k": "v", "yes": true, "n": 7, "big": 5000000000, "none": null, "list": [1, "x"], "table": {{"a": 1}}}}}}"#
        ),
        format!(
            r#"{{"topic": "c", "id": "not-a-uuid", "body": {{}}, "priority": 4, "queue": "ignored", "unknown": 1, "headers": {{"sent-at": "{at}", "fedora_messaging_severity": 30, "fedora_messaging_user_me": true}}}}"#
        ),
    ];
    let file = folder.path().join("messages.json");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let reader = broker.reader().await.unwrap();
    let mut sent = Vec::new();
    let ours = Command::new(program())
        .args(["publish", "--conf", &conf, "--file"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(ours.status.success(), "{ours:?}");
    for _ in &lines {
        sent.push(looks(&take(&reader).await));
    }
    let theirs = Command::new(python())
        .args(["--conf", &conf, "publish"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{theirs:?}");
    for ours in sent {
        assert_eq!(ours, looks(&take(&reader).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_takes_and_validates_what_we_send() {
    let broker = RabbitMq::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let sender = conf(&broker, folder.path(), PUBLISHER);
    let reader = conf(&broker, folder.path(), READER);
    let callback = folder.path().join("callback.py");
    let code = "from fedora_messaging.exceptions import HaltConsumer\n\
                def take(message):\n    message.validate()\n    \
                print('TAKEN', message.id, message.topic, message.body, int(message.severity), flush=True)\n    \
                raise HaltConsumer(0)\n";
    std::fs::write(&callback, code).unwrap();
    let sent = Command::new(program())
        .args([
            "publish",
            "--conf",
            &sender,
            "--topic",
            "x.y",
            "--body",
            r#"{"ü": [1, {"a": null}]}"#,
        ])
        .args([
            "--severity",
            "warning",
            "--headers",
            r#"{"fedora_messaging_rpm_bash": true}"#,
        ])
        .args(["--id", "f4300d3c-42ae-49ae-9a79-0c6f6249cfd1"])
        .output()
        .unwrap();
    assert!(sent.status.success(), "{sent:?}");
    // The queue is there already, with the message: nothing is declared anew.
    let text = std::fs::read_to_string(&reader).unwrap();
    let text = text.replace(
        "[tls]",
        "[queues.capture]\ndurable = true\nauto_delete = false\nexclusive = false\narguments = {}\n[[bindings]]\nqueue = \"capture\"\nexchange = \"amq.topic\"\nrouting_keys = [\"#\"]\n[tls]",
    );
    std::fs::write(&reader, text.replace("passive_declares = true\n", "")).unwrap();
    let callback = format!("{}:take", callback.display());
    let taken = Command::new(python())
        .args(["--conf", &reader, "consume", "--callback-file", &callback])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert!(taken.status.success(), "{taken:?}");
    let expected = "TAKEN f4300d3c-42ae-49ae-9a79-0c6f6249cfd1 org.fedoraproject.stg.x.y {'ü': [1, {'a': None}]} 30";
    assert!(said.contains(expected), "{said}");
}
