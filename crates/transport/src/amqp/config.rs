//! The configuration file of the Python library (fedora-messaging: `fedora_messaging/config.py`), as far as a publisher reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use drover_protocol::fedora::EXCHANGE;
use toml::{Table, Value};

use super::{Destination, Identity, IdentityError};

/// Every key of the library. Those that only consumers need are allowed and not looked at.
const KEYS: [&str; 15] = [
    "amqp_url",
    "bindings",
    "callback",
    "client_properties",
    "consumer_config",
    "exchanges",
    "log_config",
    "monitoring",
    "passive_declares",
    "publish_exchange",
    "publish_priority",
    "qos",
    "queues",
    "tls",
    "topic_prefix",
];

/// What the file says to a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagingConfig {
    /// Where the broker is.
    pub amqp_url: String,
    /// Goes before every topic.
    pub topic_prefix: String,
    /// Where messages are published.
    pub publish_exchange: String,
    /// Shown to the broker's administrator.
    pub client_properties: BTreeMap<String, String>,
    /// The authority, the certificate and the key.
    pub tls: Option<TlsFiles>,
}

/// Where the PEM files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities.
    pub ca_cert: PathBuf,
    /// The certificate.
    pub certfile: PathBuf,
    /// Its key.
    pub keyfile: PathBuf,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No such file, or not allowed to.
    #[error("failed to read {path}: {why}")]
    Read {
        /// The file.
        path: String,
        /// What happened.
        why: String,
    },
    /// Not TOML.
    #[error("{path} is not TOML: {why}")]
    Toml {
        /// The file.
        path: String,
        /// Where and what.
        why: String,
    },
    /// A key that nobody knows.
    #[error("{0} is no key of the configuration; keys are {all}", all = KEYS.join(", "))]
    Unknown(String),
    /// A key with a value of another kind.
    #[error("{key} must be {what}")]
    Kind {
        /// The key.
        key: &'static str,
        /// What it must be.
        what: &'static str,
    },
    /// Some of the files are not named.
    #[error("the table tls must name ca_cert, certfile and keyfile; {0} is missing")]
    Missing(&'static str),
    /// The files are not what they should be.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl MessagingConfig {
    /// What holds where the file is silent.
    pub fn new(amqp_url: impl Into<String>) -> Self {
        Self {
            amqp_url: amqp_url.into(),
            topic_prefix: String::new(),
            publish_exchange: EXCHANGE.to_owned(),
            client_properties: [("app".to_owned(), "Unknown".to_owned())].into(),
            tls: None,
        }
    }

    /// Whether a key is one of the library's.
    pub fn is_key(key: &str) -> bool {
        KEYS.contains(&key.to_lowercase().as_str())
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = read(path)?;
        let text = String::from_utf8(text).map_err(|error| ConfigError::Toml {
            path: name.clone(),
            why: error.to_string(),
        })?;
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Toml {
                path: name,
                why: error.to_string(),
            })?;
        Self::of_table(table)
    }

    /// Reads a table. Keys are compared without case, and a key that is given replaces its default as a whole.
    pub fn of_table(table: Table) -> Result<Self, ConfigError> {
        let mut config = Self::new("amqp://");
        for (key, value) in table {
            let Some(known) = KEYS.iter().find(|known| key.eq_ignore_ascii_case(known)) else {
                return Err(ConfigError::Unknown(key));
            };
            match *known {
                "amqp_url" => config.amqp_url = text(known, value)?,
                "topic_prefix" => config.topic_prefix = text(known, value)?,
                "publish_exchange" => config.publish_exchange = text(known, value)?,
                "client_properties" => config.client_properties = properties(value)?,
                "tls" => config.tls = files(value)?,
                _ => {}
            }
        }
        Ok(config)
    }

    /// Reads the PEM files and says where to publish.
    pub fn destination(&self) -> Result<Destination, ConfigError> {
        let identity = match &self.tls {
            Some(files) => Some(files.identity()?.into()),
            None => None,
        };
        Ok(Destination {
            url: self.amqp_url.clone(),
            identity,
            client_properties: self.client_properties.clone(),
        })
    }
}

impl TlsFiles {
    /// Reads the files.
    pub fn identity(&self) -> Result<Identity, ConfigError> {
        let (ca, cert, key) = (
            read(&self.ca_cert)?,
            read(&self.certfile)?,
            read(&self.keyfile)?,
        );
        Ok(Identity::from_pem(&ca, &cert, &key)?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::Read {
        path: path.display().to_string(),
        why: error.to_string(),
    })
}

fn text(key: &'static str, value: Value) -> Result<String, ConfigError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(ConfigError::Kind { key, what: "text" }),
    }
}

fn properties(value: Value) -> Result<BTreeMap<String, String>, ConfigError> {
    let Value::Table(table) = value else {
        return Err(ConfigError::Kind {
            key: "client_properties",
            what: "a table",
        });
    };
    // The library carries no lists: what is one is written as the words of the list.
    Ok(table
        .into_iter()
        .map(|(name, value)| (name, words(value)))
        .collect())
}

fn words(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(items) => items.into_iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Table(fields) => fields
            .into_iter()
            .map(|(name, value)| format!("{name}={}", words(value)))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn files(value: Value) -> Result<Option<TlsFiles>, ConfigError> {
    let Value::Table(mut table) = value else {
        return Err(ConfigError::Kind {
            key: "tls",
            what: "a table",
        });
    };
    let mut path = |key| match table.remove(key) {
        Some(Value::String(text)) => Ok(PathBuf::from(text)),
        _ => Err(ConfigError::Missing(key)),
    };
    Ok(Some(TlsFiles {
        ca_cert: path("ca_cert")?,
        certfile: path("certfile")?,
        keyfile: path("keyfile")?,
    }))
}
