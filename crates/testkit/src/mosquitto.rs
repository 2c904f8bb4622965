//! A real MQTT broker: mosquitto, the Debian package of that name.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::pki::{Authority, Pair};
use crate::process::{Process, free_port};

const START: Duration = Duration::from_secs(30);

/// How the broker listens.
#[derive(Clone, Debug, Default)]
pub struct MosquittoOptions {
    /// TLS, with a certificate of an authority of its own.
    pub tls: bool,
    /// Ask clients for a certificate of that authority.
    pub require_cert: bool,
    /// The name in a client's certificate is its user; there are no passwords then.
    pub cert_is_user: bool,
    /// The one user and the password; without, everybody may connect.
    pub user: Option<(String, String)>,
    /// Largest packet in bytes, which clients are told.
    pub max_packet_size: Option<u32>,
    /// Largest message in bytes, which clients are not told.
    pub message_size_limit: Option<u32>,
}

/// A running broker; ends when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    process: Option<Process>,
    authority: Authority,
    options: MosquittoOptions,
    port: u16,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts a broker on a free port.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start(options: MosquittoOptions) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let port = free_port()?;
        let mut broker = Self {
            process: None,
            authority,
            options,
            port,
            folder,
        };
        broker.configure()?;
        broker.restart().await?;
        Ok(broker)
    }

    /// `127.0.0.1:PORT`; stays the same over restarts.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority of its certificate and of those of its clients.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again, on the same port; ends it before if it runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let folder = self.folder.path();
        let config = folder.join("mosquitto.conf");
        let args = ["-c".as_ref(), config.as_os_str()];
        let mut process = Process::start("mosquitto", &installed()?, args, folder)?;
        let port = self.port;
        process
            .wait_for(START, async || {
                TcpStream::connect(("127.0.0.1", port)).await.is_ok()
            })
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Everything that it wrote since it was started last.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// What it wrote last.
    pub fn tail(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }

    fn configure(&self) -> Result<()> {
        let folder = self.folder.path();
        let file = |name: &str| folder.join(name).display().to_string();
        let options = &self.options;
        let mut text = format!(
            "listener {} 127.0.0.1\nlog_dest stderr\nset_tcp_nodelay true\npersistence false\n",
            self.port
        );
        // Its default, 1000, drops a burst without a word to anybody; 0, which is no limit, makes it close every connection on which
        // a message was too large.
        text.push_str("max_queued_messages 1000000\n");
        // The usual ones, and who subscribes to what: peers subscribe in their own time, and tests wait for that.
        for kind in ["error", "warning", "notice", "information", "subscribe"] {
            writeln!(text, "log_type {kind}")?;
        }
        // As root mosquitto would change to a user that cannot read the folder.
        writeln!(text, "user {}", user()?)?;
        if options.tls {
            let Pair { cert, key } = self.authority.server("server")?;
            let (cert, key) = (cert.display(), key.display());
            writeln!(
                text,
                "cafile {}\ncertfile {cert}\nkeyfile {key}",
                file("ca.crt")
            )?;
            writeln!(text, "require_certificate {}", options.require_cert)?;
            writeln!(text, "use_identity_as_username {}", options.cert_is_user)?;
        }
        match &options.user {
            None => writeln!(text, "allow_anonymous true")?,
            Some((user, password)) => {
                let passwords = folder.join("passwords");
                write_password(&passwords, user, password)?;
                writeln!(text, "allow_anonymous false")?;
                writeln!(text, "password_file {}", passwords.display())?;
            }
        }
        for (name, value) in [
            ("max_packet_size", options.max_packet_size),
            ("message_size_limit", options.message_size_limit),
        ] {
            if let Some(value) = value {
                writeln!(text, "{name} {value}")?;
            }
        }
        fs::write(folder.join("mosquitto.conf"), text)?;
        Ok(())
    }
}

/// Debian puts it where only administrators look.
fn installed() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join("mosquitto"))
        .find(|program| program.exists())
        .context("mosquitto is not installed: install the package mosquitto, or run `.ci/run`")
}

fn user() -> Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn write_password(file: &Path, user: &str, password: &str) -> Result<()> {
    let status = Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(file)
        .args([user, password])
        .status()
        .context("failed to run mosquitto_passwd, which comes with mosquitto")?;
    if !status.success() {
        bail!("mosquitto_passwd failed: {status}");
    }
    Ok(())
}
