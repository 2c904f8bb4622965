//! What a control plane does by itself: collects garbage, ends namespaces and fills new ones,
//! forgets old events.
//!
//! Each part is a plan, a pure function of what the store shows and of the time; [`run`] observes
//! the store's changes, asks the plans, and executes what they say through a [`Writer`]. A plan says
//! nothing when there is nothing to do, so any number of observations may be lost or repeated.

pub mod events;
pub mod garbage;
pub mod namespaces;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::{self, AfterUpdate, DeleteOptions, Deletion, Facts, Family, Propagation};
use crate::store::{Change, Key, Object, Store, Watch, WriteError};

/// Writes that are on their way at the same time; they share commits.
const CONCURRENCY: usize = 128;
/// Things that are looked at before the store's changes are read again.
const BATCH: usize = 128;
/// The longest wait after a write that the disk refused.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Whether objects of a kind live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They do not.
    Cluster,
}

/// Finds the scope of a kind by `apiVersion` and `kind`; `None` when it is not served.
pub type Kinds = Arc<dyn Fn(&str, &str) -> Option<Scope> + Send + Sync>;

/// How the controllers behave.
#[derive(Clone)]
pub struct Settings {
    /// The time that is written into objects and that events age by.
    pub clock: Clock,
    /// Makes a uid for an object.
    pub uid: Arc<dyn Fn() -> String + Send + Sync>,
    /// The kinds that are served. An owner of another kind may exist elsewhere, so its dependents
    /// stay; when this is absent, an owner that is not in the store does not exist.
    pub kinds: Option<Kinds>,
    /// Whether each namespace gets a service account `default`.
    pub service_accounts: bool,
    /// PEM for the config map `kube-root-ca.crt` of each namespace; none without it.
    pub root_ca: Option<Arc<str>>,
    /// How long events live.
    pub event_ttl: Duration,
    /// How often everything is looked at again, in case something was missed.
    pub resync: Duration,
    /// How long to wait after the disk refused a write; doubles while it goes on refusing.
    pub retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock: Arc::new(Timestamp::now),
            uid: Arc::new(|| uuid::Uuid::new_v4().to_string()),
            kinds: None,
            service_accounts: true,
            root_ca: None,
            event_ttl: Duration::from_hours(1),
            resync: Duration::from_mins(10),
            retry: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("service_accounts", &self.service_accounts)
            .field("root_ca", &self.root_ca.is_some())
            .field("event_ttl", &self.event_ttl)
            .field("resync", &self.resync)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// One write that a plan wants.
#[derive(Clone, Debug)]
pub enum Action {
    /// A new object.
    Create(Key, Value),
    /// This object, as it was seen, becomes that.
    Update(Arc<Object>, Value),
    /// This object, as it was seen, is deleted as if by a user.
    Delete(Arc<Object>, Propagation),
}

/// What a controller wants.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Executed one after the other; the actions of a stage in any order. The first failure ends
    /// the plan.
    pub stages: Vec<Vec<Action>>,
    /// Other objects that should be looked at.
    pub look: Vec<Key>,
    /// Whether to plan again after the last stage.
    pub again: bool,
}

impl Plan {
    /// Only one write.
    fn one(action: Action) -> Self {
        Self {
            stages: vec![vec![action]],
            ..Self::default()
        }
    }

    /// Whether there is nothing to write.
    pub fn is_idle(&self) -> bool {
        self.stages.iter().all(Vec::is_empty)
    }
}

/// How controllers write. Every write expects the object as it was seen.
pub trait Writer: Send + Sync {
    /// Makes an object.
    fn create(
        &self,
        key: Key,
        object: Value,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Replaces an object, or removes it when this was the last thing its deletion waited for.
    fn update(
        &self,
        seen: &Arc<Object>,
        object: Value,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Deletes an object as if by a user.
    fn delete(
        &self,
        seen: &Arc<Object>,
        propagation: Propagation,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;
}

impl Writer for Store {
    async fn create(&self, key: Key, object: Value) -> Result<(), WriteError> {
        Store::create(self, key, object).await.map(drop)
    }

    async fn update(&self, seen: &Arc<Object>, object: Value) -> Result<(), WriteError> {
        let key = seen.key.clone();
        match lifecycle::after_update(&seen.value(), &object, Family::of(&key.resource)) {
            AfterUpdate::Store => Store::update(self, key, seen.revision, object)
                .await
                .map(drop),
            AfterUpdate::Remove => Store::delete(self, key, seen.revision).await.map(drop),
        }
    }

    async fn delete(
        &self,
        seen: &Arc<Object>,
        propagation: Propagation,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let live = seen.value();
        let (key, options) = (seen.key.clone(), DeleteOptions::of(propagation));
        match lifecycle::delete(&live, &options, &Facts::of(&key.resource, &live), now) {
            Deletion::Remove => Store::delete(self, key, seen.revision).await.map(drop),
            Deletion::Mark(marked) => Store::update(self, key, seen.revision, marked)
                .await
                .map(drop),
            Deletion::Unchanged => Ok(()),
            // There are no preconditions in these options; the revision is one.
            Deletion::Refuse(error) => Err(WriteError::Malformed(error.message)),
        }
    }
}

/// Runs all controllers of a store until it is told to stop or the store is closed.
///
/// Sleeps while nothing happens in the store; everything is looked at again after
/// [`Settings::resync`].
///
/// # Cancel safety
/// May be dropped at any time: what is half done is continued by the next run.
pub async fn run(store: Store, cancel: CancellationToken, settings: Settings) {
    let writer = store.clone();
    run_with(store, writer, cancel, settings).await;
}

/// As [`run`], with another way to write.
pub async fn run_with<W: Writer>(
    store: Store,
    writer: W,
    cancel: CancellationToken,
    settings: Settings,
) {
    let mut controllers = Controllers {
        store,
        writer,
        settings,
        dirty: BTreeSet::new(),
        events: events::Expiries::default(),
        refusals: 0,
    };
    if let Some(Stopped) = cancel.run_until_cancelled(controllers.run()).await {
        tracing::info!("the store was closed, so its controllers end");
    }
}

/// The store takes no more writes.
struct Stopped;

/// Something that may need a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    /// An object that is owned or being deleted.
    Object(Key),
    /// A namespace and what is in it.
    Namespace(Arc<str>),
}

struct Controllers<W> {
    store: Store,
    writer: W,
    settings: Settings,
    dirty: BTreeSet<Task>,
    events: events::Expiries,
    /// How often in a row the disk refused.
    refusals: u32,
}

impl<W: Writer> Controllers<W> {
    async fn run(&mut self) -> Stopped {
        loop {
            let Ok(mut watch) = self.store.watch_all(self.store.revision()) else {
                continue;
            };
            self.look_at_everything();
            let resync = Instant::now() + self.settings.resync;
            if let Some(stopped) = self.follow(&mut watch, resync).await {
                return stopped;
            }
        }
    }

    /// Works until it is time to look at everything again.
    async fn follow(&mut self, watch: &mut Watch, resync: Instant) -> Option<Stopped> {
        loop {
            loop {
                match watch.try_next() {
                    Ok(Some(change)) => self.observe(&change),
                    Ok(None) => break,
                    Err(_expired) => return None,
                }
            }
            if let Err(stopped) = self.work().await {
                return Some(stopped);
            }
            if !self.dirty.is_empty() {
                continue;
            }
            let due = self
                .events
                .next(&*self.settings.clock)
                .map(|wait| Instant::now() + wait);
            let wake = due.map_or(resync, |due| due.min(resync));
            tokio::select! {
                biased;
                change = watch.next() => match change {
                    Ok(change) => self.observe(&change),
                    Err(_expired) => return None,
                },
                () = tokio::time::sleep_until(wake) => if wake == resync { return None },
            }
        }
    }

    fn look_at_everything(&mut self) {
        for resource in self.store.resources() {
            for object in self.store.list(&resource, None).items {
                self.look_at(&object);
            }
        }
    }

    fn look_at(&mut self, object: &Arc<Object>) {
        let key = &object.key;
        if !object.meta.owners.is_empty() || object.meta.terminating {
            self.dirty.insert(Task::Object(key.clone()));
        }
        if &*key.resource == namespaces::RESOURCE {
            self.dirty.insert(Task::Namespace(Arc::clone(&key.name)));
        }
        if events::is_event(&key.resource) {
            let now = (self.settings.clock)();
            self.events.track(object, now, self.settings.event_ttl);
        }
    }

    /// Notes what a change may have made necessary.
    fn observe(&mut self, change: &Change) {
        let Some(object) = change.object() else {
            return;
        };
        let key = &object.key;
        match &change.new {
            Some(new) => self.look_at(new),
            // What it owned has lost its owner.
            None => self.look_at_all(self.store.owned_by(&object.meta.uid)),
        }
        // Owners may have waited for this.
        for state in [&change.old, &change.new].into_iter().flatten() {
            let owners = state
                .meta
                .owners
                .iter()
                .filter_map(|uid| self.store.by_uid(uid));
            self.look_at_all(owners.filter(|owner| owner.meta.terminating).collect());
        }
        if !key.namespace.is_empty() {
            let place = Key::new(namespaces::RESOURCE, "", Arc::clone(&key.namespace));
            let terminating = self
                .store
                .get(&place)
                .is_some_and(|found| found.meta.terminating);
            if terminating || namespaces::is_default_object(key) {
                self.dirty
                    .insert(Task::Namespace(Arc::clone(&key.namespace)));
            }
        }
    }

    fn look_at_all(&mut self, objects: Vec<Arc<Object>>) {
        self.dirty.extend(
            objects
                .into_iter()
                .map(|object| Task::Object(object.key.clone())),
        );
    }

    /// Plans and executes some of what is noted, and what the time has made due.
    async fn work(&mut self) -> Result<(), Stopped> {
        let now = (self.settings.clock)();
        let ttl = self.settings.event_ttl;
        let due = self.events.take_due(&self.store, now, ttl, BATCH);
        let mut plans: Vec<(Option<Task>, Plan)> = due
            .into_iter()
            .map(|event| {
                (
                    None,
                    Plan::one(Action::Delete(event, Propagation::Background)),
                )
            })
            .collect();
        while plans.len() < BATCH
            && let Some(task) = self.dirty.pop_first()
        {
            let mut plan = self.plan(&task, now);
            self.dirty.extend(plan.look.drain(..).map(Task::Object));
            if !plan.is_idle() {
                plans.push((Some(task), plan));
            }
        }
        let writer = &self.writer;
        let results: Vec<_> = stream::iter(plans)
            .map(|(task, plan)| async move {
                let again = plan.again;
                (task, again, execute(writer, plan, now).await)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.settle(results).await
    }

    fn plan(&self, task: &Task, now: Timestamp) -> Plan {
        match task {
            Task::Object(key) => match self.store.get(key) {
                Some(object) => garbage::plan(&object, &self.store, self.settings.kinds.as_ref()),
                None => Plan::default(),
            },
            Task::Namespace(name) => {
                let key = Key::new(namespaces::RESOURCE, "", Arc::clone(name));
                match self.store.get(&key) {
                    Some(object) => namespaces::plan(&object, &self.store, &self.settings, now),
                    None => Plan::default(),
                }
            }
        }
    }

    /// Decides what is to be done again, and when.
    async fn settle(
        &mut self,
        results: Vec<(Option<Task>, bool, Result<(), WriteError>)>,
    ) -> Result<(), Stopped> {
        let mut refused = false;
        for (task, again, result) in results {
            match result {
                Ok(()) if !again => continue,
                // Either the plan wants it, or somebody was faster: plan from what is there now.
                Ok(()) | Err(WriteError::Changed(_) | WriteError::Missing | WriteError::Exists) => {
                }
                Err(WriteError::Unwritable(_)) => refused = true,
                Err(WriteError::Closed) => return Err(Stopped),
                Err(error @ WriteError::Malformed(_)) => {
                    tracing::error!(?task, %error, "a controller cannot do what it should");
                    continue;
                }
            }
            // An event that could not be removed is found again at the next look at everything.
            self.dirty.extend(task);
        }
        if !refused {
            self.refusals = 0;
            return Ok(());
        }
        let wait = self
            .settings
            .retry
            .saturating_mul(2_u32.saturating_pow(self.refusals.min(16)));
        self.refusals = self.refusals.saturating_add(1);
        tokio::time::sleep(wait.min(LONGEST_BACKOFF)).await;
        Ok(())
    }
}

/// Executes a plan, stage after stage.
async fn execute<W: Writer>(writer: &W, plan: Plan, now: Timestamp) -> Result<(), WriteError> {
    for stage in plan.stages {
        let writes = stream::iter(stage.into_iter().map(Ok));
        let writes = writes.try_for_each_concurrent(CONCURRENCY, |action| async move {
            match action {
                Action::Create(key, object) => writer.create(key, object).await,
                Action::Update(seen, object) => writer.update(&seen, object).await,
                Action::Delete(seen, propagation) => writer.delete(&seen, propagation, now).await,
            }
        });
        pin!(writes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
