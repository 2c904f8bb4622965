//! What a RolloutStrategy means: numbers, shares and durations, read once.

use drover_api::IntOrString;
use drover_api::cluster::v1alpha1::{
    MandatoryDecisionGroup, RolloutConfig, RolloutStrategy, RolloutType,
};
use jiff::SignedDuration;

/// A strategy that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    /// What comes next to what.
    pub pace: Pace,
    /// How many clusters may fail.
    pub max_failures: Amount,
    /// The groups that come first.
    pub mandatory: Vec<MandatoryDecisionGroup>,
    /// The times.
    pub limits: Limits,
}

/// What comes next to what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Clusters, so many at the same time.
    Clusters {
        /// How many.
        at_once: Amount,
    },
    /// Groups, one after the other.
    Groups,
}

/// The times of a strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a cluster must have succeeded.
    pub soak: SignedDuration,
    /// How long a cluster may take; absent: as long as it wants.
    pub deadline: Option<SignedDuration>,
}

/// A number of clusters, or a share of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many.
    Number(i64),
    /// So many of a hundred, rounded up.
    Percent(f64),
}

impl Amount {
    /// Every one.
    pub const ALL: Self = Self::Percent(100.0);

    /// The number out of `total`, `total` at most; `default` when it is none or less.
    pub fn of(self, total: usize, default: usize) -> usize {
        let number = match self {
            Self::Number(number) => number,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "a fleet has far fewer than 2^52 clusters, and a cast to an integer stops at its ends"
            )]
            Self::Percent(share) => (share / 100.0 * total as f64).ceil() as i64,
        };
        match usize::try_from(number) {
            Ok(0) | Err(_) => default,
            Ok(number) => number.min(total),
        }
    }

    fn read(field: &'static str, value: Option<&IntOrString>) -> Result<Self, BadStrategy> {
        let text = match value {
            None => return Ok(Self::Number(0)),
            Some(IntOrString::Int(number)) => return Ok(Self::Number((*number).into())),
            Some(IntOrString::String(text)) => text,
        };
        let read = match text.strip_suffix('%') {
            Some(share) => (share.parse::<f64>().ok())
                .filter(|share| share.is_finite())
                .map(Self::Percent),
            None => text.parse().ok().map(Self::Number),
        };
        read.ok_or_else(|| BadStrategy {
            field,
            value: text.clone(),
            right: "a number like 3 or a share like 25%",
        })
    }
}

/// A strategy that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the rollout strategy is {value:?}: it must be {right}")]
pub struct BadStrategy {
    /// Which field.
    pub field: &'static str,
    /// What it says.
    pub value: String,
    /// What it must be.
    pub right: &'static str,
}

impl Strategy {
    /// Reads a strategy. A member that is not there counts as one with nothing in it.
    ///
    /// # Errors
    /// When a number, a share or a duration cannot be read.
    pub fn read(strategy: &RolloutStrategy) -> Result<Self, BadStrategy> {
        match strategy.type_ {
            RolloutType::All => {
                let part = strategy.all.clone().unwrap_or_default();
                Ok(Self {
                    pace: Pace::Clusters {
                        at_once: Amount::ALL,
                    },
                    max_failures: Amount::ALL,
                    mandatory: Vec::new(),
                    limits: Limits {
                        soak: SignedDuration::ZERO,
                        deadline: deadline(&part.config)?,
                    },
                })
            }
            RolloutType::Progressive => {
                let part = strategy.progressive.clone().unwrap_or_default();
                let at_once = Amount::read("maxConcurrency", part.max_concurrency.as_ref())?;
                Self::stepwise(
                    Pace::Clusters { at_once },
                    &part.config,
                    part.mandatory_decision_groups,
                )
            }
            RolloutType::ProgressivePerGroup => {
                let part = strategy.progressive_per_group.clone().unwrap_or_default();
                Self::stepwise(Pace::Groups, &part.config, part.mandatory_decision_groups)
            }
        }
    }

    fn stepwise(
        pace: Pace,
        config: &RolloutConfig,
        mandatory: Vec<MandatoryDecisionGroup>,
    ) -> Result<Self, BadStrategy> {
        Ok(Self {
            pace,
            max_failures: Amount::read("maxFailures", config.max_failures.as_ref())?,
            mandatory,
            limits: Limits {
                soak: soak(config)?,
                deadline: deadline(config)?,
            },
        })
    }
}

const DURATION: &str = "a duration like 90m or 1h30m";

fn soak(config: &RolloutConfig) -> Result<SignedDuration, BadStrategy> {
    let text = config.min_success_time.as_str();
    if text.is_empty() {
        return Ok(SignedDuration::ZERO);
    }
    duration(text).ok_or_else(|| BadStrategy {
        field: "minSuccessTime",
        value: text.to_owned(),
        right: DURATION,
    })
}

fn deadline(config: &RolloutConfig) -> Result<Option<SignedDuration>, BadStrategy> {
    let text = config.progress_deadline.as_str();
    if matches!(text, "" | "None") {
        return Ok(None);
    }
    let read = duration(text).ok_or_else(|| BadStrategy {
        field: "progressDeadline",
        value: text.to_owned(),
        right: "a duration like 90m or 1h30m, or None",
    });
    read.map(Some)
}

/// Reads a duration as Go writes it (Go: time.ParseDuration), of whole numbers and not negative: `0`, `90s`, `1h30m`, `250ms`.
pub fn duration(text: &str) -> Option<SignedDuration> {
    if text == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut rest = text;
    let mut sum = SignedDuration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let number: i64 = number.parse().ok()?;
        let end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let part = match unit {
            "h" => SignedDuration::from_secs(number.checked_mul(3600)?),
            "m" => SignedDuration::from_secs(number.checked_mul(60)?),
            "s" => SignedDuration::from_secs(number),
            "ms" => SignedDuration::from_millis(number),
            "us" | "µs" | "μs" => SignedDuration::from_micros(number),
            "ns" => SignedDuration::from_nanos(number),
            _ => return None,
        };
        sum = sum.checked_add(part)?;
        rest = after;
    }
    Some(sum)
}
