//! Proxies that know where names and addresses lead which nobody else here knows (CONNECT of HTTP): one that does what kube-proxy does
//! on a node, for an API server that runs on none, and one as companies have it between networks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;

/// The longest request that is read: a line and some headers.
const REQUEST: usize = 4096;

#[derive(Debug, Default)]
struct Known {
    routes: BTreeMap<String, SocketAddr>,
    carried: usize,
    /// What the header of who asks must say.
    password: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Routes(Arc<Mutex<Known>>);

impl Routes {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The caller finds out itself when it comes to nothing: its connection is closed.
    fn carry(&self, caller: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let routes = self.clone();
        tokio::spawn(async move { routes.connect(caller).await.ok() });
    }

    async fn connect(&self, mut caller: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            ensure!(request.len() < REQUEST, "the request is too long");
            request.push(caller.read_u8().await?);
        }
        let request = String::from_utf8(request)?;
        let mut words = request.split(' ');
        let (verb, address) = (words.next(), words.next().unwrap_or_default());
        ensure!(verb == Some("CONNECT"), "{request:?}");
        let found = {
            let mut known = self.lock();
            let password = known.password.as_deref();
            if password.is_some_and(|password| !request.contains(password)) {
                Err("407 Who are you")
            } else if let Some(to) = known.routes.get(address).copied() {
                known.carried += 1;
                Ok(to)
            } else {
                Err("502 Nobody serves it")
            }
        };
        let to = match found {
            Ok(to) => to,
            Err(why) => {
                let answer = format!("HTTP/1.1 {why}\r\n\r\n");
                caller.write_all(answer.as_bytes()).await?;
                bail!("{address}: {why}");
            }
        };
        let mut server = TcpStream::connect(to).await.context("nobody answers")?;
        caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        copy_bidirectional(&mut caller, &mut server).await?;
        Ok(())
    }
}

/// The network of Services; ends when dropped. The API server dials through a socket (EgressSelectorConfiguration of
/// apiserver.k8s.io/v1beta1, type `cluster`).
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
                known.carry(caller);
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
        self.routes.lock().routes.insert(service.to_owned(), to);
    }

    /// How many connections there were to the addresses of Services.
    pub fn carried(&self) -> usize {
        self.routes.lock().carried
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A proxy on a port of 127.0.0.1; ends when dropped.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    routes: Routes,
    task: JoinHandle<()>,
}

impl HttpProxy {
    /// Serves those who say this, `NAME:PASSWORD`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(password: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, routes) = (listener.local_addr()?, Routes::default());
        let encoded = base64::engine::general_purpose::STANDARD.encode(password);
        routes.lock().password = Some(format!("Basic {encoded}\r\n"));
        let known = routes.clone();
        let task = tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                known.carry(caller);
            }
        });
        Ok(Self {
            address,
            routes,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is sent to `HOST:PORT` comes here.
    pub fn route(&self, name: &str, to: SocketAddr) {
        self.routes.lock().routes.insert(name.to_owned(), to);
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
