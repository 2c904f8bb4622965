//! A source at a message broker: either the session alone on a link, or the whole client.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use drover_client::{Change, SourceOptions, SourceWorks};
use drover_protocol::session::{Owned, SourceConfig, SourceSession};
use drover_protocol::{Action, DataType, SourceBundleCodec, Work, names};
use drover_transport::{Subscription, Transport};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::bare::Bare;
use crate::connect::{Way, limit, transport};
use crate::contract::{Command, Reply};
use crate::count::Counter;
use crate::drive::drive;
use crate::flags::Flags;
use crate::hub::{Encoder, Loaded, stamped};

/// A source.
pub struct Source {
    options: SourceOptions,
    transport: Arc<dyn Transport>,
    counter: Arc<Counter>,
    whole: bool,
    client: Option<Client>,
}

enum Client {
    Bare(Bare<SourceSession<SourceBundleCodec>>),
    Whole(SourceWorks),
}

fn session(source: &str, objects: Vec<Work>) -> SourceSession<SourceBundleCodec> {
    let config = SourceConfig {
        source: source.to_owned(),
        resync: false,
        seed: uuid::Uuid::new_v4().as_u128(),
    };
    let owned = Owned {
        objects,
        ..Owned::default()
    };
    SourceSession::new(SourceBundleCodec, config, owned)
}

impl Source {
    /// A source as the flags say, not started.
    pub fn new(flags: &Flags, counter: &Arc<Counter>) -> Result<Self> {
        let mut options = SourceOptions::new(flags.text("source-id"));
        options.driver.rate = limit(flags)?;
        Ok(Self {
            options,
            transport: transport(flags, Way::of(flags)?, None)?,
            counter: Arc::clone(counter),
            whole: flags.text("store") == "informer",
            client: None,
        })
    }

    /// Connects and subscribes.
    pub async fn start(&mut self) -> Result<()> {
        let (counter, source) = (Arc::clone(&self.counter), &self.options.source);
        self.client = Some(if self.whole {
            let transport = Arc::clone(&self.transport);
            let (works, driver) = SourceWorks::new(self.options.clone(), transport);
            tokio::spawn(driver.run(CancellationToken::new()));
            let mut watch = works.watch();
            tokio::spawn(async move {
                while let Some(change) = watch.next().await {
                    if let Change::Modified(work) | Change::StatusModified(work) = change {
                        counter.hit(&work);
                    }
                }
            });
            works.connected().await;
            Client::Whole(works)
        } else {
            let subscription = Subscription::Source {
                source: source.clone(),
                data_type: DataType::MANIFEST_BUNDLES,
            };
            let session = session(source, Vec::new());
            Client::Bare(Bare::open(&*self.transport, subscription, session, counter).await?)
        });
        Ok(())
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().context("the source is not started")
    }

    /// Owns works without sending them; the whole client creates them when they are published.
    pub fn load(&self, loaded: &Loaded) -> Result<()> {
        if let Client::Bare(bare) = self.client()? {
            // Works that an agent has are works that it reported about.
            let works = loaded.works().iter().map(|work| {
                let mut work = Work::clone(work);
                work.metadata.finalizers = vec![names::WORK_FINALIZER.to_owned()];
                work
            });
            bare.replace(session(&self.options.source, works.collect()));
        }
        Ok(())
    }

    /// Sends works.
    pub async fn publish(
        &self,
        command: &Command,
        loaded: &Loaded,
        encoder: &Encoder,
    ) -> Result<Reply> {
        let client = self.client()?;
        drive(command, |number| async move {
            let work = stamped(loaded.at(number)?, command.stamp);
            match client {
                Client::Bare(bare) => bare.publish(encoder.encode(&work, Action::Create)?).await?,
                Client::Whole(works) => drop(works.create(Arc::unwrap_or_clone(work))?),
            }
            Ok(())
        })
        .await
    }

    /// Asks the agents for what differs.
    pub async fn resync(&self) -> Result<()> {
        match self.client()? {
            Client::Bare(bare) => bare.resync().await?,
            Client::Whole(works) => works.resync(),
        }
        Ok(())
    }
}
