//! What a fleet keeps beside its objects: keys, ports, tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use drover_apiserver::auth::ca::{Authority, write_private};
use drover_apiserver::auth::token::TokenKeys;
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// How long an embedded authority lives.
pub const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);

/// The folder of a fleet.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    settings: Settings,
}

/// What stays the same when the fleet is started again. Holds secrets: only the owner may read it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    /// Ports by what listens: `hub1`, `hub1-broker`.
    ports: BTreeMap<String, u16>,
    /// The administrator's bearer token of each API.
    tokens: BTreeMap<String, String>,
    /// The bootstrap token of each hub, `id.secret`.
    bootstrap: BTreeMap<String, String>,
}

impl Folder {
    /// Reads what was kept; a new folder has kept nothing.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join("fleet.json");
        let settings = if file.exists() {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is damaged; restore it, or move it away to get new ports and tokens",
                    file.display()
                )
            })?
        } else {
            Settings::default()
        };
        Ok(Self {
            path: path.to_owned(),
            settings,
        })
    }

    /// Writes what was chosen.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.settings)?;
        Ok(write_private(&self.path.join("fleet.json"), &text)?)
    }

    /// The port that something had last time.
    pub fn port(&self, of: &str) -> Option<u16> {
        self.settings.ports.get(of).copied()
    }

    /// Remembers a port.
    pub fn keep_port(&mut self, of: &str, port: u16) {
        self.settings.ports.insert(of.to_owned(), port);
    }

    /// The administrator's token of an API; made at the first time.
    pub fn token(&mut self, of: &str) -> String {
        self.settings
            .tokens
            .entry(of.to_owned())
            .or_insert_with(|| letters(40))
            .clone()
    }

    /// The bootstrap token of a hub; made at the first time.
    pub fn bootstrap(&mut self, hub: &str) -> drover_hub::install::BootstrapToken {
        let text = self
            .settings
            .bootstrap
            .entry(hub.to_owned())
            .or_insert_with(|| format!("{}.{}", letters(6), letters(16)));
        let (id, secret) = text.split_once('.').unwrap_or((text, ""));
        drover_hub::install::BootstrapToken {
            id: id.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// The authority with this name; made at the first time.
    pub fn authority(&self, name: &str, now: Timestamp) -> Result<Authority> {
        let folder = self.path.join("pki");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let (certificate, key) = (
            folder.join(format!("{name}.crt")),
            folder.join(format!("{name}.key")),
        );
        Authority::load_or_create(
            &certificate,
            &key,
            &format!("drover {name}"),
            AUTHORITY_LIFE,
            now,
        )
        .with_context(|| format!("failed to prepare the certificate authority of {name}"))
    }

    /// The keys of an API's service account tokens; made at the first time.
    pub fn account_keys(&self, name: &str) -> Result<TokenKeys> {
        let file = self.path.join("pki").join(format!("{name}-accounts.key"));
        if file.exists() {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            return TokenKeys::from_pem(&[&text])?.with_context(|| {
                format!(
                    "{} holds no key; restore it, or move it away to get a new one",
                    file.display()
                )
            });
        }
        let keys = TokenKeys::generate()?;
        write_private(&file, &keys.to_pem().concat())?;
        Ok(keys)
    }
}

/// Random lower-case letters and digits.
fn letters(count: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..count)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}
