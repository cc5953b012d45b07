//! Steps over records without keeping them, whether they are all there or come out of a decompressor.

use super::batch::{BatchHeader, HEADER_LEN};
use super::compression::Codec;
use super::input::{Input, Window};
use super::record::{RecordFault, RecordsError};
use super::varint;

/// Varints up to the key's length: record length, attributes, timestamp delta, offset delta, key length.
const RECORD_HEAD_MAX: usize = 3 * varint::MAX_LEN_32 + 1 + varint::MAX_LEN_64;

/// The fields of a record that rules are about.
pub(super) struct Outline {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Wants to see the keys of headers.
pub(super) trait HeaderKeys {
    /// Longer keys are not shown. 0 for none at all.
    const MAX_LEN: usize;
    /// A key, in the order of the records.
    fn see(&mut self, key: &[u8]);
}

impl HeaderKeys for () {
    const MAX_LEN: usize = 0;

    fn see(&mut self, _key: &[u8]) {}
}

/// Steps over all records of a batch whose header was read from it; nothing may follow the last. What is compressed streams
/// through a small window, at most `limit` bytes of it.
pub(super) fn walk_batch<K: HeaderKeys>(
    batch: &[u8],
    header: &BatchHeader,
    limit: usize,
    keys: &mut K,
    see: impl FnMut(i32, &Outline),
) -> Result<(), RecordsError> {
    let codec = header.codec().ok_or(RecordsError::Codec(header.compression()))?;
    let section = &batch[HEADER_LEN..header.len];
    match codec {
        Codec::None => walk_records(section, header.count, keys, see),
        codec => {
            let window = Window::new(codec.reader(section)?, codec.name(), limit);
            walk_records(window, header.count, keys, see)
        }
    }
}

fn walk_records<K: HeaderKeys>(
    mut input: impl Input,
    count: i32,
    keys: &mut K,
    mut see: impl FnMut(i32, &Outline),
) -> Result<(), RecordsError> {
    for index in 0..count {
        let outline = walk_record(&mut input, keys)?.map_err(|fault| RecordsError::Record { index, fault })?;
        see(index, &outline);
    }
    if input.window(1)?.is_empty() { Ok(()) } else { Err(RecordsError::Trailing) }
}

/// Steps over one record and checks that its fields fill it exactly.
#[inline(always)] // A call for each record takes as long as the walk over a short one.
fn walk_record<K: HeaderKeys>(
    input: &mut impl Input,
    keys: &mut K,
) -> Result<Result<Outline, RecordFault>, RecordsError> {
    macro_rules! check {
        ($step:expr) => {
            match $step {
                Ok(value) => value,
                Err(fault) => return Ok(Err(fault)),
            }
        };
    }
    let window = input.window(RECORD_HEAD_MAX)?;
    let (outline, length, key, used) = check!(read_head(window));
    input.consume(used);
    let mut left = length;
    check!(skip_field(input, &mut left, "key", key)?);
    let value = check!(take_varint(input, &mut left, "value")?);
    check!(skip_field(input, &mut left, "value", value)?);
    let headers = check!(take_varint(input, &mut left, "header count")?);
    if headers < 0 {
        return Ok(Err(RecordFault::Length { field: "header array", length: headers }));
    }
    for _ in 0..headers {
        let key = check!(take_varint(input, &mut left, "header key")?);
        if key < 0 {
            return Ok(Err(RecordFault::Length { field: "header key", length: key }));
        }
        if key as usize <= K::MAX_LEN && key as usize <= left {
            let window = input.window(key as usize)?;
            keys.see(&window[..window.len().min(key as usize)]);
        }
        check!(skip_field(input, &mut left, "header key", key)?);
        let value = check!(take_varint(input, &mut left, "header value")?);
        check!(skip_field(input, &mut left, "header value", value)?);
    }
    if left > 0 {
        return Ok(Err(RecordFault::Trailing(left)));
    }
    Ok(Ok(outline))
}

/// The fields up to the key's length: (outline, bytes of the record after them, key length, bytes read).
#[inline(always)]
fn read_head(window: &[u8]) -> Result<(Outline, usize, i32, usize), RecordFault> {
    let mut rest = window;
    let length = varint::read_i32(&mut rest).ok_or(RecordFault::Short)?;
    let start = rest.len();
    rest = rest.get(1..).ok_or(RecordFault::Short)?; // attributes: none are defined
    let timestamp_delta = varint::read_i64(&mut rest).ok_or(RecordFault::Varint("timestamp delta"))?;
    let offset_delta = varint::read_i32(&mut rest).ok_or(RecordFault::Varint("offset delta"))?;
    let key = varint::read_i32(&mut rest).ok_or(RecordFault::Varint("key"))?;
    let used = start - rest.len();
    let left = usize::try_from(length).ok().and_then(|length| length.checked_sub(used));
    let left = left.ok_or(RecordFault::Length { field: "record", length })?;
    Ok((Outline { timestamp_delta, offset_delta, has_key: key >= 0 }, left, key, window.len() - rest.len()))
}

#[inline]
fn take_varint(
    input: &mut impl Input,
    left: &mut usize,
    field: &'static str,
) -> Result<Result<i32, RecordFault>, RecordsError> {
    let window = input.window(varint::MAX_LEN_32)?;
    let mut rest = &window[..window.len().min(*left)];
    let before = rest.len();
    let Some(value) = varint::read_i32(&mut rest) else { return Ok(Err(RecordFault::Varint(field))) };
    let used = before - rest.len();
    input.consume(used);
    *left -= used;
    Ok(Ok(value))
}

#[inline]
fn skip_field(
    input: &mut impl Input,
    left: &mut usize,
    field: &'static str,
    length: i32,
) -> Result<Result<(), RecordFault>, RecordsError> {
    if length == -1 {
        return Ok(Ok(()));
    }
    match usize::try_from(length).ok().and_then(|count| Some((count, left.checked_sub(count)?))) {
        Some((count, rest)) => {
            *left = rest;
            input.skip(count)
        }
        None => Ok(Err(RecordFault::Length { field, length })),
    }
}
