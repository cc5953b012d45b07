//! The DescribeShareGroupOffsets response, versions 0 and 1: the `kafka-protocol` crate has version 0 only, which lacks the
//! lag. The request is the same at both.

use anyhow::{Result, bail};
use kafka_protocol::messages::DescribeShareGroupOffsetsRequest as CrateRequest;
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange};
use uuid::Uuid;

use crate::ApiKey;
use crate::compact::{
    array_size, get_array, get_string, get_uuid, put_array, put_no_tags, put_string, skip_tags, string_size,
};

/// In place of an offset or a lag that is not known.
pub const UNKNOWN: i64 = -1;
/// The version of the crate's request.
const CRATE_VERSION: i16 = 0;
/// First version with the lag.
const LAG_VERSION: i16 = 1;
/// The served versions.
pub const VERSIONS: VersionRange = VersionRange { min: 0, max: 1 };

/// A DescribeShareGroupOffsets response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeShareGroupOffsetsResponse {
    /// How long the client was throttled.
    pub throttle_time_ms: i32,
    /// Groups in the order asked for.
    pub groups: Vec<DescribedShareGroup>,
}

/// One group of a [`DescribeShareGroupOffsetsResponse`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribedShareGroup {
    /// The group's id.
    pub id: StrBytes,
    /// Its topics.
    pub topics: Vec<DescribedShareTopic>,
    /// Error code.
    pub error_code: i16,
    /// What a person is told of the error.
    pub error_message: Option<StrBytes>,
}

/// One topic of a [`DescribedShareGroup`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribedShareTopic {
    /// Name.
    pub name: StrBytes,
    /// Id, zero for a topic that is not there.
    pub id: Uuid,
    /// Partitions.
    pub partitions: Vec<DescribedSharePartition>,
}

/// One partition of a [`DescribedShareTopic`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribedSharePartition {
    /// Partition index.
    pub index: i32,
    /// First offset that the group is not done with, or [`UNKNOWN`].
    pub start_offset: i64,
    /// Leader epoch of that.
    pub leader_epoch: i32,
    /// Records that the group is not done with, or [`UNKNOWN`]. From version 1.
    pub lag: i64,
    /// Error code.
    pub error_code: i16,
    /// What a person is told of the error.
    pub error_message: Option<StrBytes>,
}

impl Encodable for DescribeShareGroupOffsetsResponse {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        out.put_i32(self.throttle_time_ms);
        put_array(out, &self.groups, version)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        Ok(4 + array_size(&self.groups, version)? + 1)
    }
}

impl Encodable for DescribedShareGroup {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        put_string(out, Some(&self.id));
        put_array(out, &self.topics, version)?;
        out.put_i16(self.error_code);
        put_string(out, self.error_message.as_deref());
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        let strings = string_size(Some(&self.id)) + string_size(self.error_message.as_deref());
        Ok(strings + array_size(&self.topics, version)? + 2 + 1)
    }
}

impl Encodable for DescribedShareTopic {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        put_string(out, Some(&self.name));
        out.put_slice(self.id.as_bytes());
        put_array(out, &self.partitions, version)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        Ok(string_size(Some(&self.name)) + 16 + array_size(&self.partitions, version)? + 1)
    }
}

impl Encodable for DescribedSharePartition {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        out.put_i32(self.index);
        out.put_i64(self.start_offset);
        out.put_i32(self.leader_epoch);
        if version >= LAG_VERSION {
            out.put_i64(self.lag);
        }
        out.put_i16(self.error_code);
        put_string(out, self.error_message.as_deref());
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        let lag = if version >= LAG_VERSION { 8 } else { 0 };
        Ok(4 + 8 + 4 + lag + 2 + string_size(self.error_message.as_deref()) + 1)
    }
}

impl Decodable for DescribeShareGroupOffsetsResponse {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        let response = DescribeShareGroupOffsetsResponse {
            throttle_time_ms: body.try_get_i32()?,
            groups: get_array(body, version)?,
        };
        skip_tags(body)?;
        Ok(response)
    }
}

impl Decodable for DescribedShareGroup {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        let group = DescribedShareGroup {
            id: get_string(body)?.unwrap_or_default(),
            topics: get_array(body, version)?,
            error_code: body.try_get_i16()?,
            error_message: get_string(body)?,
        };
        skip_tags(body)?;
        Ok(group)
    }
}

impl Decodable for DescribedShareTopic {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        let topic = DescribedShareTopic {
            name: get_string(body)?.unwrap_or_default(),
            id: get_uuid(body)?,
            partitions: get_array(body, version)?,
        };
        skip_tags(body)?;
        Ok(topic)
    }
}

impl Decodable for DescribedSharePartition {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        let partition = DescribedSharePartition {
            index: body.try_get_i32()?,
            start_offset: body.try_get_i64()?,
            leader_epoch: body.try_get_i32()?,
            lag: if version >= LAG_VERSION { body.try_get_i64()? } else { UNKNOWN },
            error_code: body.try_get_i16()?,
            error_message: get_string(body)?,
        };
        skip_tags(body)?;
        Ok(partition)
    }
}

impl Message for DescribeShareGroupOffsetsResponse {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for DescribeShareGroupOffsetsResponse {
    fn header_version(_: i16) -> i16 {
        1
    }
}

/// The crate's DescribeShareGroupOffsets request, at both versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeShareGroupOffsetsRequest(pub CrateRequest);

impl Encodable for DescribeShareGroupOffsetsRequest {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        self.0.encode(out, CRATE_VERSION)
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        self.0.compute_size(CRATE_VERSION)
    }
}

impl Decodable for DescribeShareGroupOffsetsRequest {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        CrateRequest::decode(body, CRATE_VERSION).map(DescribeShareGroupOffsetsRequest)
    }
}

impl Message for DescribeShareGroupOffsetsRequest {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for DescribeShareGroupOffsetsRequest {
    fn header_version(_: i16) -> i16 {
        2
    }
}

impl Request for DescribeShareGroupOffsetsRequest {
    const KEY: i16 = ApiKey::DescribeShareGroupOffsets as i16;
    type Response = DescribeShareGroupOffsetsResponse;
}

fn check(version: i16) -> Result<()> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        bail!("DescribeShareGroupOffsets version {version} is not known");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::DescribeShareGroupOffsetsResponse as Reference;

    use super::*;

    fn sample() -> DescribeShareGroupOffsetsResponse {
        let partition = |index, lag, error_message| DescribedSharePartition {
            index,
            start_offset: 40 + i64::from(index),
            leader_epoch: 3,
            lag,
            error_code: 5,
            error_message,
        };
        let partitions = vec![partition(0, 7, None), partition(1, UNKNOWN, Some("gone".into()))];
        let topic = DescribedShareTopic { name: "orders".into(), id: Uuid::from_u128(42), partitions };
        let group = DescribedShareGroup { id: "g".into(), topics: vec![topic], error_code: 2, error_message: None };
        DescribeShareGroupOffsetsResponse { throttle_time_ms: 9, groups: vec![group] }
    }

    #[test]
    fn version_0_is_the_crates_and_version_1_has_the_lag() {
        for version in [0, 1] {
            let mut out = BytesMut::new();
            sample().encode(&mut out, version).expect("encodes");
            assert_eq!(out.len(), sample().compute_size(version).expect("a size"));
            let bytes = out.freeze();
            let mut rest = bytes.clone();
            let decoded = DescribeShareGroupOffsetsResponse::decode(&mut rest, version).expect("decodes");
            assert!(rest.is_empty());
            assert_eq!(decoded.groups[0].topics[0].partitions[0].lag, if version == 0 { UNKNOWN } else { 7 });
            assert_eq!(decoded.groups[0].topics[0].partitions[1], sample().groups[0].topics[0].partitions[1]);
            if version == 0 {
                let reference = Reference::decode(&mut bytes.clone(), 0).expect("the crate decodes it");
                let partition = &reference.groups[0].topics[0].partitions[1];
                assert_eq!((partition.start_offset, partition.leader_epoch, partition.error_code), (41, 3, 5));
                assert_eq!(partition.error_message.as_deref(), Some("gone"));
            }
        }
        sample().encode(&mut BytesMut::new(), 2).expect_err("an unknown version");
    }
}
