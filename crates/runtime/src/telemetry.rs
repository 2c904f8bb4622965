//! Logging for the whole process.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?} is malformed: {why}; try \"info\" or \"warn,drover_agent=debug\"")]
pub struct BadFilter {
    filter: String,
    why: String,
}

/// Sends log lines to stderr, as chosen by `filter` (see `tracing_subscriber::EnvFilter`).
///
/// # Errors
/// When the filter is malformed, or logging was set up before.
pub fn init(filter: &str, format: Format) -> Result<(), BadFilter> {
    let bad = |why: String| BadFilter {
        filter: filter.to_owned(),
        why,
    };
    let env = EnvFilter::try_new(filter).map_err(|error| bad(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(env)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => builder.compact().try_init(),
        Format::Json => builder.json().try_init(),
    }
    .map_err(|error| bad(error.to_string()))
}
