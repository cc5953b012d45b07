//! The OffsetCommit request up to version 10, where topics have ids in place of names: the `kafka-protocol` crate has it up
//! to version 9.

use anyhow::{Result, bail};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic as CrateTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest as CrateRequest, OffsetCommitResponse, TopicName};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange};
use uuid::Uuid;

use crate::ApiKey;
use crate::compact::{
    array_size, get_array, get_string, get_uuid, put_array, put_no_tags, put_string, skip_tags, string_size,
};

/// The last version of the crate's request.
const CRATE_VERSION: i16 = 9;
/// First version with topic ids in place of names.
pub const TOPIC_ID_VERSION: i16 = 10;
/// The served versions.
pub const VERSIONS: VersionRange = VersionRange { min: 2, max: 10 };

/// An OffsetCommit request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group_id: GroupId,
    /// The member's generation or epoch; -1 for none.
    pub generation_id_or_member_epoch: i32,
    /// The member; empty for none.
    pub member_id: StrBytes,
    /// Its instance id. From version 7.
    pub group_instance_id: Option<StrBytes>,
    /// How long to keep the offsets; -1 for as long as configured. Until version 4.
    pub retention_time_ms: i64,
    /// Topics.
    pub topics: Vec<OffsetCommitTopic>,
}

/// One topic of an [`OffsetCommitRequest`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCommitTopic {
    /// Name. Until version 9.
    pub name: TopicName,
    /// Id. From version 10.
    pub topic_id: Uuid,
    /// Partitions.
    pub partitions: Vec<OffsetCommitRequestPartition>,
}

impl OffsetCommitRequest {
    /// The crate's request of the same meaning.
    fn to_crate(&self) -> CrateRequest {
        let topic = |topic: &OffsetCommitTopic| {
            CrateTopic::default().with_name(topic.name.clone()).with_partitions(topic.partitions.clone())
        };
        CrateRequest::default()
            .with_group_id(self.group_id.clone())
            .with_generation_id_or_member_epoch(self.generation_id_or_member_epoch)
            .with_member_id(self.member_id.clone())
            .with_group_instance_id(self.group_instance_id.clone())
            .with_retention_time_ms(self.retention_time_ms)
            .with_topics(self.topics.iter().map(topic).collect())
    }
}

impl From<CrateRequest> for OffsetCommitRequest {
    fn from(request: CrateRequest) -> Self {
        let topic = |topic: CrateTopic| OffsetCommitTopic {
            name: topic.name,
            topic_id: Uuid::nil(),
            partitions: topic.partitions,
        };
        OffsetCommitRequest {
            group_id: request.group_id,
            generation_id_or_member_epoch: request.generation_id_or_member_epoch,
            member_id: request.member_id,
            group_instance_id: request.group_instance_id,
            retention_time_ms: request.retention_time_ms,
            topics: request.topics.into_iter().map(topic).collect(),
        }
    }
}

impl Encodable for OffsetCommitRequest {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        if version < TOPIC_ID_VERSION {
            return self.to_crate().encode(out, version);
        }
        put_string(out, Some(&self.group_id));
        out.put_i32(self.generation_id_or_member_epoch);
        put_string(out, Some(&self.member_id));
        put_string(out, self.group_instance_id.as_deref());
        put_array(out, &self.topics, version)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        if version < TOPIC_ID_VERSION {
            return self.to_crate().compute_size(version);
        }
        let strings = string_size(Some(&self.group_id))
            + string_size(Some(&self.member_id))
            + string_size(self.group_instance_id.as_deref());
        Ok(strings + 4 + array_size(&self.topics, version)? + 1)
    }
}

impl Decodable for OffsetCommitRequest {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        if version < TOPIC_ID_VERSION {
            return CrateRequest::decode(body, version).map(OffsetCommitRequest::from);
        }
        let request = OffsetCommitRequest {
            group_id: GroupId(get_string(body)?.unwrap_or_default()),
            generation_id_or_member_epoch: body.try_get_i32()?,
            member_id: get_string(body)?.unwrap_or_default(),
            group_instance_id: get_string(body)?,
            retention_time_ms: -1,
            topics: get_array(body, version)?,
        };
        skip_tags(body)?;
        Ok(request)
    }
}

/// As version 10 has it.
impl Encodable for OffsetCommitTopic {
    fn encode<B: ByteBufMut>(&self, out: &mut B, _: i16) -> Result<()> {
        out.put_slice(self.topic_id.as_bytes());
        put_array(out, &self.partitions, CRATE_VERSION)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, _: i16) -> Result<usize> {
        Ok(16 + array_size(&self.partitions, CRATE_VERSION)? + 1)
    }
}

/// As version 10 has it.
impl Decodable for OffsetCommitTopic {
    fn decode<B: ByteBuf>(body: &mut B, _: i16) -> Result<Self> {
        let topic = OffsetCommitTopic {
            name: TopicName::default(),
            topic_id: get_uuid(body)?,
            partitions: get_array(body, CRATE_VERSION)?,
        };
        skip_tags(body)?;
        Ok(topic)
    }
}

impl Message for OffsetCommitRequest {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for OffsetCommitRequest {
    fn header_version(version: i16) -> i16 {
        CrateRequest::header_version(version)
    }
}

impl Request for OffsetCommitRequest {
    const KEY: i16 = ApiKey::OffsetCommit as i16;
    type Response = OffsetCommitResponse;
}

fn check(version: i16) -> Result<()> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        bail!("OffsetCommit version {version} is not known");
    }
    Ok(())
}
