//! Packets of MQTT 5, as far as a client needs them: written to a buffer, read from one without copying.
//!
//! A packet that breaks the protocol is an error of the link. What is inside of a message is not looked at here: a message
//! that is no event must not cost the link.

pub mod properties;
pub mod write;

use properties::Properties;

/// Bytes that a length may take: 7 bits in each.
const MAX_LENGTH_BYTES: usize = 4;

/// Why bytes are no packet that a client understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It ends before it should.
    #[error("a packet of type {0} ends too early")]
    Short(u8),
    /// A length of more than four bytes.
    #[error("a packet has a length that no packet has")]
    Length,
    /// Larger than what this client said that it takes.
    #[error("a packet of {size} bytes came, the limit is {limit}")]
    TooLarge {
        /// Size of the packet.
        size: usize,
        /// What was agreed.
        limit: usize,
    },
    /// Only clients send it, or nobody.
    #[error("a packet of type {0} came, which no server sends")]
    Unexpected(u8),
    /// A value that is not in the protocol.
    #[error("a packet of type {packet} has a wrong {what}")]
    Value {
        /// Type of the packet.
        packet: u8,
        /// Which field.
        what: &'static str,
    },
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The answer to a connection.
    ConnAck(ConnAck),
    /// A message.
    Publish(Publish<'a>),
    /// One step in the delivery of a message.
    Ack(Ack),
    /// The answer to a subscription: one reason for each filter.
    SubAck {
        /// Which subscription.
        id: u16,
        /// In the order of the filters; 0x80 and above is a refusal.
        reasons: &'a [u8],
        /// In the server's words.
        why: Option<String>,
    },
    /// The answer to a ping.
    PingResp,
    /// The server ends the connection.
    Disconnect {
        /// Why.
        reason: u8,
        /// In the server's words.
        why: Option<String>,
    },
}

/// Whether the server takes the client, and what it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// 0 is success.
    pub reason: u8,
    /// In the server's words.
    pub why: Option<String>,
    /// Messages that may wait for their acknowledgement.
    pub receive_maximum: u16,
    /// Highest quality of service.
    pub maximum_qos: u8,
    /// Largest packet.
    pub maximum_packet: Option<u32>,
    /// Seconds between signs of life, if the server wants other than what the client said.
    pub keep_alive: Option<u16>,
    /// Another server to use.
    pub server_reference: Option<String>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Quality of service: 0, 1 or 2.
    pub qos: u8,
    /// Packet id; 0 with quality 0.
    pub id: u16,
    /// Topic.
    pub topic: &'a [u8],
    /// Content type, user properties and others.
    pub properties: Properties<'a>,
    /// The content.
    pub payload: &'a [u8],
}

/// The steps in which a message is acknowledged. Quality 1 has only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the names of the protocol")]
pub enum AckKind {
    /// Taken (1).
    PubAck,
    /// Received (2).
    PubRec,
    /// Release (2).
    PubRel,
    /// Complete (2).
    PubComp,
}

/// An acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which step.
    pub kind: AckKind,
    /// Which message.
    pub id: u16,
    /// 0x80 and above is a refusal.
    pub reason: u8,
    /// In the other side's words.
    pub why: Option<String>,
}

/// A whole packet at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type and flags.
    pub first: u8,
    /// Everything after the length.
    pub body: &'a [u8],
    /// Bytes of the whole packet.
    pub size: usize,
}

/// What is at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole packet.
    Whole(Frame<'a>),
    /// A part of one: this many bytes are needed at least.
    Needs(usize),
}

/// Looks for a packet of at most `limit` bytes at the start of a buffer.
pub fn frame(bytes: &[u8], limit: usize) -> Result<Framed<'_>, PacketError> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(Framed::Needs(2));
    };
    let Some((length, head)) = properties::length(rest) else {
        return if rest.len() < MAX_LENGTH_BYTES {
            Ok(Framed::Needs(bytes.len() + 1))
        } else {
            Err(PacketError::Length)
        };
    };
    let size = 1 + head + length;
    if size > limit {
        return Err(PacketError::TooLarge { size, limit });
    }
    Ok(match bytes.get(1 + head..size) {
        Some(body) => Framed::Whole(Frame {
            first: *first,
            body,
            size,
        }),
        None => Framed::Needs(size),
    })
}

impl<'a> Packet<'a> {
    /// Reads a packet.
    pub fn read(frame: Frame<'a>) -> Result<Self, PacketError> {
        let kind = frame.first >> 4;
        let mut body = Reader {
            kind,
            bytes: frame.body,
        };
        let ack = |kind, body| Ok(Packet::Ack(Ack::read(kind, body)?));
        match kind {
            2 => Ok(Packet::ConnAck(ConnAck::read(body)?)),
            3 => Ok(Packet::Publish(Publish::read(frame.first, body)?)),
            4 => ack(AckKind::PubAck, body),
            5 => ack(AckKind::PubRec, body),
            6 => ack(AckKind::PubRel, body),
            7 => ack(AckKind::PubComp, body),
            9 => {
                let id = body.u16()?;
                let why = body.properties()?.reason_string();
                let reasons = body.bytes;
                Ok(Packet::SubAck { id, reasons, why })
            }
            13 => Ok(Packet::PingResp),
            14 => {
                let (reason, why) = body.reason()?;
                Ok(Packet::Disconnect { reason, why })
            }
            other => Err(PacketError::Unexpected(other)),
        }
    }
}

impl ConnAck {
    fn read(mut body: Reader<'_>) -> Result<Self, PacketError> {
        let _session_present = body.u8()?;
        let reason = body.u8()?;
        let mut connack = Self {
            reason,
            why: None,
            receive_maximum: u16::MAX,
            maximum_qos: 2,
            maximum_packet: None,
            keep_alive: None,
            server_reference: None,
        };
        // Servers of the versions before send no properties.
        if body.bytes.is_empty() {
            return Ok(connack);
        }
        let wrong = |what| PacketError::Value { packet: 2, what };
        for property in body.properties()?.iter() {
            use properties::{Value, id};
            match property.map_err(|_| wrong("property"))? {
                (id::RECEIVE_MAXIMUM, Value::U16(0)) => return Err(wrong("receive maximum")),
                (id::RECEIVE_MAXIMUM, Value::U16(number)) => connack.receive_maximum = number,
                (id::MAXIMUM_QOS, Value::U8(number)) => connack.maximum_qos = number.min(2),
                (id::MAXIMUM_PACKET_SIZE, Value::U32(number)) => {
                    connack.maximum_packet = Some(number);
                }
                (id::SERVER_KEEP_ALIVE, Value::U16(number)) => connack.keep_alive = Some(number),
                (id::REASON_STRING, Value::Text(text)) => connack.why = Some(lossy(text)),
                (id::SERVER_REFERENCE, Value::Text(text)) => {
                    connack.server_reference = Some(lossy(text));
                }
                _ => (),
            }
        }
        Ok(connack)
    }
}

impl<'a> Publish<'a> {
    fn read(first: u8, mut body: Reader<'a>) -> Result<Self, PacketError> {
        let qos = (first >> 1) & 3;
        if qos == 3 {
            return Err(PacketError::Value {
                packet: 3,
                what: "quality of service",
            });
        }
        let topic = body.text()?;
        let id = if qos == 0 { 0 } else { body.id()? };
        let properties = body.properties()?;
        let payload = body.bytes;
        Ok(Self {
            qos,
            id,
            topic,
            properties,
            payload,
        })
    }
}

impl Ack {
    fn read(kind: AckKind, mut body: Reader<'_>) -> Result<Self, PacketError> {
        let id = body.id()?;
        let (reason, why) = body.reason()?;
        Ok(Self {
            kind,
            id,
            reason,
            why,
        })
    }
}

struct Reader<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], PacketError> {
        let (head, rest) = self
            .bytes
            .split_at_checked(count)
            .ok_or(PacketError::Short(self.kind))?;
        self.bytes = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, PacketError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, PacketError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn id(&mut self) -> Result<u16, PacketError> {
        match self.u16()? {
            0 => Err(PacketError::Value {
                packet: self.kind,
                what: "packet id",
            }),
            id => Ok(id),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], PacketError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn properties(&mut self) -> Result<Properties<'a>, PacketError> {
        let (length, head) = properties::length(self.bytes).ok_or(PacketError::Short(self.kind))?;
        self.take(head)?;
        Ok(Properties(self.take(length)?))
    }

    /// Reason and words at the end of an acknowledgement; both may be left out.
    fn reason(&mut self) -> Result<(u8, Option<String>), PacketError> {
        if self.bytes.is_empty() {
            return Ok((0, None));
        }
        let reason = self.u8()?;
        if self.bytes.is_empty() {
            return Ok((reason, None));
        }
        Ok((reason, self.properties()?.reason_string()))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
