//! One link: a socket, a session, and the task that moves bytes between them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use drover_protocol::CloudEvent;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;

use super::event::{from_message, to_message, too_large};
use super::packet::write::{Connect, MAX_TEXT, Message};
use super::packet::{Framed, Packet, PacketError, Publish, frame};
use super::reason;
use super::session::{Ended, Limits, Session, SessionConfig};
use super::{ClientId, MAX_PACKET, MqttConfig, MqttTransport};
use crate::link::{Link, Publisher, Subscription, TransportError};
use crate::skipped::Skipped;

/// Events that wait for a slow consumer; then nothing more is read.
const INBOUND: usize = 256;
/// Events that wait for the task.
const OUTBOUND: usize = 64;
/// Bytes that wait for the socket before no more events are taken.
const HIGH_WATER: usize = 256 * 1024;
/// Buffers start with this and grow with their use.
const SMALL_BUFFER: usize = 4 * 1024;
/// A read asks for at most this much more; buffers that a large packet made larger are given back.
const LARGE_BUFFER: usize = 128 * 1024;
/// A good-bye may take this long.
const GOOD_BYE: Duration = Duration::from_secs(1);

type Socket = Either<TcpStream, TlsStream<TcpStream>>;
type Outcome = Result<(), TransportError>;

struct Order {
    message: Message,
    done: oneshot::Sender<Outcome>,
}

/// Connects, subscribes, and leaves a task behind that keeps the link going.
pub(super) async fn open(
    transport: &MqttTransport,
    subscription: Subscription,
    filters: Vec<String>,
) -> Result<Link, TransportError> {
    let config = &transport.config;
    let id = transport.ids.take();
    let connect = connect(config, &id)?;
    let (socket, renewed) = match timeout(config.dial_timeout, dial(config)).await {
        Ok(dialed) => dialed?,
        Err(_) => {
            return Err(unreachable(
                config,
                format!("no connection within {:?}", config.dial_timeout),
            ));
        }
    };
    let session = SessionConfig {
        connect,
        filters,
        subscribe_qos: config.subscribe_qos,
        packet_timeout: config.packet_timeout,
    };
    let (events, received) = mpsc::channel(INBOUND);
    let (orders, inbox) = mpsc::channel(OUTBOUND);
    let (ready, opened) = oneshot::channel();
    let lost = Arc::new(OnceLock::new());
    let (read, write) = tokio::io::split(socket);
    let task = Task {
        session: Session::new(session, Instant::now()),
        read,
        write,
        written: 0,
        buffer: BytesMut::new(),
        wants: SMALL_BUFFER,
        events,
        waiting: None,
        orders: inbox,
        taking: true,
        ready: Some(ready),
        skipped: transport.skipped.clone(),
        lost: Arc::clone(&lost),
        broker: config.broker.clone(),
    };
    tokio::spawn(task.live(renewed, id));
    let limits = match opened.await {
        Ok(opened) => opened?,
        Err(_) => return Err(TransportError::Lost("the link's task is gone".to_owned())),
    };
    let publisher = MqttPublisher {
        config: Arc::clone(config),
        subscription,
        limits,
        orders,
        lost,
    };
    Ok(Link {
        publisher: Arc::new(publisher),
        events: ReceiverStream::new(received).boxed(),
    })
}

fn connect(config: &MqttConfig, id: &ClientId) -> Result<Connect, TransportError> {
    let connect = Connect {
        client_id: id.text(&config.client_id),
        keep_alive: u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX),
        username: config.username.clone(),
        password: config.password.clone(),
        maximum_packet: MAX_PACKET as u32,
    };
    for (what, text) in [
        ("client id", Some(&connect.client_id)),
        ("user name", connect.username.as_ref()),
        ("password", connect.password.as_ref()),
    ] {
        if text.is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(TransportError::Config(format!(
                "the {what} is longer than {MAX_TEXT} bytes"
            )));
        }
    }
    Ok(connect)
}

fn unreachable(config: &MqttConfig, why: impl ToString) -> TransportError {
    TransportError::Connect {
        to: config.broker.clone(),
        why: why.to_string(),
    }
}

/// A socket, and what resolves when another certificate is to be shown.
async fn dial(config: &MqttConfig) -> Result<(Socket, BoxFuture<'static, ()>), TransportError> {
    let connected = TcpStream::connect(&config.broker).await;
    let socket = connected.map_err(|e| unreachable(config, e))?;
    socket
        .set_nodelay(true)
        .map_err(|e| unreachable(config, e))?;
    let Some(tls) = &config.tls else {
        return Ok((Either::Left(socket), Box::pin(std::future::pending())));
    };
    let material = tls.load().await?;
    let client = material.client_config(&[])?;
    let host = config.broker.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|e| TransportError::Config(format!("{host:?} is no server's name: {e}")))?;
    let connector = TlsConnector::from(Arc::new(client));
    let socket = connector.connect(name, socket).await.map_err(|e| {
        // A certificate that does not fit will not fit the next time.
        let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        if inner.is_some() {
            let broker = &config.broker;
            TransportError::Access(format!("failed to set up TLS with {broker}: {e}"))
        } else {
            unreachable(config, e)
        }
    })?;
    let tls = tls.clone();
    let renewed = Box::pin(async move { tls.renewed(&material).await });
    Ok((Either::Right(socket), renewed))
}

struct Task {
    session: Session<oneshot::Sender<Outcome>>,
    read: ReadHalf<Socket>,
    write: WriteHalf<Socket>,
    /// How much of the session's output is with the socket already.
    written: usize,
    buffer: BytesMut,
    /// Bytes that the next read should have room for.
    wants: usize,
    events: mpsc::Sender<Result<CloudEvent, TransportError>>,
    /// The event for which there is no room: nothing is read until there is.
    waiting: Option<(CloudEvent, u8, u16)>,
    orders: mpsc::Receiver<Order>,
    /// Whether there are publishers left.
    taking: bool,
    ready: Option<oneshot::Sender<Result<Limits, TransportError>>>,
    skipped: Skipped,
    lost: Arc<OnceLock<TransportError>>,
    broker: String,
}

impl Task {
    async fn live(mut self, renewed: BoxFuture<'static, ()>, id: ClientId) {
        let error = self.run(renewed).await;
        self.orders.close();
        // Kept first, so that those who are told find it.
        let error = self.lost.get_or_init(|| error).clone();
        for waiter in self.session.close() {
            // Nobody waits any more.
            waiter.send(Err(error.clone())).ok();
        }
        while let Ok(order) = self.orders.try_recv() {
            order.done.send(Err(error.clone())).ok();
        }
        // The broker will notice either way.
        timeout(GOOD_BYE, self.good_bye()).await.ok();
        let Self {
            read,
            write,
            ready,
            events,
            ..
        } = self;
        // The id is free before anybody can open the next link.
        drop((read, write, id));
        // Nobody listening is as good as told.
        if let Some(ready) = ready {
            ready.send(Err(error)).ok();
        } else {
            events.send(Err(error)).await.ok();
        }
    }

    async fn good_bye(&mut self) -> std::io::Result<()> {
        let rest = self.session.out().get(self.written..).unwrap_or_default();
        self.write.write_all(rest).await?;
        self.write.shutdown().await
    }

    /// Runs until the link is lost, and tells why.
    async fn run(&mut self, mut renewed: BoxFuture<'static, ()>) -> TransportError {
        let timer = sleep_until(tokio::time::Instant::now());
        tokio::pin!(timer);
        loop {
            if self.waiting.is_none()
                && let Err(ended) = self.read_packets()
            {
                return self.explain(ended);
            }
            self.settle();
            let wake = self.session.wake_at().map(tokio::time::Instant::from_std);
            if let Some(at) = wake
                && (timer.is_elapsed() || at < timer.deadline())
            {
                timer.as_mut().reset(at);
            }
            let stalled = self.waiting.is_some();
            let unflushed = !self.session.out().is_empty();
            let unsent = self.session.out().len() - self.written;
            let takes = self.taking && unsent < HIGH_WATER && self.session.has_room();
            self.reserve();
            tokio::select! {
                read = self.read.read_buf(&mut self.buffer), if !stalled => match read {
                    Ok(0) => return self.ended(),
                    Ok(_) => (),
                    Err(error) => return broken(error),
                },
                wrote = push(&mut self.write, self.session.out(), &mut self.written), if unflushed => {
                    if let Err(error) = wrote {
                        return broken(error);
                    }
                    self.session.wrote(Instant::now());
                }
                order = self.orders.recv(), if takes => match order {
                    Some(order) => self.take(order),
                    // All publishers are gone; events may still come.
                    None => self.taking = false,
                },
                room = room(&self.events), if stalled => {
                    if !room {
                        return closed();
                    }
                    if let Some((event, qos, id)) = self.waiting.take() {
                        self.hand_on(event, qos, id);
                    }
                    self.session.excuse(Instant::now());
                }
                () = self.events.closed() => return closed(),
                () = &mut renewed => return TransportError::Replaced,
                () = &mut timer, if wake.is_some() => {
                    let now = Instant::now();
                    if stalled {
                        self.session.excuse(now);
                    }
                    if let Err(ended) = self.session.tick(now) {
                        return self.explain(ended);
                    }
                }
            }
        }
    }

    /// Handles what is in the buffer, until it is empty or the consumer is too slow.
    fn read_packets(&mut self) -> Result<(), Ended> {
        /// Type of the first packet of every server.
        const CONNACK: u8 = 2;
        if self.session.is_unanswered()
            && let Some(first) = self.buffer.first().map(|first| first >> 4)
            && first != CONNACK
        {
            return Err(PacketError::Unexpected(first).into());
        }
        while self.waiting.is_none() {
            let frame = match frame(&self.buffer, MAX_PACKET)? {
                Framed::Whole(frame) => frame,
                Framed::Needs(size) => {
                    // No more at once than has come already: the length is only a claim.
                    let missing = size.saturating_sub(self.buffer.len());
                    self.buffer
                        .reserve(missing.min(self.buffer.len().max(LARGE_BUFFER)));
                    break;
                }
            };
            let size = frame.size;
            let packet = Packet::read(frame)?;
            if let Some(message) = self.session.handle(Instant::now(), packet)? {
                let decoded = from_message(&message);
                let Publish { qos, id, .. } = message;
                match decoded {
                    Ok(event) => self.hand_on(event, qos, id),
                    Err(error) => {
                        self.skipped.add("mqtt", &error);
                        self.session.acknowledge(qos, id);
                    }
                }
            }
            self.buffer.advance(size);
        }
        if self.session.is_ready()
            && let Some(ready) = self.ready.take()
        {
            // The one who opened is gone: noticed by the closed channel of events.
            ready.send(Ok(self.session.limits())).ok();
        }
        Ok(())
    }

    /// Gives an event to the consumer and acknowledges it; without room for it, it waits.
    fn hand_on(&mut self, event: CloudEvent, qos: u8, id: u16) {
        match self.events.try_reserve() {
            Ok(permit) => {
                permit.send(Ok(event));
                self.session.acknowledge(qos, id);
            }
            Err(_) => self.waiting = Some((event, qos, id)),
        }
    }

    /// Makes room for the next read.
    fn reserve(&mut self) {
        if self.buffer.len() == self.buffer.capacity() {
            // The last read has filled it: there is more to come.
            self.wants = (2 * self.wants).min(LARGE_BUFFER);
        }
        self.buffer.reserve(self.wants);
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * LARGE_BUFFER {
            self.buffer = BytesMut::with_capacity(self.wants);
        }
    }

    /// Takes an event to send, and those that wait behind it.
    fn take(&mut self, order: Order) {
        let now = Instant::now();
        self.session.publish(now, &order.message, order.done);
        while self.session.has_room() && self.session.out().len() - self.written < HIGH_WATER {
            let Ok(order) = self.orders.try_recv() else {
                break;
            };
            self.session.publish(now, &order.message, order.done);
        }
    }

    /// Tells those who wait what became of their events.
    fn settle(&mut self) {
        for (waiter, result) in self.session.done() {
            // Who does not wait any more does not want to know.
            waiter.send(result.map_err(reason::refused)).ok();
        }
    }

    /// The socket has nothing more to read.
    fn ended(&self) -> TransportError {
        if self.session.is_unanswered() {
            TransportError::Connect {
                to: self.broker.clone(),
                why: "it closed the connection without an answer".to_owned(),
            }
        } else {
            TransportError::Lost("the broker closed the connection".to_owned())
        }
    }

    fn explain(&self, ended: Ended) -> TransportError {
        match ended {
            Ended::NotConnected(refusal) => reason::not_connected(&self.broker, &refusal),
            Ended::NotSubscribed(filter, refusal) => reason::not_subscribed(&filter, &refusal),
            Ended::Closed(refusal) => reason::said_good_bye(&refusal),
            Ended::NoAnswer(what) => {
                TransportError::Lost(format!("the broker did not answer {what} in time"))
            }
            Ended::Protocol(error @ PacketError::TooLarge { .. }) => {
                TransportError::Lost(error.to_string())
            }
            Ended::Protocol(error) => {
                TransportError::Protocol(format!("{} does not speak MQTT 5: {error}", self.broker))
            }
            Ended::Confused(what) => TransportError::Protocol(format!("the broker sent {what}")),
        }
    }
}

/// Waits until there is room for an event; `false` when the consumer is gone.
async fn room(events: &mpsc::Sender<Result<CloudEvent, TransportError>>) -> bool {
    events.reserve().await.is_ok()
}

/// Why a socket failed. A server may refuse a certificate only after the handshake.
fn broken(error: std::io::Error) -> TransportError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => {
            TransportError::Access(format!("the broker refused TLS: {alert:?}"))
        }
        _ => TransportError::Lost(error.to_string()),
    }
}

fn closed() -> TransportError {
    TransportError::Lost("the link was closed".to_owned())
}

/// Writes some bytes; cleans the buffer when the socket has all of them.
async fn push(
    socket: &mut WriteHalf<Socket>,
    out: &mut Vec<u8>,
    written: &mut usize,
) -> std::io::Result<()> {
    if let Some(rest) = out.get(*written..)
        && !rest.is_empty()
    {
        match socket.write(rest).await? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            count => *written += count,
        }
    }
    if *written == out.len() {
        socket.flush().await?;
        out.clear();
        out.shrink_to(LARGE_BUFFER);
        *written = 0;
    }
    Ok(())
}

struct MqttPublisher {
    config: Arc<MqttConfig>,
    subscription: Subscription,
    limits: Limits,
    orders: mpsc::Sender<Order>,
    lost: Arc<OnceLock<TransportError>>,
}

impl MqttPublisher {
    fn message(&self, event: &CloudEvent) -> Result<Message, TransportError> {
        let topics = &self.config.topics;
        let topic = match &self.subscription {
            Subscription::Agent { cluster, .. } => topics.agent_topic(Some(cluster), event),
            Subscription::Source { source, .. } => topics.source_topic(source, event),
            Subscription::PublishOnly => topics.agent_topic(None, event),
        }?;
        let qos = self.config.publish_qos.min(self.limits.qos);
        let message = to_message(event, &topic, qos)?;
        if message.size() > self.limits.packet {
            return Err(too_large(event, message.size(), self.limits.packet));
        }
        Ok(message)
    }

    fn lost(&self) -> TransportError {
        self.lost.get().cloned().unwrap_or_else(closed)
    }
}

impl Publisher for MqttPublisher {
    fn publish(&self, event: CloudEvent) -> BoxFuture<'_, Outcome> {
        let message = self.message(&event);
        Box::pin(async move {
            let (done, outcome) = oneshot::channel();
            let message = message?;
            if self.orders.send(Order { message, done }).await.is_err() {
                return Err(self.lost());
            }
            outcome.await.unwrap_or_else(|_| Err(self.lost()))
        })
    }
}
