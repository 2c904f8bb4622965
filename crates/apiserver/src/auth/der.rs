//! Just enough DER to write a certificate (RFC 5280), so that what a request brought can be copied
//! into it byte by byte.

use jiff::{Timestamp, tz::TimeZone};

/// Tag of an INTEGER.
pub(crate) const INTEGER: u8 = 0x02;
/// Tag of an OCTET STRING.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// Tag of a UTF8String.
pub(crate) const UTF8_STRING: u8 = 0x0c;
const BOOLEAN: u8 = 0x01;
const BIT_STRING: u8 = 0x03;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let used = bytes.iter().skip_while(|byte| **byte == 0).copied();
        let used: Vec<u8> = used.collect();
        out.push(0x80 | used.len() as u8);
        out.extend(used);
    }
    out.extend_from_slice(content);
    out
}

/// SEQUENCE of what is already encoded.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// SET of one encoded element (a set of more would have to be sorted).
pub(crate) fn set_of_one(part: &[u8]) -> Vec<u8> {
    tlv(SET, part)
}

/// `[number]` around what is already encoded.
pub(crate) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// `[number]` in place of a primitive type's tag.
pub(crate) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, content)
}

/// An OBJECT IDENTIFIER of at least two arcs.
pub(crate) fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs.first().copied().unwrap_or(0) * 40 + arcs.get(1).copied().unwrap_or(0);
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let groups = (32 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let more = if group == 0 { 0 } else { 0x80 };
            content.push(more | (arc >> (7 * group)) as u8 & 0x7f);
        }
    }
    tlv(OID, &content)
}

/// TRUE (DER leaves FALSE defaults out).
pub(crate) fn yes() -> Vec<u8> {
    tlv(BOOLEAN, &[0xff])
}

/// A positive INTEGER from big endian bytes.
pub(crate) fn positive(bytes: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = bytes
        .iter()
        .skip_while(|byte| **byte == 0)
        .copied()
        .collect();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    tlv(INTEGER, &content)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bits(content: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], content].concat())
}

/// A BIT STRING of named bits; bit 0 is the highest one.
pub(crate) fn named_bits(mask: u16) -> Vec<u8> {
    let unused = mask.trailing_zeros();
    if mask == 0 {
        return tlv(BIT_STRING, &[0]);
    }
    let bytes = mask.to_be_bytes();
    let used = if unused >= 8 { &bytes[..1] } else { &bytes[..] };
    tlv(BIT_STRING, &[&[(unused % 8) as u8], used].concat())
}

/// UTCTime up to 2049, then GeneralizedTime; whole seconds.
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    if (1950..2050).contains(&at.year()) {
        tlv(
            UTC_TIME,
            at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes(),
        )
    } else {
        tlv(
            GENERALIZED_TIME,
            at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes(),
        )
    }
}

#[cfg(test)]
mod tests;
