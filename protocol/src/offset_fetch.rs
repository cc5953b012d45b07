//! The OffsetFetch request up to version 10, where topics have ids in place of names: the `kafka-protocol` crate has it up
//! to version 9. One group (up to version 7) and several look the same here.

use anyhow::{Result, bail};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup as CrateGroup, OffsetFetchRequestTopic as CrateTopic,
    OffsetFetchRequestTopics as CrateTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest as CrateRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange};
use uuid::Uuid;

use crate::ApiKey;
use crate::compact::{
    array_size, get_array, get_ints, get_nullable_array, get_string, get_uuid, ints_size, nullable_array_size,
    put_array, put_ints, put_no_tags, put_nullable_array, put_string, skip_tags, string_size,
};

/// First version with several groups in a request.
pub const GROUPS_VERSION: i16 = 8;
/// First version with a member's id and epoch.
const MEMBER_VERSION: i16 = 9;
/// First version with topic ids in place of names.
pub const TOPIC_ID_VERSION: i16 = 10;
/// The served versions.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 10 };

/// An OffsetFetch request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchRequest {
    /// Groups; exactly one before [`GROUPS_VERSION`].
    pub groups: Vec<OffsetFetchGroup>,
    /// True where offsets that an open transaction may change are not wanted. From version 7.
    pub require_stable: bool,
}

/// One group of an [`OffsetFetchRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchGroup {
    /// The group.
    pub group_id: GroupId,
    /// The member that asks. From version 9.
    pub member_id: Option<StrBytes>,
    /// Its epoch; -1 for none. From version 9.
    pub member_epoch: i32,
    /// Topics; none for all of them.
    pub topics: Option<Vec<OffsetFetchTopic>>,
}

/// One topic of an [`OffsetFetchGroup`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetFetchTopic {
    /// Name. Until version 9.
    pub name: TopicName,
    /// Id. From version 10.
    pub topic_id: Uuid,
    /// Partition indexes.
    pub partition_indexes: Vec<i32>,
}

impl Default for OffsetFetchGroup {
    fn default() -> Self {
        OffsetFetchGroup { group_id: GroupId::default(), member_id: None, member_epoch: -1, topics: None }
    }
}

impl OffsetFetchRequest {
    /// The crate's request of the same meaning.
    fn to_crate(&self, version: i16) -> Result<CrateRequest> {
        if version >= GROUPS_VERSION {
            let topic = |topic: &OffsetFetchTopic| {
                CrateTopics::default()
                    .with_name(topic.name.clone())
                    .with_partition_indexes(topic.partition_indexes.clone())
            };
            let group = |group: &OffsetFetchGroup| {
                let member = group.member_id.clone().filter(|_| version >= MEMBER_VERSION);
                CrateGroup::default()
                    .with_group_id(group.group_id.clone())
                    .with_member_id(member)
                    .with_member_epoch(group.member_epoch)
                    .with_topics(group.topics.as_ref().map(|topics| topics.iter().map(topic).collect()))
            };
            let groups = self.groups.iter().map(group).collect();
            return Ok(CrateRequest::default().with_groups(groups).with_require_stable(self.require_stable));
        }
        let [group] = &self.groups[..] else { bail!("OffsetFetch version {version} asks for one group") };
        let topic = |topic: &OffsetFetchTopic| {
            CrateTopic::default().with_name(topic.name.clone()).with_partition_indexes(topic.partition_indexes.clone())
        };
        Ok(CrateRequest::default()
            .with_group_id(group.group_id.clone())
            .with_topics(group.topics.as_ref().map(|topics| topics.iter().map(topic).collect()))
            .with_require_stable(self.require_stable))
    }

    fn from_crate(request: CrateRequest, version: i16) -> Self {
        let topic = |name, partition_indexes| OffsetFetchTopic { name, topic_id: Uuid::nil(), partition_indexes };
        let groups = if version >= GROUPS_VERSION {
            let topics = |topics: Vec<CrateTopics>| {
                topics.into_iter().map(|asked| topic(asked.name, asked.partition_indexes)).collect()
            };
            let group = |group: CrateGroup| OffsetFetchGroup {
                group_id: group.group_id,
                member_id: group.member_id,
                member_epoch: group.member_epoch,
                topics: group.topics.map(topics),
            };
            request.groups.into_iter().map(group).collect()
        } else {
            let topics = |topics: Vec<CrateTopic>| {
                topics.into_iter().map(|asked| topic(asked.name, asked.partition_indexes)).collect()
            };
            let topics = request.topics.map(topics);
            vec![OffsetFetchGroup { group_id: request.group_id, topics, ..OffsetFetchGroup::default() }]
        };
        OffsetFetchRequest { groups, require_stable: request.require_stable }
    }
}

impl Encodable for OffsetFetchRequest {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        if version < TOPIC_ID_VERSION {
            return self.to_crate(version)?.encode(out, version);
        }
        put_array(out, &self.groups, version)?;
        out.put_u8(self.require_stable.into());
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        if version < TOPIC_ID_VERSION {
            return self.to_crate(version)?.compute_size(version);
        }
        Ok(array_size(&self.groups, version)? + 1 + 1)
    }
}

impl Decodable for OffsetFetchRequest {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        if version < TOPIC_ID_VERSION {
            return CrateRequest::decode(body, version).map(|request| OffsetFetchRequest::from_crate(request, version));
        }
        let request = OffsetFetchRequest { groups: get_array(body, version)?, require_stable: body.try_get_u8()? != 0 };
        skip_tags(body)?;
        Ok(request)
    }
}

/// As version 10 has it.
impl Encodable for OffsetFetchGroup {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        put_string(out, Some(&self.group_id));
        put_string(out, self.member_id.as_deref());
        out.put_i32(self.member_epoch);
        put_nullable_array(out, self.topics.as_deref(), version)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        let strings = string_size(Some(&self.group_id)) + string_size(self.member_id.as_deref());
        Ok(strings + 4 + nullable_array_size(self.topics.as_deref(), version)? + 1)
    }
}

/// As version 10 has it.
impl Decodable for OffsetFetchGroup {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        let group = OffsetFetchGroup {
            group_id: GroupId(get_string(body)?.unwrap_or_default()),
            member_id: get_string(body)?,
            member_epoch: body.try_get_i32()?,
            topics: get_nullable_array(body, version)?,
        };
        skip_tags(body)?;
        Ok(group)
    }
}

/// As version 10 has it.
impl Encodable for OffsetFetchTopic {
    fn encode<B: ByteBufMut>(&self, out: &mut B, _: i16) -> Result<()> {
        out.put_slice(self.topic_id.as_bytes());
        put_ints(out, &self.partition_indexes);
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, _: i16) -> Result<usize> {
        Ok(16 + ints_size(&self.partition_indexes) + 1)
    }
}

/// As version 10 has it.
impl Decodable for OffsetFetchTopic {
    fn decode<B: ByteBuf>(body: &mut B, _: i16) -> Result<Self> {
        let topic = OffsetFetchTopic {
            name: TopicName::default(),
            topic_id: get_uuid(body)?,
            partition_indexes: get_ints(body)?,
        };
        skip_tags(body)?;
        Ok(topic)
    }
}

impl Message for OffsetFetchRequest {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for OffsetFetchRequest {
    fn header_version(version: i16) -> i16 {
        CrateRequest::header_version(version)
    }
}

impl Request for OffsetFetchRequest {
    const KEY: i16 = ApiKey::OffsetFetch as i16;
    type Response = OffsetFetchResponse;
}

fn check(version: i16) -> Result<()> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        bail!("OffsetFetch version {version} is not known");
    }
    Ok(())
}
