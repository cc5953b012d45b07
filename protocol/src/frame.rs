//! The request header, read by hand: the crate's own reader panics on short frames and refuses unknown keys.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use thiserror::Error;

/// Most tagged fields that a header may carry (clients send none).
const MAX_TAGS: u32 = 64;
/// Most bytes in one tagged field of a header.
const MAX_TAG_BYTES: u32 = 64 * 1024;

/// Why a frame's header cannot be read. The connection has to be closed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The frame ends within its header.
    #[error("the frame ends within its header")]
    Short,
    /// A length field is impossible.
    #[error("{field} has length {length}")]
    Length {
        /// The field.
        field: &'static str,
        /// What the frame says.
        length: i64,
    },
    /// The client id is not UTF-8.
    #[error("the client id is not UTF-8")]
    ClientId,
    /// No API has this key, so not even the header's shape is known.
    #[error("unknown api key {0}")]
    UnknownApi(i16),
}

/// A request header, versions 0 to 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub api: ApiKey,
    /// Which version of it, unchecked.
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
}

impl RequestHeader {
    /// Takes the header off the front of a frame (without its length prefix); the body stays.
    pub fn decode(frame: &mut Bytes) -> Result<Self, FrameError> {
        if frame.remaining() < 8 {
            return Err(FrameError::Short);
        }
        let key = frame.get_i16();
        let version = frame.get_i16();
        let correlation_id = frame.get_i32();
        let api = ApiKey::try_from(key).map_err(|()| FrameError::UnknownApi(key))?;
        let header_version = api.request_header_version(version);
        let client_id = if header_version >= 1 { nullable_string(frame)? } else { None };
        if header_version >= 2 {
            skip_tags(frame)?;
        }
        Ok(RequestHeader { api, version, correlation_id, client_id })
    }
}

fn nullable_string(frame: &mut Bytes) -> Result<Option<StrBytes>, FrameError> {
    if frame.remaining() < 2 {
        return Err(FrameError::Short);
    }
    match frame.get_i16() {
        -1 => Ok(None),
        length if length < 0 => Err(FrameError::Length { field: "client id", length: length.into() }),
        length if frame.remaining() < length as usize => Err(FrameError::Short),
        length => {
            let bytes = frame.split_to(length as usize);
            StrBytes::from_utf8(bytes).map(Some).map_err(|_| FrameError::ClientId)
        }
    }
}

fn skip_tags(frame: &mut Bytes) -> Result<(), FrameError> {
    let count = unsigned_varint(frame)?;
    if count > MAX_TAGS {
        return Err(FrameError::Length { field: "header tag section", length: count.into() });
    }
    for _ in 0..count {
        unsigned_varint(frame)?;
        let length = unsigned_varint(frame)?;
        if length > MAX_TAG_BYTES {
            return Err(FrameError::Length { field: "header tag", length: length.into() });
        }
        if frame.remaining() < length as usize {
            return Err(FrameError::Short);
        }
        frame.advance(length as usize);
    }
    Ok(())
}

fn unsigned_varint(frame: &mut Bytes) -> Result<u32, FrameError> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        if !frame.has_remaining() {
            return Err(FrameError::Short);
        }
        let byte = frame.get_u8();
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(FrameError::Length { field: "varint", length: -1 })
}
