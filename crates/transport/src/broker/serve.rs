//! Serving on a socket of one's own: accept, TLS, HTTP/2, graceful end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server;

use super::Broker;
use super::metrics::{Connected, count};
use crate::authn::PeerCerts;
use crate::tls::ServerTls;

/// Bytes that a client may send before they are read, on one call and on one connection.
const WINDOW: u32 = 1024 * 1024;
/// Connections that may be in their handshake at once.
const HANDSHAKES: usize = 256;
/// How long open calls may take to end when the broker stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How connections are treated.
#[derive(Clone, Debug)]
pub struct Serving {
    /// A handshake that takes longer is given up.
    pub handshake: Duration,
    /// Time without traffic after which a client is pinged.
    pub ping_interval: Duration,
    /// A client that takes longer to answer a ping is gone.
    pub ping_timeout: Duration,
    /// Calls of one connection that may be open at once; `None` = as many as HTTP/2 can number.
    pub max_streams: Option<u32>,
    /// Connections are asked to go when they are older; `None` = never.
    pub max_age: Option<Duration>,
    /// Largest message sent, in bytes.
    pub max_sent: usize,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            max_streams: None,
            max_age: None,
            max_sent: usize::MAX,
        }
    }
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server failed.
    #[error("failed to serve events: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl Broker {
    /// Serves on `listener` until `stop`. Then nothing new is accepted, subscriptions end, calls in progress are finished.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<ServerTls>,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        let (connections, accepted) = mpsc::channel(16);
        let handshakes = TaskTracker::new();
        let accepting = self.accept(listener, tls, connections, &handshakes, stop.clone());
        let limits = &self.0.config.serving;
        let mut server = tonic::transport::Server::builder();
        if let Some(age) = limits.max_age {
            server = server.max_connection_age(age);
        }
        let served = server
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(limits.max_streams)
            .http2_keepalive_interval(Some(limits.ping_interval))
            .http2_keepalive_timeout(Some(limits.ping_timeout))
            .add_service(self.service())
            .serve_with_incoming_shutdown(
                ReceiverStream::new(accepted),
                stop.clone().cancelled_owned(),
            );
        let drained = async {
            stop.cancelled().await;
            self.disconnect_all();
            tokio::time::sleep(DRAIN).await;
        };
        tokio::pin!(served);
        let served = async {
            tokio::select! {
                result = &mut served => result,
                () = drained => Ok(()),
            }
        };
        let (result, ()) = tokio::join!(served, accepting);
        Ok(result?)
    }

    async fn accept(
        &self,
        listener: TcpListener,
        tls: Option<ServerTls>,
        connections: mpsc::Sender<io::Result<Connection>>,
        handshakes: &TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let (stream, remote) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            if handshakes.len() >= HANDSHAKES {
                count(&self.0.metrics.tls_failures);
                continue;
            }
            let (local, patience) = (stream.local_addr(), self.0.config.serving.handshake);
            let (broker, connections, stop) = (self.clone(), connections.clone(), stop.clone());
            let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.current()));
            handshakes.spawn(async move {
                let hands = timeout(patience, Connection::open(stream, acceptor));
                let connection = tokio::select! {
                    () = stop.cancelled() => return,
                    opened = hands => match opened {
                        Ok(Ok(connection)) => connection,
                        Ok(Err(error)) => {
                            count(&broker.0.metrics.tls_failures);
                            tracing::debug!(%error, "a connection failed in its handshake");
                            return;
                        }
                        Err(_) => return count(&broker.0.metrics.tls_failures),
                    },
                };
                let mut connection = connection;
                if let (Some(series), Ok(local)) = (broker.0.series.get(), local) {
                    connection.counted = Some(series.connected(remote, local));
                }
                if connections.send(Ok(connection)).await.is_err() {
                    tracing::debug!("a connection came while the broker stopped");
                }
            });
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// A connection, plain or TLS, and who is at the other end.
struct Connection {
    stream: Pin<Box<dyn Duplex>>,
    certs: PeerCerts,
    counted: Option<Connected>,
}

impl Connection {
    async fn open(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let Some(acceptor) = acceptor else {
            return Ok(Self {
                stream: Box::pin(stream),
                certs: PeerCerts::default(),
                counted: None,
            });
        };
        let stream = acceptor.accept(stream).await?;
        let certs = stream
            .get_ref()
            .1
            .peer_certificates()
            .map(<[_]>::to_vec)
            .unwrap_or_default();
        Ok(Self {
            stream: Box::pin(stream),
            certs: PeerCerts(certs.into()),
            counted: None,
        })
    }
}

impl server::Connected for Connection {
    type ConnectInfo = PeerCerts;

    fn connect_info(&self) -> PeerCerts {
        self.certs.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
