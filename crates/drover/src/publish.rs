//! `drover publish`: messages to Fedora Messaging from the command line, in place of `fedora-messaging publish`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use drover_api::fedora::v1alpha1::Environment;
use drover_protocol::fedora::{
    HEADER_SCHEMA, HEADER_SCHEMA_PACKAGE, HEADER_SEVERITY, Line, LineError, Outgoing, Severity,
};
use drover_publisher::Target;
use drover_publisher::send::{SendError, Sending, exit};
use drover_transport::amqp::{ConfigError, MessagingConfig, TlsFiles};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::{self, Output};
use crate::print;

/// Where the Python library looks for its configuration last.
const USUAL: &str = "/etc/fedora-messaging/config.toml";
/// The longest line of a file: a body at its largest, with everything around it.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Of the library.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Told wrong.
    #[error("{0}")]
    Usage(String),
    /// A line of the file.
    #[error("line {line}: {source}")]
    Line {
        /// Which one, from 1 on.
        line: u64,
        /// What is wrong.
        source: SendError,
    },
}

impl Failed {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Send(error) | Self::Line { source: error, .. } => error.exit_code(),
            Self::Usage(_) => exit::USAGE,
        }
    }

    fn report(&self) -> Value {
        match self {
            Self::Send(error) | Self::Line { source: error, .. } => json!(error.report()),
            Self::Usage(text) => json!({"reason": "InvalidMessage", "message": text}),
        }
    }
}

impl From<LineError> for Failed {
    fn from(error: LineError) -> Self {
        Self::Send(error.into())
    }
}

/// Sends, and leaves the reason of a failure where it was asked for.
pub async fn run(args: cli::Publish, output: Output) -> Result<()> {
    let result = args.result.clone();
    let outcome = send(args, output).await;
    if let (Err(error), Some(path)) = (&outcome, result)
        && let Some(failed) = error.downcast_ref::<Failed>()
    {
        std::fs::write(&path, failed.report().to_string())
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    outcome
}

async fn send(args: cli::Publish, output: Output) -> Result<()> {
    let config = config(&args)?;
    let to = config
        .destination()
        .map_err(SendError::from)
        .map_err(Failed::from)?;
    let patience = Duration::from_secs(args.timeout.into());
    let mut sending = Sending::new(to, &config.publish_exchange, patience);
    let outcome = match (&args.file, &args.topic) {
        (Some(path), _) => file(&args, path, &config, &mut sending, output).await,
        (None, Some(topic)) => {
            let message = one(&args, topic, &config)?;
            finish(&args, &mut sending, &message, output).await
        }
        // The parser asks for one of the two.
        (None, None) => Err(Failed::Usage("give --topic and --body, or --file".to_owned()).into()),
    };
    sending.close().await;
    outcome
}

async fn finish(
    args: &cli::Publish,
    sending: &mut Sending,
    message: &Outgoing,
    output: Output,
) -> Result<()> {
    if args.dry_run {
        sending.rehearse().await.map_err(Failed::from)?;
        return tell("checked", message, output);
    }
    sending.send(message).await.map_err(Failed::from)?;
    tell("sent", message, output)
}

fn tell(what: &str, message: &Outgoing, output: Output) -> Result<()> {
    let (id, topic) = (&message.message_id, &message.routing_key);
    match output {
        Output::Table | Output::Wide => print::line(&format!("{what} {id} to {topic}")),
        Output::Json | Output::Yaml => {
            print::line(&json!({"result": what, "id": id, "topic": topic}).to_string())
        }
    }
}

async fn file(
    args: &cli::Publish,
    path: &Path,
    config: &MessagingConfig,
    sending: &mut Sending,
    output: Output,
) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let most = usize::from(args.in_flight);
    loop {
        // A line that is wrong ends the file, after what stands before it was sent.
        let (mut batch, mut wrong) = (Vec::new(), None);
        while batch.len() < most && wrong.is_none() {
            match lines.next(config) {
                Ok(Some(message)) => batch.push(message),
                Ok(None) => break,
                Err(error) => wrong = Some(error),
            }
        }
        let over = batch.is_empty();
        if args.dry_run && !over {
            sending.rehearse().await.map_err(Failed::from)?;
            for message in &batch {
                tell("checked", message, output)?;
            }
        } else {
            let outcomes = sending.send_all(&batch).await;
            let mut failed = None;
            for (message, outcome) in batch.iter().zip(outcomes) {
                match outcome {
                    Ok(()) => tell("sent", message, output)?,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                return Err(Failed::from(error).into());
            }
        }
        if let Some(error) = wrong {
            return Err(error.into());
        }
        if over {
            return Ok(());
        }
    }
}

/// The lines of a file as messages.
struct Lines {
    from: Box<dyn BufRead>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failed> {
        let from: Box<dyn BufRead> = if path == Path::new("-") {
            Box::new(std::io::stdin().lock())
        } else {
            let file = std::fs::File::open(path).map_err(|error| {
                Failed::Usage(format!("failed to open {}: {error}", path.display()))
            })?;
            Box::new(BufReader::new(file))
        };
        Ok(Self { from, number: 0 })
    }

    fn next(&mut self, config: &MessagingConfig) -> Result<Option<Outgoing>, Failed> {
        self.number += 1;
        let line = self.number;
        let unreadable = |error: &dyn std::fmt::Display| {
            Failed::Usage(format!("line {line} cannot be read: {error}"))
        };
        let mut text = Vec::new();
        let mut limited = std::io::Read::take(&mut *self.from, LONGEST_LINE);
        limited
            .read_until(b'\n', &mut text)
            .map_err(|error| unreadable(&error))?;
        if text.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8(text).map_err(|error| unreadable(&error))?;
        let message = Line::parse(&text)
            .and_then(|message| {
                message.outgoing(&config.topic_prefix, Timestamp::now(), rand::random())
            })
            .map_err(|source| Failed::Line {
                line,
                source: source.into(),
            })?;
        Ok(Some(message))
    }
}

/// The message of the command line.
fn one(args: &cli::Publish, topic: &str, config: &MessagingConfig) -> Result<Outgoing, Failed> {
    let usage = |what: &str, error: &dyn std::fmt::Display| {
        Failed::Usage(format!("{what} is no JSON object: {error}"))
    };
    let body = args.body.as_deref().unwrap_or_default();
    let body = serde_json::from_str(body).map_err(|error| usage("--body", &error))?;
    let headers = args.headers.as_deref().unwrap_or("{}");
    let mut headers: Map<String, Value> =
        serde_json::from_str(headers).map_err(|error| usage("--headers", &error))?;
    let severity = args.severity.map(|severity| {
        Value::from(match severity {
            cli::Severity::Debug => Severity::Debug.number(),
            cli::Severity::Info => Severity::Info.number(),
            cli::Severity::Warning => Severity::Warning.number(),
            cli::Severity::Error => Severity::Error.number(),
        })
    });
    let text = |value: &Option<String>| value.clone().map(Value::from);
    for (name, value) in [
        (HEADER_SEVERITY, severity),
        (HEADER_SCHEMA, text(&args.schema)),
        (HEADER_SCHEMA_PACKAGE, text(&args.schema_package)),
    ] {
        if let Some(value) = value {
            headers.insert(name.to_owned(), value);
        }
    }
    let line = Line::new(
        topic.to_owned(),
        body,
        headers,
        args.id.clone(),
        args.priority,
    )?;
    Ok(line.outgoing(&config.topic_prefix, Timestamp::now(), rand::random())?)
}

/// The configuration file, or what an environment says, with the options over it.
fn config(args: &cli::Publish) -> Result<MessagingConfig, Failed> {
    let mut config = match named(args)? {
        Some(path) => MessagingConfig::load(&path).map_err(SendError::from)?,
        None => MessagingConfig {
            client_properties: BTreeMap::from([("app".to_owned(), "drover".to_owned())]),
            ..MessagingConfig::new(String::new())
        },
    };
    if let Some(environment) = args.env {
        let target = Target::of_fedora(environment.into());
        config.amqp_url = target.url;
        config.topic_prefix = target.topic_prefix;
    }
    for (given, place) in [
        (&args.url, &mut config.amqp_url),
        (&args.topic_prefix, &mut config.topic_prefix),
        (&args.exchange, &mut config.publish_exchange),
    ] {
        if let Some(given) = given {
            place.clone_from(given);
        }
    }
    if let (Some(ca), Some(cert), Some(key)) = (&args.ca, &args.cert, &args.key) {
        config.tls = Some(TlsFiles {
            ca_cert: ca.clone(),
            certfile: cert.clone(),
            keyfile: key.clone(),
        });
    }
    Ok(config)
}

/// The configuration file that was named, or the one that is found where nothing else says where to.
fn named(args: &cli::Publish) -> Result<Option<PathBuf>, Failed> {
    if args.conf.is_some() || args.env.is_some() || args.url.is_some() {
        return Ok(args.conf.clone());
    }
    if let Some(path) = std::env::var_os("FEDORA_MESSAGING_CONF") {
        return Ok(Some(path.into()));
    }
    if Path::new(USUAL).exists() {
        return Ok(Some(USUAL.into()));
    }
    let text =
        format!("where to? give --env stg, --conf FILE or --url URL; there is no {USUAL} either");
    Err(Failed::Usage(text))
}

impl From<cli::Environment> for Environment {
    fn from(environment: cli::Environment) -> Self {
        match environment {
            cli::Environment::Stg => Self::Stg,
            cli::Environment::Prod => Self::Prod,
        }
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::Send(error.into())
    }
}
