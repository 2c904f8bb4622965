//! The command of the Python library: what it is told, and what its words and exit codes mean.
//!
//! Its exit codes say little (fedora-messaging: `fedora_messaging/cli.py`): 1 is every trouble of a connection, 111 every silence. Its
//! log says more, so it is made to end with what matters: a kubelet passes on the last 2 KiB of it, and a traceback is longer.

use drover_api::names::fedora as names;

use super::{Route, SECRET_FILES, SECRET_FOLDER};
use crate::publish::{Fault, Verdict};
use serde_json::Value;

/// The first line that the command prints: where it is there, the log is all there.
const FIRST_LINE: &str = "Publishing message with topic";
/// The library says so when the broker has let it in (`fedora_messaging/twisted/factory.py`). What comes before sends nothing.
const LET_IN: &str = "AMQP handshake completed";

/// A Python `dictConfig`. What is logged is held back until the process ends, and so comes after its traceback.
const LOG: &str = r#"
[log_config]
version = 1
disable_existing_loggers = false

[log_config.formatters.simple]
format = "[%(name)s %(levelname)s] %(message)s"

[log_config.handlers.console]
class = "logging.StreamHandler"
formatter = "simple"
stream = "ext://sys.stdout"

[log_config.handlers.last]
class = "logging.handlers.MemoryHandler"
capacity = 16
flushLevel = 100
target = "console"

[log_config.root]
level = "WARNING"
handlers = ["last"]

[log_config.loggers."fedora_messaging.twisted.factory"]
level = "DEBUG"

[log_config.loggers."pika.connection"]
level = "INFO"

[log_config.loggers."fedora_messaging.api"]
level = 100

[log_config.loggers.twisted]
level = 100
"#;

/// What the library reads. Every text is written as TOML writes it, which for these is as JSON does.
pub(super) fn config(route: &Route<'_>) -> String {
    let [ca, cert, key] = SECRET_FILES.map(|name| format!("{SECRET_FOLDER}/{name}"));
    let text = |value: &str| Value::from(value).to_string();
    format!(
        "amqp_url = {}\ntopic_prefix = {}\npublish_exchange = {}\npassive_declares = true\n\n\
         [tls]\nca_cert = \"{ca}\"\ncertfile = \"{cert}\"\nkeyfile = \"{key}\"\n\n\
         [client_properties]\napp = \"drover\"\n{LOG}",
        text(route.url),
        text(route.topic_prefix),
        text(route.exchange),
    )
}

/// What an exit code means with these last words; `None` where they tell nothing beyond the code.
pub(super) fn explained(code: i32, said: &str) -> Option<Fault> {
    let has = |part: &str| said.contains(part);
    let (reason, verdict, why) = match code {
        1 if has("SSL routines") => (
            names::REASON_TLS_FAILED,
            Verdict::AfterChange,
            "the sender did not agree on TLS with the broker; check the authority and the certificate",
        ),
        1 if has("ACCESS_REFUSED") || has("NOT_ALLOWED") => (
            names::REASON_LOGIN_REFUSED,
            Verdict::AfterChange,
            "the broker refused the login; the certificate's common name must be a user of the broker and of the vhost",
        ),
        2 => (
            names::REASON_INVALID,
            Verdict::Never,
            "the sender refused the message",
        ),
        111 if has("NOT_FOUND - no exchange") => (
            names::REASON_NO_EXCHANGE,
            Verdict::Never,
            "the broker has no such exchange",
        ),
        111 if has(FIRST_LINE) && !has(LET_IN) => (
            names::REASON_CONNECTION_FAILED,
            Verdict::Later,
            "the broker was not reached",
        ),
        _ => return None,
    };
    Some(Fault::new(reason, verdict, why))
}
