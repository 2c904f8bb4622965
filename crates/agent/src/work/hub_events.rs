//! Works that arrive as CloudEvents.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use drover_api::{
    names::work as names,
    work::v1::{ManifestWork, ManifestWorkStatus},
};
use drover_client::{AgentWorks, Change, ClientError, Work, WorkStatus};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::{
    hub::{HubError, HubWorks},
    memory::Version,
};

/// How many works are kept as they read: those that are looked after right now. To read one once more costs less than to keep all,
/// which would take several times the memory that they came in.
const READ: usize = 64;

/// A work as it came, and as it reads.
struct Copies {
    name: String,
    of: Arc<Work>,
    reads: Arc<ManifestWork>,
}

/// The works of one cluster, from a broker. The driver of the client is run by whoever made it.
pub struct HubEvents {
    works: AgentWorks,
    /// The works that were read last, the newest at the end.
    read: Mutex<VecDeque<Copies>>,
    /// Names of which the last work was deleted by the hub, until nothing of it is left. Works that come and go quickly under one
    /// name push each other out before the agent is done with them.
    ended: Mutex<HashSet<String>>,
    connected: AtomicBool,
}

impl HubEvents {
    /// The works that this client receives.
    pub fn new(works: AgentWorks) -> Self {
        Self {
            works,
            read: Mutex::default(),
            ended: Mutex::default(),
            connected: AtomicBool::new(false),
        }
    }

    /// Reads a work; one that was read of late is not read again.
    fn read(&self, name: &str, work: Arc<Work>) -> Option<Arc<ManifestWork>> {
        if let Some(known) = self.recent().iter().find(|copies| copies.name == name)
            && Arc::ptr_eq(&known.of, &work)
        {
            return Some(known.reads.clone());
        }
        let reads = match work.to_object::<ManifestWork>() {
            Ok(object) => Arc::new(object),
            Err(error) => {
                tracing::warn!(%name, %error, "a work cannot be read and is left alone");
                return None;
            }
        };
        let mut recent = self.recent();
        recent.retain(|copies| copies.name != name);
        if recent.len() >= READ {
            recent.pop_front();
        }
        recent.push_back(Copies {
            name: name.to_owned(),
            of: work,
            reads: reads.clone(),
        });
        Some(reads)
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Copies>> {
        // No code panics while it holds the lock, and the list is valid after every statement.
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, change: &Change<Work>) -> String {
        let name = change.object().metadata.name.clone();
        if matches!(change, Change::Deleted(_)) {
            self.recent().retain(|copies| copies.name != name);
        }
        let ordered = change.object().metadata.deletion_timestamp.is_some();
        if matches!(change, Change::Deleted(_)) && ordered {
            self.ended_names().insert(name.clone());
        } else {
            self.ended_names().remove(&name);
        }
        name
    }

    fn ended_names(&self) -> MutexGuard<'_, HashSet<String>> {
        // As for `read`.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: ClientError) -> HubError {
    if error.is_conflict() || error.is_not_found() {
        HubError::Stale
    } else {
        HubError::Failed(error.to_string())
    }
}

fn uid(work: &ManifestWork) -> &str {
    work.metadata.uid.as_deref().unwrap_or_default()
}

impl HubWorks for HubEvents {
    fn get(&self, name: &str) -> Option<Arc<ManifestWork>> {
        self.read(name, self.works.get(name)?)
    }

    fn ended(&self, name: &str) -> bool {
        self.ended_names().contains(name)
    }

    fn forget(&self, name: &str) {
        self.ended_names().remove(name);
    }

    fn version(&self, name: &str) -> Option<Version> {
        let work = self.works.get(name)?;
        let meta = &work.metadata;
        Some(Version {
            uid: Some(meta.uid.clone()),
            resource: Some(meta.resource_version.clone()),
            generation: Some(meta.generation),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }

    /// A broker does not say when it has told of all works. A work that is late is missing for a moment only, which the grace of
    /// eviction covers.
    fn is_synced(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    async fn run(
        self: Arc<Self>,
        told: impl Fn(&str) + Send + Sync + 'static,
        cancel: CancellationToken,
    ) -> Result<(), HubError> {
        let mut changes = self.works.watch();
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = self.works.connected() => self.connected.store(true, Ordering::Release),
        }
        loop {
            let change = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                change = changes.next() => change,
            };
            match change {
                Some(change) => told(&self.hear(&change)),
                None => return Err(HubError::Failed("the client of works ended".to_owned())),
            }
        }
    }

    async fn add_finalizer(&self, work: &ManifestWork) -> Result<(), HubError> {
        let added = self.works.add_finalizer(uid(work), names::FINALIZER);
        added.map(drop).map_err(failed)
    }

    async fn remove_finalizer(&self, work: &ManifestWork) -> Result<(), HubError> {
        let removed = self.works.remove_finalizer(uid(work), names::FINALIZER);
        removed.map(drop).map_err(failed)
    }

    async fn write_status(
        &self,
        work: &ManifestWork,
        status: &ManifestWorkStatus,
    ) -> Result<(), HubError> {
        let status: WorkStatus = serde_json::to_value(status)
            .and_then(serde_json::from_value)
            .map_err(|error| HubError::Failed(error.to_string()))?;
        // The generation is what the status was computed for: a newer work gets a status of its own.
        let generation = work.metadata.generation.unwrap_or(0);
        let written = self.works.set_status_of(uid(work), generation, status);
        written.map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_api::conditions;
    use drover_client::{AgentOptions, SourceOptions, SourceWorks};
    use drover_core::work::status;
    use drover_transport::memory::MemoryBus;
    use serde_json::json;
    use tokio::sync::mpsc;

    #[tokio::test(start_paused = true)]
    async fn a_work_comes_is_reported_and_goes() {
        let bus = Arc::new(MemoryBus::new());
        let stop = CancellationToken::new();
        let (source, driver) = SourceWorks::new(SourceOptions::new("shop"), bus.clone());
        tokio::spawn(driver.run(stop.clone()));
        let (works, driver) =
            AgentWorks::new(AgentOptions::new("cluster1-work-agent", "cluster1"), bus);
        tokio::spawn(driver.run(stop.clone()));
        source.connected().await;
        works.connected().await;

        let hub = Arc::new(HubEvents::new(works));
        let (tell, mut told) = mpsc::unbounded_channel();
        let listening = hub.clone().run(
            // The receiver outlives the task.
            move |name| drop(tell.send(name.to_owned())),
            stop.clone(),
        );
        tokio::spawn(listening);

        let work = json!({
            "metadata": {"name": "w", "namespace": "cluster1"},
            "spec": {"workload": {"manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}]}},
        });
        source
            .create(Work::from_object(&work).expect("it is a work"))
            .expect("it is new");
        assert_eq!(told.recv().await.as_deref(), Some("w"));
        let work = hub.get("w").expect("it arrived");
        assert_eq!(work.spec.workload.manifests.len(), 1);
        assert!(hub.is_synced());

        hub.add_finalizer(&work).await.expect("it is there");
        let work = hub.get("w").expect("it is there still");
        assert_eq!(
            work.metadata.finalizers.as_deref(),
            Some(&[names::FINALIZER.to_owned()][..])
        );
        let now = drover_api::Time("2026-01-01T00:00:00Z".parse().expect("it is a time"));
        let report = status::deleting(&work, &now);
        hub.write_status(&work, &report).await.expect("it is there");
        assert_eq!(
            hub.get("w").and_then(|work| work.status.clone()),
            Some(report)
        );
        let mut seen = source.watch();
        while let Some(change) = seen.next().await {
            if change
                .object()
                .status
                .conditions
                .iter()
                .any(|one| one.condition_type == names::DELETING)
            {
                break;
            }
        }

        let mut next = Work::clone(&source.get("cluster1", "w").expect("it is there"));
        next.metadata.labels.insert("a".to_owned(), "b".to_owned());
        next.metadata.resource_version.clear();
        source.update(next).expect("it is there");
        let older = loop {
            told.recv().await.expect("the change is told");
            let newer = hub.get("w").expect("it is there");
            if newer.metadata.generation != work.metadata.generation {
                break work;
            }
        };
        let nothing = ManifestWorkStatus::default();
        let late = hub.write_status(&older, &nothing).await;
        assert!(
            matches!(late, Err(HubError::Stale)),
            "a status claims no generation that it has not seen"
        );
        let newer = hub.get("w").expect("it is there");
        hub.write_status(&newer, newer.status.as_ref().expect("it stayed"))
            .await
            .expect("it is the newest");

        source.delete("cluster1", "w");
        loop {
            told.recv().await.expect("the deletion is told");
            let Some(work) = hub.get("w") else {
                panic!("a finalizer keeps it")
            };
            if work.metadata.deletion_timestamp.is_some() {
                assert!(conditions::is_true(
                    &work.status.clone().unwrap_or_default().conditions,
                    names::DELETING
                ));
                hub.remove_finalizer(&work).await.expect("it is there");
                break;
            }
        }
        while source.get("cluster1", "w").is_some() {
            seen.next().await.expect("the source hears of the end");
        }
        while hub.get("w").is_some() {
            told.recv().await.expect("the end is told");
        }
        stop.cancel();
    }

    #[test]
    fn only_a_work_that_the_hub_deleted_has_ended() {
        let options = AgentOptions::new("cluster1-work-agent", "cluster1");
        let (works, _driver) = AgentWorks::new(options, Arc::new(MemoryBus::new()));
        let hub = HubEvents::new(works);
        let of = |deleting: Option<&str>| {
            let metadata =
                json!({"name": "w", "namespace": "cluster1", "deletionTimestamp": deleting});
            let work = json!({"metadata": metadata, "spec": {"workload": {"manifests": []}}});
            Arc::new(Work::from_object(&work).expect("it is a work"))
        };
        let (lives, goes) = (of(None), of(Some("2026-01-01T00:00:00Z")));
        for (change, ended) in [
            (Change::Added(lives.clone()), false),
            (Change::Deleted(lives.clone()), false),
            (Change::Deleted(goes.clone()), true),
            (Change::Added(lives), false),
            (Change::Deleted(goes), true),
        ] {
            hub.hear(&change);
            assert_eq!(hub.ended("w"), ended, "{change:?}");
        }
        hub.forget("w");
        assert!(!hub.ended("w"));
    }
}
