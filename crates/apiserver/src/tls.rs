//! Connections in: HTTP/1.1 and HTTP/2 on a listener, with TLS or (for loopback) without.

mod config;

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

pub use self::config::{ReloadableTls, TlsError, TlsFiles};
pub use crate::auth::PeerCertificates;

/// Streams of one HTTP/2 connection: an informer set multiplexes all of its watches on one.
const STREAMS: u32 = 1000;
/// Size of all headers of a request.
const HEADERS: u32 = 64 * 1024;
/// After this time a silent HTTP/2 peer is asked whether it is there, …
const PING: Duration = Duration::from_secs(30);
/// … and after this time without an answer it is not.
const PONG: Duration = Duration::from_secs(20);
/// Pause after the system refused to accept (out of file descriptors, …).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time; more wait in the listener's queue.
    pub connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time until the first request has come.
    pub first: Duration,
    /// Time between two requests of an HTTP/1.1 connection. Clients keep one for 90 s (Go's `net/http`, hyper): it is for them to
    /// hang up first, or a request is lost to a connection that is being closed.
    pub idle: Duration,
    /// Time for what is under way when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(10),
            first: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            drain: Duration::from_secs(10),
        }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

/// Serves with the default [`Limits`].
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: impl Into<Option<ReloadableTls>>,
    service: S,
    cancel: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    serve_with(listener, tls, service, cancel, Limits::default()).await;
}

/// Serves until cancelled; with TLS if there is a configuration, and then every request whose
/// client showed a certificate has [`PeerCertificates`] among its extensions.
///
/// Cancelled, it accepts nothing more, lets requests under way finish for [`Limits::drain`], and
/// then cuts what is left. It returns when nothing is left.
pub async fn serve_with<S, B>(
    listener: TcpListener,
    tls: impl Into<Option<ReloadableTls>>,
    service: S,
    cancel: CancellationToken,
    limits: Limits,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let tls = tls.into();
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    // Also when this future is dropped no connection survives it.
    let _cut_on_drop = cut.clone().drop_guard();
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, accept(&listener).await)
        };
        let Some((slot, (stream, from))) = cancel.run_until_cancelled(next).await else {
            break;
        };
        let server = Server {
            tls: tls.clone(),
            service: service.clone(),
            stop: cancel.clone(),
            limits,
        };
        let cut = cut.clone();
        connections.spawn(async move {
            if let Some(Err(error)) = cut.run_until_cancelled(server.connection(stream)).await {
                tracing::debug!(%from, %error, "a connection failed");
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!(
            left = connections.len(),
            "cutting connections that did not end by themselves"
        );
        cut.cancel();
        connections.wait().await;
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Server<S> {
    tls: Option<ReloadableTls>,
    service: S,
    stop: CancellationToken,
    limits: Limits,
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    async fn connection(self, stream: TcpStream) -> Result<(), BoxError> {
        // Answers are small and many: none waits for another.
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return self.http(stream, None).await;
        };
        let handshake = TlsAcceptor::from(tls.current()).accept(stream);
        let stream = tokio::time::timeout(self.limits.handshake, handshake)
            .await
            .map_err(|_elapsed| "the TLS handshake took too long")??;
        let peer = peer(&stream);
        self.http(stream, peer).await
    }

    async fn http<I>(self, stream: I, peer: Option<PeerCertificates>) -> Result<(), BoxError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            service,
            stop,
            limits,
            ..
        } = self;
        let asked = Arc::new(AtomicBool::new(false));
        let service = {
            let asked = Arc::clone(&asked);
            hyper::service::service_fn(move |mut request: Request<Incoming>| {
                asked.store(true, Ordering::Relaxed);
                if let Some(peer) = &peer {
                    request.extensions_mut().insert(peer.clone());
                }
                service.clone().oneshot(request)
            })
        };
        let builder = builder(limits);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut silent = std::pin::pin!(tokio::time::sleep(limits.first));
        let mut waiting = true;
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = silent.as_mut(), if waiting => {
                    waiting = false;
                    if !asked.load(Ordering::Relaxed) {
                        return Err("no request came in time".into());
                    }
                }
            }
        }
    }
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG);
    builder
}

fn peer<I>(stream: &TlsStream<I>) -> Option<PeerCertificates> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates()?;
    Some(PeerCertificates(
        chain.iter().map(|one| one.clone().into_owned()).collect(),
    ))
}

#[cfg(test)]
mod tests;
