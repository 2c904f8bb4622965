//! The embedded API is a Kubernetes API: the same requests and the same programs against it and a real
//! kube-apiserver, and every answer compared as a whole.
//!
//! Cases are data: `cases/*.yaml` (requests), `kinds.yaml` (the life of every built-in kind), `kubectl/*.yaml`
//! (commands of users). An argument runs only the scripts whose name contains it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

mod discovery;
mod http;
mod kinds;
mod normal;
mod programs;
mod servers;
mod upstream;

use crate::http::{Report, Script};
use crate::servers::Servers;

/// Other scripts stand on it.
const SETUP: &str = "00-setup";

#[tokio::main]
async fn main() -> ExitCode {
    match compare().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn compare() -> Result<bool> {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let mut scripts = kinds::scripts(&fs::read_to_string(folder.join("kinds.yaml"))?)?;
    for file in files(&folder.join("cases"))? {
        let text = fs::read_to_string(&file)?;
        let name = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let cases = serde_saphyr::from_str(&text)
            .with_context(|| format!("failed to read {}", file.display()))?;
        scripts.push(Script { name, cases });
    }
    scripts.push(upstream::script(&fs::read_to_string(
        folder.join("upstream.yaml"),
    )?)?);
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    scripts.retain(|script| script.name == SETUP || script.name.contains(&wanted));
    let start = Instant::now();
    let servers = Servers::start().await?;
    say(&format!(
        "servers are up after {:.1} s",
        start.elapsed().as_secs_f32()
    ));
    let mut report = Report::default();
    let mut tell = |found: Report| {
        for failure in &found.failures {
            say(&format!("FAIL {failure}"));
        }
        report.add(found);
    };
    for script in &scripts {
        tell(crate::http::run(&servers, script).await?);
    }
    for file in files(&folder.join("kubectl"))? {
        let stem = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let name = format!("kubectl {stem}");
        if name.contains(&wanted) {
            tell(programs::kubectl(&servers, &name, &fs::read_to_string(&file)?).await?);
        }
    }
    if "discovery".contains(&wanted) {
        tell(discovery::compare(&servers).await?);
    }
    if "client-go".contains(&wanted) {
        tell(programs::client_go(&servers).await?);
    }
    say(&format!(
        "{} cases, {} with differences, {} allowed differences seen, {:.1} s",
        report.cases,
        report.failures.len(),
        report.allowed,
        start.elapsed().as_secs_f32()
    ));
    Ok(report.failures.is_empty())
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn say(text: &str) {
    // A closed pipe is the reader's wish; there is nobody left to tell.
    writeln!(std::io::stdout(), "{text}").ok();
}
