//! The client of the event service: one shared connection, a stream per subscription, heartbeats watched.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_protocol::CloudEvent;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::Uri;
use prost::Message as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};

use super::convert::{MessageError, decode, encode_publish};
use super::proto::SubscriptionRequest;
use super::stubs::cloud_event_service_client::CloudEventServiceClient;
use crate::identity::{ClientTls, Pem, REFRESH};
use crate::link::{Link, Publisher, Subscription, Transport, TransportError};
use crate::proxy::Rules;
use crate::service::ServiceError;
use crate::skipped::Skipped;

/// Header in which the server names a subscription.
const SUBSCRIPTION_ID: &str = "subscription-id";
/// The Go broker names a subscription just before it has it: what it would answer to a resync until then is lost.
const REGISTRATION: Duration = Duration::from_millis(50);
/// How long a rejected subscription may take to say why.
const REASON_WAIT: Duration = Duration::from_secs(5);
/// An unanswered event is given up after this.
const PUBLISH_WAIT: Duration = Duration::from_secs(30);
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Bytes that a server may send before they are read. Only what is under way takes memory.
const WINDOW: u32 = 2 * 1024 * 1024;
/// Largest message in either direction.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Where the event service is and how to show who calls.
#[derive(Clone, Debug)]
pub struct GrpcConfig {
    /// `host:port`.
    pub url: String,
    /// Issuers of the server's certificate. Turns TLS on.
    pub ca: Option<Pem>,
    /// Client certificate and key.
    pub identity: Option<(Pem, Pem)>,
    /// Bearer token; surrounding space is cut off.
    pub token: Option<Pem>,
    /// Name in the server's certificate, if it is not the host.
    pub server_name: Option<String>,
    /// Pings: interval and patience.
    pub keepalive: Option<(Duration, Duration)>,
    /// How long the server may be silent. Servers send a heartbeat every 10 s unless told otherwise.
    pub heartbeat_timeout: Option<Duration>,
    /// How often to look whether the client certificate was renewed; links are then replaced.
    pub refresh: Duration,
}

impl GrpcConfig {
    /// A configuration without TLS and without heartbeat supervision.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca: None,
            identity: None,
            token: None,
            server_name: None,
            keepalive: Some((Duration::from_secs(30), Duration::from_secs(10))),
            heartbeat_timeout: None,
            refresh: REFRESH,
        }
    }
}

/// The gRPC transport. Clones share one connection.
#[derive(Clone)]
pub struct GrpcTransport {
    config: Arc<GrpcConfig>,
    shared: Arc<Mutex<Option<Connection>>>,
    skipped: Skipped,
}

#[derive(Clone)]
struct Connection {
    number: u64,
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    /// Another certificate is to be shown.
    renewed: CancellationToken,
    /// Looks for it for as long as the connection is in use.
    _watch: Option<Arc<AbortOnDropHandle<()>>>,
}

impl GrpcTransport {
    /// A transport; connects when first used.
    pub fn new(config: GrpcConfig) -> Self {
        Self {
            config: Arc::new(config),
            shared: Arc::new(Mutex::new(None)),
            skipped: Skipped::default(),
        }
    }

    /// Messages that were no events.
    pub fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }

    /// The next link uses a new connection with freshly read files; links that are open keep theirs.
    pub async fn rotate(&self) {
        *self.shared.lock().await = None;
    }

    async fn connection(&self, after: Option<u64>) -> Result<Connection, TransportError> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &*shared
            && after.is_none_or(|broken| connection.number != broken)
            && !connection.renewed.is_cancelled()
        {
            return Ok(connection.clone());
        }
        let number = shared.take().map_or(0, |old| old.number) + 1;
        let connection = self.connect(number).await?;
        *shared = Some(connection.clone());
        Ok(connection)
    }

    async fn connect(&self, number: u64) -> Result<Connection, TransportError> {
        let config = &*self.config;
        let tls = config.ca.is_some() || config.identity.is_some();
        let token = match &config.token {
            None => None,
            Some(_) if !tls && !is_loopback(&config.url) => {
                return Err(TransportError::Config(
                    "a token needs TLS: set the authority certificates".to_owned(),
                ));
            }
            Some(token) => Some(bearer(&token.read().await?)?),
        };
        let scheme = if tls { "https" } else { "http" };
        let bad = |e: tonic::transport::Error| TransportError::Config(words(&e));
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", config.url))
            .map_err(bad)?
            .connect_timeout(CONNECT_WAIT)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .tcp_nodelay(true);
        if let Some((interval, patience)) = config.keepalive {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(patience);
        }
        let renewed = CancellationToken::new();
        let mut watch = None;
        if tls {
            let (tls, found) = self.tls(&renewed).await?;
            endpoint = endpoint.tls_config(tls).map_err(bad)?;
            watch = found;
        }
        let server = config.url.parse::<Uri>();
        let proxy = server.ok().and_then(|it| Rules::from_env().on_the_way(&it));
        let channel = match proxy {
            None => endpoint.connect().await,
            Some(proxy) => {
                let tunnel = proxy.tunnel();
                let tunnel = tunnel.map_err(|e| TransportError::Config(e.to_string()))?;
                endpoint.connect_with_connector(tunnel).await
            }
        };
        let channel = channel.map_err(|e| TransportError::Connect {
            to: config.url.clone(),
            why: words(&e),
        })?;
        Ok(Connection {
            number,
            channel,
            token,
            renewed,
            _watch: watch,
        })
    }

    /// TLS with the files as they are now, and who looks whether they change.
    async fn tls(
        &self,
        renewed: &CancellationToken,
    ) -> Result<(ClientTlsConfig, Option<Arc<AbortOnDropHandle<()>>>), TransportError> {
        let files = ClientTls {
            ca: self.config.ca.clone(),
            identity: self.config.identity.clone(),
            server_name: self.config.server_name.clone(),
            refresh: self.config.refresh,
        };
        let material = files.load().await?;
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &material.ca {
            tls = tls.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((cert, key)) = &material.identity {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        if let Some(name) = &files.server_name {
            tls = tls.domain_name(name.clone());
        }
        let watch = files.can_change().then(|| {
            let renewed = renewed.clone();
            let watch = async move {
                files.renewed(&material).await;
                renewed.cancel();
            };
            Arc::new(AbortOnDropHandle::new(tokio::spawn(watch)))
        });
        Ok((tls, watch))
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        request: SubscriptionRequest,
    ) -> Result<Streaming<Bytes>, TransportError> {
        let response = connection
            .client()
            .subscribe(connection.request(request.encode_to_vec().into()))
            .await
            .map_err(refused)?;
        let named = response.metadata().get_all(SUBSCRIPTION_ID).iter().count() == 1;
        let metadata = format!("{:?}", response.metadata());
        let mut events = response.into_inner();
        if named {
            sleep(REGISTRATION).await;
            return Ok(events);
        }
        match timeout(REASON_WAIT, events.message()).await {
            Ok(Err(status)) => Err(refused(status)),
            Ok(Ok(_)) | Err(_) => Err(TransportError::Protocol(format!(
                "no subscription-id in header ({metadata})"
            ))),
        }
    }

    async fn open_link(&self, subscription: Subscription) -> Result<Link, TransportError> {
        let request = match subscription {
            Subscription::Agent { cluster, data_type } => Some(SubscriptionRequest {
                source: String::new(),
                cluster_name: cluster,
                data_type: data_type.to_string(),
            }),
            Subscription::Source { source, data_type } => Some(SubscriptionRequest {
                source,
                cluster_name: String::new(),
                data_type: data_type.to_string(),
            }),
            Subscription::PublishOnly => None,
        };
        let mut connection = self.connection(None).await?;
        let Some(request) = request else {
            let renewed = connection.renewed.clone();
            let replaced = async move {
                renewed.cancelled().await;
                Err(TransportError::Replaced)
            };
            return Ok(Link {
                publisher: Arc::new(connection),
                events: stream::once(replaced).boxed(),
            });
        };
        let events = match self.subscribe(&connection, request.clone()).await {
            // The shared connection may have died since it was used last: try a new one before giving up.
            Err(TransportError::Lost(_)) => {
                connection = self.connection(Some(connection.number)).await?;
                self.subscribe(&connection, request).await?
            }
            // Credentials may have been renewed: read them again next time.
            Err(error @ TransportError::Access(_)) => {
                self.rotate().await;
                return Err(error);
            }
            other => other?,
        };
        let silence = self.config.heartbeat_timeout;
        let incoming = Incoming {
            events,
            silence: silence.map(|silence| (silence, Instant::now() + silence)),
            renewed: connection.renewed.clone(),
            skipped: self.skipped.clone(),
        };
        Ok(Link {
            publisher: Arc::new(connection),
            events: incoming.stream(),
        })
    }
}

impl Transport for GrpcTransport {
    fn open(&self, subscription: Subscription) -> BoxFuture<'_, Result<Link, TransportError>> {
        Box::pin(self.open_link(subscription))
    }
}

impl Connection {
    fn client(&self) -> CloudEventServiceClient<Channel> {
        CloudEventServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    fn request(&self, message: Bytes) -> Request<Bytes> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        request
    }
}

impl Publisher for Connection {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Result<(), TransportError>> {
        Box::pin(async move {
            let request = self.request(encode_publish(&event));
            match timeout(PUBLISH_WAIT, self.client().publish(request)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(status)) => Err(refused(status)),
                Err(_) => Err(TransportError::Lost(format!(
                    "no answer within {PUBLISH_WAIT:?}"
                ))),
            }
        })
    }
}

/// The receiving half of a link.
struct Incoming {
    events: Streaming<Bytes>,
    /// How long the server may be silent, and until when it may be now.
    silence: Option<(Duration, Instant)>,
    /// Another certificate is to be shown.
    renewed: CancellationToken,
    skipped: Skipped,
}

impl Incoming {
    /// The events of the stream without heartbeats; messages that are no events are counted and skipped.
    fn stream(self) -> BoxStream<'static, Result<CloudEvent, TransportError>> {
        stream::unfold(Some(self), |state| async move {
            let mut incoming = state?;
            let next = incoming.next().await?;
            let goes_on = next.is_ok().then_some(incoming);
            Some((next, goes_on))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<CloudEvent, TransportError>> {
        loop {
            let next = tokio::select! {
                next = self.events.message() => next,
                () = self.renewed.cancelled() => return Some(Err(TransportError::Replaced)),
                silence = silent(self.silence) => return Some(Err(TransportError::Silent(silence))),
            };
            let message = match next {
                Ok(message) => message?,
                Err(status) => return Some(Err(refused(status))),
            };
            match decode(message) {
                Ok(Some(event)) => return Some(Ok(event)),
                Ok(None) => {
                    if let Some((silence, until)) = &mut self.silence {
                        *until = Instant::now() + *silence;
                    }
                }
                Err(MessageError::Event(error)) => self.skipped.add("grpc", &error),
                Err(error) => return Some(Err(TransportError::Protocol(error.to_string()))),
            }
        }
    }
}

/// Waits until a server has been silent for too long.
async fn silent(silence: Option<(Duration, Instant)>) -> Duration {
    match silence {
        Some((silence, until)) => {
            sleep_until(until).await;
            silence
        }
        None => std::future::pending().await,
    }
}

fn refused(status: Status) -> TransportError {
    if let Some(error) = ServiceError::from_wire(status.message()) {
        return TransportError::Refused(Box::new(error));
    }
    let said = || format!("{:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => TransportError::Access(said()),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            TransportError::Refused(Box::new(ServiceError::bad_request(status.message())))
        }
        Code::FailedPrecondition => {
            TransportError::Refused(Box::new(ServiceError::new(500, "", status.message())))
        }
        _ => TransportError::Lost(said()),
    }
}

fn bearer(token: &[u8]) -> Result<MetadataValue<Ascii>, TransportError> {
    let text = String::from_utf8_lossy(token);
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {}", text.trim()).parse().map_err(|_| {
            TransportError::Config("the token has characters that no token has".to_owned())
        })?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &str) -> bool {
    let host = url.rsplit_once(':').map_or(url, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
