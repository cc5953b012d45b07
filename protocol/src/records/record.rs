//! Records read lazily from a batch: slices of it where it is not compressed, nothing that was not asked for.

use std::io;

use bytes::Bytes;
use thiserror::Error;

use super::batch::{BatchHeader, HEADER_LEN};
use super::compression::Codec;
use super::varint;

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordFault {
    /// The batch ends within the record.
    #[error("the batch ends within the record")]
    Short,
    /// A varint is longer than its type.
    #[error("{0} is not a varint")]
    Varint(&'static str),
    /// A length is negative or goes past the record.
    #[error("{field} has length {length}")]
    Length {
        /// The field.
        field: &'static str,
        /// What the record says.
        length: i32,
    },
    /// The fields end before the record's length says.
    #[error("{0} bytes follow the record's last header")]
    Trailing(usize),
}

/// Why the records of a batch cannot be read.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// A record is malformed.
    #[error("record {index}: {fault}")]
    Record {
        /// Its place in the batch.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The batch goes on after as many records as its header says.
    #[error("bytes follow the last record")]
    Trailing,
    /// A codec that nobody defined.
    #[error("compression codec {0} is unknown")]
    Codec(i16),
    /// The codec's library refuses.
    #[error("{codec}: {source}")]
    Compression {
        /// Name of the codec.
        codec: &'static str,
        /// What the library said.
        source: io::Error,
    },
    /// A batch that is, or decompresses to, more than is allowed.
    #[error("the records are larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Absolute offset.
    pub offset: i64,
    /// Epoch ms; the batch's time where that is LogAppendTime.
    pub timestamp: i64,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
    raw: &'a [u8],
}

impl<'a> Record<'a> {
    /// The headers in order, duplicates included.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The value of the last header of this name (as Kafka's `lastHeader`); headers that cannot be read end the search.
    pub fn header(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.headers.map_while(Result::ok).filter(|header| header.key == name).last().map(|header| header.value)
    }

    /// The record's own bytes, length first; they hold deltas, so they mean the same only in a batch of the same bases.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

/// A record header; its key need not be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name.
    pub key: &'a [u8],
    /// Value, if any.
    pub value: Option<&'a [u8]>,
}

/// Walks the headers of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: i32,
}

impl Headers<'_> {
    /// How many are left.
    pub fn count_left(&self) -> i32 {
        self.left
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            return Some(Err(RecordFault::Trailing(std::mem::take(&mut self.rest).len())));
        }
        self.left -= 1;
        let header = take_header(&mut self.rest);
        if header.is_err() {
            *self = Headers { rest: &[], left: 0 };
        }
        Some(header)
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<Header<'a>, RecordFault> {
    let key = take_nullable(rest, "header key")?.ok_or(RecordFault::Length { field: "header key", length: -1 })?;
    let value = take_nullable(rest, "header value")?;
    Ok(Header { key, value })
}

fn take_nullable<'a>(rest: &mut &'a [u8], field: &'static str) -> Result<Option<&'a [u8]>, RecordFault> {
    let length = varint::read_i32(rest).ok_or(RecordFault::Varint(field))?;
    if length == -1 {
        return Ok(None);
    }
    let fault = RecordFault::Length { field, length };
    let length = usize::try_from(length).map_err(|_| fault)?;
    let (bytes, after) = rest.split_at_checked(length).ok_or(fault)?;
    *rest = after;
    Ok(Some(bytes))
}

/// The records of one batch, decompressed where need be.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    section: Bytes,
}

impl Records {
    /// The records of `batch`, whose header was read from it. What is not compressed is not copied; what decompresses
    /// to more than `limit` bytes is an error.
    pub fn open(batch: &Bytes, header: &BatchHeader, limit: usize) -> Result<Self, RecordsError> {
        let codec = header.codec().ok_or(RecordsError::Codec(header.compression()))?;
        let section = batch.slice(HEADER_LEN..header.len);
        let section = match codec {
            Codec::None => section,
            codec => codec.decompress(&section, limit)?.into(),
        };
        Ok(Records { header: *header, section })
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records section, uncompressed.
    pub fn section(&self) -> &Bytes {
        &self.section
    }

    /// The record that begins at this byte of the section; `None` where none does.
    pub fn at(&self, byte: usize) -> Option<Record<'_>> {
        let rest = self.section.get(byte..)?;
        let mut iter = Iter { header: &self.header, rest, index: 0 };
        Iter::take(&mut iter).ok()
    }

    /// Walks the records. The bytes after the last one are checked as well.
    pub fn iter(&self) -> Iter<'_> {
        Iter { header: &self.header, rest: &self.section, index: 0 }
    }

    /// A part of a record (a key, a value, a header) that outlives the borrow, without a copy.
    pub fn slice(&self, part: &[u8]) -> Bytes {
        self.section.slice_ref(part)
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, RecordsError>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Walks the records of a batch; after an error it ends.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    index: i32,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.count {
            if self.rest.is_empty() {
                return None;
            }
            self.rest = &[];
            return Some(Err(RecordsError::Trailing));
        }
        let index = self.index;
        match self.take() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(fault) => {
                self.index = i32::MAX;
                self.rest = &[];
                Some(Err(RecordsError::Record { index, fault }))
            }
        }
    }
}

impl<'a> Iter<'a> {
    fn take(&mut self) -> Result<Record<'a>, RecordFault> {
        let whole = self.rest;
        let length = varint::read_i32(&mut self.rest).ok_or(RecordFault::Short)?;
        let length = usize::try_from(length).map_err(|_| RecordFault::Length { field: "record", length })?;
        let (mut body, after) = self.rest.split_at_checked(length).ok_or(RecordFault::Short)?;
        let raw = &whole[..whole.len() - after.len()];
        self.rest = after;
        let (_attributes, rest) = body.split_first().ok_or(RecordFault::Short)?;
        body = rest;
        let timestamp_delta = varint::read_i64(&mut body).ok_or(RecordFault::Varint("timestamp delta"))?;
        let offset_delta = varint::read_i32(&mut body).ok_or(RecordFault::Varint("offset delta"))?;
        let key = take_nullable(&mut body, "key")?;
        let value = take_nullable(&mut body, "value")?;
        let count = varint::read_i32(&mut body).ok_or(RecordFault::Varint("header count"))?;
        if count < 0 {
            return Err(RecordFault::Length { field: "header array", length: count });
        }
        Ok(Record {
            offset: self.header.base_offset.wrapping_add(offset_delta.into()),
            timestamp: self.header.timestamp_of(timestamp_delta),
            key,
            value,
            headers: Headers { rest: body, left: count },
            raw,
        })
    }
}
