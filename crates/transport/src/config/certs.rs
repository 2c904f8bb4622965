//! The certificate keys that all configurations share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::duration::refresh;
use super::{ConfigError, keys};
use crate::identity::{ClientTls, Pem, PemSource};

/// Certificates as configurations name them.
#[derive(Clone, Debug, Default)]
pub struct CertConfig {
    /// Issuers to trust beside those of the system.
    pub ca: Option<Pem>,
    /// Certificate chain and key of the client.
    pub identity: Option<(Pem, Pem)>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    ca_file: Option<PathBuf>,
    ca_data: Option<String>,
    client_cert_file: Option<PathBuf>,
    client_cert_data: Option<String>,
    client_key_file: Option<PathBuf>,
    client_key_data: Option<String>,
}

#[derive(Clone, Copy)]
enum Which {
    Ca,
    Cert,
    Key,
}

impl CertConfig {
    /// Reads the keys of a configuration. `file` is where the text is from: data in it is read again at each connect.
    pub fn read(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        let fields: Fields = keys(text)?;
        let ca = fields.pem(Which::Ca, file)?;
        let cert = fields.pem(Which::Cert, file)?;
        let key = fields.pem(Which::Key, file)?;
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                return Err(ConfigError::Wrong(
                    "either both or none of clientCertFile and clientKeyFile must be set"
                        .to_owned(),
                ));
            }
        };
        Ok(Self { ca, identity })
    }

    /// TLS, when there is anything to do it with. A CA alone authenticates the server.
    pub fn tls(&self) -> Option<ClientTls> {
        (self.ca.is_some() || self.identity.is_some()).then(|| ClientTls {
            ca: self.ca.clone(),
            identity: self.identity.clone(),
            server_name: None,
            refresh: refresh(),
        })
    }
}

impl Fields {
    fn texts(&self, which: Which) -> (&'static str, Option<&str>, Option<&PathBuf>) {
        let (name, data, file) = match which {
            Which::Ca => ("caData", &self.ca_data, &self.ca_file),
            Which::Cert => (
                "clientCertData",
                &self.client_cert_data,
                &self.client_cert_file,
            ),
            Which::Key => (
                "clientKeyData",
                &self.client_key_data,
                &self.client_key_file,
            ),
        };
        let data = data.as_deref().filter(|data| !data.is_empty());
        let file = file.as_ref().filter(|file| !file.as_os_str().is_empty());
        (name, data, file)
    }

    fn data(&self, which: Which) -> Result<Option<Vec<u8>>, ConfigError> {
        let (name, data, _) = self.texts(which);
        data.map(|data| {
            // Go skips line ends in base64.
            let data: String = data.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            STANDARD
                .decode(data)
                .map_err(|e| ConfigError::Wrong(format!("{name} is not base64: {e}")))
        })
        .transpose()
    }

    fn pem(&self, which: Which, config: Option<&Path>) -> Result<Option<Pem>, ConfigError> {
        let data = self.data(which)?.filter(|data| !data.is_empty());
        let (_, _, file) = self.texts(which);
        Ok(match (data, config, file) {
            (Some(data), None, _) => Some(Pem::Inline(data)),
            (Some(_), Some(config), _) => Some(Pem::Other(Arc::new(InConfig {
                config: config.to_owned(),
                which,
            }))),
            (None, _, Some(file)) => Some(Pem::File(file.clone())),
            (None, _, None) => None,
        })
    }
}

/// Data in a configuration file.
struct InConfig {
    config: PathBuf,
    which: Which,
}

impl PemSource for InConfig {
    fn read(&self) -> io::Result<Vec<u8>> {
        let text = std::fs::read_to_string(&self.config)?;
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let fields: Fields = keys(&text).map_err(|e| wrong(e.to_string()))?;
        if let Some(data) = fields.data(self.which).map_err(|e| wrong(e.to_string()))? {
            return Ok(data);
        }
        match fields.texts(self.which) {
            (_, _, Some(file)) => std::fs::read(file),
            (name, _, None) => Err(wrong(format!("{name} is not there any more"))),
        }
    }

    fn place(&self) -> String {
        let (name, ..) = Fields::default().texts(self.which);
        format!("{name} in {}", self.config.display())
    }
}
