//! A TCP proxy that loses what goes through it when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Carries both ways.
    Open,
    /// Carries what clients say, and swallows the answers.
    Mute,
    /// Carries nothing, and cuts what there is; new connections are cut at once.
    Cut,
}

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    epoch: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before `127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (line, seen) = watch::channel(Line::Open);
        let epoch = Arc::new(AtomicU64::new(0));
        let now = Arc::clone(&epoch);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let known = Known(Arc::clone(&now), now.load(Ordering::SeqCst));
                tokio::spawn(carry(client, port, seen.clone(), known));
            }
        });
        Ok(Self {
            address,
            line,
            epoch,
            task,
        })
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on, for what is connected and what will be.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// What is connected now is never heard of again, and nobody tells: so does a firewall that was started anew. New connections are
    /// carried.
    pub fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether a connection is known still: the epoch, and that of the connection.
#[derive(Clone)]
struct Known(Arc<AtomicU64>, u64);

impl Known {
    fn is_forgotten(&self) -> bool {
        self.0.load(Ordering::SeqCst) != self.1
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Line::Cut);
        self.task.abort();
    }
}

async fn carry(client: TcpStream, port: u16, seen: watch::Receiver<Line>, known: Known) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = seen.clone();
    let seen = Arc::new(seen);
    tokio::select! {
        // The sender lives as long as the proxy: an error is its end.
        _ = cut.wait_for(|line| *line == Line::Cut) => {}
        () = pump(from_client, to_server, &seen, &known, false) => {}
        () = pump(from_server, to_client, &seen, &known, true) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    line: &watch::Receiver<Line>,
    known: &Known,
    answers: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let lost = known.is_forgotten() || answers && *line.borrow() == Line::Mute;
        if !lost && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
