//! One round of one work: observe, plan, do, and observe again until nothing but waiting is left.

mod traces;

use std::{collections::HashSet, sync::Arc, time::Duration};

use drover_api::{
    Time,
    names::work as names,
    work::v1::{AppliedManifestResourceMeta, AppliedManifestWork, ManifestWork},
};
use drover_core::work::{
    apply::{Write, content_hash},
    health, manifest,
    plan::{self, Action, Attempt, Live, Needs, Observed, Seen},
};
use drover_runtime::{clock::Clock, controller::Next};
use kube::{Api, ResourceExt, api::PatchParams};
use serde_json::{Value, json};

use super::{
    Config, Key,
    cache::Cache,
    cluster::{Cluster, ClusterError, Place},
    executor,
    hub::{HubError, HubWorks},
    kinds::Kinds,
    memory::{CALM, Memory, Version, spread},
    watches::Watches,
};

/// The most steps of one round; a work needs about ten in its busiest one, and a further round goes on.
const MAX_STEPS: usize = 24;
/// How often a write that met a newer object is tried again at once.
const MAX_CONFLICTS: u32 = 5;
/// When an executor that lacks a right is asked about again (ocm, pkg/work/spoke/auth/basic).
const DENIED_FOR: Duration = Duration::from_mins(1);

/// Why a round must be repeated soon.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    /// The hub did not take a write.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The cluster did not take a request that is not about a manifest.
    #[error("failed to write to the cluster: {0}")]
    Cluster(#[from] ClusterError),
    /// Some manifests are not applied; the status says which.
    #[error("{count} manifests are not applied, the first because: {first}")]
    Manifests {
        /// How many.
        count: usize,
        /// Why the first is not.
        first: String,
    },
    /// Not everything was heard of yet.
    #[error("the lists of works are not read yet")]
    NotReady,
}

/// What all rounds share.
pub struct Rounds<H> {
    /// The hub.
    pub hub: Arc<H>,
    /// The cluster.
    pub cluster: Cluster,
    /// The AppliedManifestWorks of the cluster.
    pub applied: Arc<Cache<AppliedManifestWork>>,
    /// The kinds of the cluster.
    pub kinds: Arc<Kinds>,
    /// The watches of applied objects.
    pub watches: Arc<Watches>,
    /// How the agent works.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// What was found before.
    pub memory: Memory,
}

/// The state of one round.
struct Round<'r, H> {
    all: &'r Rounds<H>,
    key: &'r Key,
    /// The manifests, and the version of the work that they are of.
    manifests: Option<(Option<String>, Vec<Observed>)>,
    /// Objects that are taken to be absent and were not asked for.
    presumed: HashSet<Place>,
    planned: Option<Planned>,
    conflicts: u32,
    wait: Option<Duration>,
    wrote: bool,
}

impl<H: HubWorks> Rounds<H> {
    /// Runs one round.
    pub async fn run(&self, key: Key) -> Result<Next, RoundError> {
        if !self.hub.is_synced() || !self.applied.is_synced() {
            return Err(RoundError::NotReady);
        }
        let mut round = Round {
            all: self,
            key: &key,
            manifests: None,
            presumed: HashSet::new(),
            planned: None,
            conflicts: 0,
            wait: None,
            wrote: false,
        };
        round.run().await
    }

    fn now(&self) -> Time {
        Time(self.clock.now())
    }

    fn traces(&self) -> Api<AppliedManifestWork> {
        Api::all(self.cluster.client().clone())
    }

    fn poll(&self, key: &Key) -> Duration {
        spread(key, self.config.poll)
    }
}

impl<H: HubWorks> Round<'_, H> {
    async fn run(&mut self) -> Result<Next, RoundError> {
        for _ in 0..MAX_STEPS {
            // First the version: what is read afterwards is of this one or of a newer one.
            let version = self.version();
            if self.manifests.is_none()
                && let Some(time) = self.all.memory.settled_for(
                    self.key,
                    version.as_ref(),
                    self.applied().as_deref(),
                    &self.all.watches,
                )
            {
                return Ok(Next::After(time));
            }
            let (work, applied) = self.observed();
            if work.is_none() && version.is_some() {
                // It cannot be read: what was applied for it stays.
                return Ok(Next::OnChange);
            }
            if work.is_none() && applied.is_none() {
                self.forget();
                if let Key::Work(name) = self.key {
                    self.all.hub.forget(name);
                }
                return Ok(Next::OnChange);
            }
            if applied.as_deref().is_some_and(|it| self.is_of_another(it)) {
                return Ok(Next::OnChange);
            }
            if let Some(applied) = applied.as_deref()
                && self.evict(work.as_deref(), applied).await?
            {
                continue;
            }
            let again = self.step(work.as_deref(), applied.as_deref()).await?;
            if !again {
                return self.finish();
            }
        }
        Err(RoundError::Hub(HubError::Stale))
    }

    fn observed(&self) -> (Option<Arc<ManifestWork>>, Option<Arc<AppliedManifestWork>>) {
        let work = match self.key {
            Key::Work(name) => self.all.hub.get(name),
            Key::Foreign(_) => None,
        };
        (work, self.applied())
    }

    fn applied(&self) -> Option<Arc<AppliedManifestWork>> {
        match self.key {
            Key::Work(name) => {
                let name = self.all.config.identity.applied_name(name);
                self.all.applied.get(&name)
            }
            Key::Foreign(name) => self.all.applied.get(name),
        }
    }

    fn version(&self) -> Option<Version> {
        match self.key {
            Key::Work(name) => self.all.hub.version(name),
            Key::Foreign(_) => None,
        }
    }

    /// Plans once and does it. Tells whether to look again at once.
    async fn step(
        &mut self,
        work: Option<&ManifestWork>,
        applied: Option<&AppliedManifestWork>,
    ) -> Result<bool, RoundError> {
        let needs = plan::needs(work, applied);
        let generation = work.and_then(generation_of);
        self.planned = Planned::of(work, applied);
        match (needs, work) {
            (Needs::Manifests, Some(work)) => {
                if self
                    .manifests
                    .as_ref()
                    .is_none_or(|(of, _)| *of != generation)
                {
                    let manifests = self.observe(work, applied).await;
                    self.manifests = Some((generation, manifests));
                }
            }
            _ => self.manifests = None,
        }
        let manifests = self
            .manifests
            .as_ref()
            .map_or(&[][..], |(_, manifests)| manifests);
        let residue = self
            .observe_residue(plan::residue(needs, manifests, applied))
            .await;
        let seen = Seen {
            work,
            applied,
            identity: &self.all.config.identity,
            manifests,
            residue: &residue,
            raw_feedback: self.all.config.raw_feedback,
        };
        let actions = plan::plan(&seen, &self.all.now());
        let mut again = false;
        for action in actions {
            again |= self.act(action, work, applied).await?;
        }
        Ok(again)
    }

    async fn observe(
        &mut self,
        work: &ManifestWork,
        applied: Option<&AppliedManifestWork>,
    ) -> Vec<Observed> {
        let of = generation_of(work);
        let mut all = Vec::new();
        let mut places = HashSet::new();
        for (at, parsed) in manifest::parse_all(work).into_iter().enumerate() {
            let mut observed = Observed {
                parsed,
                served: None,
                live: Live::Absent,
                attempt: Attempt::None,
                pods: Vec::new(),
            };
            if let Ok(desired) = &observed.parsed {
                match self.all.kinds.find(&desired.gvk, self.key).await {
                    Ok(served) => observed.served = served,
                    Err(error) => {
                        observed.attempt = Attempt::Failed(format!(
                            "failed to find out how the cluster serves the kind: {error}"
                        ));
                    }
                }
            }
            if observed.served.is_some() && observed.failure().is_none() {
                places.insert(Place::from(&observed.meta(at)));
            }
            all.push(observed);
        }
        // First follow, then read: what changes in between is told.
        self.all.watches.follow(self.key, places);
        for (at, observed) in all.iter_mut().enumerate() {
            if observed.served.is_none() || observed.failure().is_some() {
                continue;
            }
            let meta = observed.meta(at);
            let place = Place::from(&meta);
            if plan::is_new(work, applied, &meta) {
                self.presumed.insert(place);
                continue;
            }
            observed.live = self.read(&place).await;
            let Ok(desired) = &observed.parsed else {
                continue;
            };
            if let Some(executor) = &work.spec.executor {
                let owned = plan::owns(work, &meta);
                let object = &desired.object;
                let may = executor::permit(&self.all.cluster, executor, &place, object, owned);
                if let Err(denied) = may.await {
                    observed.attempt = if denied.is_passing() {
                        Attempt::Failed(denied.to_string())
                    } else {
                        Attempt::Denied(denied.to_string())
                    };
                    continue;
                }
            }
            let Live::Present(live) = &observed.live else {
                continue;
            };
            if self.was_written(&place, &desired.object, of.as_deref(), live) {
                observed.attempt = Attempt::Done;
            }
            if let Some(pods) = health::pods(&desired.gvk, live) {
                // Without them less is told, no more.
                observed.pods = self.all.cluster.pods(&pods).await.unwrap_or_default();
            }
        }
        all
    }

    async fn observe_residue(
        &self,
        entries: Vec<AppliedManifestResourceMeta>,
    ) -> Vec<(AppliedManifestResourceMeta, Live)> {
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            let live = self.read(&Place::from(&entry)).await;
            all.push((entry, live));
        }
        all
    }

    async fn read(&self, place: &Place) -> Live {
        match self.all.cluster.get(place).await {
            Ok(Some(live)) => {
                self.note(place, &live);
                Live::Present(live)
            }
            Ok(None) => Live::Absent,
            Err(error) => Live::Unread(error.to_string()),
        }
    }

    fn note(&self, place: &Place, live: &Value) {
        if let Some(version) = version_of(live) {
            self.all.watches.note(place, version, self.key);
        }
    }

    /// Does one action. Tells whether to look again at once.
    async fn act(
        &mut self,
        action: Action,
        work: Option<&ManifestWork>,
        applied: Option<&AppliedManifestWork>,
    ) -> Result<bool, RoundError> {
        match (action, work, applied) {
            (Action::Write { ordinal, write }, ..) => {
                self.write(ordinal, &write).await;
                Ok(true)
            }
            (Action::Refuse { ordinal, why }, ..) => {
                self.attempted(ordinal, Attempt::BadIgnoreField(why), None);
                Ok(true)
            }
            (Action::Delete { target, uid }, ..) => {
                self.all.cluster.delete(&Place::from(&target), &uid).await?;
                self.wait(Duration::from_millis(50));
                Ok(false)
            }
            (Action::Release { target, patch }, ..) => {
                self.all
                    .cluster
                    .merge(&Place::from(&target), &patch)
                    .await?;
                Ok(true)
            }
            (Action::Wait(time), ..) => {
                self.wait(time);
                Ok(false)
            }
            (Action::AddFinalizer, Some(work), _) => {
                self.all.hub.add_finalizer(work).await?;
                Ok(true)
            }
            (Action::RemoveFinalizer, Some(work), _) => {
                self.all.hub.remove_finalizer(work).await?;
                self.forget();
                Ok(false)
            }
            (Action::PatchStatus(status), Some(work), _) => {
                self.all.hub.write_status(work, &status).await?;
                Ok(false)
            }
            (Action::CreateApplied(applied), ..) => {
                self.create_applied(&applied).await?;
                Ok(true)
            }
            (Action::AddAppliedFinalizer, _, Some(applied)) => {
                let mut finalizers = applied.finalizers().to_vec();
                finalizers.push(names::APPLIED_FINALIZER.to_owned());
                self.patch_applied(applied, json!({ "metadata": { "finalizers": finalizers, "resourceVersion": applied.resource_version() } })).await?;
                Ok(true)
            }
            (Action::AdoptApplied, Some(work), Some(applied)) => {
                let agent = &self.all.config.identity.agent_id;
                let patch = json!({ "metadata": { "uid": applied.uid(), "labels": work.labels() }, "spec": { "agentID": agent } });
                self.patch_applied(applied, patch).await?;
                Ok(true)
            }
            (Action::RemoveAppliedFinalizer, _, Some(applied)) => {
                let finalizers: Vec<_> = applied
                    .finalizers()
                    .iter()
                    .filter(|name| *name != names::APPLIED_FINALIZER)
                    .collect();
                let last = finalizers.is_empty();
                self.patch_applied(applied, json!({ "metadata": { "finalizers": finalizers, "resourceVersion": applied.resource_version() } })).await?;
                if last {
                    self.all.applied.forget(&applied.name_any());
                }
                Ok(true)
            }
            (Action::DeleteApplied, _, Some(applied)) => {
                self.delete_applied(applied).await?;
                Ok(true)
            }
            (Action::PatchApplied(status), _, Some(applied)) => {
                self.patch_applied_status(applied, &status).await?;
                Ok(false)
            }
            // The plan speaks of a work or a trace only where it saw one.
            (
                Action::AddFinalizer
                | Action::RemoveFinalizer
                | Action::PatchStatus(_)
                | Action::AddAppliedFinalizer
                | Action::AdoptApplied
                | Action::RemoveAppliedFinalizer
                | Action::DeleteApplied
                | Action::PatchApplied(_),
                ..,
            ) => Ok(false),
        }
    }

    async fn write(&mut self, ordinal: usize, write: &Write) {
        let Some((_, manifests)) = &self.manifests else {
            return;
        };
        let Some(observed) = manifests.get(ordinal) else {
            return;
        };
        let place = Place::from(&observed.meta(ordinal));
        let presumed = self.presumed.remove(&place);
        let outcome = self.all.cluster.write(&place, write).await;
        self.wrote |= matches!(write, Write::Replace(_) | Write::Apply { .. });
        match outcome {
            Ok(live) => {
                self.note(&place, &live);
                self.remember_write(place, ordinal, &live);
                self.attempted(ordinal, Attempt::Done, Some(Live::Present(live)));
            }
            // A server-side apply that meets other managers' fields meets them again.
            Err(ClusterError::Conflict(_))
                if !matches!(write, Write::Apply { .. })
                    && (presumed || self.conflicts < MAX_CONFLICTS) =>
            {
                self.conflicts += u32::from(!presumed);
                let live = self.read(&place).await;
                self.attempted(ordinal, Attempt::None, Some(live));
            }
            Err(error) => {
                let live = self.reread(&place, presumed).await;
                self.attempted(ordinal, Attempt::Failed(error.to_string()), live);
            }
        }
    }

    /// The object, if it was only presumed to be absent: what is reported of it must be so.
    async fn reread(&self, place: &Place, presumed: bool) -> Option<Live> {
        if presumed {
            Some(self.read(place).await)
        } else {
            None
        }
    }

    fn attempted(&mut self, ordinal: usize, attempt: Attempt, live: Option<Live>) {
        if let Some(observed) = self
            .manifests
            .as_mut()
            .and_then(|(_, manifests)| manifests.get_mut(ordinal))
        {
            observed.attempt = attempt;
            if let Some(live) = live {
                observed.live = live;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.wait = Some(self.wait.map_or(time, |known| known.min(time)));
    }

    fn finish(&mut self) -> Result<Next, RoundError> {
        let manifests = || self.manifests.iter().flat_map(|(_, manifests)| manifests);
        let others = manifests().filter(|it| it.denied().is_none());
        let mut failed = others.filter_map(Observed::failure);
        if let Some(first) = failed.next() {
            let count = failed.count() + 1;
            return Err(RoundError::Manifests { count, first });
        }
        if manifests().any(|it| it.denied().is_some()) {
            return Ok(Next::After(DENIED_FOR));
        }
        if self.wrote && self.all.memory.is_fighting(self.key) {
            return Ok(Next::After(CALM));
        }
        if let Some(wait) = self.wait {
            return Ok(Next::After(wait));
        }
        self.settle();
        Ok(Next::After(self.all.poll(self.key)))
    }

    fn forget(&self) {
        self.all.memory.forget(self.key);
        self.all.watches.follow(self.key, HashSet::new());
    }

    /// Remembers that nothing is left to do, if every object is there and the work is still the one that was looked at.
    fn settle(&self) {
        let version = self.version();
        let (work, applied) = self.observed();
        let objects = self.manifests.as_ref().and_then(|(_, manifests)| {
            let place = |(at, observed): (usize, &Observed)| match &observed.live {
                // Its pods may say more than its version tells.
                Live::Present(live) if awaits_pods(observed, live) => None,
                Live::Present(live) => Some((
                    Place::from(&observed.meta(at)),
                    version_of(live)?.to_owned(),
                )),
                Live::Absent | Live::Unread(_) => None,
            };
            manifests
                .iter()
                .enumerate()
                .map(place)
                .collect::<Option<Vec<_>>>()
        });
        let planned = self.planned.is_some()
            && self.planned == Planned::of(work.as_deref(), applied.as_deref());
        let executor = work.is_some_and(|work| work.spec.executor.is_some());
        let objects = objects.filter(|_| planned);
        let memory = &self.all.memory;
        memory.settle(self.key, version, applied.as_deref(), objects, executor);
    }

    fn remember_write(&self, place: Place, ordinal: usize, live: &Value) {
        let Some((of, manifests)) = &self.manifests else {
            return;
        };
        let Some(Ok(desired)) = manifests.get(ordinal).map(|observed| &observed.parsed) else {
            return;
        };
        if let Some(version) = version_of(live) {
            let print = print_of(&desired.object, of.as_deref());
            self.all.memory.wrote(self.key, place, print, version);
        }
    }

    fn was_written(&self, place: &Place, object: &Value, of: Option<&str>, live: &Value) -> bool {
        let print = print_of(object, of);
        version_of(live).is_some_and(|version| {
            self.all
                .memory
                .was_written(self.key, place, &print, version)
        })
    }
}

/// What the plan looked at. The agent's own writes do not change it; whoever else changes what matters does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Planned {
    work: Option<String>,
    generation: Option<String>,
    applied: Option<String>,
}

impl Planned {
    /// None where something is missing or on its way out.
    fn of(work: Option<&ManifestWork>, applied: Option<&AppliedManifestWork>) -> Option<Self> {
        let (work, applied) = (work?, applied?);
        let leaving = work.metadata.deletion_timestamp.is_some()
            || applied.metadata.deletion_timestamp.is_some();
        (!leaving).then(|| Self {
            work: work.uid(),
            generation: generation_of(work),
            applied: applied.uid(),
        })
    }
}

/// Whether the object's health depends on its pods.
fn awaits_pods(observed: &Observed, live: &Value) -> bool {
    let desired = observed.parsed.as_ref();
    desired.is_ok_and(|desired| health::pods(&desired.gvk, live).is_some())
}

/// What tells one spec of a work from another.
fn generation_of(work: &ManifestWork) -> Option<String> {
    work.metadata
        .generation
        .map(|generation| generation.to_string())
        .or_else(|| work.metadata.resource_version.clone())
}

/// What a write depends on, besides the live object: the manifest, and the options of the work.
fn print_of(object: &Value, of: Option<&str>) -> String {
    content_hash(&json!({ "object": object, "of": of }))
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn version_of(live: &Value) -> Option<&str> {
    live.get("metadata")?.get("resourceVersion")?.as_str()
}
