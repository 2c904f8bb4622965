//! The servers that are compared: processes that start empty and keep what they get on disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use drover_testkit::process::free_port;
use drover_testkit::{KubeApi, KubeOptions, Process};
use http::Method;
use tempfile::TempDir;

use crate::http::Endpoint;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(1);

/// A running server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Where it is.
    pub(crate) endpoint: Endpoint,
    /// What its administrator has.
    pub(crate) kubeconfig: PathBuf,
    /// All of its processes.
    pub(crate) processes: Vec<u32>,
    /// From the start of the process to its first answer.
    pub(crate) started_in: Duration,
    _keep: Keep,
}

#[derive(Debug)]
enum Keep {
    Drover { _process: Process, _folder: TempDir },
    Kube { _api: KubeApi },
}

impl Server {
    /// `drover apiserver` on an empty folder.
    pub(crate) async fn drover(program: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let args = [
            "apiserver".to_owned(),
            format!("--data={}", data.display()),
            format!("--listen=127.0.0.1:{}", free_port()?),
            format!("--write-kubeconfig={}", kubeconfig.display()),
        ];
        let start = Instant::now();
        let process = Process::start("drover", program, args, folder.path())?;
        let endpoint = loop {
            if let Some(endpoint) = answers(&kubeconfig).await {
                break endpoint;
            }
            if start.elapsed() > PATIENCE {
                anyhow::bail!("the server does not answer:\n{}", process.tail());
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok(Self {
            name: "drover",
            endpoint,
            kubeconfig,
            processes: vec![process.id()],
            started_in: start.elapsed(),
            _keep: Keep::Drover {
                _process: process,
                _folder: folder,
            },
        })
    }

    /// A real kube-apiserver with a real etcd that syncs to disk.
    pub(crate) async fn kube() -> Result<Self> {
        let start = Instant::now();
        let api = KubeApi::start(KubeOptions::default()).await?;
        let processes = ["etcd", "kube-apiserver"]
            .into_iter()
            .map(|name| api.process(name).context("a peer is not running"));
        Ok(Self {
            name: "kube-apiserver + etcd",
            endpoint: Endpoint::read(&api.kubeconfig(), None)?,
            kubeconfig: api.kubeconfig(),
            processes: processes.collect::<Result<_>>()?,
            started_in: start.elapsed(),
            _keep: Keep::Kube { _api: api },
        })
    }

    /// Both, or only the first when `alone`.
    pub(crate) async fn both(program: &Path, alone: bool) -> Result<Vec<Self>> {
        let mut servers = vec![Self::drover(program).await?];
        if !alone {
            servers.push(Self::kube().await?);
        }
        Ok(servers)
    }
}

/// The server that a kubeconfig tells of, once it is written and the server answers.
async fn answers(kubeconfig: &Path) -> Option<Endpoint> {
    let endpoint = Endpoint::read(kubeconfig, None).ok()?;
    let mut connection = endpoint.connect().await.ok()?;
    connection.call(Method::GET, "/livez", "").await.ok()?;
    Some(endpoint)
}
