//! The server options of the Go broker, read from the same YAML or JSON (sdk-go: pkg/server/grpc/options.go).
//!
//! Read and not needed here: `write_buffer_size` and `read_buffer_size` (buffers follow the traffic), and
//! `client_min_ping_interval` and `permit_ping_without_stream` (pings of clients are answered, however many).

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

use super::BrokerConfig;
use crate::tls::{Ciphers, TlsFiles, TlsPolicy};

/// The shortest time between two looks at the certificates.
const MIN_WATCH: Duration = Duration::from_secs(30);

/// The options, with the defaults of the Go broker but for the size of messages taken, which is the larger one of
/// [`BrokerConfig::open`] unless given.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ServerOptions {
    /// Certificate chain.
    pub tls_cert_file: PathBuf,
    /// Private key.
    pub tls_key_file: PathBuf,
    /// Issuers of client certificates.
    pub client_ca_file: PathBuf,
    /// Lowest version of TLS, such as `VersionTLS12`.
    pub tls_min_version: String,
    /// Highest version of TLS.
    pub tls_max_version: String,
    /// Cipher suites of TLS 1.2 by their IANA names, with commas between; empty = all that are safe.
    pub cipher_suites: String,
    /// Port to listen on.
    pub server_bind_port: String,
    /// Calls of one connection that may be open at once.
    pub max_concurrent_streams: Option<u32>,
    /// Largest message taken, in bytes.
    pub max_receive_message_size: Option<usize>,
    /// Largest message sent, in bytes.
    pub max_send_message_size: Option<usize>,
    /// How long a handshake may take.
    #[serde(deserialize_with = "duration")]
    pub connection_timeout: Duration,
    /// How long a connection may live.
    #[serde(deserialize_with = "some_duration")]
    pub max_connection_age: Option<Duration>,
    /// Time without traffic after which a client is pinged.
    #[serde(deserialize_with = "duration")]
    pub server_ping_interval: Duration,
    /// How long a client may take to answer a ping.
    #[serde(deserialize_with = "duration")]
    pub server_ping_timeout: Duration,
    /// Time between two looks whether the certificates changed.
    #[serde(deserialize_with = "duration")]
    pub cert_watch_interval: Duration,
}

/// Why options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file cannot be read.
    #[error("failed to read {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not YAML, or a value of the wrong type.
    #[error("failed to read the server options: {0}")]
    Format(#[from] serde_saphyr::Error),
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
}

impl Default for ServerOptions {
    fn default() -> Self {
        let secrets = Path::new("/var/run/secrets/hub/grpc");
        Self {
            tls_cert_file: secrets.join("serving-cert/tls.crt"),
            tls_key_file: secrets.join("serving-cert/tls.key"),
            client_ca_file: secrets.join("ca/ca-bundle.crt"),
            tls_min_version: "VersionTLS12".to_owned(),
            tls_max_version: "VersionTLS13".to_owned(),
            cipher_suites: String::new(),
            server_bind_port: "8090".to_owned(),
            max_concurrent_streams: None,
            max_receive_message_size: None,
            max_send_message_size: None,
            connection_timeout: Duration::from_mins(2),
            max_connection_age: None,
            server_ping_interval: Duration::from_secs(30),
            server_ping_timeout: Duration::from_secs(10),
            cert_watch_interval: Duration::from_mins(1),
        }
    }
}

impl ServerOptions {
    /// Reads a file; without one the defaults count.
    pub fn read(path: &Path) -> Result<Self, OptionsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), "there are no server options; using the defaults");
                Ok(Self::default())
            }
            Err(error) => Err(OptionsError::Read {
                path: path.to_owned(),
                error,
            }),
        }
    }

    /// Reads YAML or JSON and checks the values.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let options: Self = if text.trim().is_empty() {
            Self::default()
        } else {
            serde_saphyr::from_str(text)?
        };
        options.policy()?;
        if options.cert_watch_interval <= MIN_WATCH {
            let why = format!(
                "cert_watch_interval ({:?}) must be greater than 30 seconds",
                options.cert_watch_interval
            );
            return Err(OptionsError::Value(why));
        }
        Ok(options)
    }

    /// Writes what concerns calls into a configuration.
    pub fn apply(&self, config: &mut BrokerConfig) {
        if let Some(size) = self.max_receive_message_size {
            config.max_message = size;
        }
        if let Some(size) = self.max_send_message_size {
            config.serving.max_sent = size;
        }
        config.serving.max_streams = self.max_concurrent_streams;
        config.serving.handshake = self.connection_timeout;
        config.serving.max_age = self.max_connection_age;
        config.serving.ping_interval = self.server_ping_interval;
        config.serving.ping_timeout = self.server_ping_timeout;
    }

    /// Where the certificates are.
    pub fn files(&self) -> TlsFiles {
        let ca = self.client_ca_file.clone();
        TlsFiles {
            cert: self.tls_cert_file.clone(),
            key: self.tls_key_file.clone(),
            client_ca: Some(ca).filter(|path| !path.as_os_str().is_empty()),
            more_client_ca: None,
        }
    }

    /// Which TLS is spoken.
    pub fn policy(&self) -> Result<TlsPolicy, OptionsError> {
        let lowest = version("tls_min_version", &self.tls_min_version)?;
        let highest = version("tls_max_version", &self.tls_max_version)?;
        if lowest < 2 {
            return Err(OptionsError::Value(format!(
                "tls_min_version {:?} is lower than TLS 1.2; minimum supported is TLS 1.2",
                self.tls_min_version
            )));
        }
        if lowest > highest {
            return Err(OptionsError::Value(format!(
                "tls_min_version {:?} must be <= tls_max_version {:?}",
                self.tls_min_version, self.tls_max_version
            )));
        }
        let ciphers = Ciphers::named(&self.cipher_suites)
            .map_err(|name| OptionsError::Value(format!("unrecognized cipher suite: {name}")))?;
        Ok(TlsPolicy {
            tls12: lowest == 2,
            tls13: highest == 3,
            ciphers,
        })
    }
}

fn version(key: &str, text: &str) -> Result<u8, OptionsError> {
    match text {
        "VersionTLS10" | "TLSv1.0" => Ok(0),
        "VersionTLS11" | "TLSv1.1" => Ok(1),
        "VersionTLS12" | "TLSv1.2" => Ok(2),
        "VersionTLS13" | "TLSv1.3" => Ok(3),
        other => Err(OptionsError::Value(format!(
            "invalid {key} {other:?}: say VersionTLS12 or VersionTLS13"
        ))),
    }
}

/// A duration as Go writes it, or nanoseconds.
#[derive(Deserialize)]
#[serde(untagged)]
enum GoDuration {
    Nanoseconds(u64),
    Text(String),
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let wrong = |text: &str| serde::de::Error::custom(format!("{text:?} is not a duration"));
    match GoDuration::deserialize(deserializer)? {
        GoDuration::Nanoseconds(number) => Ok(Duration::from_nanos(number)),
        GoDuration::Text(text) => {
            let read: SignedDuration = text.parse().map_err(|_| wrong(&text))?;
            Duration::try_from(read).map_err(|_| wrong(&text))
        }
    }
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::{BrokerConfig, ServerOptions};

    #[test]
    fn the_keys_of_the_go_broker_are_read() {
        let text = "
tls_cert_file: /a/tls.crt
client_ca_file: ''
tls_min_version: TLSv1.3
cipher_suites: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
max_concurrent_streams: 7
max_receive_message_size: 1000
connection_timeout: 1m30s
max_connection_age: 9223372036854775807
server_ping_interval: 500ms
read_buffer_size: 5
unknown: 1
";
        let options = ServerOptions::parse(text).unwrap();
        let mut config = BrokerConfig::open("hub");
        options.apply(&mut config);
        let serving = &config.serving;
        assert_eq!((serving.max_streams, config.max_message), (Some(7), 1000));
        assert_eq!(serving.handshake.as_secs(), 90);
        assert_eq!(serving.ping_interval.as_millis(), 500);
        assert_eq!(serving.ping_timeout.as_secs(), 10);
        assert_eq!(options.files().client_ca, None);
        let policy = options.policy().unwrap();
        assert_eq!((policy.tls12, policy.tls13), (false, true));
        let defaults = ServerOptions::parse("").unwrap();
        assert_eq!(defaults.server_bind_port, "8090");
        assert!(defaults.policy().unwrap().tls12);
    }

    #[test]
    fn what_cannot_be_is_said() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = ServerOptions::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check(
            "tls_min_version: VersionTLS11",
            "minimum supported is TLS 1.2",
        );
        check(
            "tls_max_version: VersionTLS12\ntls_min_version: VersionTLS13",
            "must be <=",
        );
        check("tls_min_version: '1.2'", "invalid tls_min_version \"1.2\"");
        check("cipher_suites: TLS_NO", "unrecognized cipher suite: TLS_NO");
        check(
            "cert_watch_interval: 30s",
            "must be greater than 30 seconds",
        );
        check("connection_timeout: soon", "\"soon\" is not a duration");
    }
}
