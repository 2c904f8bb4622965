//! What is asked of a hub that runs in several copies.

use std::time::Duration;

use clap::Args;

/// A hub in several copies.
#[derive(Debug, Clone, Args)]
pub struct Copies {
    /// Namespace of what the copies of the hub share: the secret of its authority, the lease of their leader. By default that of
    /// the pod
    #[arg(long, env = "DROVER_HUB_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// There are no copies of this hub: lead without asking
    #[arg(long, env = "DROVER_HUB_DISABLE_LEADER_ELECTION")]
    pub disable_leader_election: bool,
    /// How long a leader that is not heard of is waited for; all copies must have the same
    #[arg(long, env = "DROVER_HUB_LEADER_ELECTION_LEASE_DURATION", value_name = "TIME", default_value = "137s", value_parser = duration)]
    pub leader_election_lease_duration: Duration,
    /// How long a leader that cannot renew goes on
    #[arg(long, env = "DROVER_HUB_LEADER_ELECTION_RENEW_DEADLINE", value_name = "TIME", default_value = "107s", value_parser = duration)]
    pub leader_election_renew_deadline: Duration,
    /// Time between two tries to lead
    #[arg(long, env = "DROVER_HUB_LEADER_ELECTION_RETRY_PERIOD", value_name = "TIME", default_value = "26s", value_parser = duration)]
    pub leader_election_retry_period: Duration,
}

/// `137s`, `2m`, `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write 500ms, 137s or 2m");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number
            .checked_mul(60)
            .map(Duration::from_secs)
            .ok_or_else(wrong),
        _ => Err(wrong()),
    }
}
