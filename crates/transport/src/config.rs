//! The configuration files of the Go clients, YAML or JSON, as they are: one call makes a transport of one.
//!
//! Keys that are not known are ignored. A field `NAMEData` (base64 of PEM) wins over `NAMEFile`. Files are read when a link
//! is opened, so that they may come later than the configuration, and change.

#[cfg(any(feature = "mqtt", feature = "grpc"))]
mod certs;
#[cfg(any(feature = "mqtt", feature = "grpc"))]
mod duration;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "grpc")]
mod grpc;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;

#[cfg(any(feature = "mqtt", feature = "grpc"))]
pub use certs::CertConfig;
#[cfg(feature = "grpc")]
pub use grpc::{GrpcFile, KeepAlive};
#[cfg(feature = "mqtt")]
pub use mqtt::MqttFile;

use crate::link::Transport;

/// Which kind of event service a configuration is for; the words are those of the Go agents' flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// MQTT 5.
    #[cfg(feature = "mqtt")]
    Mqtt,
    /// The event service over gRPC.
    #[cfg(feature = "grpc")]
    Grpc,
    /// Topics of Kafka.
    #[cfg(feature = "kafka")]
    Kafka,
}

impl FromStr for Driver {
    type Err = ConfigError;

    fn from_str(word: &str) -> Result<Self, ConfigError> {
        match word {
            #[cfg(feature = "mqtt")]
            "mqtt" => Ok(Self::Mqtt),
            #[cfg(feature = "grpc")]
            "grpc" => Ok(Self::Grpc),
            #[cfg(feature = "kafka")]
            "kafka" => Ok(Self::Kafka),
            other => Err(ConfigError::Driver(other.to_owned())),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            #[cfg(feature = "mqtt")]
            Self::Mqtt => f.write_str("mqtt"),
            #[cfg(feature = "grpc")]
            Self::Grpc => f.write_str("grpc"),
            #[cfg(feature = "kafka")]
            Self::Kafka => f.write_str("kafka"),
        }
    }
}

/// Who uses a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// An agent with this id, such as `cluster1-work-agent`.
    Agent(String),
    /// A source with this client id (not its source id: several processes may serve one source).
    Source(String),
}

impl Client {
    /// The client id at brokers that have such a thing, as the Go clients choose it.
    pub fn client_id(&self) -> String {
        match self {
            Self::Agent(id) => format!("{id}-client"),
            Self::Source(id) => id.clone(),
        }
    }
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Config {
    /// MQTT 5.
    #[cfg(feature = "mqtt")]
    Mqtt(Box<MqttFile>),
    /// The event service over gRPC.
    #[cfg(feature = "grpc")]
    Grpc(Box<GrpcFile>),
    /// Topics of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(Box<crate::kafka::KafkaConfig>),
}

/// Why a configuration cannot be used. Texts are those of the Go clients where they have the error too.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read {}: {why}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// What happened.
        why: std::io::Error,
    },
    /// Neither YAML nor JSON, or a value of a wrong kind.
    #[error("failed to read the configuration: {0}")]
    Syntax(String),
    /// A key that must be there.
    #[error("{0} is required")]
    Missing(&'static str),
    /// Anything else, in its own words.
    #[error("{0}")]
    Wrong(String),
    /// No transport of this name is built in.
    #[error("unsupported config type {0}")]
    Driver(String),
}

impl Config {
    /// Reads a file.
    pub fn load(driver: Driver, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Read {
            path: path.to_owned(),
            why,
        })?;
        Self::read(driver, &text, Some(path))
    }

    /// Reads a text.
    pub fn parse(driver: Driver, text: &str) -> Result<Self, ConfigError> {
        Self::read(driver, text, None)
    }

    #[cfg_attr(
        not(any(feature = "mqtt", feature = "grpc")),
        expect(unused_variables, reason = "Kafka has no data in the file")
    )]
    fn read(driver: Driver, text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        match driver {
            #[cfg(feature = "mqtt")]
            Driver::Mqtt => Ok(Self::Mqtt(Box::new(MqttFile::read(text, file)?))),
            #[cfg(feature = "grpc")]
            Driver::Grpc => Ok(Self::Grpc(Box::new(GrpcFile::read(text, file)?))),
            #[cfg(feature = "kafka")]
            Driver::Kafka => {
                let config: crate::kafka::KafkaConfig = keys(text)?;
                config.validate().map_err(ConfigError::Wrong)?;
                Ok(Self::Kafka(Box::new(config)))
            }
        }
    }

    /// A transport; connects when a link is opened.
    #[cfg_attr(
        not(any(feature = "mqtt", feature = "kafka")),
        expect(
            unused_variables,
            reason = "with gRPC the connection does not say who calls"
        )
    )]
    pub fn transport(&self, client: &Client) -> Arc<dyn Transport> {
        match self {
            #[cfg(feature = "mqtt")]
            Self::Mqtt(file) => Arc::new(crate::mqtt::MqttTransport::new(file.config(client))),
            #[cfg(feature = "grpc")]
            Self::Grpc(file) => Arc::new(crate::grpc::GrpcTransport::new(file.config())),
            #[cfg(feature = "kafka")]
            Self::Kafka(config) => {
                let config = (**config).clone();
                Arc::new(match client {
                    Client::Agent(id) => crate::kafka::KafkaTransport::for_agent(config, id),
                    Client::Source(id) => crate::kafka::KafkaTransport::for_source(config, id),
                })
            }
        }
    }
}

/// Reads the keys that `T` knows; the text may be YAML or JSON.
pub(crate) fn keys<T: DeserializeOwned + Default>(text: &str) -> Result<T, ConfigError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return Ok(T::default());
    }
    let syntax = |e: &dyn fmt::Display| ConfigError::Syntax(e.to_string());
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|e| syntax(&e))
    } else {
        serde_saphyr::from_str(text).map_err(|e| syntax(&e))
    }
}

#[cfg(test)]
mod tests;
