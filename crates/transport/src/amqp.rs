//! Fedora Messaging over AMQP 0-9-1: connect with a client certificate, publish, and wait until the broker has the message.

mod config;
mod error;
mod identity;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use drover_protocol::fedora::{
    CONTENT_ENCODING, CONTENT_TYPE, Header, MAX_SHORT, Outgoing, PERSISTENT,
};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tcp_stream::{AsyncTcpStream, RustlsConnector};
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use config::{ConfigError, MessagingConfig, TlsFiles};
pub use error::{AmqpError, Verdict};
pub use identity::{Identity, IdentityError};

/// How long a connection may take until the broker has let the caller in.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a goodbye may take: nobody depends on it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where to, and who says so.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `amqps://host:port/vhost`, the vhost percent-encoded; `amqp://` is plain text, for brokers on one's own machine.
    pub url: String,
    /// Needed for `amqps`.
    pub identity: Option<Arc<Identity>>,
    /// What the broker shows its administrator of this client: `app` and such.
    pub client_properties: BTreeMap<String, String>,
}

/// A connection to a broker. Many messages may be on their way at once.
#[derive(Debug)]
pub struct Publisher {
    connection: Connection,
    lane: Lane,
}

/// A channel in confirm mode on a connection, opened when it is used. Messages leave in the order in which they are given. When the
/// broker refuses one it closes the channel, and what else was on its way there is uncertain; other lanes know nothing of it.
#[derive(Debug, Default)]
pub struct Lane(Mutex<Option<Channel>>);

impl Publisher {
    /// Connects and is let in.
    ///
    /// # Errors
    /// See [`AmqpError::verdict`] for what to do about each.
    pub async fn connect(to: &Destination) -> Result<Self, AmqpError> {
        let connect = async {
            let connection = connection(to).await?;
            let lane = Lane::default();
            lane.channel(&connection).await?;
            Ok(Self { connection, lane })
        };
        timeout(CONNECT, connect).await.unwrap_or_else(|_| {
            Err(AmqpError::Unreachable(format!(
                "no answer within {} s",
                CONNECT.as_secs()
            )))
        })
    }

    /// Whether it can still be used.
    pub fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker said that it takes nothing now: the link is alive.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Publishes one message on the connection's own lane and waits until the broker has taken it.
    ///
    /// # Errors
    /// [`AmqpError::Uncertain`] when the message was written but nobody knows what became of it: publish the same message again.
    pub async fn publish(
        &self,
        exchange: &str,
        message: &Outgoing,
        patience: Duration,
    ) -> Result<(), AmqpError> {
        self.publish_on(&self.lane, exchange, message, patience)
            .await
    }

    /// The same on a lane of the caller, which belongs to this connection from its first message on.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_on(
        &self,
        lane: &Lane,
        exchange: &str,
        message: &Outgoing,
        patience: Duration,
    ) -> Result<(), AmqpError> {
        let (exchange, routing_key) = (short(exchange)?, short(&message.routing_key)?);
        let properties = properties(message)?;
        // What is handed over now would be written some time, whatever is said of it until then.
        if self.is_blocked() {
            return Err(AmqpError::Blocked);
        }
        let start = Instant::now();
        let channel = timeout(patience, lane.channel(&self.connection)).await;
        let channel = channel.unwrap_or_else(|_| Err(AmqpError::no_channel()))?;
        let sent = async {
            let options = BasicPublishOptions::default();
            let confirm = channel
                .basic_publish(exchange, routing_key, options, &message.body, properties)
                .await
                .map_err(|error| AmqpError::of_write(&error, &message.routing_key))?;
            match confirm.await {
                Ok(Confirmation::Ack(_)) => Ok(()),
                Ok(Confirmation::Nack(_)) => Err(AmqpError::Rejected),
                Ok(Confirmation::NotRequested) => Err(AmqpError::Uncertain(
                    "the broker does not confirm on this channel".to_owned(),
                )),
                Err(error) => Err(AmqpError::of_publish(&error, &message.routing_key)),
            }
        };
        match timeout(patience.saturating_sub(start.elapsed()), sent).await {
            Ok(outcome) => outcome,
            Err(_) => Err(AmqpError::Uncertain(format!(
                "the broker did not confirm within {} s",
                patience.as_secs()
            ))),
        }
    }

    /// Says goodbye. A broker that does not answer is left without one.
    pub async fn close(self) {
        let goodbye = self.connection.close(200, ShortString::from("done"));
        match timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection did not close properly"),
            Err(_) => tracing::debug!("the broker did not say goodbye in time"),
        }
    }
}

impl Lane {
    /// The channel; a new one when the broker closed the last one, as it does after a refusal.
    async fn channel(&self, connection: &Connection) -> Result<Channel, AmqpError> {
        let mut channel = self.0.lock().await;
        if let Some(open) = channel.as_ref().filter(|open| open.status().connected()) {
            return Ok(open.clone());
        }
        let fresh = confirming(connection).await?;
        *channel = Some(fresh.clone());
        Ok(fresh)
    }
}

async fn connection(to: &Destination) -> Result<Connection, AmqpError> {
    let mut uri: AMQPUri = to.url.parse().map_err(AmqpError::Url)?;
    let secure = uri.scheme == AMQPScheme::AMQPS;
    let connector = match &to.identity {
        Some(identity) if secure => {
            uri.query.auth_mechanism = Some(SASLMechanism::External);
            Some(RustlsConnector::from(identity.client_config()?))
        }
        None if secure => return Err(AmqpError::NoIdentity),
        _ => None,
    };
    let properties = to.client_properties.iter().fold(
        ConnectionProperties::default(),
        |properties, (name, value)| match ShortString::try_new(name.as_str()) {
            Ok(name) => properties.with_client_property(name, value.as_str().into()),
            Err(_) => properties,
        },
    );
    let agreed = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&agreed);
    // The handshake is ours: the library must never be the one to decide whether there is any.
    let connect = async move |uri: AMQPUri, runtime: async_rs::TokioRuntime| {
        let place = (uri.authority.host.as_str(), uri.authority.port);
        let addresses: Vec<_> = tokio::net::lookup_host(place).await?.collect();
        let plain = AsyncTcpStream::connect(&runtime, addresses).await?;
        match &connector {
            Some(connector) => {
                let secure = plain.into_rustls(connector, &uri.authority.host).await?;
                noted.store(true, Ordering::Relaxed);
                Ok(secure)
            }
            None => Ok(plain),
        }
    };
    let runtime = async_rs::Runtime::tokio_current();
    Connection::connector(uri, runtime, connect, properties)
        .await
        .map_err(|error| match AmqpError::of_connect(&error) {
            // TLS 1.3: what the broker thinks of our certificate comes after the handshake, and may be lost when it hangs up.
            AmqpError::Unreachable(why)
                if agreed.load(Ordering::Relaxed) && AmqpError::hung_up(&error) =>
            {
                AmqpError::Tls(format!("it hung up after the handshake ({why})"))
            }
            other => other,
        })
}

async fn confirming(connection: &Connection) -> Result<Channel, AmqpError> {
    let channel = connection
        .create_channel()
        .await
        .map_err(|error| AmqpError::of_connect(&error))?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .map_err(|error| AmqpError::of_connect(&error))?;
    Ok(channel)
}

fn short(text: &str) -> Result<ShortString, AmqpError> {
    ShortString::try_new(text).map_err(|_| {
        let start: String = text.chars().take(32).collect();
        AmqpError::Invalid(format!(
            "{start}… is {} bytes long; {MAX_SHORT} is the most that AMQP carries",
            text.len()
        ))
    })
}

fn properties(message: &Outgoing) -> Result<BasicProperties, AmqpError> {
    Ok(BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_content_encoding(CONTENT_ENCODING.into())
        .with_headers(table(&message.headers)?)
        .with_delivery_mode(PERSISTENT)
        .with_priority(message.priority)
        .with_message_id(short(&message.message_id)?))
}

fn table(headers: &BTreeMap<String, Header>) -> Result<FieldTable, AmqpError> {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert(short(name)?, field(value)?);
    }
    Ok(table)
}

fn field(value: &Header) -> Result<AMQPValue, AmqpError> {
    Ok(match value {
        Header::Text(text) => AMQPValue::LongString(text.as_str().into()),
        Header::Bool(value) => AMQPValue::Boolean(*value),
        Header::Int(number) => AMQPValue::LongInt(*number),
        Header::Long(number) => AMQPValue::LongLongInt(*number),
        Header::Void => AMQPValue::Void,
        Header::List(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(field).collect();
            AMQPValue::FieldArray(items?.into())
        }
        Header::Table(fields) => AMQPValue::FieldTable(table(fields)?),
    })
}

impl From<io::Error> for AmqpError {
    fn from(error: io::Error) -> Self {
        Self::of_io(&error)
    }
}

#[cfg(test)]
mod tests;
