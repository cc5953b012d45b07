//! ShareAcknowledge, versions 1 and 2 (KIP-932, KIP-1222). The `kafka-protocol` crate has version 1 only.

use crate::ApiKey;
use anyhow::{Result, bail};
use kafka_protocol::messages::share_acknowledge_request::AcknowledgeTopic;
use kafka_protocol::messages::share_acknowledge_response::{NodeEndpoint, ShareAcknowledgeTopicResponse};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes, VersionRange};

use crate::compact::{array_size, get_array, get_string, put_array, put_no_tags, put_string, skip_tags, string_size};

/// The version of the crate's structures within.
const CRATE_VERSION: i16 = 1;
/// First version with renewals.
const RENEW_VERSION: i16 = 2;
/// The served versions.
pub const VERSIONS: VersionRange = VersionRange { min: 1, max: 2 };

/// A ShareAcknowledge request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareAcknowledgeRequest {
    /// The share group.
    pub group_id: Option<StrBytes>,
    /// The member.
    pub member_id: Option<StrBytes>,
    /// 0 opens a session, -1 closes it, otherwise one more than before.
    pub share_session_epoch: i32,
    /// True when there are renewals among the acknowledgements. From version 2.
    pub is_renew_ack: bool,
    /// The acknowledgements.
    pub topics: Vec<AcknowledgeTopic>,
}

/// A ShareAcknowledge response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareAcknowledgeResponse {
    /// How long the client was throttled.
    pub throttle_time_ms: i32,
    /// Top-level error code.
    pub error_code: i16,
    /// What a person is told of the error.
    pub error_message: Option<StrBytes>,
    /// How long renewed records stay locked. From version 2.
    pub acquisition_lock_timeout_ms: i32,
    /// Topics.
    pub responses: Vec<ShareAcknowledgeTopicResponse>,
    /// Where other leaders listen.
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl Encodable for ShareAcknowledgeRequest {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        put_string(out, self.group_id.as_deref());
        put_string(out, self.member_id.as_deref());
        out.put_i32(self.share_session_epoch);
        if version >= RENEW_VERSION {
            out.put_u8(self.is_renew_ack.into());
        } else if self.is_renew_ack {
            bail!("version {version} cannot renew");
        }
        put_array(out, &self.topics, CRATE_VERSION)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        let strings = string_size(self.group_id.as_deref()) + string_size(self.member_id.as_deref());
        let renew = usize::from(version >= RENEW_VERSION);
        Ok(strings + 4 + renew + array_size(&self.topics, CRATE_VERSION)? + 1)
    }
}

impl Decodable for ShareAcknowledgeRequest {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        let request = ShareAcknowledgeRequest {
            group_id: get_string(body)?,
            member_id: get_string(body)?,
            share_session_epoch: body.try_get_i32()?,
            is_renew_ack: version >= RENEW_VERSION && body.try_get_u8()? != 0,
            topics: get_array(body, CRATE_VERSION)?,
        };
        skip_tags(body)?;
        Ok(request)
    }
}

impl Encodable for ShareAcknowledgeResponse {
    fn encode<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<()> {
        check(version)?;
        out.put_i32(self.throttle_time_ms);
        out.put_i16(self.error_code);
        put_string(out, self.error_message.as_deref());
        if version >= RENEW_VERSION {
            out.put_i32(self.acquisition_lock_timeout_ms);
        }
        put_array(out, &self.responses, CRATE_VERSION)?;
        put_array(out, &self.node_endpoints, CRATE_VERSION)?;
        put_no_tags(out);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        check(version)?;
        let timeout = if version >= RENEW_VERSION { 4 } else { 0 };
        let arrays = array_size(&self.responses, CRATE_VERSION)? + array_size(&self.node_endpoints, CRATE_VERSION)?;
        Ok(4 + 2 + string_size(self.error_message.as_deref()) + timeout + arrays + 1)
    }
}

impl Decodable for ShareAcknowledgeResponse {
    fn decode<B: ByteBuf>(body: &mut B, version: i16) -> Result<Self> {
        check(version)?;
        let response = ShareAcknowledgeResponse {
            throttle_time_ms: body.try_get_i32()?,
            error_code: body.try_get_i16()?,
            error_message: get_string(body)?,
            acquisition_lock_timeout_ms: if version >= RENEW_VERSION { body.try_get_i32()? } else { 0 },
            responses: get_array(body, CRATE_VERSION)?,
            node_endpoints: get_array(body, CRATE_VERSION)?,
        };
        skip_tags(body)?;
        Ok(response)
    }
}

impl Message for ShareAcknowledgeRequest {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl Message for ShareAcknowledgeResponse {
    const VERSIONS: VersionRange = VERSIONS;
    const DEPRECATED_VERSIONS: Option<VersionRange> = None;
}

impl HeaderVersion for ShareAcknowledgeRequest {
    fn header_version(_: i16) -> i16 {
        2
    }
}

impl HeaderVersion for ShareAcknowledgeResponse {
    fn header_version(_: i16) -> i16 {
        1
    }
}

impl Request for ShareAcknowledgeRequest {
    const KEY: i16 = ApiKey::ShareAcknowledge as i16;
    type Response = ShareAcknowledgeResponse;
}

fn check(version: i16) -> Result<()> {
    if !(VERSIONS.min..=VERSIONS.max).contains(&version) {
        bail!("ShareAcknowledge version {version} is not known");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::messages::share_acknowledge_request::{AcknowledgePartition, AcknowledgementBatch};
    use kafka_protocol::messages::share_acknowledge_response::PartitionData;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn encoded(message: &impl Encodable, version: i16) -> Bytes {
        let mut out = BytesMut::new();
        message.encode(&mut out, version).expect("encodes");
        assert_eq!(out.len(), message.compute_size(version).expect("a size"));
        out.freeze()
    }

    fn text() -> impl Strategy<Value = Option<StrBytes>> {
        prop::option::of("[a-z]{0,200}".prop_map(StrBytes::from_string))
    }

    fn topics() -> impl Strategy<Value = Vec<AcknowledgeTopic>> {
        let batch = (any::<i64>(), any::<i64>(), vec(0i8..5, 0..4)).prop_map(|(first, last, types)| {
            AcknowledgementBatch::default()
                .with_first_offset(first)
                .with_last_offset(last)
                .with_acknowledge_types(types)
        });
        let partition = (any::<i32>(), vec(batch, 0..3)).prop_map(|(index, batches)| {
            AcknowledgePartition::default().with_partition_index(index).with_acknowledgement_batches(batches)
        });
        let topic = (any::<u128>(), vec(partition, 0..3)).prop_map(|(id, partitions)| {
            AcknowledgeTopic::default().with_topic_id(Uuid::from_u128(id)).with_partitions(partitions)
        });
        vec(topic, 0..3)
    }

    fn responses() -> impl Strategy<Value = Vec<ShareAcknowledgeTopicResponse>> {
        let partition = (any::<i32>(), any::<i16>(), text()).prop_map(|(index, code, message)| {
            PartitionData::default().with_partition_index(index).with_error_code(code).with_error_message(message)
        });
        let topic = (any::<u128>(), vec(partition, 0..3)).prop_map(|(id, partitions)| {
            ShareAcknowledgeTopicResponse::default().with_topic_id(Uuid::from_u128(id)).with_partitions(partitions)
        });
        vec(topic, 0..3)
    }

    proptest! {
        #[test]
        fn a_request_round_trips_and_its_version_1_is_the_crates(
            group_id in text(), member_id in text(), epoch in any::<i32>(), renew in any::<bool>(), topics in topics(),
        ) {
            let request =
                ShareAcknowledgeRequest { group_id, member_id, share_session_epoch: epoch, is_renew_ack: renew, topics };
            let mut bytes = encoded(&request, 2);
            prop_assert_eq!(&ShareAcknowledgeRequest::decode(&mut bytes, 2).expect("decodes"), &request);
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(request.encode(&mut BytesMut::new(), 1).is_err(), renew);

            let plain = ShareAcknowledgeRequest { is_renew_ack: false, ..request };
            let reference = kafka_protocol::messages::ShareAcknowledgeRequest::default()
                .with_group_id(plain.group_id.clone().map(GroupId))
                .with_member_id(plain.member_id.clone())
                .with_share_session_epoch(epoch)
                .with_topics(plain.topics.clone());
            let mut bytes = encoded(&plain, 1);
            prop_assert_eq!(&bytes, &encoded(&reference, 1));
            prop_assert_eq!(ShareAcknowledgeRequest::decode(&mut bytes, 1).expect("decodes"), plain);
        }

        #[test]
        fn a_response_round_trips_and_its_version_1_is_the_crates(
            code in any::<i16>(), message in text(), timeout in any::<i32>(), responses in responses(),
        ) {
            let response = ShareAcknowledgeResponse {
                error_code: code,
                error_message: message,
                acquisition_lock_timeout_ms: timeout,
                responses,
                ..ShareAcknowledgeResponse::default()
            };
            let mut bytes = encoded(&response, 2);
            prop_assert_eq!(&ShareAcknowledgeResponse::decode(&mut bytes, 2).expect("decodes"), &response);
            prop_assert!(bytes.is_empty());

            let reference = kafka_protocol::messages::ShareAcknowledgeResponse::default()
                .with_error_code(code)
                .with_error_message(response.error_message.clone())
                .with_responses(response.responses.clone());
            prop_assert_eq!(encoded(&response, 1), encoded(&reference, 1));
        }
    }

    #[test]
    fn versions_0_and_3_are_refused() {
        for version in [0, 3] {
            assert!(ShareAcknowledgeRequest::default().encode(&mut BytesMut::new(), version).is_err());
            assert!(ShareAcknowledgeResponse::decode(&mut Bytes::new(), version).is_err());
        }
    }

    /// Bytes made from Kafka's definition by hand.
    #[test]
    fn fields_are_where_kafka_has_them() {
        let request = ShareAcknowledgeRequest {
            group_id: Some("g".into()),
            member_id: Some("m".into()),
            share_session_epoch: 3,
            is_renew_ack: true,
            topics: vec![],
        };
        assert_eq!(encoded(&request, 2)[..], [2, b'g', 2, b'm', 0, 0, 0, 3, 1, 1, 0]);
        let response = ShareAcknowledgeResponse { acquisition_lock_timeout_ms: 30, ..Default::default() };
        assert_eq!(encoded(&response, 2)[..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30, 1, 1, 0]);
    }
}
