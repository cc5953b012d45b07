//! What is fuzzed: each function takes any bytes and panics when a promise is broken.
//!
//! `make fuzz` drives them with libFuzzer, `make test` with what that kept and a few seconds of mutations
//! (protocol/tests/fuzz.rs).

use bytes::{Buf, Bytes};
use kafka_protocol::messages;
use kafka_protocol::protocol::Decodable;
use krocket_protocol::frame::RequestHeader;
use krocket_protocol::guard;
use krocket_protocol::records::{
    BatchBuilder, BatchHeader, Codec, LastOffset, Names, Records, Rules, Timestamps, batch, validate, validate_walked,
};
use krocket_protocol::{ApiKey, api, for_each_request};

/// Most bytes that a batch may decompress to here.
pub const LIMIT: usize = 1 << 16;
const RULES: Rules = Rules {
    key_required: false,
    timestamps: Timestamps::Create { earliest: i64::MIN, latest: i64::MAX },
    max_decompressed: LIMIT,
};

/// A request body after its API key and version, a byte each; keys that are not served choose an API all the same. What
/// the guard lets through, the decoder must decode without a panic, and if it succeeds, to the same place.
pub fn request(data: &[u8]) {
    let [api, version, body @ ..] = data else { return };
    let served = api::TABLE.iter().find(|row| row.key as i16 == i16::from(*api));
    let row = served.unwrap_or(&api::TABLE[usize::from(*api) % api::TABLE.len()]);
    let version = i16::from(*version).clamp(row.min, row.max);
    if let Ok(extra) = guard::check(row.key, version, body) {
        let mut body = Bytes::copy_from_slice(body);
        if decode(row.key, version, &mut body) {
            assert_eq!(body.remaining(), extra, "{:?} v{version} left bytes", row.key);
        }
    }
}

/// The crate's requests, and ours where it lacks versions.
mod requests {
    pub(crate) use kafka_protocol::messages::*;
    pub(crate) use krocket_protocol::describe_share_group_offsets::DescribeShareGroupOffsetsRequest;
    pub(crate) use krocket_protocol::list_offsets::ListOffsetsRequest;
    pub(crate) use krocket_protocol::offset_commit::OffsetCommitRequest;
    pub(crate) use krocket_protocol::offset_fetch::OffsetFetchRequest;
    pub(crate) use krocket_protocol::share_acknowledge::ShareAcknowledgeRequest;
    pub(crate) use krocket_protocol::share_fetch::ShareFetchRequest;
    pub(crate) use krocket_protocol::streams_group_describe::StreamsGroupDescribeRequest;
    pub(crate) use krocket_protocol::streams_group_heartbeat::StreamsGroupHeartbeatRequest;
}

macro_rules! decoders {
    ($($api:ident => $request:ident),* $(,)?) => {
        /// True when the body can be decoded.
        fn decode(api: ApiKey, version: i16, body: &mut Bytes) -> bool {
            match api {
                $(ApiKey::$api => requests::$request::decode(body, version).is_ok(),)*
                _ => unreachable!("{api:?} is served but has no shape"),
            }
        }
    };
}
for_each_request!(decoders);

/// A frame's header. Where it is read, the crate's reader has to find the same.
pub fn header(data: &[u8]) {
    let mut frame = Bytes::copy_from_slice(data);
    let Ok(header) = RequestHeader::decode(&mut frame) else { return };
    let mut again = Bytes::copy_from_slice(data);
    let version = header.api.request_header_version(header.version);
    let theirs = messages::RequestHeader::decode(&mut again, version).expect("the crate reads it as well");
    assert_eq!(frame, again, "the body begins at the same byte");
    assert_eq!(header.correlation_id, theirs.correlation_id);
    assert_eq!(header.client_id, theirs.client_id);
}

/// A record batch, as it is and with length, magic and CRC made right so that the records are reached.
pub fn batch(data: &[u8]) {
    check_batch(data);
    let mut batch = data.to_vec();
    if batch.len() >= batch::HEADER_LEN {
        let length = (batch.len() - batch::LENGTH_OVERHEAD) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch::write_crc(&mut batch);
        check_batch(&batch);
    }
}

fn check_batch(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Ok(header) = BatchHeader::read(&bytes) else { return };
    let found = validate(&bytes, &RULES);
    let valid = found.is_ok();
    let walked = Names::new(&["TAGS", "KEYS"]).walk(&bytes, LIMIT);
    assert!(!valid || walked.is_sound(), "valid, but not walked: {walked:?}");
    let again = validate_walked(&bytes, &RULES, Some(&walked));
    assert_eq!(found.map_err(|found| found.to_string()), again.map_err(|again| again.to_string()));
    let records = match Records::open(&bytes, &header, LIMIT) {
        Ok(records) => records,
        Err(error) => {
            assert!(!valid, "valid, but not opened: {error}");
            return;
        }
    };
    let mut builder = BatchBuilder::like(&header).codec(Codec::None).without_producer();
    let mut next = header.base_offset;
    for record in &records {
        let Ok(record) = record else {
            assert!(!valid, "valid, but not iterated");
            return;
        };
        if record.headers().any(|header| header.is_err()) {
            assert!(!valid, "valid, but with bad headers");
            return;
        }
        if record.offset != next {
            assert!(!valid, "valid, but not contiguous");
            return;
        }
        next = next.wrapping_add(1);
        if valid {
            builder.push_record(&record);
        }
    }
    if valid {
        let rebuilt = builder.finish(LastOffset::Keep).expect("builds").expect("valid batches have records");
        validate(&rebuilt, &RULES).expect("still valid when uncompressed");
    }
}
