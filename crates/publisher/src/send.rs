//! Sends messages without any resource, as the command `drover publish` does in place of `fedora-messaging publish`.

use std::time::{Duration, Instant};

use drover_api::names::fedora as names;
use drover_core::publish::pod::Report;
use drover_protocol::fedora::{LineError, Outgoing};
use drover_transport::amqp::{AmqpError, ConfigError, Destination, Publisher, Verdict};

use tokio::time::timeout;

use crate::fault_of;

/// Between two attempts to reach a broker.
const PAUSE: Duration = Duration::from_millis(500);

/// Exit codes of `fedora-messaging publish` (fedora-messaging: `fedora_messaging/cli.py`).
pub mod exit {
    /// Trouble without a code of its own.
    pub const TROUBLE: u8 = 1;
    /// The message, the file or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// Nobody confirmed in time: `ECONNREFUSED`.
    pub const TIMEOUT: u8 = 111;
    /// The broker refused the message: `EREMOTEIO`.
    pub const REFUSED: u8 = 121;
}

/// Why sending ended before all was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// What the broker, or the way to it, said.
    #[error("Unable to publish message: {0}")]
    Amqp(#[from] AmqpError),
    /// The line is no message.
    #[error("Unable to publish message: {0}")]
    Line(#[from] LineError),
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] ConfigError),
}

impl SendError {
    /// The exit code of the Python command for the same trouble.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Line(LineError::Header(_) | LineError::Topic(_))
            | Self::Config(ConfigError::Missing(_) | ConfigError::Identity(_)) => exit::TROUBLE,
            Self::Line(_) | Self::Config(_) | Self::Amqp(AmqpError::Url(_)) => exit::USAGE,
            Self::Amqp(error) => match error {
                AmqpError::Forbidden(_) | AmqpError::Rejected => exit::REFUSED,
                AmqpError::Unreachable(_)
                | AmqpError::Blocked
                | AmqpError::Uncertain(_)
                | AmqpError::NoExchange(_) => exit::TIMEOUT,
                _ => exit::TROUBLE,
            },
        }
    }

    /// What a publisher reads out of its pod.
    pub fn report(&self) -> Report {
        let reason = match self {
            Self::Amqp(error) => fault_of(error).reason,
            Self::Line(_) => names::REASON_INVALID,
            Self::Config(ConfigError::Identity(_)) => names::REASON_SECRET_INVALID,
            Self::Config(_) => names::REASON_POD_FAILED,
        };
        Report {
            reason: reason.to_owned(),
            message: self.to_string(),
        }
    }
}

/// Sends one message after another on one connection, which is made when the first is sent and made again when it is lost.
#[derive(Debug)]
pub struct Sending {
    to: Destination,
    exchange: String,
    patience: Duration,
    connection: Option<Publisher>,
}

impl Sending {
    /// Nothing is connected yet. `patience` is the time that one message may take.
    pub fn new(to: Destination, exchange: impl Into<String>, patience: Duration) -> Self {
        Self {
            to,
            exchange: exchange.into(),
            patience,
            connection: None,
        }
    }

    /// Sends a message and waits until the broker has it. While nobody refuses it, it is tried again until its time is over, with
    /// the same id.
    ///
    /// # Errors
    /// The last one.
    pub async fn send(&mut self, message: &Outgoing) -> Result<(), SendError> {
        let start = Instant::now();
        let mut doubt = None;
        loop {
            let left = self.patience.saturating_sub(start.elapsed());
            let error = match self.attempt(message, left).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let left = self.patience.saturating_sub(start.elapsed());
            let again = match error.verdict() {
                Verdict::Again => true,
                Verdict::Later => error != AmqpError::Rejected,
                Verdict::Never | Verdict::AfterChange => false,
            };
            if !again || left.is_zero() {
                // What may have arrived once stays in doubt, whatever went wrong since.
                return Err(doubt.unwrap_or(error).into());
            }
            tracing::debug!(%error, "trying again");
            if error.verdict() == Verdict::Again {
                doubt = Some(error);
            }
            tokio::time::sleep(PAUSE.min(left)).await;
        }
    }

    /// Sends messages at once on one connection, and waits for all of them. They leave in their order. The answer has an outcome for
    /// each.
    pub async fn send_all(&mut self, messages: &[Outgoing]) -> Vec<Result<(), SendError>> {
        let Some((first, rest)) = messages.split_first() else {
            return Vec::new();
        };
        // The first one finds out whether there is a broker, and waits for it.
        let mut outcomes = vec![self.send(first).await];
        let Some(connection) = self.connection.as_ref().filter(|_| outcomes[0].is_ok()) else {
            let why =
                || SendError::from(AmqpError::Unreachable("the one before failed".to_owned()));
            outcomes.extend(rest.iter().map(|_| Err(why())));
            return outcomes;
        };
        let all = rest
            .iter()
            .map(|message| connection.publish(&self.exchange, message, self.patience));
        let at_once = futures::future::join_all(all).await;
        for (message, outcome) in rest.iter().zip(at_once) {
            outcomes.push(match outcome {
                Ok(()) => Ok(()),
                Err(error) if error.verdict() == Verdict::Never => Err(error.into()),
                Err(_) => self.send(message).await,
            });
        }
        outcomes
    }

    async fn attempt(&mut self, message: &Outgoing, left: Duration) -> Result<(), AmqpError> {
        let connection = match self.connection.take().filter(Publisher::is_connected) {
            Some(connection) => connection,
            None => timeout(left, Publisher::connect(&self.to))
                .await
                .unwrap_or_else(|_| {
                    Err(AmqpError::Unreachable(format!("no answer within {left:?}")))
                })?,
        };
        let connection = self.connection.insert(connection);
        connection.publish(&self.exchange, message, left).await
    }

    /// Connects, and sends nothing: whether the broker would let us in.
    ///
    /// # Errors
    /// Why it would not.
    pub async fn rehearse(&mut self) -> Result<(), SendError> {
        let connected = timeout(self.patience, Publisher::connect(&self.to)).await;
        let late = |_| {
            Err(AmqpError::Unreachable(format!(
                "no answer within {:?}",
                self.patience
            )))
        };
        self.connection = Some(connected.unwrap_or_else(late)?);
        Ok(())
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}
