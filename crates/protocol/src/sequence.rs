//! Sequence ids of statuses: snowflakes of milliseconds, node and step. The time is given from outside.

use jiff::Timestamp;

/// Start of the snowflake epoch in Unix milliseconds.
const EPOCH_MS: i64 = 1_288_834_974_657;
/// Every agent uses this node.
const NODE: i64 = 1;
const STEPS: i64 = 1 << 12;
/// Later than this no id is believed, so that nobody can use up what is left.
const LATEST_MS: i64 = (1 << 41) - (1 << 35);

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

    /// Goes on behind an id that was made in an earlier life, perhaps with another clock. What is no id of this node is
    /// ignored. Says whether this generator was behind.
    pub fn go_on_from(&mut self, id: &str) -> bool {
        let Ok(id) = id.parse::<i64>() else {
            return false;
        };
        let (ms, step) = (id >> 22, id & (STEPS - 1));
        let ours = id >= 0 && (id >> 12) & 0x3ff == NODE && ms <= LATEST_MS;
        let behind = ours && (ms, step) > (self.last_ms, self.step);
        if behind {
            (self.last_ms, self.step) = (ms, step);
        }
        behind
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_from_an_id_of_an_earlier_life() {
        let now: Timestamp = "2026-05-30T09:00:00Z".parse().unwrap();
        let later = "2026-05-31T09:00:00Z".parse().unwrap();
        let earlier_life = Sequence::default().next_id(later);
        let check = |id: String, behind: bool| {
            let mut sequence = Sequence::default();
            sequence.next_id(now);
            assert_eq!(sequence.go_on_from(&id), behind, "{id}");
            assert_eq!(sequence.next_id(now) > earlier_life, behind, "{id}");
        };
        check(earlier_life.to_string(), true);
        check(Sequence::default().next_id(now).to_string(), false);
        check((earlier_life ^ (1 << 13)).to_string(), false);
        check(i64::MAX.to_string(), false);
        check((-earlier_life).to_string(), false);
        check(String::new(), false);
    }
}
