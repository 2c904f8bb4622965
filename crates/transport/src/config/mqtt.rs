//! `mqtt`: broker, user, times, topics.

use std::path::Path;
use std::time::Duration;

use drover_protocol::{TopicNames, Topics};
use serde::Deserialize;

use super::{CertConfig, Client, ConfigError, duration, keys};
use crate::mqtt::MqttConfig;

/// The configuration of the Go clients for MQTT.
#[derive(Clone, Debug)]
pub struct MqttFile {
    config: MqttConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    broker_host: Option<String>,
    username: Option<String>,
    password: Option<String>,
    keep_alive: Option<u16>,
    #[serde(deserialize_with = "duration::optional")]
    dial_timeout: Option<Duration>,
    #[serde(rename = "pubQoS")]
    pub_qos: Option<i64>,
    #[serde(rename = "subQoS")]
    sub_qos: Option<i64>,
    topics: Option<TopicNames>,
}

impl MqttFile {
    pub(super) fn read(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        let given: Keys = keys(text)?;
        let certs = CertConfig::read(text, file);
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        let broker = full(given.broker_host).ok_or(ConfigError::Missing("brokerHost"))?;
        let certs = certs?;
        let names = given
            .topics
            .ok_or_else(|| ConfigError::Wrong("the topics must be set".to_owned()))?;
        let topics = Topics::new(&names).map_err(|e| ConfigError::Wrong(e.to_string()))?;
        let mut config = MqttConfig::new(broker, "", topics);
        config.username = full(given.username);
        config.password = full(given.password);
        if let Some(seconds) = given.keep_alive {
            config.keep_alive = Duration::from_secs(seconds.into());
        }
        if let Some(dial_timeout) = given.dial_timeout {
            config.dial_timeout = dial_timeout;
        }
        for (name, qos, place) in [
            ("pubQoS", given.pub_qos, &mut config.publish_qos),
            ("subQoS", given.sub_qos, &mut config.subscribe_qos),
        ] {
            match qos {
                None => (),
                Some(qos @ 0..=2) => *place = qos as u8,
                Some(other) => {
                    return Err(ConfigError::Wrong(format!(
                        "{name} must be 0, 1 or 2, not {other}"
                    )));
                }
            }
        }
        config.tls = certs.tls();
        Ok(Self { config })
    }

    /// The configuration of the transport of a client.
    pub fn config(&self, client: &Client) -> MqttConfig {
        MqttConfig {
            client_id: client.client_id(),
            ..self.config.clone()
        }
    }
}
