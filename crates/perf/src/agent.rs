//! Agents of many clusters in one process, each with a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use drover_client::{AgentOptions, AgentWorks, Change};
use drover_protocol::ids::Ids;
use drover_protocol::sequence::Sequence;
use drover_protocol::session::{AgentConfig, AgentSession, Aspect, Input, Session as _};
use drover_protocol::{
    Action, AgentBundleCodec, CloudEvent, Codec as _, DataType, Stamp, SubResource, Work,
};
use drover_transport::Subscription;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::bare::Bare;
use crate::connect::{Tap, Way, limit, transport};
use crate::contract::{Command, Reply, Role, mono};
use crate::count::Counter;
use crate::drive::{drive, stamp};
use crate::fixture::{self, Shape};
use crate::flags::Flags;
use crate::hub::Encoder;

/// Agents that connect at once.
const CONNECTING: usize = 32;

/// All agents.
pub struct Agents {
    flags: Flags,
    counter: Arc<Counter>,
    agents: Vec<Agent>,
    stamps: Stamps,
}

struct Agent {
    cluster: String,
    name: String,
    client: Client,
    /// What is reported on, in order.
    works: Vec<Arc<Work>>,
}

enum Client {
    Bare(Box<Bare<AgentSession<AgentBundleCodec>>>),
    Whole(AgentWorks, Arc<Tap>),
}

/// What goes into status events made without a session.
struct Stamps(Mutex<(Ids, Sequence)>);

impl Agents {
    /// Agents as the flags say, not started.
    pub fn new(flags: Flags) -> Self {
        let ids = Ids::new(uuid::Uuid::new_v4().as_u128());
        Self {
            flags,
            counter: Arc::default(),
            agents: Vec::new(),
            stamps: Stamps(Mutex::new((ids, Sequence::default()))),
        }
    }

    async fn start(&mut self) -> Result<()> {
        let wanted: usize = self.flags.number("agents", 1)?;
        self.agents = stream::iter(0..wanted)
            .map(|number| Agent::start(&self.flags, number, &self.counter))
            .buffered(CONNECTING)
            .try_collect()
            .await?;
        Ok(())
    }

    /// Agents know works from before, as after a lost connection.
    async fn load(&mut self, command: &Command) -> Result<()> {
        let source = self.flags.text("source-id");
        let encoder = Encoder::new(source);
        let before = self.counter.seen();
        let shape = Shape {
            manifests: command.manifests,
            size: command.size,
            version: command.version,
        };
        for (number, agent) in self.agents.iter_mut().enumerate() {
            let mut works = Vec::with_capacity(command.works);
            for id in number * command.works..(number + 1) * command.works {
                let work = fixture::work(id, &agent.cluster, shape)?;
                agent.know(encoder.encode(&work, Action::Create)?)?;
                let mut work = fixture::held(work, source);
                if command.status {
                    let differs = command.every > 0 && id.is_multiple_of(command.every);
                    work.status = fixture::status(&work, usize::from(differs));
                    agent.report_silently(&work)?;
                }
                works.push(Arc::new(work));
            }
            agent.works = works;
        }
        self.known(before + self.agents.len() * command.works).await
    }

    /// Waits until the handler was given all that the whole clients were given.
    async fn known(&self, wanted: usize) -> Result<()> {
        let whole = |agent: &Agent| matches!(agent.client, Client::Whole(..));
        let wait = Command {
            n: wanted,
            ..Command::default()
        };
        if self.agents.iter().any(whole) && self.counter.wait(&wait).await.n < wanted {
            bail!("the clients did not take the works that they should know");
        }
        Ok(())
    }

    async fn publish(&mut self, command: &Command) -> Result<Reply> {
        if self.agents.is_empty() {
            bail!("no agents are started");
        }
        for agent in &mut self.agents {
            if let Client::Whole(works, _) = &agent.client {
                agent.works = works.list();
            }
            if agent.works.is_empty() {
                bail!("the agent of {} has no works", agent.cluster);
            }
        }
        let (agents, stamps) = (&self.agents, &self.stamps);
        drive(command, |number| async move {
            let agent = &agents[number % agents.len()];
            let work = &agent.works[number / agents.len() % agent.works.len()];
            match &agent.client {
                Client::Bare(bare) => {
                    let mut work = Work::clone(work);
                    work.status = fixture::status(&work, number);
                    if command.stamp {
                        stamp(&mut work);
                    }
                    bare.publish(stamps.event(&agent.name, &work)?).await
                }
                Client::Whole(works, _) => {
                    report(works, &work.metadata.name, number, command.stamp)
                }
            }
        })
        .await
    }

    async fn resync(&self) -> Result<()> {
        for agent in &self.agents {
            match &agent.client {
                Client::Bare(bare) => bare.resync().await?,
                Client::Whole(works, _) => works.resync(),
            }
        }
        Ok(())
    }
}

impl Role for Agents {
    async fn obey(&mut self, command: Command) -> Result<Reply> {
        let t0 = mono();
        match command.cmd.as_str() {
            "start" => self.start().await?,
            "load" => self.load(&command).await?,
            "publish" => return self.publish(&command).await,
            "wait" => return Ok(self.counter.wait(&command).await),
            "reset" => self.counter.reset(),
            "resync" => self.resync().await?,
            other => bail!("agents have no command {other}"),
        }
        Ok(Reply::since(t0, self.agents.len()))
    }
}

/// What a work agent does when it has something to say: reads the work, and writes its status.
fn report(works: &AgentWorks, name: &str, number: usize, stamped: bool) -> Result<()> {
    let work = works.get(name).context("a work is gone")?;
    let mut next = Work::clone(&work);
    next.status = fixture::status(&next, number);
    if stamped {
        stamp(&mut next);
        "0".clone_into(&mut next.metadata.resource_version);
        works.update_metadata(&next)?;
    }
    works.update_status(&next)?;
    Ok(())
}

impl Agent {
    async fn start(flags: &Flags, number: usize, counter: &Arc<Counter>) -> Result<Self> {
        let cluster = fixture::cluster(number);
        let name = format!("{cluster}-work-agent");
        let transport = transport(flags, Way::of(flags)?, Some(&cluster))?;
        let counter = Arc::clone(counter);
        let client = if flags.text("store") == "informer" {
            let mut options = AgentOptions::new(name.clone(), cluster.clone());
            options.resync = false;
            options.driver.rate = limit(flags)?;
            let tap = Arc::new(Tap::new(transport));
            let (works, driver) = AgentWorks::new(options, tap.clone());
            tokio::spawn(driver.run(CancellationToken::new()));
            let mut watch = works.watch();
            tokio::spawn(async move {
                while let Some(change) = watch.next().await {
                    if let Change::Added(work) | Change::Modified(work) = change {
                        counter.hit(&work);
                    }
                }
            });
            works.connected().await;
            Client::Whole(works, tap)
        } else {
            let config = AgentConfig {
                agent: name.clone(),
                cluster: cluster.clone(),
                resync: false,
                seed: uuid::Uuid::new_v4().as_u128(),
            };
            let subscription = Subscription::Agent {
                cluster: cluster.clone(),
                data_type: DataType::MANIFEST_BUNDLES,
            };
            let session = AgentSession::new(AgentBundleCodec, config);
            let bare = Bare::open(&*transport, subscription, session, counter).await?;
            Client::Bare(Box::new(bare))
        };
        Ok(Self {
            cluster,
            name,
            client,
            works: Vec::new(),
        })
    }

    /// Lets the client have a work, past the network.
    fn know(&self, event: CloudEvent) -> Result<()> {
        match &self.client {
            Client::Bare(bare) => {
                let input = Input::Wire(event);
                bare.session()
                    .handle(Timestamp::now(), input, &mut Vec::new());
                Ok(())
            }
            Client::Whole(_, tap) => tap.inject(event),
        }
    }

    fn report_silently(&self, work: &Work) -> Result<()> {
        let Client::Bare(bare) = &self.client else {
            bail!("the whole client reports what it is given: load statuses with -store=counter");
        };
        let mut work = Work::clone(work);
        "0".clone_into(&mut work.metadata.resource_version);
        bare.session()
            .update(&work, Aspect::Status, &mut Vec::new())?;
        bare.discard();
        Ok(())
    }
}

impl Stamps {
    /// The event of a status.
    fn event(&self, agent: &str, work: &Work) -> Result<CloudEvent> {
        let now = Timestamp::now();
        let (id, sequence) = {
            let mut stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (stamps.0.next_id(), stamps.1.next_id(now))
        };
        let stamp = Stamp {
            id,
            time: now,
            source: agent,
            sequence: Some(sequence.to_string()),
        };
        let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Status, Action::Update);
        Ok(AgentBundleCodec.encode(stamp, &event_type, work)?)
    }
}
