//! Packets that a client writes.

use super::AckKind;
use super::properties::id;

/// Longest text of the protocol, in bytes.
pub const MAX_TEXT: usize = u16::MAX as usize;
/// Largest length that a packet can tell.
pub const MAX_BODY: usize = 268_435_455;

/// Who connects, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Unique at the server.
    pub client_id: String,
    /// Seconds between signs of life; 0 = none.
    pub keep_alive: u16,
    /// Name, if the server wants one.
    pub username: Option<String>,
    /// Secret, if the server wants one.
    pub password: Option<String>,
    /// Largest packet that the client takes.
    pub maximum_packet: u32,
}

impl Connect {
    /// Writes it, with a clean start.
    pub fn write(&self, out: &mut Vec<u8>) {
        const CLEAN_START: u8 = 0x02;
        const PASSWORD: u8 = 0x40;
        const USERNAME: u8 = 0x80;
        let mut flags = CLEAN_START;
        let mut body = Vec::with_capacity(64);
        text(&mut body, b"MQTT");
        body.push(5);
        let place = body.len();
        body.push(0);
        body.extend_from_slice(&self.keep_alive.to_be_bytes());
        number(&mut body, 3 + 5);
        // Said although it is what is meant without: mosquitto else keeps all but 20 messages back, and drops what exceeds
        // its queue. A slow client is slow to read instead.
        body.push(id::RECEIVE_MAXIMUM);
        body.extend_from_slice(&u16::MAX.to_be_bytes());
        body.push(id::MAXIMUM_PACKET_SIZE);
        body.extend_from_slice(&self.maximum_packet.to_be_bytes());
        text(&mut body, self.client_id.as_bytes());
        if let Some(username) = &self.username {
            flags |= USERNAME;
            text(&mut body, username.as_bytes());
        }
        if let Some(password) = &self.password {
            flags |= PASSWORD;
            text(&mut body, password.as_bytes());
        }
        body[place] = flags;
        packet(out, 0x10, &body);
    }
}

/// Writes a subscription.
pub fn subscribe(out: &mut Vec<u8>, packet_id: u16, filters: &[String], qos: u8) {
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(&packet_id.to_be_bytes());
    number(&mut body, 0);
    for filter in filters {
        text(&mut body, filter.as_bytes());
        body.push(qos.min(2));
    }
    packet(out, 0x82, &body);
}

/// Writes an acknowledgement without complaints.
pub fn ack(out: &mut Vec<u8>, kind: AckKind, packet_id: u16) {
    let first = match kind {
        AckKind::PubAck => 0x40,
        AckKind::PubRec => 0x50,
        AckKind::PubRel => 0x62,
        AckKind::PubComp => 0x70,
    };
    packet(out, first, &packet_id.to_be_bytes());
}

/// Writes a ping.
pub fn ping(out: &mut Vec<u8>) {
    packet(out, 0xc0, &[]);
}

/// Writes a good-bye.
pub fn disconnect(out: &mut Vec<u8>) {
    packet(out, 0xe0, &[]);
}

/// A message ready to be sent: only its packet id is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    qos: u8,
    id_at: usize,
}

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// A text is too long for the protocol, or has a character that it does not allow.
    Text {
        /// Name of the property.
        name: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The whole is too long for the protocol.
    Size(usize),
}

impl Message {
    /// Writes a message. `pairs` are user properties.
    pub fn new<'a>(
        topic: &str,
        qos: u8,
        content_type: Option<&str>,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        payload: &[u8],
    ) -> Result<Self, MessageError> {
        let qos = qos.min(2);
        let mut properties = 0;
        let fits = |name: &str, value: &str| {
            if value.len() > MAX_TEXT || value.contains('\0') {
                return Err(MessageError::Text {
                    name: name.to_owned(),
                    bytes: value.len(),
                });
            }
            Ok(2 + value.len())
        };
        if let Some(content_type) = content_type {
            properties += 1 + fits("datacontenttype", content_type)?;
        }
        for (key, value) in pairs.clone() {
            properties += 1 + fits(key, key)? + fits(key, value)?;
        }
        let head = fits("topic", topic)? + if qos == 0 { 0 } else { 2 };
        let body = head + number_size(properties) + properties + payload.len();
        if body > MAX_BODY {
            return Err(MessageError::Size(body));
        }
        let mut bytes = Vec::with_capacity(1 + number_size(body) + body);
        bytes.push(0x30 | (qos << 1));
        number(&mut bytes, body);
        text(&mut bytes, topic.as_bytes());
        let id_at = bytes.len();
        if qos > 0 {
            bytes.extend_from_slice(&[0, 0]);
        }
        number(&mut bytes, properties);
        if let Some(content_type) = content_type {
            bytes.push(id::CONTENT_TYPE);
            text(&mut bytes, content_type.as_bytes());
        }
        for (key, value) in pairs {
            bytes.push(id::USER_PROPERTY);
            text(&mut bytes, key.as_bytes());
            text(&mut bytes, value.as_bytes());
        }
        bytes.extend_from_slice(payload);
        Ok(Self { bytes, qos, id_at })
    }

    /// Size of the packet in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Quality of service.
    pub fn qos(&self) -> u8 {
        self.qos
    }

    /// Appends the packet, with its id if the quality asks for one.
    pub fn write(&self, out: &mut Vec<u8>, packet_id: u16) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if self.qos > 0
            && let Some(place) = out.get_mut(start + self.id_at..start + self.id_at + 2)
        {
            place.copy_from_slice(&packet_id.to_be_bytes());
        }
    }
}

fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    number(out, body.len());
    out.extend_from_slice(body);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    // Callers have checked the length; what is longer would be cut, never break the packet.
    let text = &text[..text.len().min(MAX_TEXT)];
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

fn number_size(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
