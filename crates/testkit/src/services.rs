//! What kube-proxy does on a node, for an API server that runs on none: what it sends to the address of a Service comes to whoever
//! serves it here. The API server dials through a socket (EgressSelectorConfiguration of apiserver.k8s.io/v1beta1, type `cluster`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The longest request that is read: a line and a header.
const REQUEST: usize = 4096;

#[derive(Debug, Default)]
struct Route {
    to: Option<SocketAddr>,
    carried: usize,
}

type Routes = Arc<Mutex<BTreeMap<String, Route>>>;

/// The network of Services; ends when dropped.
#[derive(Debug)]
pub struct Services {
    socket: PathBuf,
    routes: Routes,
    task: JoinHandle<()>,
}

impl Services {
    /// Listens at a socket in a folder.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start(folder: &Path) -> Result<Self> {
        let (socket, routes) = (folder.join("services.sock"), Routes::default());
        let listener = UnixListener::bind(&socket)?;
        let known = routes.clone();
        let task = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let known = known.clone();
                // The caller finds out itself when it comes to nothing: its connection is closed.
                tokio::spawn(async move { carry(caller, &known).await.ok() });
            }
        });
        Ok(Self {
            socket,
            routes,
            task,
        })
    }

    /// What an API server is told with `--egress-selector-config-file`.
    pub fn configuration(&self) -> Value {
        let transport = json!({"uds": {"udsName": self.socket}});
        let connection = json!({"proxyProtocol": "HTTPConnect", "transport": transport});
        json!({
            "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        })
    }

    /// What is sent to an address of a Service, `IP:PORT`, comes here.
    pub fn route(&self, service: &str, to: SocketAddr) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.entry(service.to_owned()).or_default().to = Some(to);
    }

    /// How many connections there were to the addresses of Services.
    pub fn carried(&self) -> usize {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.values().map(|route| route.carried).sum()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut caller: UnixStream, routes: &Routes) -> Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        ensure!(request.len() < REQUEST, "the request is too long");
        request.push(caller.read_u8().await?);
    }
    let text = String::from_utf8(request)?;
    let mut words = text.split(' ');
    let (verb, address) = (words.next(), words.next().unwrap_or_default());
    ensure!(verb == Some("CONNECT"), "{text:?}");
    let Some(to) = routed(routes, address) else {
        caller
            .write_all(b"HTTP/1.1 502 Nobody serves it\r\n\r\n")
            .await?;
        bail!("nobody serves {address}");
    };
    let mut server = TcpStream::connect(to).await.context("nobody answers")?;
    caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut caller, &mut server).await?;
    Ok(())
}

fn routed(routes: &Routes, address: &str) -> Option<SocketAddr> {
    let mut routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
    let route = routes.get_mut(address)?;
    route.carried += 1;
    route.to
}
