//! Cases as data: one request, sent to both servers, and the two answers compared as a whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::normal::{self, Kept};
use crate::servers::{Server, Servers, TOKEN};

const PATIENCE: Duration = Duration::from_secs(20);
const JSON: &str = "application/json";

/// One request. Strings may hold `${name}`: a value kept from an earlier answer of the same server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Case {
    /// What it shows.
    pub(crate) name: String,
    /// `METHOD /path?query`.
    #[serde(rename = "do")]
    pub(crate) action: String,
    /// A document, or a string that is sent as it is.
    pub(crate) body: Option<Value>,
    /// Size of a body of nothing in particular.
    pub(crate) bulk: Option<usize>,
    /// `Content-Type`.
    #[serde(rename = "type")]
    pub(crate) content: Option<String>,
    /// `Accept`.
    pub(crate) accept: Option<String>,
    /// More headers.
    pub(crate) headers: BTreeMap<String, String>,
    /// A bearer token in place of the administrator's; empty for none.
    #[serde(rename = "as")]
    pub(crate) token: Option<String>,
    /// Name and JSON pointer of what later cases need.
    pub(crate) keep: BTreeMap<String, String>,
    /// Repeats the request until these JSON pointers have these values (`code` is the status).
    pub(crate) until: BTreeMap<String, Value>,
    /// Reads this many events of a watch.
    pub(crate) events: Option<usize>,
    /// Paths in which a difference is allowed, each with its reason.
    pub(crate) allowed: BTreeMap<String, String>,
}

/// Cases in one file, which depend on each other and on no other file.
#[derive(Debug)]
pub(crate) struct Script {
    /// The file's name.
    pub(crate) name: String,
    /// In order.
    pub(crate) cases: Vec<Case>,
}

/// What a run found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Cases that ran.
    pub(crate) cases: usize,
    /// Cases with a difference, told in full.
    pub(crate) failures: Vec<String>,
    /// Differences with a reason that were seen.
    pub(crate) allowed: usize,
}

impl Report {
    /// Adds what another found.
    pub(crate) fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.allowed += other.allowed;
        self.failures.extend(other.failures);
    }
}

/// Asks both servers everything in the script.
pub(crate) async fn run(servers: &Servers, script: &Script) -> Result<Report> {
    let mut report = Report::default();
    let (mut kept_kube, mut kept_drover) = (Kept::new(), Kept::new());
    for case in &script.cases {
        let place = format!("{}: {}", script.name, case.name);
        let (kube, drover) = tokio::join!(
            ask(&servers.kube, case, &mut kept_kube),
            ask(&servers.drover, case, &mut kept_drover)
        );
        report.cases += 1;
        let kube = match kube {
            Ok(kube) => kube,
            Err(error) => {
                report
                    .failures
                    .push(format!("{place}: the real server: {error:#}"));
                continue;
            }
        };
        let mut found = Vec::new();
        match drover {
            Ok(drover) => normal::differences("", &kube, &drover, &mut found),
            Err(error) => found.push((String::new(), format!("{error:#}; kube said {kube}"))),
        }
        let before = found.len();
        found.retain(|(path, _)| !case.allowed.keys().any(|allowed| covers(allowed, path)));
        report.allowed += before - found.len();
        if !found.is_empty() {
            let list: Vec<String> = found
                .iter()
                .map(|(path, text)| format!("    {path}: {text}"))
                .collect();
            report
                .failures
                .push(format!("{place}\n    {}\n{}", case.action, list.join("\n")));
        }
    }
    Ok(report)
}

/// `*` stands for anything; what is below a covered path is covered.
fn covers(pattern: &str, path: &str) -> bool {
    let mut rest = path;
    for (place, part) in pattern.split('*').enumerate() {
        let Some(at) = rest.find(part) else {
            return false;
        };
        if place == 0 && at > 0 {
            return false;
        }
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || pattern.ends_with('*') || rest.starts_with(['.', '['])
}

async fn ask(server: &Server, case: &Case, kept: &mut Kept) -> Result<Value> {
    let start = Instant::now();
    loop {
        let mut answer = send(server, case, kept).await?;
        let pending: Vec<_> = case
            .until
            .iter()
            .filter(|(path, value)| pointed(&answer, path) != Some(*value))
            .collect();
        if !pending.is_empty() {
            if start.elapsed() > PATIENCE {
                bail!("{}: still not {pending:?}: {answer}", server.name);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
            continue;
        }
        let mut fresh = Kept::new();
        for (name, path) in &case.keep {
            let value = answer["body"].pointer(path);
            let value =
                value.with_context(|| format!("{} has no {path} in {answer}", server.name))?;
            fresh.insert(name.clone(), value.clone());
        }
        normal::json(&mut answer, kept);
        kept.extend(fresh);
        return Ok(answer);
    }
}

/// One answer as it came.
pub(crate) async fn fetch(server: &Server, case: &Case, kept: &Kept) -> Result<Value> {
    send(server, case, kept).await
}

fn pointed<'a>(answer: &'a Value, path: &str) -> Option<&'a Value> {
    if path == "code" {
        answer.get("code")
    } else {
        answer["body"].pointer(path)
    }
}

async fn send(server: &Server, case: &Case, kept: &Kept) -> Result<Value> {
    let (method, path) = case
        .action
        .split_once(' ')
        .context("a case says METHOD /path")?;
    let path = fill_text(path, kept)?;
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes())?)
        .uri(&path);
    request = request.header("user-agent", "parity/1.0");
    match case.token.as_deref() {
        None => request = request.header("authorization", format!("Bearer {TOKEN}")),
        Some("") => {}
        Some(token) => {
            request = request.header(
                "authorization",
                format!("Bearer {}", fill_text(token, kept)?),
            );
        }
    }
    request = request.header("accept", case.accept.as_deref().unwrap_or(JSON));
    for (name, value) in &case.headers {
        request = request.header(name, value);
    }
    let mut body = match &case.body {
        Some(Value::String(text)) if !is_variable(text) => fill_text(text, kept)?.into_bytes(),
        Some(document) => serde_json::to_vec(&fill(document, kept)?)?,
        None => Vec::new(),
    };
    if let Some(size) = case.bulk {
        body.resize(size, b' ');
    }
    let content = case
        .content
        .as_deref()
        .unwrap_or(if body.is_empty() { "" } else { JSON });
    if !content.is_empty() {
        request = request.header("content-type", content);
    }
    let limit = tokio::time::timeout(
        PATIENCE,
        server.client.send(request.body(Body::from(body))?),
    );
    let response = limit.await.context("no answer")??;
    read(response, case).await
}

async fn read(response: http::Response<Body>, case: &Case) -> Result<Value> {
    let code = response.status().as_u16();
    let header = |name: &str| {
        let all = response.headers().get_all(name);
        all.iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect::<Vec<_>>()
    };
    let (content, mut warnings) = (header("content-type").join(", "), header("warning"));
    warnings.sort();
    let mut answer = json!({"code": code, "type": content});
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    if let Some(wanted) = case.events.filter(|_| code == 200) {
        answer["body"] = events(response.into_body(), wanted).await?;
        return Ok(answer);
    }
    let bytes = tokio::time::timeout(PATIENCE, response.into_body().collect())
        .await
        .context("no end")??
        .to_bytes();
    answer["body"] = if content.contains("json") {
        serde_json::from_slice(&bytes)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&bytes)))?
    } else {
        Value::String(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(answer)
}

async fn events(body: Body, wanted: usize) -> Result<Value> {
    let mut stream = body.into_data_stream();
    let (mut buffer, mut events) = (Vec::new(), Vec::new());
    let end = tokio::time::Instant::now() + Duration::from_secs(6);
    while events.len() < wanted {
        let Ok(next) = tokio::time::timeout_at(end, stream.next()).await else {
            events.push(json!("no more events in time"));
            break;
        };
        let Some(chunk) = next else {
            events.push(json!("the watch ended"));
            break;
        };
        buffer.extend_from_slice(&chunk?);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            events.push(serde_json::from_slice(&line)?);
        }
    }
    // One piece may hold more.
    events.truncate(wanted);
    Ok(Value::Array(events))
}

fn is_variable(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1)
}

fn fill(document: &Value, kept: &Kept) -> Result<Value> {
    Ok(match document {
        Value::String(text) if is_variable(text) => kept
            .get(&text[2..text.len() - 1])
            .with_context(|| format!("{text} was not kept"))?
            .clone(),
        Value::String(text) => Value::String(fill_text(text, kept)?),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| fill(item, kept))
                .collect::<Result<_>>()?,
        ),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| Ok((key.clone(), fill(value, kept)?)));
            Value::Object(fields.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

fn fill_text(text: &str, kept: &Kept) -> Result<String> {
    let mut filled = text.to_owned();
    for (name, value) in kept {
        if let Some(value) = value.as_str() {
            filled = filled.replace(&format!("${{{name}}}"), value);
        }
    }
    if filled.contains("${") {
        bail!("{filled} speaks of something that was not kept");
    }
    Ok(filled)
}
