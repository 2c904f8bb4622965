//! A hub in memory behind Drover's broker, by the rules of OCM's.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use drover_client::{DataType, Work};
use drover_protocol::ids::Ids;
use drover_protocol::{
    Action, CloudEvent, Codec as _, SourceBundleCodec, Stamp, SubResource, names,
};
use drover_transport::authn::Caller;
use drover_transport::{Broker, Service, ServiceError, async_trait};
use jiff::Timestamp;
use serde_json::Value;

/// Works by uid, and the broker that has their subscribers.
#[derive(Default)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    works: BTreeMap<String, Work>,
    broker: Option<Broker>,
    ids: Option<Ids>,
}

impl Hub {
    /// From now on this broker serves the works.
    pub(crate) fn attach(&self, broker: Broker) {
        self.state().broker = Some(broker);
    }

    pub(crate) fn works(&self) -> Result<Vec<Value>> {
        let works = self.state();
        works
            .works
            .values()
            .map(|work| Ok(serde_json::to_value(work)?))
            .collect()
    }

    /// Creates or replaces what the owner decides: labels, annotations, spec.
    pub(crate) fn put(&self, work: &Value) -> Result<()> {
        let mut work = Work::from_object(work)?;
        let action = {
            let state = self.state();
            let known = state
                .works
                .values()
                .find(|known| known.metadata.name == work.metadata.name);
            match known {
                None => {
                    let meta = &mut work.metadata;
                    (meta.generation, meta.uid) = (1, format!("uid-of-{}", meta.name));
                    Action::Create
                }
                Some(known) => {
                    let meta = &mut work.metadata;
                    (meta.generation, meta.uid) =
                        (known.metadata.generation + 1, known.metadata.uid.clone());
                    meta.finalizers.clone_from(&known.metadata.finalizers);
                    work.status = known.status.clone();
                    Action::Update
                }
            }
        };
        self.tell(action, work)
    }

    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        let found = self
            .state()
            .works
            .values()
            .find(|work| work.metadata.name == name)
            .cloned();
        let mut work = found.context("not found")?;
        ensure!(
            !work.metadata.finalizers.is_empty(),
            "no agent has claimed it"
        );
        work.metadata.deletion_timestamp = Some(Timestamp::now());
        self.tell(Action::Delete, work)
    }

    fn tell(&self, action: Action, work: Work) -> Result<()> {
        let mut state = self.state();
        let event = encode(&mut state, action, &work)?;
        state.works.insert(work.metadata.uid.clone(), work);
        // Who is not there asks when it comes.
        if let Some(broker) = &state.broker {
            broker.publish(event);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode(state: &mut State, action: Action, work: &Work) -> Result<CloudEvent> {
    let ids = state.ids.get_or_insert_with(|| Ids::new(1));
    let stamp = Stamp {
        id: ids.next_id(),
        time: Timestamp::now(),
        source: names::HUB_SOURCE,
        sequence: None,
    };
    let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, action);
    Ok(SourceBundleCodec.encode(stamp, &event_type, work)?)
}

#[async_trait]
impl Service for Hub {
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        let mut state = self.state();
        let works: Vec<Work> = state.works.values().cloned().collect();
        let mine = works
            .iter()
            .filter(|work| work.metadata.namespace == cluster);
        mine.map(|work| encode(&mut state, Action::Update, work).map_err(ServiceError::internal))
            .collect()
    }

    async fn receive(&self, _: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        let report = SourceBundleCodec
            .decode(&event)
            .map_err(|e| ServiceError::bad_request(e.to_string()))?;
        let mut state = self.state();
        let uid = &report.metadata.uid;
        if report.status.is_deleted() {
            state.works.remove(uid);
            return Ok(());
        }
        if let Some(work) = state.works.get_mut(uid)
            && report.metadata.generation >= work.metadata.generation
        {
            work.status = report.status;
            let finalizers = &mut work.metadata.finalizers;
            if finalizers.is_empty() {
                finalizers.push(names::WORK_FINALIZER.to_owned());
            }
        }
        Ok(())
    }
}
