//! Programs of users against both servers: kubectl, and a Go program that works as controllers do.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use drover_testkit::program;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::http::Report;
use crate::normal;
use crate::servers::{Server, Servers};

const PATIENCE: Duration = Duration::from_mins(2);

/// One command of a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// A line of shell, in which `kubectl` speaks to the server.
    run: String,
    /// What it reads.
    #[serde(default)]
    input: String,
    /// Why its output may differ; the exit code may not.
    #[serde(default)]
    allowed: String,
}

/// Runs every command of a file, one after the other, against both servers.
pub(crate) async fn kubectl(servers: &Servers, name: &str, text: &str) -> Result<Report> {
    let steps: Vec<Step> =
        serde_saphyr::from_str(text).with_context(|| format!("failed to read {name}"))?;
    let (kube, drover) = (Home::new(&servers.kube)?, Home::new(&servers.drover)?);
    let mut report = Report::default();
    for step in &steps {
        let (left, right) = tokio::join!(kube.run(step), drover.run(step));
        let (mut left, mut right) = (left?, right?);
        report.cases += 1;
        if !step.allowed.is_empty() {
            report.allowed += usize::from(left != right);
            for side in [&mut left, &mut right] {
                side["output"] = Value::Null;
                side["error"] = Value::Null;
            }
        }
        if left != right {
            let show = |side: &Value| {
                let text = |name: &str| side[name].as_str().unwrap_or_default().to_owned();
                format!("code {}\n{}{}", side["code"], text("output"), text("error"))
            };
            let (left, right) = (show(&left), show(&right));
            report.failures.push(format!(
                "{name}: {}\n  kube: {left}\n  drover: {right}",
                step.run
            ));
        }
    }
    Ok(report)
}

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new(server: &Server) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::copy(&server.kubeconfig, folder.path().join("kubeconfig"))?;
        Ok(Self { folder })
    }

    async fn run(&self, step: &Step) -> Result<Value> {
        let folder = self.folder.path();
        let kubectl = program("kubectl")?;
        let path = kubectl.parent().unwrap_or(Path::new("/"));
        let path = format!(
            "{}:{}",
            path.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let mut child = Command::new("bash")
            .args(["-c", &step.run])
            .current_dir(folder)
            .env("HOME", folder)
            .env("KUBECONFIG", folder.join("kubeconfig"))
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A command that does not read ends the pipe.
            stdin.write_all(step.input.as_bytes()).await.ok();
        }
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.with_context(|| format!("`{}` does not end", step.run))??;
        let tidy = |bytes: &[u8]| normal::output(&String::from_utf8_lossy(bytes));
        Ok(
            json!({"code": output.status.code(), "output": tidy(&output.stdout), "error": tidy(&output.stderr)}),
        )
    }
}

/// The Go program must find nothing wrong with either server.
pub(crate) async fn client_go(servers: &Servers) -> Result<Report> {
    let mut report = Report::default();
    let probe = program("client-go-probe")?;
    for server in [&servers.kube, &servers.drover] {
        let run = Command::new(&probe)
            .arg("-kubeconfig")
            .arg(&server.kubeconfig)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, run)
            .await
            .context("client-go-probe does not end")??;
        let text = String::from_utf8_lossy(&output.stdout);
        report.cases += text.lines().count();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            report.failures.push(format!(
                "client-go-probe against {}:\n{text}{error}",
                server.name
            ));
        }
    }
    Ok(report)
}
