//! The compact encoding (KIP-482) of what the `kafka-protocol` crate has no message for.

use anyhow::{Context, Result, bail};
use bytes::BufMut;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

/// Most array elements that room is made for before they were read.
const MAX_RESERVED: usize = 1024;

pub(crate) fn put_uvarint(out: &mut impl BufMut, mut value: u32) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A length, of an array, a string or bytes.
pub(crate) fn put_length(out: &mut impl BufMut, length: usize) {
    put_uvarint(out, length as u32 + 1);
}

pub(crate) fn put_string(out: &mut impl BufMut, text: Option<&str>) {
    match text {
        Some(text) => {
            put_length(out, text.len());
            out.put_slice(text.as_bytes());
        }
        None => out.put_u8(0),
    }
}

/// A tag section without tags.
pub(crate) fn put_no_tags(out: &mut impl BufMut) {
    out.put_u8(0);
}

/// Structures as their message has them at `version`.
pub(crate) fn put_array<B: ByteBufMut, E: Encodable>(out: &mut B, elements: &[E], version: i16) -> Result<()> {
    put_length(out, elements.len());
    elements.iter().try_for_each(|element| element.encode(out, version))
}

pub(crate) fn array_size<E: Encodable>(elements: &[E], version: i16) -> Result<usize> {
    let count = uvarint_size(elements.len() as u32 + 1);
    elements.iter().try_fold(count, |size, element| Ok(size + element.compute_size(version)?))
}

pub(crate) fn string_size(text: Option<&str>) -> usize {
    text.map_or(1, |text| uvarint_size(text.len() as u32 + 1) + text.len())
}

/// The same, or null.
pub(crate) fn put_nullable_array<B: ByteBufMut, E: Encodable>(
    out: &mut B,
    elements: Option<&[E]>,
    version: i16,
) -> Result<()> {
    match elements {
        Some(elements) => put_array(out, elements, version),
        None => {
            out.put_u8(0);
            Ok(())
        }
    }
}

pub(crate) fn nullable_array_size<E: Encodable>(elements: Option<&[E]>, version: i16) -> Result<usize> {
    elements.map_or(Ok(1), |elements| array_size(elements, version))
}

/// Numbers of four bytes.
pub(crate) fn put_ints(out: &mut impl BufMut, numbers: &[i32]) {
    put_length(out, numbers.len());
    numbers.iter().for_each(|number| out.put_i32(*number));
}

pub(crate) fn ints_size(numbers: &[i32]) -> usize {
    uvarint_size(numbers.len() as u32 + 1) + 4 * numbers.len()
}

fn uvarint_size(value: u32) -> usize {
    (32 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn get_uvarint(body: &mut impl ByteBuf) -> Result<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = body.try_get_u8()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a varint of more than five bytes")
}

pub(crate) fn get_string(body: &mut impl ByteBuf) -> Result<Option<StrBytes>> {
    let Some(length) = get_uvarint(body)?.checked_sub(1) else { return Ok(None) };
    Ok(Some(StrBytes::from_utf8(body.try_get_bytes(length as usize)?)?))
}

pub(crate) fn get_uuid(body: &mut impl ByteBuf) -> Result<Uuid> {
    Ok(Uuid::from_u128(body.try_get_u128()?))
}

/// Structures as their message has them at `version`.
pub(crate) fn get_array<B: ByteBuf, E: Decodable>(body: &mut B, version: i16) -> Result<Vec<E>> {
    elements(body, |body| E::decode(body, version))?.context("an array is null")
}

/// The same, or null.
pub(crate) fn get_nullable_array<B: ByteBuf, E: Decodable>(body: &mut B, version: i16) -> Result<Option<Vec<E>>> {
    elements(body, |body| E::decode(body, version))
}

/// Numbers of four bytes.
pub(crate) fn get_ints<B: ByteBuf>(body: &mut B) -> Result<Vec<i32>> {
    elements(body, |body| Ok(body.try_get_i32()?))?.context("an array is null")
}

/// An array, or null.
pub(crate) fn elements<B: ByteBuf, E>(
    body: &mut B,
    mut element: impl FnMut(&mut B) -> Result<E>,
) -> Result<Option<Vec<E>>> {
    let Some(count) = get_uvarint(body)?.checked_sub(1) else { return Ok(None) };
    let mut elements = Vec::with_capacity((count as usize).min(MAX_RESERVED));
    for _ in 0..count {
        elements.push(element(body)?);
    }
    Ok(Some(elements))
}

/// Passes over a tag section.
pub(crate) fn skip_tags(body: &mut impl ByteBuf) -> Result<()> {
    for _ in 0..get_uvarint(body)? {
        get_uvarint(body)?;
        let length = get_uvarint(body)?;
        body.try_get_bytes(length as usize)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_what_is_put() {
        for value in (0..32).flat_map(|bit| [(1u32 << bit) - 1, 1 << bit]) {
            let mut out = Vec::new();
            put_uvarint(&mut out, value);
            assert_eq!(out.len(), uvarint_size(value), "{value}");
            assert_eq!(get_uvarint(&mut bytes::Bytes::from(out)).expect("a varint"), value);
        }
    }
}
