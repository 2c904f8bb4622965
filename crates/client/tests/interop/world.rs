//! One source, one broker, one agent, and what a scenario may do to them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use drover_testkit::eventually;
use serde_json::{Map, Value, json};

use drover_transport::config::Client;

use crate::bed::{Bed, Wire, path};
use crate::ends::{AGENT, Agent, CLUSTER, SOURCE, Source, VERSION};
use crate::scenarios::Scenario;

/// How long anything may take that peers retry by themselves.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Whose ends meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Drover,
    Go,
}

/// What a scenario plays with.
pub(crate) struct World {
    pub(crate) bed: Bed,
    sides: (Side, Side),
    source: Option<Source>,
    agent: Option<Agent>,
    owned: Vec<Value>,
    versions: BTreeMap<String, u32>,
    /// Whether a Go source says versions.
    pub(crate) versioned: bool,
    pub(crate) patience: Duration,
}

impl World {
    pub(crate) async fn new(
        wire: Wire,
        source: Side,
        agent: Side,
        scenario: Scenario,
    ) -> Result<Self> {
        let mut world = Self {
            bed: Bed::new(wire, scenario == Scenario::Rotation).await?,
            sides: (source, agent),
            source: None,
            agent: None,
            owned: Vec::new(),
            versions: BTreeMap::new(),
            versioned: true,
            patience: PATIENCE,
        };
        world.bed.start("[]").await?;
        if !world.bed.is_source() {
            world.start_source().await?;
        }
        world.start_agent().await?;
        Ok(world)
    }

    pub(crate) async fn start_source(&mut self) -> Result<()> {
        let owned = serde_json::to_string(&self.owned)?;
        if self.bed.is_source() {
            return self.bed.start(&owned).await;
        }
        self.source = Some(match self.sides.0 {
            Side::Drover => {
                Source::drover(
                    self.bed
                        .transport("source", &Client::Source(SOURCE.to_owned()))?,
                    &self.owned,
                )
                .await?
            }
            Side::Go => {
                let load = self.bed.folder().join("source-owned.json");
                std::fs::write(&load, owned)?;
                let config = self.bed.config("source")?;
                Source::go(
                    self.bed.driver(),
                    path(&config)?,
                    path(&load)?,
                    self.bed.folder(),
                )
                .await?
            }
        });
        Ok(())
    }

    /// Ends the source; what it owns is as in a database, without what agents said.
    pub(crate) async fn stop_source(&mut self) -> Result<()> {
        self.owned = self.source_works().await?;
        if self.bed.is_source() {
            self.bed.stop();
            return Ok(());
        }
        for work in &mut self.owned {
            if let Some(work) = work.as_object_mut() {
                work.remove("status");
            }
            if let Some(annotations) = work["metadata"]["annotations"].as_object_mut() {
                annotations.remove("cloudevents.open-cluster-management.io/sequenceid");
            }
        }
        self.source = None;
        Ok(())
    }

    pub(crate) async fn start_agent(&mut self) -> Result<()> {
        self.agent = Some(match self.sides.1 {
            Side::Drover => {
                Agent::drover(
                    self.bed
                        .transport("agent", &Client::Agent(AGENT.to_owned()))?,
                )
                .await
            }
            Side::Go => {
                let config = self.bed.config("agent")?;
                Agent::go(self.bed.driver(), path(&config)?, self.bed.folder()).await?
            }
        });
        Ok(())
    }

    /// Ends the agent, and with it all that it knew.
    pub(crate) fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// Ends the broker as a crash would.
    pub(crate) async fn stop_broker(&mut self) -> Result<()> {
        if self.bed.is_source() {
            self.owned = self.source_works().await?;
        }
        self.bed.stop();
        Ok(())
    }

    pub(crate) async fn start_broker(&mut self) -> Result<()> {
        let owned = serde_json::to_string(&self.owned)?;
        self.bed.start(&owned).await
    }

    pub(crate) fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("the agent is away")
    }

    fn source(&self) -> Result<&Source> {
        self.source.as_ref().context("the source is away")
    }

    /// Waits until a source of Go's listens again after its link was lost.
    pub(crate) async fn source_is_back(&self) -> Result<()> {
        match &self.source {
            Some(source) => source.back().await,
            None => Ok(()),
        }
    }

    pub(crate) async fn source_works(&self) -> Result<Vec<Value>> {
        match self.bed.wire {
            Wire::Service => self.bed.hub.works(),
            Wire::GoBroker => {
                let command = json!({"do": "list", "kind": "manifestworks"});
                Ok(serde_json::from_value(self.bed.go()?.ask(command).await?)?)
            }
            Wire::Mosquitto | Wire::MosquittoTls | Wire::Relay => self.source()?.works().await,
        }
    }

    pub(crate) async fn at_source(&self, name: &str) -> Result<Value> {
        named(self.source_works().await?, name)
    }

    pub(crate) async fn at_agent(&self, name: &str) -> Result<Value> {
        named(self.agent()?.works().await?, name)
    }

    /// Creates a work that holds a text, and waits until that is done (not until it has arrived).
    pub(crate) async fn create(&mut self, name: &str, text: &str) -> Result<()> {
        let work = self.work(name, text);
        match self.bed.wire {
            Wire::Service => self.bed.hub.put(&work),
            Wire::GoBroker => self.put(&work).await,
            Wire::Mosquitto | Wire::MosquittoTls | Wire::Relay => {
                self.source()?.create(&work).await
            }
        }
    }

    /// Changes the text of a work. Go's source cannot while there is no link: it is asked until it does.
    pub(crate) async fn update(&mut self, name: &str, text: &str) -> Result<()> {
        let work = self.work(name, text);
        let update = async || match self.bed.wire {
            Wire::Service => self.bed.hub.put(&work),
            Wire::GoBroker => self.put(&work).await,
            Wire::Mosquitto | Wire::MosquittoTls | Wire::Relay => {
                self.source()?.update(&work).await
            }
        };
        eventually("the update", self.patience, update).await?;
        // Go's source publishes first and stores in its own time; until then it drops for ever what agents say of the new
        // generation.
        let stored = async || {
            let work = self.at_source(name).await?;
            ensure!(work["metadata"]["labels"]["text"] == text, "{work}");
            Ok(())
        };
        eventually("the update at its source", self.patience, stored).await
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let delete = async || match self.bed.wire {
            Wire::Service => self.bed.hub.delete(name),
            Wire::GoBroker => {
                let command = json!({"do": "delete", "kind": "manifestworks", "namespace": CLUSTER, "name": name});
                self.bed.go()?.ask(command).await.map(drop)
            }
            Wire::Mosquitto | Wire::MosquittoTls | Wire::Relay => self.source()?.delete(name).await,
        };
        eventually("the deletion", self.patience, delete).await
    }

    async fn put(&self, work: &Value) -> Result<()> {
        let command = json!({"do": "put", "kind": "manifestworks", "object": work});
        self.bed.go()?.ask(command).await.map(drop)
    }

    fn work(&mut self, name: &str, text: &str) -> Value {
        let version = self.versions.entry(name.to_owned()).or_default();
        *version += 1;
        let mut work = manifest_work(name, text);
        if self.sides.0 == Side::Go && self.versioned {
            work["metadata"]["annotations"][VERSION] = json!(version.to_string());
        }
        work
    }

    /// Waits until the agent has a work with this text; the answer is the work.
    pub(crate) async fn arrived(&self, name: &str, text: &str) -> Result<Value> {
        let check = async || {
            let work = self.at_agent(name).await?;
            let holds = &work["spec"]["workload"]["manifests"][0]["data"]["text"];
            ensure!(holds == text, "the agent has {work}");
            Ok(work)
        };
        eventually(&format!("{name} with {text}"), self.patience, check).await
    }

    /// The agent claims a work and reports on it; waits until the source knows.
    pub(crate) async fn serve(&self, name: &str, word: &str) -> Result<()> {
        self.claim(name).await?;
        self.report(name, word).await?;
        self.known(name, word).await
    }

    pub(crate) async fn claim(&self, name: &str) -> Result<()> {
        let claim = async || self.agent()?.claim(name).await;
        eventually("the claim", self.patience, claim).await
    }

    /// Go's agent cannot while there is no link: it is asked until it does.
    pub(crate) async fn report(&self, name: &str, word: &str) -> Result<()> {
        let report = async || {
            let work = self.at_agent(name).await?;
            let status = status(&work, word);
            self.agent()?.report(name, &status).await
        };
        eventually("the report", self.patience, report).await
    }

    /// Waits until the source has this report, whole and for the generation that it is about.
    pub(crate) async fn known(&self, name: &str, word: &str) -> Result<()> {
        let check = async || {
            let work = self.at_source(name).await?;
            let wanted = normal(status(&self.at_agent(name).await?, word));
            let has = normal(work["status"].clone());
            ensure!(has == wanted, "the source has {has}, not {wanted}");
            let finalizers = &work["metadata"]["finalizers"];
            ensure!(
                finalizers.as_array().is_some_and(|list| !list.is_empty()),
                "the source does not know that an agent has it: {work}"
            );
            Ok(())
        };
        eventually(
            &format!("the report {word} of {name}"),
            self.patience,
            check,
        )
        .await
    }

    /// Waits until the agent knows that the work shall go.
    pub(crate) async fn leaving(&self, name: &str) -> Result<()> {
        let check = async || {
            let work = self.at_agent(name).await?;
            let meta = &work["metadata"];
            ensure!(meta["deletionTimestamp"].is_string(), "{meta}");
            ensure!(
                meta["finalizers"]
                    .as_array()
                    .is_some_and(|list| !list.is_empty()),
                "a work that nobody cleans up: {meta}"
            );
            Ok(())
        };
        eventually(&format!("the deletion of {name}"), self.patience, check).await
    }

    /// The agent lets go; waits until nobody has it any more.
    pub(crate) async fn release(&self, name: &str) -> Result<()> {
        let release = async || self.agent()?.release(name).await;
        eventually("the release", self.patience, release).await?;
        let check = async || {
            for (who, works) in [
                ("source", self.source_works().await?),
                ("agent", self.agent()?.works().await?),
            ] {
                ensure!(named(works, name).is_err(), "the {who} still has {name}");
            }
            Ok(())
        };
        eventually(&format!("the end of {name}"), self.patience, check).await
    }

    /// What is known, for a failed scenario.
    pub(crate) async fn describe(&self) -> String {
        let works = |works: Result<Vec<Value>>| match works {
            Ok(works) => format!("{works:?}"),
            Err(error) => format!("{error:#}"),
        };
        let agent = match &self.agent {
            Some(agent) => format!("{}\n{}", works(agent.works().await), agent.log()),
            None => "away".to_owned(),
        };
        let source = self.source.as_ref().map(Source::log).unwrap_or_default();
        format!(
            "source: {}\n{source}\nagent: {agent}\nbroker: {}\n",
            works(self.source_works().await),
            self.bed.log()
        )
    }
}

fn named(works: Vec<Value>, name: &str) -> Result<Value> {
    match works
        .into_iter()
        .find(|work| work["metadata"]["name"] == name)
    {
        Some(work) => Ok(work),
        None => bail!("no work {name}"),
    }
}

/// Every field that a work can have.
pub(crate) fn manifest_work(name: &str, text: &str) -> Value {
    json!({
        "apiVersion": "work.open-cluster-management.io/v1", "kind": "ManifestWork",
        "metadata": {
            "name": name, "namespace": CLUSTER, "labels": {"team": "blue", "text": text},
            "annotations": {"note": "a <b> & \u{2028} \"c\"", "logging.open-cluster-management.io/op-id": "op-42"},
        },
        "spec": {
            "workload": {"manifests": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cfg", "namespace": "demo"}, "data": {"text": text, "odd": "<&>\u{2028}日本"}},
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "demo"}, "data": {"p": "AAEC"}},
            ]},
            "deleteOption": {"propagationPolicy": "SelectivelyOrphan",
                "selectivelyOrphans": {"orphaningRules": [{"group": "", "resource": "secrets", "name": "s", "namespace": "demo"}]}},
            "manifestConfigs": [{
                "resourceIdentifier": {"group": "", "resource": "configmaps", "name": "cfg", "namespace": "demo"},
                "feedbackRules": [{"type": "JSONPaths", "jsonPaths": [{"name": "text", "path": ".data.text"}]}],
                "updateStrategy": {"type": "ServerSideApply", "serverSideApply": {"force": true}},
            }],
            "executor": {"subject": {"type": "ServiceAccount", "serviceAccount": {"namespace": "demo", "name": "deployer"}}},
        },
    })
}

fn status(work: &Value, word: &str) -> Value {
    let seen = &work["metadata"]["generation"];
    let condition = |kind: &str| {
        let mut condition = json!({
            "type": kind, "status": "True", "reason": word, "message": "a <b>",
            "lastTransitionTime": "2026-05-30T09:00:00Z",
        });
        // Unversioned works have none.
        if seen.is_number() {
            condition["observedGeneration"] = seen.clone();
        }
        condition
    };
    json!({
        "conditions": [condition("Applied"), condition("Available")],
        "resourceStatus": {"manifests": [{
            "resourceMeta": {"ordinal": 0, "group": "", "version": "v1", "kind": "ConfigMap", "resource": "configmaps", "name": "cfg", "namespace": "demo"},
            "statusFeedback": {"values": [{"name": "text", "fieldValue": {"type": "String", "string": word}}]},
            "conditions": [condition("Applied")],
        }]},
    })
}

/// The same without what means nothing: nulls and empty lists, objects and texts.
pub(crate) fn normal(value: Value) -> Value {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    match value {
        Value::Object(map) => {
            let kept = map
                .into_iter()
                .map(|(key, value)| (key, normal(value)))
                .filter(|(_, value)| !empty(value));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(normal).collect()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}
