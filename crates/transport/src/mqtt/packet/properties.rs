//! Properties of packets: a list of numbered values, each of a type that its number tells.

/// Numbers of the properties that are of interest here.
pub mod id {
    #![allow(missing_docs, reason = "the names of the protocol")]
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

/// The bytes of a list of properties, not yet looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Properties<'a>(pub &'a [u8]);

/// A list that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the properties of the message are damaged at byte {0} from the end")]
pub struct DamagedProperties(usize);

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A byte.
    U8(u8),
    /// Two bytes.
    U16(u16),
    /// Four bytes, or a number of variable length.
    U32(u32),
    /// Text (perhaps not UTF-8) or bytes.
    Text(&'a [u8]),
    /// Two texts.
    Pair(&'a [u8], &'a [u8]),
}

/// A number of variable length: its value and how many bytes it took.
pub(super) fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

impl<'a> Properties<'a> {
    /// All of them, up to the first that cannot be read.
    pub fn iter(self) -> Iter<'a> {
        Iter(self.0)
    }

    /// The words of a reason, if there are any.
    pub fn reason_string(self) -> Option<String> {
        self.iter().find_map(|property| match property {
            Ok((id::REASON_STRING, Value::Text(text))) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
            _ => None,
        })
    }
}

/// See [`Properties::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = Result<(u8, Value<'a>), DamagedProperties>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, mut rest) = self.0.split_first()?;
        let left = self.0.len();
        let value = value(*number, &mut rest);
        self.0 = if value.is_some() { rest } else { &[] };
        Some(
            value
                .map(|value| (*number, value))
                .ok_or(DamagedProperties(left)),
        )
    }
}

fn value<'a>(number: u8, bytes: &mut &'a [u8]) -> Option<Value<'a>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*head)
    }
    fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_be_bytes(take(bytes)?));
        let (head, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(head)
    }
    Some(match number {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
            Value::U8(u8::from_be_bytes(take(bytes)?))
        }
        0x13 | 0x21 | 0x22 | 0x23 => Value::U16(u16::from_be_bytes(take(bytes)?)),
        0x02 | 0x11 | 0x18 | 0x27 => Value::U32(u32::from_be_bytes(take(bytes)?)),
        0x0b => {
            let (value, head) = length(bytes)?;
            *bytes = bytes.get(head..)?;
            // Four times seven bits fit.
            Value::U32(u32::try_from(value).ok()?)
        }
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => Value::Text(text(bytes)?),
        0x26 => Value::Pair(text(bytes)?, text(bytes)?),
        _ => return None,
    })
}
