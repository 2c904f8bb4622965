//! Figures: many samples in, minimum, median and maximum out.

use std::io::Write;

use anyhow::Result;
use serde_json::json;

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    bench: &'static str,
    system: String,
    metric: &'static str,
    unit: &'static str,
    samples: Vec<f64>,
}

impl Report {
    /// Adds one sample of a figure.
    pub(crate) fn add(
        &mut self,
        bench: &'static str,
        system: &str,
        metric: &'static str,
        unit: &'static str,
        sample: f64,
    ) {
        let known = self
            .rows
            .iter_mut()
            .find(|row| row.bench == bench && row.system == system && row.metric == metric);
        match known {
            Some(row) => row.samples.push(sample),
            None => self.rows.push(Row {
                bench,
                system: system.to_owned(),
                metric,
                unit,
                samples: vec![sample],
            }),
        }
    }

    /// Prints a table, then one JSON object a line.
    pub(crate) fn print(&mut self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "| bench | system | figure | unit | n | min | median | max |\n|---|---|---|---|---|---|---|---|"
        )?;
        for row in &mut self.rows {
            row.samples.sort_by(f64::total_cmp);
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                row.bench,
                row.system,
                row.metric,
                row.unit,
                row.samples.len(),
                short(quantile(&row.samples, 0.0)),
                short(quantile(&row.samples, 0.5)),
                short(quantile(&row.samples, 1.0)),
            )?;
        }
        for row in &self.rows {
            let line = json!({
                "bench": row.bench, "system": row.system, "figure": row.metric, "unit": row.unit,
                "n": row.samples.len(), "min": quantile(&row.samples, 0.0),
                "median": quantile(&row.samples, 0.5), "max": quantile(&row.samples, 1.0),
            });
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

/// A quantile of ordered samples (nearest rank; 0 when there are none).
pub(crate) fn quantile(ordered: &[f64], share: f64) -> f64 {
    let last = ordered.len().saturating_sub(1);
    ordered
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or_default()
}

/// Three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
