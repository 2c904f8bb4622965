//! The only place that writes to stdout and stderr.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::Value;

use crate::cli::Output;
use crate::show::columns;

/// The reader went away: the program ends without a complaint.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct ClosedPipe;

/// Writes a line to stdout.
pub fn line(text: &str) -> Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

/// Writes an error to stderr.
pub fn error(text: &str) {
    // When even stderr is gone, the exit code still speaks.
    writeln!(io::stderr().lock(), "drover: {text}").ok();
}

/// Writes a note to stderr.
pub fn note(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Writes a value as JSON or YAML.
pub fn value(value: &Value, output: Output) -> Result<()> {
    let text = if output == Output::Yaml {
        serde_saphyr::to_string(value)?.trim_end().to_owned()
    } else {
        serde_json::to_string_pretty(value)?
    };
    line(&text)
}

/// Writes rows under headings, in columns as kubectl does.
pub fn table(headings: &[String], rows: Vec<Vec<String>>) -> Result<()> {
    let headings = headings.iter().map(|text| text.to_uppercase()).collect();
    let lines = columns(Some(headings), rows.into_iter());
    lines.iter().try_for_each(|text| line(text))
}
