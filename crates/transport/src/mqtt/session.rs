//! The client side of an MQTT 5 connection as a struct that is fed: packets and time go in, bytes and results come out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::packet::write::{self, Connect, Message};
use super::packet::{Ack, AckKind, ConnAck, Packet, PacketError, Publish};

/// Id of the one subscription that is made; no message is in flight then.
const SUBSCRIPTION: u16 = 1;
/// Reasons from here on are refusals.
const REFUSAL: u8 = 0x80;

/// How to connect and what to ask for.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Who connects.
    pub connect: Connect,
    /// Topics to subscribe to; none = nothing is received.
    pub filters: Vec<String>,
    /// Highest quality of service in which messages are received.
    pub subscribe_qos: u8,
    /// How long an answer may take.
    pub packet_timeout: Duration,
}

/// What the server can, as it said when it took the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages that may wait for their acknowledgement.
    pub in_flight: u16,
    /// Highest quality of service.
    pub qos: u8,
    /// Largest packet in bytes.
    pub packet: usize,
}

/// A reason code with the server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub reason: u8,
    /// In the server's words.
    pub why: Option<String>,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The server does not take the client.
    NotConnected(Refusal),
    /// The server does not give a topic.
    NotSubscribed(String, Refusal),
    /// The server said good-bye.
    Closed(Refusal),
    /// An answer did not come.
    NoAnswer(&'static str),
    /// The server broke the protocol.
    Protocol(PacketError),
    /// The server answers what nobody asked.
    Confused(&'static str),
}

impl From<PacketError> for Ended {
    fn from(error: PacketError) -> Self {
        Self::Protocol(error)
    }
}

/// A session. `T` stands for the one who waits for a message to be taken.
pub struct Session<T> {
    config: SessionConfig,
    phase: Phase,
    limits: Limits,
    out: Vec<u8>,
    next_id: u16,
    flights: HashMap<u16, Flight<T>>,
    /// Ids in flight by the time of their last packet; entries of flights that have gone on are stale.
    oldest: VecDeque<(Instant, u16)>,
    done: Vec<(T, Result<(), Refusal>)>,
    /// Messages of quality 2 that were handed on and are not yet released.
    unreleased: HashSet<u16>,
    keep_alive: Duration,
    last_write: Instant,
    pinged: Option<Instant>,
    /// Answers are expected from here on: nothing is read while the consumer is slow.
    patient_from: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting(Instant),
    Subscribing(Instant),
    Ready,
}

struct Flight<T> {
    waiter: T,
    since: Instant,
    expects: AckKind,
}

impl<T> Session<T> {
    /// A session that has said hello.
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        let mut out = Vec::new();
        config.connect.write(&mut out);
        Self {
            phase: Phase::Connecting(now),
            limits: Limits {
                in_flight: 0,
                qos: 2,
                packet: write::MAX_BODY,
            },
            out,
            next_id: 0,
            flights: HashMap::new(),
            oldest: VecDeque::new(),
            done: Vec::new(),
            unreleased: HashSet::new(),
            keep_alive: Duration::from_secs(config.connect.keep_alive.into()),
            last_write: now,
            pinged: None,
            patient_from: now,
            config,
        }
    }

    /// Whether the connection and its subscriptions stand.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether the server has not said a word yet.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.phase, Phase::Connecting(_))
    }

    /// What the server can.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes to be written; whoever writes them takes them.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Says that bytes were written.
    pub fn wrote(&mut self, now: Instant) {
        self.last_write = now;
    }

    /// Says that nothing was read until now, so that no answer can have been missed.
    pub fn excuse(&mut self, now: Instant) {
        self.patient_from = now;
    }

    /// Whether one more message may be sent now.
    pub fn has_room(&self) -> bool {
        self.is_ready() && self.flights.len() < usize::from(self.limits.in_flight)
    }

    /// Sends a message. Only when there is [room](Self::has_room).
    pub fn publish(&mut self, now: Instant, message: &Message, waiter: T) {
        let expects = match message.qos() {
            0 => {
                message.write(&mut self.out, 0);
                self.done.push((waiter, Ok(())));
                return;
            }
            1 => AckKind::PubAck,
            _ => AckKind::PubRec,
        };
        let id = self.free_id();
        message.write(&mut self.out, id);
        let flight = Flight {
            waiter,
            since: now,
            expects,
        };
        self.flights.insert(id, flight);
        self.oldest.push_back((now, id));
    }

    fn free_id(&mut self) -> u16 {
        // Fewer are in flight than there are ids, so this ends.
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !self.flights.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Messages whose fate is known since the last call.
    pub fn done(&mut self) -> std::vec::Drain<'_, (T, Result<(), Refusal>)> {
        self.done.drain(..)
    }

    /// Takes a packet; a message is given back, to be handed on and then [acknowledged](Self::acknowledge).
    pub fn handle<'a>(
        &mut self,
        now: Instant,
        packet: Packet<'a>,
    ) -> Result<Option<Publish<'a>>, Ended> {
        self.pinged = None;
        match (packet, self.phase) {
            (Packet::ConnAck(connack), Phase::Connecting(_)) => self.connected(now, connack)?,
            (Packet::SubAck { id, reasons, why }, Phase::Subscribing(_)) if id == SUBSCRIPTION => {
                self.subscribed(reasons, why)?;
            }
            (Packet::Disconnect { reason, why }, _) => {
                return Err(Ended::Closed(Refusal { reason, why }));
            }
            (_, Phase::Connecting(_)) => return Err(Ended::Confused("a packet before CONNACK")),
            (Packet::ConnAck(_), _) => return Err(Ended::Confused("a second CONNACK")),
            (Packet::SubAck { .. }, _) => {
                return Err(Ended::Confused("a SUBACK that nobody asked"));
            }
            (Packet::Publish(publish), _) => {
                if publish.qos == 2 && self.unreleased.contains(&publish.id) {
                    write::ack(&mut self.out, AckKind::PubRec, publish.id);
                    return Ok(None);
                }
                return Ok(Some(publish));
            }
            (Packet::Ack(ack), _) => self.acked(now, ack),
            (Packet::PingResp, _) => (),
        }
        Ok(None)
    }

    fn connected(&mut self, now: Instant, connack: ConnAck) -> Result<(), Ended> {
        if connack.reason != 0 {
            let why = match (connack.why, connack.server_reference) {
                (None, Some(server)) => Some(format!("use {server}")),
                (why, _) => why,
            };
            let reason = connack.reason;
            return Err(Ended::NotConnected(Refusal { reason, why }));
        }
        self.limits = Limits {
            in_flight: connack.receive_maximum,
            qos: connack.maximum_qos,
            packet: connack
                .maximum_packet
                .and_then(|size| usize::try_from(size).ok())
                .unwrap_or(write::MAX_BODY),
        };
        if let Some(seconds) = connack.keep_alive {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        if self.config.filters.is_empty() {
            self.phase = Phase::Ready;
            return Ok(());
        }
        write::subscribe(
            &mut self.out,
            SUBSCRIPTION,
            &self.config.filters,
            self.config.subscribe_qos,
        );
        self.phase = Phase::Subscribing(now);
        Ok(())
    }

    fn subscribed(&mut self, reasons: &[u8], why: Option<String>) -> Result<(), Ended> {
        if reasons.len() != self.config.filters.len() {
            return Err(Ended::Confused("a SUBACK with too few or too many reasons"));
        }
        let mut answers = self.config.filters.iter().zip(reasons);
        if let Some((filter, reason)) = answers.find(|(_, reason)| **reason >= REFUSAL) {
            let reason = *reason;
            let refusal = Refusal { reason, why };
            return Err(Ended::NotSubscribed(filter.clone(), refusal));
        }
        self.phase = Phase::Ready;
        Ok(())
    }

    fn acked(&mut self, now: Instant, ack: Ack) {
        if ack.kind == AckKind::PubRel {
            self.unreleased.remove(&ack.id);
            write::ack(&mut self.out, AckKind::PubComp, ack.id);
            return;
        }
        let Some(flight) = self.flights.get_mut(&ack.id) else {
            return;
        };
        if flight.expects != ack.kind {
            return;
        }
        if ack.kind == AckKind::PubRec && ack.reason < REFUSAL {
            flight.expects = AckKind::PubComp;
            flight.since = now;
            self.oldest.push_back((now, ack.id));
            write::ack(&mut self.out, AckKind::PubRel, ack.id);
            return;
        }
        let result = if ack.reason < REFUSAL {
            Ok(())
        } else {
            Err(Refusal {
                reason: ack.reason,
                why: ack.why,
            })
        };
        if let Some(flight) = self.flights.remove(&ack.id) {
            self.done.push((flight.waiter, result));
        }
    }

    /// Says that a message was handed on.
    pub fn acknowledge(&mut self, qos: u8, id: u16) {
        match qos {
            0 => (),
            1 => write::ack(&mut self.out, AckKind::PubAck, id),
            _ => {
                self.unreleased.insert(id);
                write::ack(&mut self.out, AckKind::PubRec, id);
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) -> Result<(), Ended> {
        let flight = self.oldest_flight();
        let (connecting, subscribing) = match self.phase {
            Phase::Connecting(since) => (Some(since), None),
            Phase::Subscribing(since) => (None, Some(since)),
            Phase::Ready => (None, None),
        };
        for (since, what) in [
            (connecting, "CONNECT"),
            (subscribing, "SUBSCRIBE"),
            (self.pinged, "PINGREQ"),
            (flight, "PUBLISH"),
        ] {
            if since.is_some_and(|since| now >= self.due(since)) {
                return Err(Ended::NoAnswer(what));
            }
        }
        if self.ping_at().is_some_and(|at| now >= at) {
            write::ping(&mut self.out);
            self.pinged.get_or_insert(now);
            self.last_write = now;
        }
        Ok(())
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn wake_at(&mut self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Connecting(since) | Phase::Subscribing(since) => Some(since),
            Phase::Ready => None,
        };
        let flight = self.oldest_flight();
        let answers = [phase, self.pinged, flight].into_iter().flatten();
        let answer = answers.map(|since| self.due(since)).min();
        [answer, self.ping_at()].into_iter().flatten().min()
    }

    fn due(&self, since: Instant) -> Instant {
        since.max(self.patient_from) + self.config.packet_timeout
    }

    fn ping_at(&self) -> Option<Instant> {
        let pings = self.is_ready() && !self.keep_alive.is_zero();
        pings.then(|| self.last_write + self.keep_alive)
    }

    fn oldest_flight(&mut self) -> Option<Instant> {
        while let Some((since, id)) = self.oldest.front() {
            if self.flights.get(id).is_some_and(|f| f.since == *since) {
                return Some(*since);
            }
            self.oldest.pop_front();
        }
        None
    }

    /// Says good-bye; those who still wait are given back.
    pub fn close(&mut self) -> impl Iterator<Item = T> + use<'_, T> {
        write::disconnect(&mut self.out);
        self.flights.drain().map(|(_, flight)| flight.waiter)
    }
}

#[cfg(test)]
mod tests;
