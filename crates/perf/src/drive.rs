//! Publishes at a pace: so many at once, so many a second.

use std::time::Duration;

use anyhow::{Result, anyhow};
use drover_protocol::{CloudEvent, ObjectMeta, Work, names};
use futures::stream::{self, StreamExt as _};
use tokio::time::Instant;

use crate::contract::{Command, Reply, mono};
use crate::fixture::STAMP;

/// Calls `publish` for 0 to n - 1, `inflight` at once.
pub async fn drive<F: Future<Output = Result<()>>>(
    command: &Command,
    publish: impl Fn(usize) -> F,
) -> Result<Reply> {
    let (t0, start) = (mono(), Instant::now());
    let publish = &publish;
    let mut outcomes = stream::iter(0..command.n)
        .map(|number| async move {
            if command.rate > 0.0 {
                let due = Duration::from_secs_f64(number as f64 / command.rate);
                tokio::time::sleep_until(start + due).await;
            }
            // What is handed over without waiting must not keep those waiting who send it.
            tokio::task::consume_budget().await;
            publish(number).await
        })
        .buffer_unordered(command.inflight.max(1));
    let (mut failed, mut first) = (0, None);
    while let Some(outcome) = outcomes.next().await {
        if let Err(error) = outcome {
            failed += 1;
            first.get_or_insert(error);
        }
    }
    match first {
        None => Ok(Reply::since(t0, command.n)),
        Some(error) => Err(anyhow!("{failed} failed, first: {error:#}")),
    }
}

/// Writes the time into a work that is about to be sent.
pub fn stamp(work: &mut Work) {
    work.metadata
        .annotations
        .insert(STAMP.to_owned(), mono().to_string());
}

/// The time that is written in the metadata of an event. A source keeps metadata of its own, so it must be read here.
pub fn stamp_of(event: &CloudEvent) -> Option<i64> {
    let text = event.text(names::EXT_METADATA).ok()?;
    if !text.contains(STAMP) {
        return None;
    }
    let metadata: ObjectMeta = serde_json::from_str(text).ok()?;
    metadata.annotations.get(STAMP)?.parse().ok()
}
