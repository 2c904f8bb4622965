//! A real AMQP broker: RabbitMQ, the Debian package rabbitmq-server, set up as that of Fedora Messaging: TLS with a
//! certificate of the client, whose common name is the user (EXTERNAL), and rights by topic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pki::{Authority, Pair};
use crate::process::{Process, free_port};

/// Debian's place for the scripts; the wrappers in the usual places want to be another user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
/// A fresh node makes its database first: ten seconds on an idle machine.
const START: Duration = Duration::from_mins(4);
const STOP: Duration = Duration::from_mins(2);
const VHOST: &str = "/pubsub";
/// Salted SHA-256 of the password `reader`.
const READER_HASH: &str = "AQIDBP0/c6bEet8Vg0oJtfVZF70jgo7bzndK9K97+KPeKQv3";

/// The user who may publish to `amq.topic` below `org.fedoraproject.stg.` and `org.fedoraproject.prod.`, and nothing else.
pub const PUBLISHER: &str = "fmsg-publisher";
/// A user of the broker who has no rights in the vhost.
pub const POWERLESS: &str = "fmsg-powerless";
/// A user who may do everything, with a certificate.
pub const READER: &str = "fmsg-reader";
/// The queue that gets every message.
pub const CAPTURE: &str = "capture";
/// Messages below `org.fedoraproject.stg.full.` find this queue, which holds one and refuses the next.
pub const FULL: &str = "full";

/// A running broker; ends when dropped.
#[derive(Debug)]
pub struct RabbitMq {
    server: Option<Process>,
    /// The directory of Erlang nodes, one of our own.
    _names: Process,
    authority: Authority,
    ports: Ports,
    folder: TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    tls: u16,
    plain: u16,
    nodes: u16,
    names: u16,
}

impl RabbitMq {
    /// Starts a broker on free ports.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(&folder.path().join("pki"))?;
        authority.server("server")?;
        let ports = Ports {
            tls: free_port()?,
            plain: free_port()?,
            nodes: free_port()?,
            names: free_port()?,
        };
        for name in ["home", "data", "log"] {
            fs::create_dir(folder.path().join(name))?;
        }
        configure(folder.path(), ports)?;
        let args = ["-port", &ports.names.to_string(), "-address", "127.0.0.1"];
        let names = Process::start("epmd", Path::new("epmd"), args, folder.path())
            .context("epmd comes with rabbitmq-server: install that package, or run `.ci/run`")?;
        let mut broker = Self {
            server: None,
            _names: names,
            authority,
            ports,
            folder,
        };
        broker.restart().await?;
        Ok(broker)
    }

    /// `amqps://localhost:PORT/%2Fpubsub`; stays the same over restarts.
    pub fn url(&self) -> String {
        format!("amqps://localhost:{}/%2Fpubsub", self.ports.tls)
    }

    /// The port that speaks TLS.
    pub fn port(&self) -> u16 {
        self.ports.tls
    }

    /// The authority of its certificate and of those of its clients.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A certificate in the name of a user.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn client(&self, user: &str) -> Result<Pair> {
        self.authority.client(user, user)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.terminate(STOP)?;
        }
        Ok(())
    }

    /// Starts it again with the same data on the same ports; ends it before if it runs.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        let script = installed("rabbitmq-server")?;
        let folder = self.folder.path();
        let environment = environment(folder, self.ports);
        let none: [&str; 0] = [];
        let mut server = Process::start_in("rabbitmq", &script, none, &environment, folder)?;
        let port = self.ports.plain;
        server
            .wait_for(START, async || answers(port).await.unwrap_or(false))
            .await?;
        self.server = Some(server);
        Ok(())
    }

    /// Runs `rabbitmqctl`; the answer is what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(installed("rabbitmqctl")?)
            .arg("-q")
            .args(args)
            .envs(environment(self.folder.path(), self.ports))
            .output()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("rabbitmqctl {args:?}: {}", String::from_utf8_lossy(&said));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Makes it take no more messages, as one without memory does; or take them again.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn block(&self, blocked: bool) -> Result<()> {
        let mark = if blocked { "0.0000001" } else { "0.6" };
        self.ctl(&["set_vm_memory_high_watermark", mark])?;
        Ok(())
    }

    /// The most memory that its process has had, and has, in bytes.
    pub fn id(&self) -> Option<u32> {
        self.server.as_ref().map(Process::id)
    }

    /// What it wrote last.
    pub fn tail(&self) -> String {
        self.server.as_ref().map(Process::tail).unwrap_or_default()
    }

    /// Somebody who looks into the queues.
    ///
    /// # Errors
    /// When the broker does not let them in.
    pub async fn reader(&self) -> Result<Reader> {
        let url = format!(
            "amqp://reader:reader@127.0.0.1:{}/%2Fpubsub",
            self.ports.plain
        );
        let runtime = async_rs::Runtime::tokio_current();
        let connection =
            Connection::connect_with_runtime(&url, ConnectionProperties::default(), runtime)
                .await?;
        let channel = connection.create_channel().await?;
        Ok(Reader {
            connection,
            channel,
        })
    }
}

/// Looks into the queues of a broker.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    channel: Channel,
}

impl Reader {
    /// Takes the next message out of a queue, if there is one.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn take(&self, queue: &str) -> Result<Option<BasicGetMessage>> {
        let options = BasicGetOptions { no_ack: true };
        Ok(self.channel.basic_get(queue.into(), options).await?)
    }

    /// Publishes a message to `amq.topic` with this routing key, and waits until the broker has it.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn fill(&self, key: &str) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = channel
            .basic_publish("amq.topic".into(), key.into(), options, b"{}", properties)
            .await?;
        let confirm = sent.await?;
        ensure!(confirm.is_ack(), "the broker did not take it: {confirm:?}");
        Ok(())
    }

    /// Takes a queue off `amq.topic`: from now on it gets no messages.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn unbind(&self, queue: &str, key: &str) -> Result<()> {
        let none = FieldTable::default();
        let unbound = self
            .channel
            .queue_unbind(queue.into(), "amq.topic".into(), key.into(), none);
        Ok(unbound.await?)
    }

    /// Takes everything out of a queue; the answer is how much it was.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn purge(&self, queue: &str) -> Result<u32> {
        let options = QueuePurgeOptions::default();
        Ok(self.channel.queue_purge(queue.into(), options).await?)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // It needs the directory of nodes until it ends.
        self.server = None;
    }
}

fn installed(script: &str) -> Result<PathBuf> {
    let path = Path::new(SCRIPTS).join(script);
    if !path.exists() {
        bail!(
            "{} is not there: install the package rabbitmq-server, or run `.ci/run`",
            path.display()
        );
    }
    Ok(path)
}

/// Everything that would make it share something with another broker of this machine is set.
fn environment(folder: &Path, ports: Ports) -> Vec<(&'static str, String)> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        ("HOME", file("home")),
        ("LANG", "C.UTF-8".to_owned()),
        // The script becomes the node instead of waiting for it, so that the node ends with the script.
        ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_NODENAME", "fmsg@localhost".to_owned()),
        ("RABBITMQ_MNESIA_BASE", file("data")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
        ("RABBITMQ_PID_FILE", file("pid")),
        ("RABBITMQ_DIST_PORT", ports.nodes.to_string()),
        ("ERL_EPMD_PORT", ports.names.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
    ]
}

fn configure(folder: &Path, ports: Ports) -> Result<()> {
    let pki = folder.join("pki");
    let (pki, definitions) = (pki.display(), folder.join("definitions.json"));
    let text = format!(
        "listeners.tcp.default = 127.0.0.1:{plain}
listeners.ssl.default = 127.0.0.1:{tls}
ssl_options.cacertfile = {pki}/ca.crt
ssl_options.certfile = {pki}/server.crt
ssl_options.keyfile = {pki}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = EXTERNAL
auth_mechanisms.2 = PLAIN
ssl_cert_login_from = common_name
channel_max = 128
log.console = true
log.console.level = warning
log.file = false
load_definitions = {definitions}
",
        plain = ports.plain,
        tls = ports.tls,
        definitions = definitions.display(),
    );
    fs::write(folder.join("rabbitmq.conf"), text)?;
    fs::write(
        folder.join("enabled_plugins"),
        "[rabbitmq_auth_mechanism_ssl].\n",
    )?;
    fs::write(&definitions, self::definitions().to_string())?;
    Ok(())
}

/// Users, rights and queues. Only the reader has a password; the others have certificates.
fn definitions() -> Value {
    let user = |name: &str, hash: &str| json!({"name": name, "password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []});
    let rights = |user: &str, configure: &str, write: &str, read: &str| json!({"user": user, "vhost": VHOST, "configure": configure, "write": write, "read": read});
    let queue = |name: &str, arguments: Value| json!({"name": name, "vhost": VHOST, "durable": true, "auto_delete": false, "arguments": arguments});
    let binding = |queue: &str, key: &str| {
        json!({"source": "amq.topic", "vhost": VHOST, "destination": queue, "destination_type": "queue",
               "routing_key": key, "arguments": {}})
    };
    json!({
        "users": [user("reader", READER_HASH), user(PUBLISHER, ""), user(POWERLESS, ""), user(READER, "")],
        "vhosts": [{"name": "/"}, {"name": VHOST}],
        "permissions": [
            rights(PUBLISHER, "^$", r"^(amq\.topic|nowhere)$", "^$"),
            rights("reader", ".*", ".*", ".*"),
            rights(READER, ".*", ".*", ".*"),
        ],
        "topic_permissions": [{"user": PUBLISHER, "vhost": VHOST, "exchange": "amq.topic",
            "write": r"^org\.fedoraproject\.(stg|prod)\..*", "read": ".*"}],
        "exchanges": [], "parameters": [], "policies": [],
        "queues": [queue(CAPTURE, json!({})), queue(FULL, json!({"x-max-length": 1, "x-overflow": "reject-publish"}))],
        "bindings": [binding(CAPTURE, "#"), binding(FULL, "org.fedoraproject.stg.full.#")],
    })
}

/// Whether it answers the header of AMQP 0-9-1 with a method: an open port comes earlier than that.
async fn answers(port: u16) -> std::io::Result<bool> {
    let look = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.write_all(b"AMQP\x00\x00\x09\x01").await?;
        let mut first = [0; 1];
        socket.read_exact(&mut first).await?;
        std::io::Result::Ok(first == [1])
    };
    tokio::time::timeout(Duration::from_secs(3), look).await?
}
