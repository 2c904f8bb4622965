//! Messages to RabbitMQ over TLS: the command, beside the one of the Python library, and a burst of FedoraMessages.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use drover_testkit::rabbitmq::{CAPTURE, PUBLISHER, RabbitMq};
use drover_testkit::{Fleet, program};
use http::Method;
use serde_json::{Value, json};

use crate::Args;
use crate::http::Endpoint;
use crate::process::{processor_time, processor_time_since, resident};
use crate::report::Report;

const BENCH: &str = "publish";
/// Messages of a run with many on their way at once.
const MANY: u32 = 50_000;
/// Messages of a run in which each waits for the one before, as the Python command sends them.
const FEW: u32 = 1_000;
/// FedoraMessages of a burst; there are two bursts, the second of which shows what stays in memory.
const BURST: u32 = 10_000;
/// Resources that are made on one connection.
const RENEW: u32 = 500;
const PATIENCE: Duration = Duration::from_mins(10);
const LOOK: Duration = Duration::from_millis(200);
const PATH: &str = "/apis/apps.fedoraproject.org/v1alpha1/namespaces/default/fedoramessages";

pub(crate) async fn run(drover: &Path, args: &Args, report: &mut Report) -> Result<()> {
    let broker = RabbitMq::start().await?;
    let folder = tempfile::tempdir()?;
    let conf = configuration(&broker, folder.path())?;
    let (many, few) = (folder.path().join("many"), folder.path().join("few"));
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
            "drover publish --in-flight 1000",
            ours(&many, "1000"),
            MANY,
            report,
        )
        .await?;
        measure(&broker, "drover publish", ours(&few, "1"), FEW, report).await?;
        if !args.alone {
            let mut theirs =
                Command::new(program("fedora-messaging")?.join("bin/fedora-messaging"));
            theirs.args(["--conf", &conf, "publish"]).arg(&few);
            measure(&broker, "fedora-messaging publish", theirs, FEW, report).await?;
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

/// Two bursts of resources on an embedded API, sent in process.
async fn burst(drover: &Path, broker: &RabbitMq, report: &mut Report) -> Result<()> {
    let system = "10,000 FedoraMessages";
    let url = format!("--messaging-url=stg={}", broker.url());
    let args = [
        "--hubs=1",
        "--clusters=0",
        "--ephemeral",
        "--messaging-in-process",
        &url,
    ];
    let fleet = Fleet::up(drover, &args, PATIENCE).await?;
    let endpoint = Endpoint::read(&fleet.kubeconfig(), Some("hub1"))?;
    let mut connection = endpoint.connect().await?;
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
    let before = processor_time(&[fleet.id()])?;
    let rest = resident(&[fleet.id()])?;
    report.add(BENCH, system, "resident before", "MiB", rest);
    for (round, memory) in ["resident after them", "resident after as many again"]
        .into_iter()
        .enumerate()
    {
        let start = Instant::now();
        for number in 0..BURST {
            // A connection does not live for ever.
            if number % RENEW == 0 {
                connection = endpoint.connect().await?;
            }
            let message = json!({
                "apiVersion": "apps.fedoraproject.org/v1alpha1", "kind": "FedoraMessage",
                "metadata": {"name": format!("m{round}-{number}")},
                "spec": {"env": "stg", "message": {"topic": "bench", "body": {"number": number}},
                         "authentication": {"secret_ref": {"name": "fm"}}, "ttl_seconds_after_finished": 5},
            });
            connection.create(PATH, message.to_string()).await?;
        }
        let made = start.elapsed();
        let mut sent = 0;
        // They go after a while, so what the broker got is counted, and that nothing of them is left.
        while sent < BURST || left(&mut endpoint.connect().await?).await? {
            sent += reader.purge(CAPTURE).await?;
            if start.elapsed() > PATIENCE {
                bail!("{sent} of {BURST} arrived");
            }
            tokio::time::sleep(LOOK).await;
        }
        ensure!(sent == BURST, "{sent} of {BURST} arrived: some came twice");
        report.add(BENCH, system, "created in", "s", made.as_secs_f64());
        report.add(
            BENCH,
            system,
            "created, sent and gone in",
            "s",
            start.elapsed().as_secs_f64(),
        );
        report.add(BENCH, system, memory, "MiB", resident(&[fleet.id()])?);
    }
    let used = processor_time_since(&[fleet.id()], before)?;
    let each = used.as_secs_f64() * 1e3 / f64::from(2 * BURST);
    report.add(
        BENCH,
        system,
        "processor time per message, API and all",
        "ms",
        each,
    );
    Ok(())
}

async fn left(connection: &mut crate::http::Connection) -> Result<bool> {
    let answer = connection
        .call(Method::GET, &format!("{PATH}?limit=1"), "")
        .await?;
    let list: Value = serde_json::from_slice(&answer)?;
    Ok(list["items"]
        .as_array()
        .is_some_and(|items| !items.is_empty()))
}
