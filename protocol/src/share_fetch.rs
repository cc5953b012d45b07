//! ShareFetch, versions 1 and 2 (KIP-932, KIP-1206, KIP-1222). The `kafka-protocol` crate has version 1 only; and the
//! response is written by hand so that record bytes are never copied.

use anyhow::{Result, bail};
use bytes::BufMut;
use kafka_protocol::messages::ShareFetchResponse as CrateResponse;
use kafka_protocol::messages::share_fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange};
use uuid::Uuid;

use crate::ApiKey;
use crate::chunk::{Chunk, Chunks};
use crate::compact::{
    array_size, get_array, get_string, put_array, put_length, put_no_tags, put_string, skip_tags, string_size,
};

/// The version of the crate's structures within.
const CRATE_VERSION: i16 = 1;
/// First version with an acquire mode and renewals.
const RENEW_VERSION: i16 = 2;
/// The served versions.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 2 };

/// A ShareFetch request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareFetchRequest {
    /// The share group.
    pub group_id: Option<StrBytes>,
    /// The member.
    pub member_id: Option<StrBytes>,
    /// 0 opens a session, -1 closes it, otherwise one more than before.
    pub share_session_epoch: i32,
    /// Longest wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Least bytes of records to answer with.
    pub min_bytes: i32,
    /// Most bytes of records in the answer.
    pub max_bytes: i32,
    /// Most records; batches may take it past that unless the acquire mode is 1.
    pub max_records: i32,
    /// The best number of records for batches of acquired records and acknowledgements.
    pub batch_size: i32,
    /// 0: batch-optimised, 1: never more than `max_records`. From version 2.
    pub share_acquire_mode: i8,
    /// True when there are renewals among the acknowledgements. From version 2.
    pub is_renew_ack: bool,
    /// What to fetch, and acknowledgements on the way.
    pub topics: Vec<FetchTopic>,
    /// What to take out of the session.
    pub forgotten_topics_data: Vec<ForgottenTopic>,
}

impl Encodable for ShareFetchRequest {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        put_string(out, self.group_id.as_deref());
        put_string(out, self.member_id.as_deref());
        out.put_i32(self.share_session_epoch);
        out.put_i32(self.max_wait_ms);
        out.put_i32(self.min_bytes);
        out.put_i32(self.max_bytes);
        out.put_i32(self.max_records);
        out.put_i32(self.batch_size);
        if version >= RENEW_VERSION {
            out.put_i8(self.share_acquire_mode);
            out.put_u8(self.is_renew_ack.into());
        } else if self.is_renew_ack {
            bail!("version {version} cannot renew");
        }
        put_array(out, &self.topics, CRATE_VERSION)?;
        put_array(out, &self.forgotten_topics_data, CRATE_VERSION)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        let modes = if version >= RENEW_VERSION { 2 } else { 0 };
        let strings = string_size(self.group_id.as_deref()) + string_size(self.member_id.as_deref());
        let arrays = array_size(&self.topics, CRATE_VERSION)? + array_size(&self.forgotten_topics_data, CRATE_VERSION)?;
        Ok(strings + 6 * 4 + modes + arrays + 1)
    }
}

impl Decodable for ShareFetchRequest {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        let mut request = ShareFetchRequest {
            group_id: get_string(body)?,
            member_id: get_string(body)?,
            share_session_epoch: body.try_get_i32()?,
            max_wait_ms: body.try_get_i32()?,
            min_bytes: body.try_get_i32()?,
            max_bytes: body.try_get_i32()?,
            max_records: body.try_get_i32()?,
            batch_size: body.try_get_i32()?,
            ..ShareFetchRequest::default()
        };
        if version >= RENEW_VERSION {
            request.share_acquire_mode = body.try_get_i8()?;
            request.is_renew_ack = body.try_get_u8()? != 0;
        }
        request.topics = get_array(body, CRATE_VERSION)?;
        request.forgotten_topics_data = get_array(body, CRATE_VERSION)?;
        skip_tags(body)?;
        Ok(request)
    }
}

impl Message for ShareFetchRequest {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for ShareFetchRequest {
    fn header_version(_: i16) -> i16 {
        2
    }
}

impl Request for ShareFetchRequest {
    const KEY: i16 = ApiKey::ShareFetch as i16;
    type Response = DecodedShareFetchResponse;
}

/// A ShareFetch response; the same bytes at both versions.
#[derive(Clone, Debug, Default)]
pub struct ShareFetchResponse {
    /// How long the client was throttled.
    pub throttle_time_ms: i32,
    /// Top-level error code.
    pub error_code: i16,
    /// What a person is told of the error.
    pub error_message: Option<StrBytes>,
    /// How long acquired records stay locked.
    pub acquisition_lock_timeout_ms: i32,
    /// Topics.
    pub topics: Vec<ShareFetchTopic>,
}

/// One topic of a [`ShareFetchResponse`].
#[derive(Clone, Debug, Default)]
pub struct ShareFetchTopic {
    /// Id.
    pub id: Uuid,
    /// Partitions.
    pub partitions: Vec<ShareFetchPartition>,
}

/// One partition of a [`ShareFetchResponse`].
#[derive(Clone, Debug, Default)]
pub struct ShareFetchPartition {
    /// Partition index.
    pub index: i32,
    /// Error code of the fetch.
    pub error_code: i16,
    /// What a person is told of the error.
    pub error_message: Option<StrBytes>,
    /// Error code of the acknowledgements.
    pub acknowledge_error_code: i16,
    /// What a person is told of the acknowledgements' error.
    pub acknowledge_error_message: Option<StrBytes>,
    /// Record batches as they lie in the log. There may be more than was acquired: the client passes over the rest.
    pub records: Vec<Chunk>,
    /// What was acquired, in the order of offsets.
    pub acquired: Vec<AcquiredRecords>,
}

/// A range of records that the member now holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredRecords {
    /// First offset.
    pub first_offset: i64,
    /// Last offset, inclusive.
    pub last_offset: i64,
    /// How often these records were delivered, this time included.
    pub delivery_count: i16,
}

impl ShareFetchResponse {
    /// Appends the response.
    pub fn encode(&self, out: &mut Chunks) {
        out.buffer.put_i32(self.throttle_time_ms);
        out.buffer.put_i16(self.error_code);
        put_string(&mut out.buffer, self.error_message.as_deref());
        out.buffer.put_i32(self.acquisition_lock_timeout_ms);
        put_length(&mut out.buffer, self.topics.len());
        for topic in &self.topics {
            out.buffer.put_slice(topic.id.as_bytes());
            put_length(&mut out.buffer, topic.partitions.len());
            topic.partitions.iter().for_each(|partition| partition.encode(out));
            put_no_tags(&mut out.buffer);
        }
        put_length(&mut out.buffer, 0); // endpoints of other leaders: there is one broker
        put_no_tags(&mut out.buffer);
    }
}

impl ShareFetchPartition {
    /// Bytes of records.
    pub fn records_len(&self) -> usize {
        self.records.iter().map(Chunk::len).sum()
    }

    fn encode(&self, out: &mut Chunks) {
        out.buffer.put_i32(self.index);
        out.buffer.put_i16(self.error_code);
        put_string(&mut out.buffer, self.error_message.as_deref());
        out.buffer.put_i16(self.acknowledge_error_code);
        put_string(&mut out.buffer, self.acknowledge_error_message.as_deref());
        // The leader's id and epoch, read with NOT_LEADER_OR_FOLLOWER only, which one broker never says.
        out.buffer.put_i32(0);
        out.buffer.put_i32(0);
        put_no_tags(&mut out.buffer);
        put_length(&mut out.buffer, self.records_len());
        for chunk in &self.records {
            out.push(chunk.clone());
        }
        put_length(&mut out.buffer, self.acquired.len());
        for acquired in &self.acquired {
            out.buffer.put_i64(acquired.first_offset);
            out.buffer.put_i64(acquired.last_offset);
            out.buffer.put_i16(acquired.delivery_count);
            put_no_tags(&mut out.buffer);
        }
        put_no_tags(&mut out.buffer);
    }
}

/// A ShareFetch response as a client reads it: the crate's, at both versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedShareFetchResponse(pub CrateResponse);

impl Encodable for DecodedShareFetchResponse {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        self.0.encode(out, CRATE_VERSION)
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        self.0.compute_size(CRATE_VERSION)
    }
}

impl Decodable for DecodedShareFetchResponse {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        CrateResponse::decode(body, CRATE_VERSION).map(DecodedShareFetchResponse)
    }
}

impl Message for DecodedShareFetchResponse {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for DecodedShareFetchResponse {
    fn header_version(_: i16) -> i16 {
        1
    }
}

fn check(version: i16) -> Result<()> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        bail!("ShareFetch version {version} is not known");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
