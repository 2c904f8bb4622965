//! What runs only while the hub lets the cluster in: the renewal of its lease, and its works.

use std::sync::Arc;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::names::CLUSTER_LEASE;
use drover_client::{AgentObjects, AgentWorks, ClientError, Object, Watch};
use drover_core::registration::agent;
use drover_protocol::DataType;
use drover_runtime::supervise::{TaskFailed, Tasks};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{AgentOptions, GRACE};
use super::link::HubLink;
use crate::hub_events::HubEvents;
use crate::work;

/// An accepted cluster. Dropping it asks its tasks to end.
pub struct Member {
    leases: AgentObjects<Lease>,
    changes: Watch<Object>,
    renewed: Option<(Timestamp, f64)>,
    tasks: JoinHandle<Result<(), TaskFailed>>,
    _stop: DropGuard,
}

impl Member {
    /// Starts renewing and working, over the link of the agent called `name`.
    pub fn start(options: &AgentOptions, name: &str, link: &Arc<HubLink>) -> Result<Self, ClientError> {
        let client = |sender: String| drover_client::AgentOptions {
            driver: options.driver(),
            ..drover_client::AgentOptions::new(sender, options.cluster.as_str())
        };
        let own = format!("{}-{name}", options.cluster);
        let (leases, renewing) = AgentObjects::new(client(own), &DataType::LEASES, link.clone())?;
        let worker = format!("{}-work-agent", options.cluster);
        let (works, working) = AgentWorks::new(client(worker), link.clone());

        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.run("link of the lease", renewing.run(stop.clone()));
        tasks.run("link of the works", working.run(stop.clone()));
        let hub = Arc::new(HubEvents::new(works));
        work::start(hub, options.managed.clone(), options.work.clone(), options.clock.clone(), &mut tasks);
        Ok(Self {
            changes: leases.watch(),
            leases,
            renewed: None,
            tasks: tokio::spawn(tasks.wait(GRACE)),
            _stop: stop.drop_guard(),
        })
    }

    /// Waits until the hub shows another lease, or a task failed.
    pub async fn changed(&mut self) -> Result<(), TaskFailed> {
        use futures::StreamExt as _;
        let failed = |why: String| TaskFailed { task: "membership".to_owned(), why };
        tokio::select! {
            change = self.changes.next() => change.map(drop).ok_or_else(|| failed("the watch of the lease ended".to_owned())),
            ended = &mut self.tasks => {
                ended.map_err(|error| failed(error.to_string()))??;
                Err(failed("it ended by itself".to_owned()))
            }
        }
    }

    /// Renews the lease when it is time, and says when it is time again; `None` while the hub shows no lease.
    pub async fn renew(&mut self, cluster: &ManagedCluster, now: Timestamp) -> Result<Option<Timestamp>, ClientError> {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let Some(lease) = self.leases.get(name, CLUSTER_LEASE)? else { return Ok(None) };
        let next = |(at, jitter)| agent::next_renewal(cluster, at, jitter);
        if let Some(at) = self.renewed.map(next)
            && at > now
        {
            return Ok(Some(at));
        }
        match self.leases.update(&agent::renewed(&lease, now)).await {
            Err(error) if error.is_conflict() => {
                // Somebody else wrote it: the newest copy comes with the answer.
                self.leases.resync();
                Err(error)
            }
            outcome => {
                outcome?;
                let renewed = (now, rand::random());
                self.renewed = Some(renewed);
                tracing::debug!("renewed the lease");
                Ok(Some(next(renewed)))
            }
        }
    }
}
