//! What the kernel knows of a process.

use std::time::Duration;

use anyhow::{Context, Result};

/// Length of a tick in `/proc/PID/stat`: USER_HZ is 100 on every platform that has it.
const TICK: Duration = Duration::from_millis(10);

/// Which memory of a process is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// All that is resident, pages of the program's file among it.
    Resident,
    /// What is resident and of no file.
    Anonymous,
    /// The most that ever was resident.
    Peak,
}

/// Resident memory of processes together, in MiB.
pub(crate) fn resident(ids: &[u32]) -> Result<f64> {
    memory(ids, Memory::Resident)
}

/// Memory of processes together, in MiB.
pub(crate) fn memory(ids: &[u32], which: Memory) -> Result<f64> {
    let field = match which {
        Memory::Resident => "VmRSS:",
        Memory::Anonymous => "RssAnon:",
        Memory::Peak => "VmHWM:",
    };
    let mut total = 0.0;
    for id in ids {
        let text = std::fs::read_to_string(format!("/proc/{id}/status"))
            .with_context(|| format!("process {id} has ended"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let line = line.with_context(|| format!("a status without {field}"))?;
        let number = line.trim().trim_end_matches(" kB");
        total += number.parse::<f64>()? / 1024.0;
    }
    Ok(total)
}

/// Processor time that processes have used together, user and system.
pub(crate) fn processor_time(ids: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for id in ids {
        let text = std::fs::read_to_string(format!("/proc/{id}/stat"))
            .with_context(|| format!("process {id} has ended"))?;
        // The name in parentheses may hold anything; fields are counted behind it.
        let (_, fields) = text.rsplit_once(')').context("a stat without a name")?;
        let mut times = fields.split_ascii_whitespace().skip(11).take(2);
        for _ in 0..2 {
            ticks += times
                .next()
                .context("a stat without times")?
                .parse::<u32>()?;
        }
    }
    Ok(TICK * ticks)
}

/// Processor time that processes have used together since they had used `before`.
pub(crate) fn processor_time_since(ids: &[u32], before: Duration) -> Result<Duration> {
    Ok(processor_time(ids)?.saturating_sub(before))
}
