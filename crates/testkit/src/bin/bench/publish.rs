//! Messages to RabbitMQ over TLS: the command, beside the one of the Python library, and a burst of FedoraMessages.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drover_testkit::rabbitmq::{CAPTURE, PUBLISHER, RabbitMq};
use drover_testkit::{Process, program};
use http::Method;
use serde_json::{Value, json};

use crate::Args;
use crate::http::Connection;
use crate::process::{processor_time, processor_time_since, resident};
use crate::report::Report;
use crate::server::Server;

const BENCH: &str = "publish";
/// Messages of a run with many on their way at once.
const MANY: u32 = 50_000;
/// Messages of a run in which each waits for the one before, as the Python command sends them.
const FEW: u32 = 1_000;
/// FedoraMessages of a burst, …
const BURST: u32 = 10_000;
/// … and after each of the bursts, which follow each other, the memory is looked at: what stays in it shows.
const AFTER: [&str; 5] = [
    "resident after the first burst",
    "resident after the second burst",
    "resident after the third burst",
    "resident after the fourth burst",
    "resident after the fifth burst",
];
/// What the bursts are called.
const SYSTEM: &str = "10,000 FedoraMessages";
/// How long they stay after they were sent, in seconds.
const TTL: u32 = 5;
const PATIENCE: Duration = Duration::from_mins(10);
const LOOK: Duration = Duration::from_millis(200);
const PATH: &str = "/apis/apps.fedoraproject.org/v1alpha1/namespaces/default/fedoramessages";

pub(crate) async fn run(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    let broker = RabbitMq::start().await?;
    let folder = tempfile::tempdir()?;
    let conf = configuration(&broker, folder.path())?;
    let [one, many, few] = ["one", "many", "few"].map(|name| folder.path().join(name));
    fs::write(&one, lines(1))?;
    fs::write(&many, lines(MANY))?;
    fs::write(&few, lines(FEW))?;
    let ours = |file: &Path, at_once: &str| {
        let mut command = Command::new(drover);
        command
            .args(["publish", "--conf", &conf, "--in-flight", at_once, "--file"])
            .arg(file);
        command
    };
    for _ in 0..args.rounds {
        measure(
            &broker,
            "drover publish, one message",
            ours(&one, "1"),
            1,
            report,
        )
        .await?;
        measure(
            &broker,
            "drover publish --in-flight 1000",
            ours(&many, "1000"),
            MANY,
            report,
        )
        .await?;
        measure(&broker, "drover publish", ours(&few, "1"), FEW, report).await?;
        if !args.alone {
            let python = program("fedora-messaging")?.join("bin/fedora-messaging");
            let theirs = |file: &Path| {
                let mut command = Command::new(&python);
                command.args(["--conf", &conf, "publish"]).arg(file);
                command
            };
            let system = "fedora-messaging publish";
            measure(&broker, system, theirs(&few), FEW, report).await?;
            let single = "fedora-messaging publish, one message";
            measure(&broker, single, theirs(&one), 1, report).await?;
        }
    }
    burst(drover, &broker, report).await
}

fn lines(count: u32) -> String {
    let line = |number: u32| json!({"topic": "bench.thing.created", "body": {"number": number, "text": "x".repeat(200)}});
    (0..count).fold(String::new(), |text, number| {
        text + &line(number).to_string() + "\n"
    })
}

fn configuration(broker: &RabbitMq, folder: &Path) -> Result<String> {
    let pair = broker.client(PUBLISHER)?;
    let path = folder.join("config.toml");
    let text = format!(
        "amqp_url = \"{}\"\ntopic_prefix = \"org.fedoraproject.stg\"\npassive_declares = true\n\
         [tls]\nca_cert = \"{}\"\ncertfile = \"{}\"\nkeyfile = \"{}\"\n",
        broker.url(),
        broker.authority().ca().display(),
        pair.cert.display(),
        pair.key.display()
    );
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

/// One run of a command that sends a file: all of it, from the start of the process to its end.
async fn measure(
    broker: &RabbitMq,
    system: &str,
    mut command: Command,
    count: u32,
    report: &mut Report,
) -> Result<()> {
    let before = children()?;
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create("/dev/null")?)
        .status()?;
    let time = start.elapsed();
    ensure!(status.success(), "{system} failed: {status}");
    let used = children()?.saturating_sub(before);
    let arrived = broker.reader().await?.purge(CAPTURE).await?;
    ensure!(arrived == count, "{arrived} of {count} arrived");
    let count = f64::from(count);
    report.add(
        BENCH,
        system,
        "confirmed messages",
        "1/s",
        count / time.as_secs_f64(),
    );
    report.add(
        BENCH,
        system,
        "processor time per message",
        "µs",
        used.as_secs_f64() * 1e6 / count,
    );
    Ok(())
}

/// Processor time of the children that ended and were waited for.
fn children() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("a stat without a name")?;
    let times = fields.split_ascii_whitespace().skip(13).take(2);
    let ticks = times.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    // USER_HZ is 100 on every platform that has it.
    Ok(Duration::from_millis(10) * ticks)
}

/// Bursts of resources on an embedded API that keeps them on disk, sent in process by a publisher of its own.
async fn burst(drover: &Path, broker: &RabbitMq, report: &mut Report) -> Result<()> {
    let server = Server::drover(drover).await?;
    let folder = tempfile::tempdir()?;
    let args = [
        "publisher".to_owned(),
        format!("--kubeconfig={}", server.kubeconfig.display()),
        format!("--messaging-url=stg={}", broker.url()),
        "--messaging-in-process".to_owned(),
        "--disable-leader-election".to_owned(),
    ];
    let mut publisher = Process::start("publisher", drover, args, folder.path())?;
    let serves = async || {
        let Ok(mut connection) = server.endpoint.connect().await else {
            return false;
        };
        left(&mut connection).await.is_ok()
    };
    publisher.wait_for(PATIENCE, serves).await?;
    let mut connection = server.endpoint.connect().await?;
    let pair = broker.client(PUBLISHER)?;
    let text = |path: &Path| fs::read_to_string(path);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fm"}, "stringData":
        {"ca": text(&broker.authority().ca())?, "cert": text(&pair.cert)?, "key": text(&pair.key)?},
    });
    connection
        .create("/api/v1/namespaces/default/secrets", secret.to_string())
        .await?;
    let reader = broker.reader().await?;
    let parts = [
        ("publisher", vec![publisher.id()]),
        ("embedded API", server.processes.clone()),
    ];
    for (round, memory) in AFTER.into_iter().enumerate() {
        let before: Vec<_> = parts
            .iter()
            .map(|(_, ids)| processor_time(ids))
            .collect::<Result<_>>()?;
        let start = Instant::now();
        for number in 0..BURST {
            let message = json!({
                "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
                "metadata": {"name": format!("m{round}-{number}")},
                "spec": {"env": "stg", "message": {"topic": "bench", "body": {"number": number}},
                         "authentication": {"secret_ref": {"name": "fm"}}, "ttl_seconds_after_finished": TTL},
            });
            connection.create(PATH, message.to_string()).await?;
        }
        report.add(
            BENCH,
            SYSTEM,
            "created in",
            "s",
            start.elapsed().as_secs_f64(),
        );
        let mut sent = 0;
        while sent < BURST {
            sent += reader.purge(CAPTURE).await?;
            patient(start, sent)?;
            tokio::time::sleep(LOOK).await;
        }
        report.add(
            BENCH,
            SYSTEM,
            "all sent in",
            "s",
            start.elapsed().as_secs_f64(),
        );
        // They go after a while; then nothing of them is left, and none came twice.
        while left(&mut connection).await? {
            patient(start, sent)?;
            tokio::time::sleep(LOOK).await;
        }
        sent += reader.purge(CAPTURE).await?;
        ensure!(sent == BURST, "{sent} of {BURST} arrived: some came twice");
        for ((part, ids), before) in parts.iter().zip(before) {
            let system = format!("{SYSTEM}: {part}");
            let used = processor_time_since(ids, before)?.as_secs_f64() * 1e3 / f64::from(BURST);
            report.add(BENCH, &system, "processor time per message", "ms", used);
            report.add(BENCH, &system, memory, "MiB", resident(ids)?);
        }
    }
    Ok(())
}

fn patient(start: Instant, sent: u32) -> Result<()> {
    ensure!(start.elapsed() < PATIENCE, "{sent} of {BURST} arrived");
    Ok(())
}

async fn left(connection: &mut Connection) -> Result<bool> {
    let answer = connection
        .call(Method::GET, &format!("{PATH}?limit=1"), "")
        .await?;
    let list: Value = serde_json::from_slice(&answer)?;
    Ok(list["items"]
        .as_array()
        .is_some_and(|items| !items.is_empty()))
}
