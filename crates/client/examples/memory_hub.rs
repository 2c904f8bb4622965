//! A hub in memory: a broker that serves one work to the agent of one cluster, and follows it through its whole life.
//!
//! It creates a work, waits until the agent reports it Applied and Available, changes it, waits again, deletes it and waits
//! until the agent reports the deletion. It writes the client configuration (`config.yaml`, the format of the Go clients)
//! into `--dir` and ends with 0 when everything happened. Run any agent of the protocol against it:
//!
//! ```sh
//! cargo run -p drover-client --example memory_hub -- --dir /tmp/hub --tls
//! ```
#![expect(clippy::print_stdout, reason = "its output is for people and scripts")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use drover_client::{Work, WorkSpec};
use drover_protocol::ids::Ids;
use drover_protocol::raw::Raw;
use drover_protocol::{
    Action, CloudEvent, Codec as _, DataType, SourceBundleCodec, Stamp, SubResource, names,
};
use drover_transport::authn::{
    AuthnError, Caller, CertAuthenticator, TokenAuthenticator, TokenReview,
};
use drover_transport::authz::{Access, Authorizer, Decision};
use drover_transport::broker::AccessControl;
use drover_transport::tls::{ServerPem, ServerTls};
use drover_transport::{Broker, BrokerConfig, Service, ServiceError, async_trait};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
struct Options {
    /// Where the client configuration and the certificates go.
    #[arg(long)]
    dir: PathBuf,
    /// Cluster of the agent.
    #[arg(long, default_value = "cluster1")]
    cluster: String,
    /// Serve TLS, and demand the token that is written into the configuration.
    #[arg(long)]
    tls: bool,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Seconds for each step.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
}

/// The works of one hub.
struct Works {
    state: Mutex<Option<Work>>,
    ids: Mutex<Ids>,
    broker: Broker,
    callers: Mutex<Vec<String>>,
}

impl Works {
    fn encode(&self, work: &Work, action: Action) -> Result<CloudEvent, ServiceError> {
        let id = self
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_id();
        let stamp = Stamp {
            id,
            time: Timestamp::now(),
            source: names::HUB_SOURCE,
            sequence: None,
        };
        let event_type = DataType::MANIFEST_BUNDLES.event(SubResource::Spec, action);
        SourceBundleCodec
            .encode(stamp, &event_type, work)
            .map_err(ServiceError::internal)
    }

    fn put(&self, work: Work, action: Action) -> anyhow::Result<()> {
        let event = self.encode(&work, action)?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        self.broker.publish(event);
        Ok(())
    }

    fn get(&self) -> Option<Work> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl Service for Works {
    async fn list(&self, cluster: &str) -> Result<Vec<CloudEvent>, ServiceError> {
        let works = self.get().filter(|work| work.metadata.namespace == cluster);
        works
            .iter()
            .map(|work| self.encode(work, Action::ResyncResponse))
            .collect()
    }

    async fn receive(&self, caller: &Caller, event: CloudEvent) -> Result<(), ServiceError> {
        self.callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(caller.user.clone());
        let report = SourceBundleCodec
            .decode(&event)
            .map_err(|e| ServiceError::bad_request(e.to_string()))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            Some(work)
                if work.metadata.uid == report.metadata.uid
                    && event.cluster() == Some(&work.metadata.namespace) =>
            {
                if report.status.is_deleted() {
                    *state = None;
                } else if report.metadata.generation == work.metadata.generation {
                    work.status = report.status;
                }
            }
            Some(_) | None => (),
        }
        Ok(())
    }
}

struct OneToken(String);

#[async_trait]
impl TokenReview for OneToken {
    async fn review(&self, token: &str) -> Result<Option<Caller>, AuthnError> {
        Ok((token == self.0).then(|| Caller {
            user: "token-agent".to_owned(),
            groups: Vec::new(),
        }))
    }
}

/// Lets agents work with the works of their cluster.
struct OwnCluster(String);

#[async_trait]
impl Authorizer for OwnCluster {
    async fn authorize(&self, caller: &Caller, access: &Access) -> Decision {
        if access.namespace == self.0 && access.resource == "manifestworks" {
            Decision::Allow
        } else {
            Decision::Deny(format!(
                "{} may not {} {} in {}",
                caller.user, access.verb, access.resource, access.namespace
            ))
        }
    }
}

fn work(cluster: &str, generation: i64, value: &str) -> anyhow::Result<Work> {
    let manifest = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "probe", "namespace": "default"}, "data": {"value": value}});
    let mut work = Work {
        spec: Arc::new(WorkSpec {
            manifests: vec![Raw::of(&manifest)?],
            ..WorkSpec::default()
        }),
        ..Work::default()
    };
    "probe".clone_into(&mut work.metadata.name);
    cluster.clone_into(&mut work.metadata.namespace);
    work.metadata.uid =
        drover_protocol::bundle::work_uid(names::HUB_SOURCE, cluster, "probe").to_string();
    work.metadata.generation = generation;
    Ok(work)
}

struct Secrets {
    tls: ServerTls,
    token: String,
}

fn secrets(dir: &Path) -> anyhow::Result<Secrets> {
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "memory hub");
    let ca_key = rcgen::KeyPair::generate()?;
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate()?;
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?
        .signed_by(&key, &issuer)?;
    let token = drover_protocol::ids::Ids::new(rand::random()).next_id();
    std::fs::write(dir.join("ca.crt"), ca_cert.pem())?;
    std::fs::write(dir.join("token"), &token)?;
    let pem = ServerPem {
        cert: cert.pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        client_ca: Some(ca_cert.pem().into_bytes()),
    };
    Ok(Secrets {
        tls: ServerTls::new(&pem)?,
        token,
    })
}

async fn until(what: &str, patience: Duration, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(patience, wait).await.is_err() {
        bail!("{what} did not happen within {patience:?}");
    }
    println!("ok   {what}");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let options = Options::parse();
    std::fs::create_dir_all(&options.dir).context("failed to create the directory")?;
    let listener = TcpListener::bind(&options.listen)
        .await
        .context("failed to listen")?;
    let address = listener.local_addr()?;
    let (config, tls, yaml) = if options.tls {
        let secrets = secrets(&options.dir)?;
        let access = AccessControl {
            authenticators: vec![
                Arc::new(TokenAuthenticator(OneToken(secrets.token))),
                Arc::new(CertAuthenticator),
            ],
            authorizers: vec![Arc::new(OwnCluster(options.cluster.clone()))],
        };
        let dir = options.dir.display();
        let yaml = format!(
            "url: {address}\ncaFile: {dir}/ca.crt\ntokenFile: {dir}/token\nserverHealthinessTimeout: 20s\n"
        );
        (
            BrokerConfig::secured(names::HUB_SOURCE, access),
            Some(secrets.tls),
            yaml,
        )
    } else {
        (
            BrokerConfig::open(names::HUB_SOURCE),
            None,
            format!("url: {address}\n"),
        )
    };
    let broker = Broker::new(config);
    let works = Arc::new(Works {
        state: Mutex::default(),
        ids: Mutex::new(Ids::new(rand::random())),
        broker: broker.clone(),
        callers: Mutex::default(),
    });
    broker.register(
        DataType::MANIFEST_BUNDLES,
        Arc::clone(&works) as Arc<dyn Service>,
    );
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (broker, stop) = (broker.clone(), stop.clone());
        async move { broker.serve(listener, tls, stop).await }
    });
    works.put(work(&options.cluster, 1, "1")?, Action::Create)?;
    std::fs::write(options.dir.join("config.yaml"), yaml)?;
    println!(
        "ok   listening on {address}, configuration in {}",
        options.dir.join("config.yaml").display()
    );
    let followed = follow(&works, &options).await;
    println!(
        "     callers: {:?}",
        works
            .callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last()
    );
    println!("     {:?}", broker.metrics());
    stop.cancel();
    serving.await??;
    println!("ok   drained");
    followed
}

async fn follow(works: &Works, options: &Options) -> anyhow::Result<()> {
    let patience = Duration::from_secs(options.timeout);
    let applied = || {
        works
            .get()
            .is_some_and(|w| w.status.is_true("Applied") && w.status.is_true("Available"))
    };
    until("applied and available", patience, applied).await?;
    works.put(work(&options.cluster, 2, "2")?, Action::Update)?;
    until("update applied", patience, applied).await?;
    let mut deleting = work(&options.cluster, 2, "2")?;
    deleting.metadata.deletion_timestamp = Some(Timestamp::now());
    deleting.metadata.finalizers = vec![names::WORK_FINALIZER.to_owned()];
    works.put(deleting, Action::Delete)?;
    until("deleted", patience, || works.get().is_none()).await
}
