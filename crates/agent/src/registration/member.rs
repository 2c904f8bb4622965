//! What runs only while the hub lets the cluster in: the renewal of its lease, and its works.

use std::sync::Arc;

use drover_api::cluster::v1::ManagedCluster;
use drover_api::names::CLUSTER_LEASE;
use drover_client::{AgentObjects, ClientError, Object, Watch};
use drover_core::registration::agent;
use drover_protocol::DataType;
use drover_runtime::supervise::TaskFailed;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::background::Background;
use super::link::HubLink;
use super::{AgentOptions, work_client};
use crate::work;

/// An accepted cluster. Dropping it asks its tasks to end.
pub struct Member {
    leases: AgentObjects<Lease>,
    changes: Watch<Object>,
    renewed: Option<(Timestamp, f64)>,
    background: Background,
}

impl Member {
    /// Starts renewing and working, over the link of the agent called `name`.
    pub fn start(
        options: &AgentOptions,
        name: &str,
        link: &Arc<HubLink>,
    ) -> Result<Self, ClientError> {
        let client = |sender: String| drover_client::AgentOptions {
            driver: options.driver(),
            ..drover_client::AgentOptions::new(sender, options.cluster.as_str())
        };
        let own = format!("{}-{name}", options.cluster);
        let (leases, renewing) = AgentObjects::new(client(own), &DataType::LEASES, link.clone())?;
        let worker = client(work_client(&options.cluster));
        let way = options.works_over.clone();
        let way = way.unwrap_or_else(|| link.clone());
        let background = Background::start("membership", |tasks, stop| {
            tasks.run("link of the lease", renewing.run(stop.clone()));
            work::start_over(
                way,
                worker,
                options.managed.clone(),
                options.work.clone(),
                options.clock.clone(),
                tasks,
            );
        });
        Ok(Self {
            changes: leases.watch(),
            leases,
            renewed: None,
            background,
        })
    }

    /// Ends the tasks, and waits until they ended.
    pub async fn stop(self) {
        self.background.stop().await;
    }

    /// Waits until the hub shows another lease, or a task failed.
    pub async fn changed(&mut self) -> Result<(), TaskFailed> {
        tokio::select! {
            Some(_) = self.changes.next() => Ok(()),
            failed = self.background.failed() => Err(failed),
        }
    }

    /// Renews the lease when it is time, and says when it is time again; `None` while the hub shows no lease.
    pub async fn renew(
        &mut self,
        cluster: &ManagedCluster,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, ClientError> {
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
