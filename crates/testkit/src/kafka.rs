//! A real Kafka broker (KRaft, one node) with a plain listener and one that asks for client certificates.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::pki::Authority;
use crate::process::{Process, free_port, program};

const START: Duration = Duration::from_mins(2);
const STOP: Duration = Duration::from_mins(1);
/// Any 16 bytes in base64 will do.
const CLUSTER_ID: &str = "ZHJvdmVyLXRlc3QtYnJva2U";
/// Small and quick to start; a broker of its own for each test.
const JAVA: &[&str] = &[
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
];

/// How the broker is set up.
#[derive(Clone, Copy, Debug)]
pub struct KafkaOptions {
    /// Partitions of topics that are made without saying how many.
    pub partitions: u16,
    /// Largest batch that it takes, in bytes.
    pub max_message: usize,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            max_message: 1024 * 1024,
        }
    }
}

/// A broker in a process of its own; it ends when dropped. Its data survive a restart.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    folder: TempDir,
    plain: u16,
    tls: u16,
    authority: Authority,
}

impl Kafka {
    /// Starts an empty broker and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start(options: KafkaOptions) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let server = authority.server("server")?;
        let store = fs::read_to_string(server.key)? + &fs::read_to_string(server.cert)?;
        fs::write(folder.path().join("server.pem"), store)?;
        let (plain, tls, controller) = (free_port()?, free_port()?, free_port()?);
        let settings = settings(folder.path(), options, [plain, tls, controller]);
        fs::write(folder.path().join("server.properties"), settings)?;
        fs::write(folder.path().join("log4j2.properties"), LOGGING)?;
        format_storage(folder.path())?;
        let process = run(folder.path())?;
        let mut kafka = Self {
            process,
            folder,
            plain,
            tls,
            authority,
        };
        kafka.ready().await?;
        Ok(kafka)
    }

    /// Address without TLS.
    pub fn plain(&self) -> String {
        format!("127.0.0.1:{}", self.plain)
    }

    /// Address with TLS; it wants a certificate of its [`authority`](Self::authority).
    pub fn tls(&self) -> String {
        format!("localhost:{}", self.tls)
    }

    /// The authority of its certificate and of its clients'.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to end, as a rolling restart does.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate(STOP)?;
        Ok(())
    }

    /// Starts it again with the same data on the same ports.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = run(self.folder.path())?;
        self.ready().await
    }

    async fn ready(&mut self) -> Result<()> {
        let port = self.plain;
        self.process
            .wait_for(START, async || answers(port).await.unwrap_or(false))
            .await
    }
}

const LOGGING: &str = "status=error
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.c.ref=C
";

fn settings(folder: &Path, options: KafkaOptions, [plain, tls, controller]: [u16; 3]) -> String {
    let folder = folder.display();
    let KafkaOptions {
        partitions,
        max_message,
    } = options;
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SSL://localhost:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.crt
ssl.client.auth=required
log.dirs={folder}/data
num.partitions={partitions}
message.max.bytes={max_message}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
num.replica.fetchers=1
log.cleaner.dedupe.buffer.size=2097152
"
    )
}

fn java(folder: &Path) -> Result<Vec<String>> {
    let jars = program("kafka-jars")?;
    let mut args: Vec<String> = JAVA.iter().map(|arg| (*arg).to_owned()).collect();
    let logging = folder.join("log4j2.properties");
    args.push(format!("-Dlog4j2.configurationFile={}", logging.display()));
    args.push("-cp".to_owned());
    args.push(format!("{}/*", jars.display()));
    Ok(args)
}

fn format_storage(folder: &Path) -> Result<()> {
    let output = Command::new("java")
        .args(java(folder)?)
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
        .arg(folder.join("server.properties"))
        .output()
        .context("failed to run java: Kafka needs Java 17 or newer, please install it")?;
    if !output.status.success() {
        bail!(
            "failed to format Kafka's storage:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn run(folder: &Path) -> Result<Process> {
    let mut args = java(folder)?;
    let settings = folder.join("server.properties");
    args.extend(["kafka.Kafka".to_owned(), settings.display().to_string()]);
    Process::start("kafka", Path::new("java"), args, folder)
}

/// Whether the broker answers a request for the versions it speaks, and has come so far that it takes orders: an open port
/// comes earlier than both.
async fn answers(port: u16) -> std::io::Result<bool> {
    let look = async {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
        // Length, API 18 version 0, correlation 1, client "peer".
        let request = b"\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04peer";
        socket.write_all(request).await?;
        let mut answer = [0; 10];
        socket.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer[4..] == [0, 0, 0, 1, 0, 0])
    };
    tokio::time::timeout(Duration::from_secs(3), look).await?
}
