//! Walks a request's bytes before they are decoded, so that a length on the wire is never believed.
//!
//! The `kafka-protocol` crate reserves memory for as many array elements as the wire says, and a hostile count aborts the
//! process. The walker knows the shape of every request at every version, allocates nothing, and accepts a body only if
//! every length lies within it. What follows the last field is passed over, as Kafka does: librdkafka's Metadata requests
//! of version 9 and later end with an array too many.
//!
//! What it bounds: a decoded message shares its strings and bytes with the frame, so memory beyond the frame is array
//! elements and unknown tagged fields. An element of one byte on the wire can become a string of 32 bytes, one of three
//! bytes a structure of up to [`MAX_ELEMENT_LEN`]; with [`MAX_ELEMENTS`] of them a request costs at most 44 MiB, however
//! large its frame. A structure's first unknown tag costs a map node of about 450 bytes; there are at most
//! [`MAX_UNKNOWN_TAGS`], which is another half MiB.

mod admin;
mod data;
mod groups;
pub mod sample;
pub mod schema;
mod streams;

use crate::ApiKey;
use thiserror::Error;

use schema::{Field, Kind, Schema};

/// Most array elements in one request, all arrays together: a fetch of 250,000 partitions still passes.
pub const MAX_ELEMENTS: usize = 1 << 18;
/// Most bytes that an array element may take once decoded. Nothing larger exists; a test sees to it.
pub const MAX_ELEMENT_LEN: usize = 176;
/// Most tagged fields in one tag section, as Envoy's codec has it.
pub const MAX_TAGS: u32 = 64;
/// Most bytes in one unknown tagged field.
pub const MAX_TAG_LEN: usize = 64 * 1024;
/// Most unknown tagged fields in one request. Clients send none.
pub const MAX_UNKNOWN_TAGS: usize = 1024;

/// Why a body must not be decoded. The connection has to be closed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum GuardError {
    /// The body ends within this field.
    #[error("the body ends within {0}")]
    Short(&'static str),
    /// A length that is negative or longer than what is left.
    #[error("{field} has length {length} with {left} bytes left")]
    Length {
        /// The field.
        field: &'static str,
        /// What the body says.
        length: i64,
        /// Bytes after the length.
        left: usize,
    },
    /// A field that may not be null is.
    #[error("{0} is null")]
    Null(&'static str),
    /// A variable-length integer that is longer than its type.
    #[error("{0} is not a varint")]
    Varint(&'static str),
    /// More array elements than any client needs.
    #[error("more than {MAX_ELEMENTS} array elements")]
    Elements,
    /// More tagged fields than any client needs, or longer ones.
    #[error("too many or too long tagged fields")]
    Tags,
    /// A tagged field goes on after its value.
    #[error("{0} bytes follow the value of a tagged field")]
    Trailing(usize),
    /// No shape is known for this API, so it must not be decoded.
    #[error("no shape is known for {0:?}")]
    Unknown(ApiKey),
}

/// Checks the body of a request; returns how many bytes follow its last field.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    walk(schema(api).ok_or(GuardError::Unknown(api))?, version, body)
}

fn walk(schema: &Schema, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let flexible = version >= schema.flexible;
    let mut walker = Walker { rest: body, version, flexible, elements: MAX_ELEMENTS, unknown_tags: MAX_UNKNOWN_TAGS };
    walker.structure(schema.fields)?;
    Ok(walker.rest.len())
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    /// How many more array elements are allowed.
    elements: usize,
    /// How many more unknown tagged fields are allowed.
    unknown_tags: usize,
}

impl Walker<'_> {
    fn structure(&mut self, fields: &[Field]) -> Result<(), GuardError> {
        for field in fields {
            if field.is_in(self.version) && (field.tag.is_none() || !self.flexible) {
                self.value(field)?;
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn value(&mut self, field: &Field) -> Result<(), GuardError> {
        match field.kind {
            Kind::Fixed(len) => self.skip(len, field.name),
            Kind::String | Kind::Bytes => match self.length(field)? {
                Some(len) => self.skip(len, field.name),
                None => Ok(()),
            },
            Kind::Struct(fields) => {
                if field.nullable <= self.version {
                    match self.take(field.name)? as i8 {
                        -1 => return Ok(()),
                        1 => {}
                        length => return Err(self.bad_length(field.name, length.into())),
                    }
                }
                self.structure(fields)
            }
            Kind::Values(kind) => match self.count(field)? {
                Some(count) => self.values(*kind, count, field.name),
                None => Ok(()),
            },
            Kind::Structs(fields) => {
                for _ in 0..self.count(field)?.unwrap_or(0) {
                    self.structure(fields)?;
                }
                Ok(())
            }
        }
    }

    fn values(&mut self, kind: Kind, count: usize, name: &'static str) -> Result<(), GuardError> {
        if let Kind::Fixed(len) = kind {
            return self.skip(count.saturating_mul(len), name);
        }
        let element = Field { name, kind, since: 0, until: i16::MAX, nullable: schema::NEVER, tag: None };
        (0..count).try_for_each(|_| self.value(&element))
    }

    /// The number of elements of an array, `None` for null. No element is shorter than a byte.
    fn count(&mut self, field: &Field) -> Result<Option<usize>, GuardError> {
        let Some(count) = self.length(field)? else { return Ok(None) };
        self.elements = self.elements.checked_sub(count).ok_or(GuardError::Elements)?;
        Ok(Some(count))
    }

    /// A length within what is left, `None` for null.
    fn length(&mut self, field: &Field) -> Result<Option<usize>, GuardError> {
        let length = match field.kind {
            _ if self.flexible => i64::from(self.unsigned_varint(field.name)?) - 1,
            Kind::String => i16::from_be_bytes(self.fixed(field.name)?).into(),
            _ => i32::from_be_bytes(self.fixed(field.name)?).into(),
        };
        match length {
            -1 if field.nullable <= self.version => Ok(None),
            -1 => Err(GuardError::Null(field.name)),
            length => match usize::try_from(length) {
                Ok(length) if length <= self.rest.len() => Ok(Some(length)),
                _ => Err(self.bad_length(field.name, length)),
            },
        }
    }

    fn tags(&mut self, fields: &[Field]) -> Result<(), GuardError> {
        let count = self.unsigned_varint("tag section")?;
        if count > MAX_TAGS {
            return Err(GuardError::Tags);
        }
        for _ in 0..count {
            let tag = self.unsigned_varint("tag")?;
            let len = self.unsigned_varint("tagged field")? as usize;
            let Some((value, rest)) = self.rest.split_at_checked(len) else {
                return Err(self.bad_length("tagged field", len as i64));
            };
            match fields.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version)) {
                Some(field) => {
                    self.rest = value;
                    self.value(field)?;
                    if !self.rest.is_empty() {
                        return Err(GuardError::Trailing(self.rest.len()));
                    }
                }
                None if len > MAX_TAG_LEN => return Err(GuardError::Tags),
                None => self.unknown_tags = self.unknown_tags.checked_sub(1).ok_or(GuardError::Tags)?,
            }
            self.rest = rest;
        }
        Ok(())
    }

    fn unsigned_varint(&mut self, name: &'static str) -> Result<u32, GuardError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(name)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(GuardError::Varint(name))
    }

    fn take(&mut self, name: &'static str) -> Result<u8, GuardError> {
        self.fixed::<1>(name).map(|[byte]| byte)
    }

    fn fixed<const N: usize>(&mut self, name: &'static str) -> Result<[u8; N], GuardError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(GuardError::Short(name))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn skip(&mut self, len: usize, name: &'static str) -> Result<(), GuardError> {
        self.rest = self.rest.get(len..).ok_or(GuardError::Short(name))?;
        Ok(())
    }

    fn bad_length(&self, field: &'static str, length: i64) -> GuardError {
        GuardError::Length { field, length, left: self.rest.len() }
    }
}

/// The shape of an API's request; `None` for APIs that no client calls or that are not served yet.
pub fn schema(api: ApiKey) -> Option<&'static Schema> {
    Some(match api {
        ApiKey::Produce => &data::PRODUCE,
        ApiKey::Fetch => &data::FETCH,
        ApiKey::ListOffsets => &data::LIST_OFFSETS,
        ApiKey::Metadata => &data::METADATA,
        ApiKey::ApiVersions => &data::API_VERSIONS,
        ApiKey::InitProducerId => &data::INIT_PRODUCER_ID,
        ApiKey::OffsetForLeaderEpoch => &data::OFFSET_FOR_LEADER_EPOCH,
        ApiKey::AddPartitionsToTxn => &data::ADD_PARTITIONS_TO_TXN,
        ApiKey::AddOffsetsToTxn => &data::ADD_OFFSETS_TO_TXN,
        ApiKey::EndTxn => &data::END_TXN,
        ApiKey::WriteTxnMarkers => &data::WRITE_TXN_MARKERS,
        ApiKey::TxnOffsetCommit => &data::TXN_OFFSET_COMMIT,
        ApiKey::ShareFetch => &data::SHARE_FETCH,
        ApiKey::ShareAcknowledge => &data::SHARE_ACKNOWLEDGE,
        ApiKey::SaslHandshake => &data::SASL_HANDSHAKE,
        ApiKey::SaslAuthenticate => &data::SASL_AUTHENTICATE,
        ApiKey::OffsetCommit => &groups::OFFSET_COMMIT,
        ApiKey::OffsetFetch => &groups::OFFSET_FETCH,
        ApiKey::OffsetDelete => &groups::OFFSET_DELETE,
        ApiKey::FindCoordinator => &groups::FIND_COORDINATOR,
        ApiKey::JoinGroup => &groups::JOIN_GROUP,
        ApiKey::Heartbeat => &groups::HEARTBEAT,
        ApiKey::LeaveGroup => &groups::LEAVE_GROUP,
        ApiKey::SyncGroup => &groups::SYNC_GROUP,
        ApiKey::DescribeGroups => &groups::DESCRIBE_GROUPS,
        ApiKey::ListGroups => &groups::LIST_GROUPS,
        ApiKey::DeleteGroups => &groups::DELETE_GROUPS,
        ApiKey::ConsumerGroupHeartbeat => &groups::CONSUMER_GROUP_HEARTBEAT,
        ApiKey::ConsumerGroupDescribe => &groups::CONSUMER_GROUP_DESCRIBE,
        ApiKey::ShareGroupHeartbeat => &groups::SHARE_GROUP_HEARTBEAT,
        ApiKey::ShareGroupDescribe => &groups::SHARE_GROUP_DESCRIBE,
        ApiKey::DescribeShareGroupOffsets => &groups::DESCRIBE_SHARE_GROUP_OFFSETS,
        ApiKey::AlterShareGroupOffsets => &groups::ALTER_SHARE_GROUP_OFFSETS,
        ApiKey::DeleteShareGroupOffsets => &groups::DELETE_SHARE_GROUP_OFFSETS,
        ApiKey::StreamsGroupHeartbeat => &streams::STREAMS_GROUP_HEARTBEAT,
        ApiKey::StreamsGroupDescribe => &streams::STREAMS_GROUP_DESCRIBE,
        ApiKey::CreateTopics => &admin::CREATE_TOPICS,
        ApiKey::DeleteTopics => &admin::DELETE_TOPICS,
        ApiKey::DeleteRecords => &admin::DELETE_RECORDS,
        ApiKey::CreatePartitions => &admin::CREATE_PARTITIONS,
        ApiKey::DescribeTopicPartitions => &admin::DESCRIBE_TOPIC_PARTITIONS,
        ApiKey::DescribeConfigs => &admin::DESCRIBE_CONFIGS,
        ApiKey::AlterConfigs => &admin::ALTER_CONFIGS,
        ApiKey::IncrementalAlterConfigs => &admin::INCREMENTAL_ALTER_CONFIGS,
        ApiKey::ListConfigResources => &admin::LIST_CONFIG_RESOURCES,
        ApiKey::DescribeLogDirs => &admin::DESCRIBE_LOG_DIRS,
        ApiKey::DescribeQuorum => &admin::DESCRIBE_QUORUM,
        ApiKey::DescribeCluster => &admin::DESCRIBE_CLUSTER,
        ApiKey::DescribeProducers => &admin::DESCRIBE_PRODUCERS,
        ApiKey::DescribeTransactions => &admin::DESCRIBE_TRANSACTIONS,
        ApiKey::ListTransactions => &admin::LIST_TRANSACTIONS,
        ApiKey::ElectLeaders => &admin::ELECT_LEADERS,
        ApiKey::AlterPartitionReassignments => &admin::ALTER_PARTITION_REASSIGNMENTS,
        ApiKey::ListPartitionReassignments => &admin::LIST_PARTITION_REASSIGNMENTS,
        ApiKey::DescribeAcls => &admin::DESCRIBE_ACLS,
        ApiKey::CreateAcls => &admin::CREATE_ACLS,
        ApiKey::DeleteAcls => &admin::DELETE_ACLS,
        ApiKey::DescribeClientQuotas => &admin::DESCRIBE_CLIENT_QUOTAS,
        ApiKey::AlterClientQuotas => &admin::ALTER_CLIENT_QUOTAS,
        ApiKey::DescribeUserScramCredentials => &admin::DESCRIBE_USER_SCRAM_CREDENTIALS,
        ApiKey::AlterUserScramCredentials => &admin::ALTER_USER_SCRAM_CREDENTIALS,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
