//! What is asked of a hub and of a publisher, which run in several copies.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Args};

/// A role in several copies.
#[derive(Debug, Clone, Args)]
pub struct Copies {
    /// Namespace of what the copies share: the lease of their leader, and of a hub the secret of its authority. By default that of
    /// the pod
    #[arg(long, env = "DROVER_HUB_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// There are no other copies: lead without asking
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

/// Where Prometheus asks.
#[derive(Debug, Clone, Args)]
pub struct Scraped {
    /// Address for Prometheus, at /metrics: in plain text on loopback; elsewhere, or with a certificate, over TLS for whoever the API lets `get` the URL /metrics
    #[arg(long, env = "DROVER_HUB_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Certificate of that address, PEM, read again when it changes. By default one that nobody signed, made at each start
    #[arg(
        long,
        env = "DROVER_HUB_METRICS_TLS_CERT",
        value_name = "FILE",
        requires_all = ["metrics", "metrics_tls_key"]
    )]
    pub metrics_tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(
        long,
        env = "DROVER_HUB_METRICS_TLS_KEY",
        value_name = "FILE",
        requires = "metrics_tls_cert"
    )]
    pub metrics_tls_key: Option<PathBuf>,
}

/// Names the variables of options that roles share after the publisher.
pub fn of_publisher(option: Arg) -> Arg {
    renamed(option, "PUBLISHER")
}

/// The same for the agent.
pub fn of_agent(option: Arg) -> Arg {
    renamed(option, "AGENT")
}

fn renamed(option: Arg, role: &str) -> Arg {
    let name = option.get_env().and_then(OsStr::to_str);
    match name.and_then(|name| name.strip_prefix("DROVER_HUB_")) {
        Some(rest) => {
            let name = format!("DROVER_{role}_{rest}");
            option.env(name)
        }
        None => option,
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// Options by their variables, but for those of every command.
    fn variables(command: &str) -> BTreeMap<String, String> {
        let cli = Cli::command();
        let found = cli.find_subcommand(command).unwrap();
        let options = found.get_arguments().filter_map(|option| {
            let name = option.get_env()?.to_str()?.to_owned();
            Some((name, option.get_long()?.to_owned()))
        });
        options.collect()
    }

    #[test]
    fn a_hub_and_a_publisher_have_the_same_options_and_variables_of_their_own() {
        let (hub, publisher) = (variables("hub"), variables("publisher"));
        for option in [
            "namespace",
            "disable-leader-election",
            "leader-election-lease-duration",
            "leader-election-renew-deadline",
            "leader-election-retry-period",
            "metrics",
            "metrics-tls-cert",
        ] {
            let name = option.replace('-', "_").to_uppercase();
            for (role, options) in [("HUB", &hub), ("PUBLISHER", &publisher)] {
                let variable = format!("DROVER_{role}_{name}");
                assert_eq!(options.get(&variable).map(String::as_str), Some(option));
            }
        }
        assert!(!publisher.keys().any(|name| name.contains("HUB")));
        let agent = variables("agent");
        assert_eq!(agent["DROVER_AGENT_METRICS"], "metrics");
        assert_eq!(agent["DROVER_AGENT_HUB_CA"], "hub-ca");
    }

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("137s", Some(137_000)),
            ("2m", Some(120_000)),
            ("2", None),
            ("", None),
            ("h", None),
        ] {
            let found = duration(text).ok().map(|time| time.as_millis());
            assert_eq!(found, expected, "{text}");
        }
    }
}
