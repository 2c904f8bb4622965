//! Sequence ids of statuses: snowflakes of milliseconds, node and step. The time is given from outside.

use jiff::Timestamp;

/// Start of the snowflake epoch in Unix milliseconds.
const EPOCH_MS: i64 = 1_288_834_974_657;
/// Every agent uses this node.
const NODE: i64 = 1;
const STEPS: i64 = 1 << 12;

/// Makes growing ids.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    last_ms: i64,
    step: i64,
}

/// Why two ids cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Not a decimal 64 bit number.
    #[error("failed to read the sequence ID {0:?}")]
    Malformed(String),
    /// From different generators.
    #[error("sequence IDs ({0},{1}) are not from the same node")]
    Nodes(String, String),
}

impl Sequence {
    /// The next id. It is greater than every id before it, also when the clock stands still or goes back, and when more
    /// than 4096 ids are made in one millisecond (then it borrows the next one).
    pub fn next_id(&mut self, now: Timestamp) -> i64 {
        let ms = (now.as_millisecond() - EPOCH_MS).clamp(0, (1 << 41) - 1);
        if ms > self.last_ms {
            (self.last_ms, self.step) = (ms, 0);
        } else if self.step + 1 < STEPS {
            self.step += 1;
        } else {
            (self.last_ms, self.step) = (self.last_ms + 1, 0);
        }
        (self.last_ms << 22) | (NODE << 12) | self.step
    }
}

/// Whether `current` is newer than `last`; an empty `last` is older than everything.
pub fn is_newer(last: &str, current: &str) -> Result<bool, SequenceError> {
    if last.is_empty() && !current.is_empty() {
        return Ok(true);
    }
    let parse = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| SequenceError::Malformed(text.to_owned()))
    };
    let (old, new) = (parse(last)?, parse(current)?);
    let node = |id: i64| (id >> 12) & 0x3ff;
    if node(old) != node(new) {
        return Err(SequenceError::Nodes(last.to_owned(), current.to_owned()));
    }
    let order = |id: i64| (id >> 22, id & (STEPS - 1));
    Ok(order(new) > order(old))
}
