//! What Prometheus' own client libraries tell of a process, under the same names, from Linux' `/proc`.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// In which `/proc` counts the time of processes (Linux: `USER_HZ`, the same on every architecture that is served here).
const TICKS: f64 = 100.0;

/// This process at the moment when it is asked for.
#[derive(Debug)]
pub(super) struct Process;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    /// CPU time in seconds.
    cpu: f64,
    /// When it started, in seconds after the machine did.
    started: f64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        if let Some(seen) = times(&read("/proc/self/stat")) {
            let (name, help) = ("process_cpu_seconds", "CPU time of this process");
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seen.cpu).encode(family)?;
            if let Some(boot) = field(&read("/proc/stat"), "btime") {
                let (name, help) = ("process_start_time_seconds", "When this process started");
                let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(boot + seen.started).encode(family)?;
            }
        }
        if let Some(kilobytes) = field(&read("/proc/self/status"), "VmRSS:") {
            let (name, help) = ("process_resident_memory_bytes", "Memory of this process");
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(kilobytes * 1024.0).encode(family)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let (name, help) = ("process_open_fds", "Files that this process has open");
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let count = i64::try_from(open.count()).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family)?;
        }
        Ok(())
    }
}

/// `/proc/PID/stat`: the name in brackets may hold anything; of what follows the 12th and 13th are times, and the 20th the start.
fn times(stat: &str) -> Option<Seen> {
    let (_, rest) = stat.rsplit_once(')')?;
    let number = |place| rest.split_whitespace().nth(place)?.parse::<f64>().ok();
    let (user, system, started) = (number(11)?, number(12)?, number(19)?);
    Some(Seen {
        cpu: (user + system) / TICKS,
        started: started / TICKS,
    })
}

/// The number on the line that begins so.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_process_is_called() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 4 0 12345 1 2 3";
        let expected = Seen {
            cpu: 3.0,
            started: 123.45,
        };
        assert_eq!(times(stat), Some(expected));
        assert_eq!(times("7 (a) S 1"), None);
        assert_eq!(times(""), None);
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "cpu 1 2\nbtime 1700000000\nVmRSS:\t    123 kB\n";
        assert_eq!(field(text, "btime"), Some(1_700_000_000.0));
        assert_eq!(field(text, "VmRSS:"), Some(123.0));
        assert_eq!(field(text, "VmHWM:"), None);
    }
}
