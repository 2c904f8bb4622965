//! A role that runs in several copies, one of which leads.

use anyhow::Result;
use drover_core::election::Timing;
use drover_runtime::clock::Clock;
use drover_runtime::election::{Election, Leadership};
use drover_runtime::metrics::Metrics;
use drover_runtime::supervise::Tasks;
use kube::Client;

use crate::cli;

impl cli::Copies {
    /// Runs for the lease in the namespace of the copies. Without a namespace there is nobody else, and this copy leads.
    pub fn leadership(
        &self,
        lease: &str,
        client: Client,
        namespace: Option<&str>,
        metrics: Option<&Metrics>,
        tasks: &mut Tasks,
    ) -> Result<Leadership> {
        let Some(namespace) = namespace.filter(|_| !self.disable_leader_election) else {
            return Ok(Leadership::alone());
        };
        let timing = Timing::new(
            self.leader_election_lease_duration,
            self.leader_election_renew_deadline,
            self.leader_election_retry_period,
        )?;
        // Each start is another candidate: what was said under an old name counts no more.
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| lease.to_owned());
        let me = format!("{host}_{:016x}", rand::random::<u64>());
        let clock = Clock::system();
        let (election, leadership) = Election::new(client, namespace, lease, &me, timing, clock);
        if let Some(metrics) = metrics {
            election.register(metrics);
        }
        let stop = tasks.cancel_token();
        tasks.run("leader election", async move {
            election.run(stop.clone()).await;
            stop.cancelled().await;
        });
        Ok(leadership)
    }
}
