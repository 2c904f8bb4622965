//! What runs only while the hub lets the cluster in: the renewal of its lease, and its works.

use std::sync::Arc;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::names::CLUSTER_LEASE;
use drover_client::ClientError;
use drover_core::registration::agent;
use drover_protocol::DataType;
use drover_runtime::supervise::{TaskFailed, Tasks};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio_util::sync::CancellationToken;

use super::background::Background;
use super::way::{Changes, HubObjects, Way, WayError, Which};
use super::{AgentOptions, work_client};
use crate::work::hub_kube::HubKube;
use crate::work::{self, Config};

/// An accepted cluster. Dropping it asks its tasks to end.
pub struct Member {
    leases: HubObjects<Lease>,
    changes: Changes,
    renewed: Option<(Timestamp, f64)>,
    background: Background,
}

impl Member {
    /// Starts renewing and working at the hub of `way`, as the agent called `name`.
    pub fn start(
        options: &AgentOptions,
        name: &str,
        way: &Way,
        work: Config,
    ) -> Result<Self, ClientError> {
        let client = |sender: String| drover_client::AgentOptions {
            driver: options.driver(),
            ..drover_client::AgentOptions::new(sender, options.cluster.as_str())
        };
        let mut tasks = Tasks::new(CancellationToken::new());
        let leases = HubObjects::follow(
            way,
            &DataType::LEASES,
            client(format!("{}-{name}", options.cluster)),
            |hub| Api::namespaced(hub, &options.cluster),
            &Which::Named(CLUSTER_LEASE),
            &mut tasks,
        )?;
        let (managed, clock) = (options.managed.clone(), options.clock.clone());
        match (options.works_over.clone(), way) {
            (None, Way::Kube(link)) => {
                let works = Arc::new(HubKube::new(link.client(), &options.cluster));
                work::start(works, managed, work, clock, &mut tasks);
            }
            (Some(over), Way::Events(_) | Way::Kube(_)) => {
                let worker = client(work_client(&options.cluster));
                work::start_over(over, worker, managed, work, clock, &mut tasks);
            }
            (None, Way::Events(link)) => {
                let worker = client(work_client(&options.cluster));
                work::start_over(link.clone(), worker, managed, work, clock, &mut tasks);
            }
        }
        Ok(Self {
            changes: leases.changes(),
            leases,
            renewed: None,
            background: Background::start("membership", tasks),
        })
    }

    /// When the lease was renewed last.
    pub fn renewed(&self) -> Option<Timestamp> {
        self.renewed.map(|(at, _)| at)
    }

    /// Ends the tasks, and waits until they ended.
    pub async fn stop(self) {
        self.background.stop().await;
    }

    /// Waits until the hub shows another lease, or a task failed.
    pub async fn changed(&mut self) -> Result<(), TaskFailed> {
        tokio::select! {
            Some(()) = self.changes.next() => Ok(()),
            failed = self.background.failed() => Err(failed),
        }
    }

    /// Renews the lease when it is time, and says when it is time again; `None` while the hub shows no lease.
    pub async fn renew(
        &mut self,
        cluster: &ManagedCluster,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, WayError> {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let Some(lease) = self.leases.get(name, CLUSTER_LEASE)? else {
            return Ok(None);
        };
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
