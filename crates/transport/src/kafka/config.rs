//! How to reach Kafka, with the keys of the Go implementation's configuration file.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Where Kafka is and how to show who calls.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KafkaConfig {
    /// `host:port`, several with commas.
    pub bootstrap_server: String,
    /// File of issuers of the brokers' certificates. Turns TLS on; brokers must have the name they are called by.
    pub ca_file: Option<String>,
    /// File of the client certificate.
    pub client_cert_file: Option<String>,
    /// File of the key of the client certificate.
    pub client_key_file: Option<String>,
    /// Consumer group; by default the id of the agent or source. Data types other than works have groups of their own, with
    /// the data type appended.
    #[serde(rename = "groupID")]
    pub group_id: Option<String>,
    /// Settings of librdkafka that the Go implementation takes here. None has an effect.
    #[serde(flatten)]
    pub librdkafka: BTreeMap<String, serde_json::Value>,
}

impl KafkaConfig {
    /// A configuration without TLS.
    pub fn new(bootstrap_server: impl Into<String>) -> Self {
        Self {
            bootstrap_server: bootstrap_server.into(),
            ..Self::default()
        }
    }

    /// Checks what can be checked without connecting, in the words of the Go implementation.
    pub fn validate(&self) -> Result<(), String> {
        let given = |file: &Option<String>| file.as_deref().is_some_and(|file| !file.is_empty());
        let (ca, cert, key) = (
            given(&self.ca_file),
            given(&self.client_cert_file),
            given(&self.client_key_file),
        );
        let wrong = if self.bootstrap_server.trim().is_empty() {
            "bootstrapServer is required"
        } else if cert != key {
            "either both or none of clientCertFile and clientKeyFile must be set"
        } else if cert && !ca {
            "setting clientCertFile and clientKeyFile requires caFile"
        } else {
            return Ok(());
        };
        Err(wrong.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::KafkaConfig;

    #[test]
    fn the_keys_of_the_go_implementation() {
        let text = r#"{"bootstrapServer":"k:9093","caFile":"ca","clientCertFile":"c","clientKeyFile":"k","groupID":"g","acks":"all"}"#;
        let config: KafkaConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.bootstrap_server, "k:9093");
        assert_eq!(config.ca_file.as_deref(), Some("ca"));
        assert_eq!(config.client_cert_file.as_deref(), Some("c"));
        assert_eq!(config.client_key_file.as_deref(), Some("k"));
        assert_eq!(config.group_id.as_deref(), Some("g"));
        assert_eq!(config.librdkafka.keys().collect::<Vec<_>>(), ["acks"]);
        assert_eq!(config.validate(), Ok(()));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let check = |text: &str, expected: &str| {
            let config: KafkaConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config.validate().unwrap_err(), expected, "{text}");
        };
        check("{}", "bootstrapServer is required");
        check(
            r#"{"bootstrapServer":"k:1","clientKeyFile":"k"}"#,
            "either both or none of clientCertFile and clientKeyFile must be set",
        );
        check(
            r#"{"bootstrapServer":"k:1","clientKeyFile":"k","clientCertFile":"c"}"#,
            "setting clientCertFile and clientKeyFile requires caFile",
        );
    }
}
