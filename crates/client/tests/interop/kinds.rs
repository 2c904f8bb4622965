//! Every other kind, both ways.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use drover_client::{
    AgentObjects, AgentOptions, ClientError, DataType, SourceObjects, SourceOptions,
};
use drover_testkit::compat::{Outcome, Table};
use drover_testkit::{Probe, eventually};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use drover_transport::config::Client;

use crate::bed::{Bed, Wire, path};
use crate::ends::{CLUSTER, SOURCE, driver};
use crate::world::{PATIENCE, Side, normal};

const CLUSTERS: &str = "managedclusters";
const REQUESTS: &str = "certificatesigningrequests";
const LEASES: &str = "leases";
const EVENTS: &str = "events";
const ADDONS_V1ALPHA1: &str = "managedclusteraddons.v1alpha1";
const ADDONS_V1BETA1: &str = "managedclusteraddons.v1beta1";
const TOKENS: &str = "tokenrequests";

const KINDS: [&str; 7] = [
    CLUSTERS,
    REQUESTS,
    LEASES,
    EVENTS,
    ADDONS_V1ALPHA1,
    ADDONS_V1BETA1,
    TOKENS,
];

fn data_type(kind: &str) -> DataType {
    match kind {
        CLUSTERS => DataType::MANAGED_CLUSTERS,
        REQUESTS => DataType::CSRS,
        LEASES => DataType::LEASES,
        EVENTS => DataType::EVENTS,
        ADDONS_V1ALPHA1 => DataType::ADDONS_V1ALPHA1,
        ADDONS_V1BETA1 => DataType::ADDONS_V1BETA1,
        _ => DataType::TOKEN_REQUESTS,
    }
}

/// An object of a kind; `step` says which state of it.
fn object(kind: &str, name: &str, step: u32) -> Value {
    let meta = json!({
        "name": name, "namespace": CLUSTER, "uid": format!("uid-of-{name}"), "resourceVersion": step.to_string(),
        "labels": {"step": step.to_string(), "open-cluster-management.io/cluster-name": CLUSTER},
    });
    let spec = match kind {
        CLUSTERS => {
            json!({"hubAcceptsClient": true, "leaseDurationSeconds": 60, "managedClusterClientConfigs": [{"url": "https://a"}]})
        }
        REQUESTS => {
            json!({"request": "LS0t", "signerName": "open-cluster-management.io/grpc", "usages": ["client auth"]})
        }
        LEASES => {
            json!({"holderIdentity": "h", "leaseDurationSeconds": 60, "renewTime": "2026-05-30T09:00:00.123456Z"})
        }
        TOKENS => json!({"audiences": ["a"], "expirationSeconds": 3600}),
        _ => json!({"configs": [{"group": "g", "resource": "r", "name": "n"}]}),
    };
    if kind == EVENTS {
        return json!({
            "metadata": meta, "eventTime": "2026-05-30T09:00:00.000001Z", "action": "Start", "reason": "Started", "type": "Normal",
            "reportingController": "c", "reportingInstance": "i", "regarding": {"kind": "ManagedCluster", "name": CLUSTER},
        });
    }
    let mut object = json!({"metadata": meta, "spec": spec});
    if matches!(kind, CLUSTERS | REQUESTS)
        && let Some(meta) = object["metadata"].as_object_mut()
    {
        meta.remove("namespace");
    }
    object
}

fn status() -> Value {
    json!({"conditions": [{"type": "Available", "status": "True", "reason": "Ok", "message": "a <b>", "lastTransitionTime": "2026-05-30T09:00:00Z"}]})
}

/// A name that the kind allows.
fn name(kind: &str) -> &'static str {
    if kind == CLUSTERS { CLUSTER } else { "one" }
}

/// Whose objects they are.
enum Owner {
    /// A service behind sdk-go's broker.
    GoBroker(Arc<Probe>),
    GoSource(Probe),
    Drover(BTreeMap<&'static str, (SourceObjects<Value>, DropGuard)>),
}

impl Owner {
    async fn put(&self, kind: &str, object: &Value) -> Result<()> {
        match self {
            Self::GoBroker(probe) => drop(ask(probe, "put", kind, object).await?),
            Self::GoSource(probe) => drop(ask(probe, "put", kind, object).await?),
            Self::Drover(kinds) => {
                let (objects, _) = kinds.get(kind).context("no such kind")?;
                match objects.create(object) {
                    Err(ClientError::Change(_)) => drop(objects.update(&unversioned(object))?),
                    other => drop(other?),
                }
            }
        }
        Ok(())
    }

    async fn delete(&self, kind: &str, object: &Value) -> Result<()> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        match self {
            Self::GoBroker(probe) => {
                let command =
                    json!({"do": "delete", "kind": kind, "namespace": namespace, "name": name});
                probe.ask(command).await?;
            }
            Self::GoSource(probe) => {
                let mut object = object.clone();
                object["metadata"]["deletionTimestamp"] = json!("2026-05-30T10:11:12Z");
                ask(probe, "put", kind, &object).await?;
            }
            Self::Drover(kinds) => {
                let (objects, _) = kinds.get(kind).context("no such kind")?;
                objects.delete(namespace, name);
            }
        }
        Ok(())
    }

    async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        match self {
            Self::GoBroker(probe) => list(probe, kind).await,
            Self::GoSource(probe) => list(probe, kind).await,
            Self::Drover(kinds) => Ok(kinds.get(kind).context("no such kind")?.0.list()?),
        }
    }
}

fn unversioned(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    object
}

/// Who has copies of them.
enum Member {
    Go(Probe),
    Drover(BTreeMap<&'static str, (AgentObjects<Value>, DropGuard)>),
}

impl Member {
    async fn list(&self, kind: &str) -> Result<Vec<Value>> {
        match self {
            Self::Go(probe) => list(probe, kind).await,
            Self::Drover(kinds) => Ok(kinds.get(kind).context("no such kind")?.0.list()?),
        }
    }

    async fn create(&self, kind: &str, object: &Value) -> Result<()> {
        match self {
            Self::Go(probe) => drop(ask(probe, "create", kind, object).await?),
            Self::Drover(kinds) => {
                kinds
                    .get(kind)
                    .context("no such kind")?
                    .0
                    .create(object)
                    .await?;
            }
        }
        Ok(())
    }

    async fn update(&self, kind: &str, object: &Value) -> Result<()> {
        match self {
            // Go's recorder sends what changed.
            Self::Go(probe) if kind == EVENTS => {
                let patch = json!({"series": object["series"], "metadata": object["metadata"]});
                let name = &object["metadata"]["name"];
                let command = json!({"do": "patch", "kind": kind, "name": name, "object": patch});
                probe.ask(command).await?;
            }
            Self::Go(probe) => drop(ask(probe, "update", kind, object).await?),
            Self::Drover(kinds) => {
                kinds
                    .get(kind)
                    .context("no such kind")?
                    .0
                    .update(object)
                    .await?;
            }
        }
        Ok(())
    }

    /// Reports `status` of the object it has a copy of.
    async fn report(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        match self {
            Self::Go(probe) => {
                let patch = json!({"status": status});
                let command = json!({"do": "patch", "kind": kind, "name": name, "object": patch});
                probe.ask(command).await?;
            }
            Self::Drover(kinds) => {
                let mut object = found(self.list(kind).await?, name)?;
                object["status"] = status.clone();
                let (objects, _) = kinds.get(kind).context("no such kind")?;
                objects.update_status(&object).await?;
            }
        }
        Ok(())
    }
}

async fn ask(probe: &Probe, what: &str, kind: &str, object: &Value) -> Result<Value> {
    let command =
        json!({"do": what, "kind": kind, "name": object["metadata"]["name"], "object": object});
    probe.ask(command).await
}

async fn list(probe: &Probe, kind: &str) -> Result<Vec<Value>> {
    let answer = probe.ask(json!({"do": "list", "kind": kind})).await?;
    Ok(serde_json::from_value::<Option<_>>(answer)?.unwrap_or_default())
}

fn found(objects: Vec<Value>, name: &str) -> Result<Value> {
    let mut named = objects
        .into_iter()
        .filter(|object| object["metadata"]["name"] == name);
    named.next().with_context(|| format!("no {name}"))
}

struct World {
    bed: Bed,
    owner: Owner,
    member: Member,
}

impl World {
    async fn new(wire: Wire, sides: (Side, Side), kinds: &[&'static str]) -> Result<Self> {
        let mut bed = Bed::new(wire, false).await?;
        bed.start("[]").await?;
        let list = kinds.join(",");
        let owner = match (wire, sides.0) {
            (Wire::GoBroker, _) => Owner::GoBroker(bed.go()?),
            (_, Side::Go) => {
                let config = bed.config("source")?;
                let args = [
                    "-driver",
                    bed.driver(),
                    "-config",
                    path(&config)?,
                    "-source",
                    SOURCE,
                    "-kinds",
                    &list,
                ];
                let probe = Probe::start("source", "hub", &args, bed.folder()).await?;
                probe.subscribed(kinds.len()).await?;
                Owner::GoSource(probe)
            }
            (_, Side::Drover) => drover_owner(&bed, kinds).await?,
        };
        let member = match sides.1 {
            Side::Go => {
                let config = bed.config("agent")?;
                let args = [
                    "-driver",
                    bed.driver(),
                    "-config",
                    path(&config)?,
                    "-cluster",
                    CLUSTER,
                    "-kinds",
                    &list,
                ];
                let probe = Probe::start("member", "member", &args, bed.folder()).await?;
                // Events are only sent, and every token is a client of its own.
                let kept = kinds
                    .iter()
                    .filter(|kind| !matches!(**kind, EVENTS | TOKENS));
                probe.subscribed(kept.count()).await?;
                Member::Go(probe)
            }
            Side::Drover => drover_member(&bed, kinds).await?,
        };
        Ok(Self { bed, owner, member })
    }

    /// The owner creates, changes and deletes; the member follows.
    async fn down(&self, kind: &str) -> Result<()> {
        let name = name(kind);
        for step in [1, 2] {
            let object = object(kind, name, step);
            self.owner.put(kind, &object).await?;
            let arrived = async || {
                let has = found(self.member.list(kind).await?, name)?;
                let labels = (&has["metadata"]["labels"], &object["metadata"]["labels"]);
                ensure!(labels.0 == labels.1, "{has}");
                ensure!(
                    normal(has["spec"].clone()) == normal(object["spec"].clone()),
                    "{has}"
                );
                Ok(())
            };
            eventually("the object", PATIENCE, arrived).await?;
        }
        self.delete(kind, name).await
    }

    async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        self.owner.delete(kind, &object(kind, name, 9)).await?;
        let gone = async || {
            ensure!(
                found(self.member.list(kind).await?, name).is_err(),
                "it is still there"
            );
            Ok(())
        };
        eventually("the deletion", PATIENCE, gone).await
    }

    /// The member reports a status, and the owner has it.
    async fn report(&self, kind: &str) -> Result<()> {
        let name = if kind == CLUSTERS {
            CLUSTER
        } else {
            "reported"
        };
        self.owner.put(kind, &object(kind, name, 5)).await?;
        let copied = async || found(self.member.list(kind).await?, name).map(drop);
        eventually("the object", PATIENCE, copied).await?;
        self.member.report(kind, name, &status()).await?;
        let known = async || {
            let has = found(self.owner.list(kind).await?, name)?;
            ensure!(normal(has["status"].clone()) == normal(status()), "{has}");
            Ok(())
        };
        eventually("the status", PATIENCE, known).await?;
        if let (Owner::GoBroker(_), Member::Drover(kinds)) = (&self.owner, &self.member) {
            // The refusal of a status of nothing says what it is.
            let (objects, _) = kinds.get(kind).context("no such kind")?;
            let error = objects.update_status(&object(kind, "nothing", 1)).await;
            ensure!(
                error.as_ref().is_err_and(ClientError::is_not_found) || kind == CLUSTERS,
                "{error:?}"
            );
        }
        Ok(())
    }

    /// The member makes one, or changes one of its own accord.
    async fn made(&self, kind: &str) -> Result<()> {
        let name = if kind == CLUSTERS { CLUSTER } else { "made" };
        let first = unversioned(&object(kind, name, 7));
        match kind {
            LEASES => {
                self.owner.put(kind, &object(kind, name, 6)).await?;
                let copied = async || found(self.member.list(kind).await?, name);
                let mut lease = eventually("the lease", PATIENCE, copied).await?;
                lease["spec"]["renewTime"] = json!("2026-05-30T09:01:00.654321Z");
                self.member.update(kind, &lease).await?;
                let renewed = async || {
                    let has = found(self.owner.list(kind).await?, name)?;
                    ensure!(
                        has["spec"]["renewTime"] == lease["spec"]["renewTime"],
                        "{has}"
                    );
                    Ok(())
                };
                return eventually("the lease", PATIENCE, renewed).await;
            }
            TOKENS => return self.token().await,
            CLUSTERS => {
                // There is one, which was there for its status.
                self.delete(kind, name).await?;
                self.member.create(kind, &first).await?;
            }
            _ => self.member.create(kind, &first).await?,
        }
        let made = async || {
            let has = found(self.owner.list(kind).await?, name)?;
            ensure!(
                has["metadata"]["labels"] == first["metadata"]["labels"],
                "{has}"
            );
            Ok(())
        };
        eventually("what the agent made", PATIENCE, made).await?;
        if kind == EVENTS {
            let mut again = first.clone();
            again["series"] =
                json!({"count": 2, "lastObservedTime": "2026-05-30T09:00:01.000002Z"});
            self.member.update(kind, &again).await?;
            let counted = async || {
                let has = found(self.owner.list(kind).await?, name)?;
                ensure!(has["series"]["count"] == 2, "{has}");
                Ok(())
            };
            eventually("the series", PATIENCE, counted).await?;
        }
        Ok(())
    }

    async fn token(&self) -> Result<()> {
        let request = unversioned(&object(TOKENS, "account", 1));
        let answer: Value = match &self.member {
            Member::Go(probe) => ask(probe, "create", TOKENS, &request).await?,
            Member::Drover(kinds) => {
                let (objects, _) = kinds.get(TOKENS).context("no such kind")?;
                objects.call(&request, Duration::from_secs(30)).await?
            }
        };
        ensure!(
            answer["status"]["token"] == "a token of account",
            "{answer}"
        );
        Ok(())
    }
}

async fn drover_owner(bed: &Bed, kinds: &[&'static str]) -> Result<Owner> {
    let mut objects = BTreeMap::new();
    let transport = bed.transport("source", &Client::Source(SOURCE.to_owned()))?;
    for &kind in kinds {
        let options = SourceOptions {
            driver: driver(),
            ..SourceOptions::new(SOURCE)
        };
        let (client, driver) =
            SourceObjects::new(options, &data_type(kind), Arc::clone(&transport))?;
        let stop = CancellationToken::new();
        tokio::spawn(driver.run(stop.clone()));
        client.untyped().connected().await;
        objects.insert(kind, (client, stop.drop_guard()));
    }
    Ok(Owner::Drover(objects))
}

async fn drover_member(bed: &Bed, kinds: &[&'static str]) -> Result<Member> {
    let mut objects = BTreeMap::new();
    let transport = bed.transport("agent", &Client::Agent("edge-7-agent".to_owned()))?;
    for &kind in kinds {
        let options = AgentOptions {
            driver: driver(),
            ..AgentOptions::new("edge-7-agent", CLUSTER)
        };
        let (client, driver) =
            AgentObjects::new(options, &data_type(kind), Arc::clone(&transport))?;
        let stop = CancellationToken::new();
        tokio::spawn(driver.run(stop.clone()));
        client.connected().await;
        objects.insert(kind, (client, stop.drop_guard()));
    }
    Ok(Member::Drover(objects))
}

const HEAD: &str = "Peers as above. *To the agent*: the hub creates, changes and deletes, the agent follows. *Status*: the agent reports one,
the hub has it. *By the agent*: the agent creates or changes of its own accord (a cluster that joins, a request for a certificate,
a lease that is renewed, an event and its series, a token), the hub has it or answers.";

const NOT_SENT: &str = "Hubs send none of these.";
const NO_STATUS: &str = "Agents report no status of these.";
const NOT_MADE: &str = "Agents make none of these.";
const SOURCES: &str = "Sources at a message broker take statuses alone.";

fn impossible(wire: Wire, kind: &str) -> [Option<&'static str>; 3] {
    let down = matches!(kind, EVENTS | TOKENS).then_some(NOT_SENT);
    let status = matches!(kind, EVENTS | TOKENS | LEASES | REQUESTS).then_some(NO_STATUS);
    let made = if matches!(kind, ADDONS_V1ALPHA1 | ADDONS_V1BETA1) {
        Some(NOT_MADE)
    } else {
        (wire != Wire::GoBroker).then_some(SOURCES)
    };
    [down, status, made]
}

type Row = (Wire, Side, Side, &'static str, Vec<Outcome>);

async fn rows(wire: Wire, sides: (Side, Side)) -> Result<Vec<Row>> {
    let possible = |kind: &&&'static str| impossible(wire, kind).iter().any(Option::is_none);
    let kinds: Vec<&'static str> = KINDS.iter().filter(possible).copied().collect();
    let world = World::new(wire, sides, &kinds).await?;
    let world = &world;
    let played = kinds.into_iter().map(async |kind| {
        let mut cells = Vec::new();
        for (cell, why) in impossible(wire, kind).into_iter().enumerate() {
            if let Some(why) = why {
                cells.push(Outcome::Never(why.to_owned()));
                continue;
            }
            let done = match cell {
                0 => world.down(kind).await,
                1 => world.report(kind).await,
                _ => world.made(kind).await,
            };
            done.with_context(|| {
                format!(
                    "{kind}, {cell}, on {wire:?}, {sides:?}: {}",
                    world.bed.log()
                )
            })?;
            cells.push(Outcome::Pass);
        }
        Ok::<_, anyhow::Error>((wire, sides.0, sides.1, kind, cells))
    });
    try_join_all(played).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_compatibility() {
    let mut table = Table::new(
        "kinds",
        HEAD,
        &[
            "hub",
            "agent",
            "broker",
            "kind",
            "to the agent",
            "status",
            "by the agent",
        ],
    );
    let played = try_join_all(vec![
        rows(Wire::GoBroker, (Side::Go, Side::Drover)),
        rows(Wire::GoBroker, (Side::Go, Side::Go)),
        rows(Wire::Mosquitto, (Side::Go, Side::Drover)),
        rows(Wire::Mosquitto, (Side::Drover, Side::Go)),
        rows(Wire::Mosquitto, (Side::Go, Side::Go)),
        rows(Wire::Relay, (Side::Go, Side::Drover)),
        rows(Wire::Relay, (Side::Drover, Side::Go)),
        rows(Wire::Relay, (Side::Go, Side::Go)),
    ]);
    for (wire, hub, agent, kind, cells) in played.await.unwrap().into_iter().flatten() {
        let about = [
            crate::matrix::end(hub),
            crate::matrix::end(agent),
            crate::matrix::wire(wire),
            kind,
        ];
        table.row(&about, cells);
    }
    table.check().unwrap();
}
