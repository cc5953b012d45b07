//! The request header, read by hand: the crate's own reader panics on short frames and refuses unknown keys.

use crate::ApiKey;
use bytes::{Buf, Bytes};
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::RequestHeader as Reference;
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    use super::*;
    use crate::api::TABLE;

    proptest! {
        #[test]
        fn headers_are_read_as_the_crate_writes_them(
            row in 0..TABLE.len(), version in 0..14i16, id: i32, client in prop::option::of(".{0,40}"), tag: bool,
            body in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let api = TABLE[row].key;
            let client_id = client.map(StrBytes::from_string);
            let header_version = api.request_header_version(version);
            let mut reference = Reference::default()
                .with_request_api_key(api as i16)
                .with_request_api_version(version)
                .with_correlation_id(id)
                .with_client_id(client_id.clone());
            if tag && header_version >= 2 {
                reference = reference.with_unknown_tagged_field(77, Bytes::from_static(b"tagged"));
            }
            let mut out = BytesMut::new();
            reference.encode(&mut out, header_version).expect("encodes");
            let header_len = out.len();
            out.extend_from_slice(&body);
            let whole = out.freeze();
            let mut frame = whole.clone();
            let header = RequestHeader::decode(&mut frame).expect("decodes");
            let expected = RequestHeader { api, version, correlation_id: id, client_id };
            prop_assert_eq!(header, expected);
            prop_assert_eq!(&frame[..], &body[..]);
            for len in 0..header_len {
                prop_assert_eq!(RequestHeader::decode(&mut whole.slice(..len)), Err(FrameError::Short));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut frame = Bytes::from(bytes);
            let _ = RequestHeader::decode(&mut frame);
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let decode = |bytes: &'static [u8]| RequestHeader::decode(&mut Bytes::from_static(bytes)).expect_err("refused");
        let length = |field, length| FrameError::Length { field, length };
        assert_eq!(decode(&[0, 3, 0, 1, 0, 0, 0, 0, 0xff, 0xfe]), length("client id", -2));
        assert_eq!(decode(&[0, 3, 0, 9, 0, 0, 0, 0, 0xff, 0xff, 65]), length("header tag section", 65));
        let long = decode(&[0, 3, 0, 9, 0, 0, 0, 0, 0xff, 0xff, 1, 0, 0x81, 0x80, 0x04]);
        assert_eq!(long, length("header tag", 65537));
        assert_eq!(decode(&[0, 3, 0, 9, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), length("varint", -1));
        assert_eq!(decode(&[0x7f, 0xff, 0, 9, 0, 0, 0, 0]), FrameError::UnknownApi(0x7fff));
        assert_eq!(decode(&[0, 3, 0, 1, 0, 0, 0, 0, 0, 1, 0xff]), FrameError::ClientId);
    }
}
