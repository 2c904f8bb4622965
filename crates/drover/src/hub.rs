//! `drover hub`: the controllers of one hub and its event service, on any Kubernetes API.

pub mod authority;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use drover_agent::HubEndpoint;
use drover_apiserver::auth::ca::{Authority, write_private};
use drover_apiserver::auth::csr;
use drover_core::registration::{cluster, request};
use drover_hub::{Hub, Sign, WorkSource};
use drover_runtime::clock::Clock;
use drover_runtime::election::Leadership;
use drover_runtime::health::Health;
use drover_runtime::supervise::Tasks;
use drover_transport::config::{Client as Role, Config};
use drover_transport::tls::{ServerPem, ServerTls};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::{self, Global};
use crate::up::folder::Folder;
use crate::up::member::host_names;
use crate::{connect, print, up};

/// How long a bootstrap token lives; every start renews it.
const TOKEN_LIFE: Duration = Duration::from_hours(24 * 365);
/// How long the certificates of agents live when they do not say (ocm: 720 h).
const AGENT_LIFE: SignedDuration = SignedDuration::from_hours(720);
/// How long the certificate of the event service lives; it is made anew at every start.
const SERVING_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);
/// How far the clock of an agent may be behind: what is signed here is good for it at once.
const SKEW: SignedDuration = SignedDuration::from_mins(30);
/// How long tasks may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// The lease of the copies of a hub, one of which leads.
pub const LEASE: &str = "drover-hub";

/// Serves until it is told to stop.
pub async fn run(args: cli::Hub, global: &Global) -> Result<()> {
    let client = connect::role(global).await?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let cancel = CancellationToken::new();
    up::stop_on_signal(cancel.clone());
    let mut tasks = Tasks::new(cancel.clone());
    let health = serve_health(args.health, &mut tasks).await?;
    let namespace = args.copies.namespace.clone();
    let namespace = namespace.or_else(connect::own_namespace);
    let (mut hub, authority) = match (&args.data, &namespace) {
        (Some(data), _) => {
            std::fs::create_dir_all(data)
                .with_context(|| format!("failed to make the folder {}", data.display()))?;
            let mut folder = Folder::open(data)?;
            let names = &args.host_name;
            let (hub, endpoint) =
                prepare("hub", client.clone(), listener, names, &mut folder).await?;
            folder.save()?;
            tell(data, &endpoint)?;
            (hub, endpoint.ca_pem)
        }
        (None, Some(namespace)) => {
            let authority =
                authority::shared(&client, namespace, Timestamp::now().checked_sub(SKEW)?).await?;
            let (hub, endpoint) = assemble(
                client.clone(),
                listener,
                &args.host_name,
                Arc::new(authority),
            )?;
            (hub, endpoint.ca_pem)
        }
        (None, None) => bail!(
            "the hub has no place for its authority: name a folder with --data, or a namespace of its API with --namespace"
        ),
    };
    args.serving.apply(&mut hub, authority, &mut tasks).await?;
    hub.health = health;
    hub.acceptance.accept.clone_from(&args.accept);
    if args.accept_all {
        hub.acceptance.accept.push("*".to_owned());
    }
    hub.approval = request::Policy {
        approve_bootstrap: !args.approve_by_hand,
        users: args.approve_user.clone(),
        groups: args.approve_group.clone(),
        brokers: Vec::new(),
    };
    hub.work_sources = args.work_source.source()?.into_iter().collect();
    hub.metrics = args.scraped.serve(&client, &mut tasks).await?;
    // Every copy answers, whoever leads.
    let home = namespace.as_deref().unwrap_or(client.default_namespace());
    args.webhooks.start(&client, home, &mut tasks).await?;
    hub.leadership = args.copies.leadership(
        LEASE,
        client,
        namespace.as_deref(),
        hub.metrics.as_ref(),
        &mut tasks,
    )?;
    tasks.spawn("hub", hub.run(cancel));
    Ok(tasks.wait(GRACE).await?)
}

impl cli::WorkSource {
    fn source(&self) -> Result<Option<WorkSource>> {
        let (Some(driver), Some(file), Some(id)) = (
            &self.work_driver,
            &self.work_driver_config,
            &self.work_source_id,
        ) else {
            return Ok(None);
        };
        let config = Config::load(driver.parse()?, file)
            .with_context(|| format!("in the work driver's configuration {}", file.display()))?;
        let client = self.cloudevents_client_id.clone();
        let client = client.unwrap_or_else(|| format!("{id}-works"));
        Ok(Some(WorkSource {
            id: id.clone(),
            transport: config.transport(&Role::Source(client)),
        }))
    }
}

/// Answers probes, if an address is given where they ask.
pub async fn serve_health(address: Option<SocketAddr>, tasks: &mut Tasks) -> Result<Health> {
    let health = Health::default();
    if let Some(address) = address {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for probes"))?;
        tasks.run(
            "probes",
            health.clone().serve(listener, tasks.cancel_token()),
        );
    }
    Ok(health)
}

/// Leaves what an agent needs to join, and says where.
fn tell(data: &Path, endpoint: &HubEndpoint) -> Result<()> {
    let (ca, token) = (data.join("ca.crt"), data.join("bootstrap-token"));
    std::fs::write(&ca, &endpoint.ca_pem)
        .with_context(|| format!("failed to write {}", ca.display()))?;
    let secret = endpoint.bootstrap_token.clone().unwrap_or_default();
    write_private(&token, &secret).context("failed to write the bootstrap token")?;
    print::line(&format!(
        "The hub's event service is at {}; drover agent --cluster NAME --hub {} --hub-ca {} --bootstrap-token-file {}",
        endpoint.url,
        endpoint.url,
        ca.display(),
        token.display()
    ))
}

/// A hub that lets every cluster in, on an API, with what the folder keeps for it under this name: one authority for all that
/// agents need, which verify the event service with it and are signed by it; and a bootstrap token.
pub async fn prepare(
    name: &str,
    client: Client,
    listener: TcpListener,
    more_names: &[String],
    folder: &mut Folder,
) -> Result<(Hub, HubEndpoint)> {
    let authority = folder.authority(
        &format!("{name}-agents"),
        Timestamp::now().checked_sub(SKEW)?,
    )?;
    let token = folder.bootstrap(name);
    drover_hub::install::bootstrap_token(&client, &token, TOKEN_LIFE, &Clock::system()).await?;
    let (hub, mut endpoint) = assemble(client, listener, more_names, Arc::new(authority))?;
    endpoint.bootstrap_token = Some(token.bearer());
    Ok((hub, endpoint))
}

/// A hub that lets every cluster in, with an authority for all that agents need.
fn assemble(
    client: Client,
    listener: TcpListener,
    more_names: &[String],
    authority: Arc<Authority>,
) -> Result<(Hub, HubEndpoint)> {
    let (address, now) = (listener.local_addr()?, Timestamp::now());
    let early = now.checked_sub(SKEW)?;
    let mut names = host_names(address);
    names.extend_from_slice(more_names);
    let issued = authority.issue_server(&names, SERVING_LIFE, early)?;
    let tls = ServerTls::new(&ServerPem {
        cert: issued.certificate.clone().into_bytes(),
        key: issued.key.clone().into_bytes(),
        client_ca: Some(authority.certificate_pem().as_bytes().to_vec()),
    })?;
    let endpoint = HubEndpoint {
        url: address.to_string(),
        ca_pem: authority.certificate_pem().as_bytes().to_vec(),
        server_name: None,
        bootstrap_token: None,
    };
    let sign: Sign = Arc::new(move |request, seconds| {
        let life = seconds.map_or(AGENT_LIFE, |seconds| {
            SignedDuration::from_secs(i64::from(seconds))
        });
        let usages =
            ["digital signature", "key encipherment", "client auth"].map(ToOwned::to_owned);
        csr::sign(&authority, request, life, &usages, Timestamp::now())
            .map_err(|error| error.to_string())
    });
    let hub = Hub {
        client,
        listener,
        tls: Some(tls),
        serving: None,
        sign,
        acceptance: cluster::Policy {
            accept: vec!["*".to_owned()],
        },
        approval: request::Policy {
            approve_bootstrap: true,
            ..request::Policy::default()
        },
        work_sources: Vec::new(),
        leadership: Leadership::alone(),
        health: Health::default(),
        metrics: None,
        clock: Clock::system(),
    };
    Ok((hub, endpoint))
}
