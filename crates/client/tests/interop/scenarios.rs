//! What two ends must be able to do together.

use anyhow::{Result, ensure};
use drover_testkit::eventually;
use serde_json::Value;

use crate::world::{World, normal};

/// A column of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    Create,
    Update,
    Status,
    Delete,
    Unversioned,
    SourceRestart,
    AgentRestart,
    BrokerRestart,
    UpdateWhileAway,
    DeleteWhileAway,
    Rotation,
    Garbage,
}

impl Scenario {
    pub(crate) const ALL: [Self; 12] = [
        Self::Create,
        Self::Update,
        Self::Status,
        Self::Delete,
        Self::Unversioned,
        Self::SourceRestart,
        Self::AgentRestart,
        Self::BrokerRestart,
        Self::UpdateWhileAway,
        Self::DeleteWhileAway,
        Self::Rotation,
        Self::Garbage,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Status => "status",
            Self::Delete => "delete",
            Self::Unversioned => "works without a version",
            Self::SourceRestart => "source restarts",
            Self::AgentRestart => "agent restarts",
            Self::BrokerRestart => "broker restarts",
            Self::UpdateWhileAway => "update while agent is away",
            Self::DeleteWhileAway => "delete while agent is away",
            Self::Rotation => "certificates renewed",
            Self::Garbage => "garbage in between",
        }
    }

    pub(crate) async fn play(self, world: &mut World) -> Result<()> {
        match self {
            Self::Create => create(world).await,
            Self::Update => update(world).await,
            Self::Status => status(world).await,
            Self::Delete => delete(world).await,
            Self::Unversioned => unversioned(world).await,
            Self::SourceRestart => source_restart(world).await,
            Self::AgentRestart => agent_restart(world).await,
            Self::BrokerRestart => broker_restart(world).await,
            Self::UpdateWhileAway => update_while_away(world).await,
            Self::DeleteWhileAway => delete_while_away(world).await,
            Self::Rotation => rotation(world).await,
            Self::Garbage => garbage(world).await,
        }
    }
}

async fn create(world: &mut World) -> Result<()> {
    world.create("web", "1").await?;
    let has = world.arrived("web", "1").await?;
    let owns = world.at_source("web").await?;
    same(&has, &owns, &["spec"])?;
    for field in ["name", "namespace", "uid", "generation"] {
        same(&has, &owns, &["metadata", field])?;
    }
    for (kind, keys) in [
        ("labels", ["team", "text"]),
        (
            "annotations",
            ["note", "logging.open-cluster-management.io/op-id"],
        ),
    ] {
        for key in keys {
            same(&has, &owns, &["metadata", kind, key])?;
        }
    }
    Ok(())
}

fn same(one: &Value, other: &Value, field: &[&str]) -> Result<()> {
    let at = |value: &Value| {
        let found = field.iter().fold(value, |value, key| &value[key]);
        normal(found.clone())
    };
    ensure!(at(one) == at(other), "{field:?}: {one}\nis not\n{other}");
    ensure!(!at(one).is_null(), "{field:?} is not there: {one}");
    Ok(())
}

async fn update(world: &mut World) -> Result<()> {
    world.create("web", "1").await?;
    let first = world.arrived("web", "1").await?;
    world.update("web", "2").await?;
    let second = world.arrived("web", "2").await?;
    let generation = |work: &Value| work["metadata"]["generation"].as_i64();
    ensure!(
        generation(&second) > generation(&first),
        "{second} is not newer"
    );
    ensure!(second["metadata"]["labels"]["text"] == "2", "{second}");
    same(&second, &first, &["metadata", "uid"])
}

async fn status(world: &mut World) -> Result<()> {
    world.create("web", "1").await?;
    world.arrived("web", "1").await?;
    world.serve("web", "First").await?;
    world.report("web", "Second").await?;
    world.known("web", "Second").await?;
    // A report is about a generation; the next one is about the next.
    world.update("web", "2").await?;
    world.arrived("web", "2").await?;
    world.report("web", "Third").await?;
    world.known("web", "Third").await
}

async fn delete(world: &mut World) -> Result<()> {
    for name in ["web", "other"] {
        world.create(name, "1").await?;
        world.arrived(name, "1").await?;
        world.serve(name, "Done").await?;
    }
    world.delete("web").await?;
    world.leaving("web").await?;
    // The source keeps it until the agent is done.
    let owned = world.at_source("web").await?;
    ensure!(
        owned["metadata"]["deletionTimestamp"].is_string(),
        "{owned}"
    );
    world.release("web").await?;
    let other = world.at_agent("other").await?;
    ensure!(other["metadata"]["deletionTimestamp"].is_null(), "{other}");
    // The same name again is a new work.
    world.create("web", "2").await?;
    let again = world.arrived("web", "2").await?;
    ensure!(again["metadata"]["deletionTimestamp"].is_null(), "{again}");
    world.serve("web", "Again").await
}

async fn unversioned(world: &mut World) -> Result<()> {
    world.versioned = false;
    world.create("web", "1").await?;
    world.arrived("web", "1").await?;
    world.serve("web", "First").await?;
    world.update("web", "2").await?;
    world.arrived("web", "2").await?;
    world.report("web", "Second").await?;
    world.known("web", "Second").await?;
    world.stop_agent();
    world.start_agent().await?;
    world.arrived("web", "2").await?;
    world.delete("web").await?;
    world.leaving("web").await?;
    world.release("web").await
}

async fn source_restart(world: &mut World) -> Result<()> {
    for name in ["quiet", "busy"] {
        world.create(name, "1").await?;
        world.arrived(name, "1").await?;
        world.serve(name, "Before").await?;
    }
    world.stop_source().await?;
    if !world.bed.is_source() {
        // The broker takes it, and nobody hears.
        world.report("busy", "Meanwhile").await?;
    }
    world.start_source().await?;
    if world.bed.is_source() {
        world.report("busy", "Meanwhile").await?;
    }
    world.known("quiet", "Before").await?;
    world.known("busy", "Meanwhile").await?;
    world.update("quiet", "2").await?;
    world.arrived("quiet", "2").await?;
    world.report("quiet", "After").await?;
    world.known("quiet", "After").await
}

async fn agent_restart(world: &mut World) -> Result<()> {
    for name in ["claimed", "new"] {
        world.create(name, "1").await?;
        world.arrived(name, "1").await?;
    }
    world.serve("claimed", "Before").await?;
    world.stop_agent();
    world.start_agent().await?;
    for name in ["claimed", "new"] {
        world.arrived(name, "1").await?;
        world.serve(name, "After").await?;
    }
    world.update("claimed", "2").await?;
    world.arrived("claimed", "2").await?;
    Ok(())
}

async fn broker_restart(world: &mut World) -> Result<()> {
    world.create("web", "1").await?;
    world.arrived("web", "1").await?;
    world.serve("web", "Before").await?;
    world.stop_broker().await?;
    world.start_broker().await?;
    world.source_is_back().await?;
    world.update("web", "2").await?;
    world.arrived("web", "2").await?;
    world.report("web", "After").await?;
    world.known("web", "After").await
}

async fn update_while_away(world: &mut World) -> Result<()> {
    for name in ["changed", "same"] {
        world.create(name, "1").await?;
        world.arrived(name, "1").await?;
        world.serve(name, "Before").await?;
    }
    world.stop_agent();
    world.update("changed", "2").await?;
    world.create("made", "1").await?;
    world.start_agent().await?;
    world.arrived("changed", "2").await?;
    world.arrived("same", "1").await?;
    world.arrived("made", "1").await?;
    world.serve("changed", "After").await
}

async fn delete_while_away(world: &mut World) -> Result<()> {
    for name in ["web", "other"] {
        world.create(name, "1").await?;
        world.arrived(name, "1").await?;
        world.serve(name, "Before").await?;
    }
    world.stop_agent();
    world.delete("web").await?;
    world.start_agent().await?;
    world.leaving("web").await?;
    world.release("web").await?;
    let other = world.arrived("other", "1").await?;
    ensure!(other["metadata"]["deletionTimestamp"].is_null(), "{other}");
    Ok(())
}

async fn rotation(world: &mut World) -> Result<()> {
    world.create("web", "1").await?;
    world.arrived("web", "1").await?;
    world.serve("web", "Before").await?;
    let ends = world.bed.connecting();
    for end in ends {
        world.bed.rotate(end)?;
    }
    // Something must be said for a broker to see who says it.
    let mut count = 0;
    let shown = async || {
        count += 1;
        world.report("web", &format!("Look{count}")).await?;
        let users = world.bed.users();
        for end in ends {
            let wanted = format!("{end}-2");
            ensure!(users.contains(&wanted), "seen {users:?}, not {wanted}");
        }
        Ok(())
    };
    eventually("the new certificates", world.patience, shown).await?;
    world.source_is_back().await?;
    world.update("web", "2").await?;
    world.arrived("web", "2").await?;
    world.report("web", "After").await?;
    world.known("web", "After").await
}

async fn garbage(world: &mut World) -> Result<()> {
    world.create("web", "1").await?;
    world.arrived("web", "1").await?;
    world.serve("web", "Before").await?;
    crate::garbage::throw(world).await?;
    world.update("web", "2").await?;
    let works = world.agent()?.works().await?;
    let strange = |work: &&Value| work["metadata"]["name"] != "web";
    ensure!(
        !works.iter().any(|work| strange(&work)),
        "the agent took garbage: {works:?}"
    );
    world.arrived("web", "2").await?;
    world.report("web", "After").await?;
    world.known("web", "After").await
}
