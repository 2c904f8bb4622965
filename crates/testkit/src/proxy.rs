//! A TCP proxy that loses what goes through it when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;

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
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, seen.clone()));
            }
        });
        Ok(Self {
            address,
            line,
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
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Line::Cut);
        self.task.abort();
    }
}

async fn carry(client: TcpStream, port: u16, seen: watch::Receiver<Line>) {
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
        () = pump(from_client, to_server, &seen, false) => {}
        () = pump(from_server, to_client, &seen, true) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    line: &watch::Receiver<Line>,
    answers: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        let lost = answers && *line.borrow() == Line::Mute;
        if !lost && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
