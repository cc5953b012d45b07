//! Where an answer has its throttle_time_ms, so that it can be set without decoding the answer.

use std::any::Any;

use kafka_protocol::messages::{ApiVersionsResponse, ProduceResponse};
use krocket_protocol::ApiKey;
use krocket_protocol::chunk::Chunks;
use krocket_stack::Body;

/// Sets the field where it is not at a fixed place of the bytes, or the bytes are not in memory.
pub(super) fn set(body: &mut Body, millis: i32) {
    match body {
        Body::Fetch(response) => response.throttle_time_ms = millis,
        Body::ShareFetch(response) => response.throttle_time_ms = millis,
        Body::Typed(message) => {
            let message: &mut dyn Any = &mut **message;
            if let Some(response) = message.downcast_mut::<ProduceResponse>() {
                response.throttle_time_ms = millis;
            } else if let Some(response) = message.downcast_mut::<ApiVersionsResponse>() {
                response.throttle_time_ms = millis;
            }
        }
        Body::Raw(_) | Body::Produce(_) => {}
    }
}

/// Sets the field in an encoded answer, unless it says more already. Gives what it says then.
pub(super) fn raise(api: ApiKey, version: i16, body: &mut Chunks, millis: i32) -> i32 {
    let all_in_buffer = body.len() == body.buffer.len();
    let Some(at) = place(api, version).filter(|_| all_in_buffer) else { return millis };
    let Some(field) = body.buffer.get_mut(at..at + 4).and_then(|bytes| bytes.first_chunk_mut::<4>()) else {
        return millis;
    };
    let millis = millis.max(i32::from_be_bytes(*field));
    *field = millis.to_be_bytes();
    millis
}

/// The field's place in the bytes of the body.
fn place(api: ApiKey, version: i16) -> Option<usize> {
    match api {
        // See `set`.
        ApiKey::Produce | ApiKey::ApiVersions | ApiKey::Fetch | ApiKey::ShareFetch => None,
        // They have none.
        ApiKey::SaslHandshake | ApiKey::SaslAuthenticate | ApiKey::WriteTxnMarkers | ApiKey::DescribeQuorum => None,
        // After the error code.
        ApiKey::OffsetDelete => Some(2),
        _ => (version >= throttled_since(api)).then_some(0),
    }
}

/// The first version whose answer begins with throttle_time_ms, for APIs whose answers do.
pub(crate) fn throttled_since(api: ApiKey) -> i16 {
    match api {
        ApiKey::Metadata | ApiKey::OffsetCommit | ApiKey::OffsetFetch => 3,
        ApiKey::ListOffsets | ApiKey::JoinGroup | ApiKey::OffsetForLeaderEpoch | ApiKey::CreateTopics => 2,
        ApiKey::FindCoordinator
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::SyncGroup
        | ApiKey::DescribeGroups
        | ApiKey::ListGroups
        | ApiKey::DeleteTopics => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Decodable;
    use krocket_protocol::ApiKey;
    use krocket_protocol::api::{self, TABLE};
    use krocket_protocol::fetch::FetchResponse;
    use krocket_protocol::share_fetch::ShareFetchResponse;
    use krocket_protocol::streams_group_describe::StreamsGroupDescribeResponse;
    use krocket_protocol::streams_group_heartbeat::StreamsGroupHeartbeatResponse;
    use krocket_stack::{Message, Response};

    use super::*;

    const MILLIS: i32 = 0x0102_0304;

    /// As the connection does it.
    fn throttled(api: ApiKey, version: i16, mut body: Body) -> bytes::Bytes {
        set(&mut body, MILLIS);
        let mut chunks = body.encode(version).expect("encodes");
        assert_eq!(raise(api, version, &mut chunks, MILLIS), MILLIS);
        chunks.buffer.freeze()
    }

    fn typed(message: impl Message) -> Body {
        match Response::new(message) {
            Response::Body(body) => body,
            Response::None => panic!("a body"),
        }
    }

    /// Every version of an API: what its answer says after it was throttled.
    macro_rules! check {
        ($seen:ident, $($api:ident => $response:ident from $since:literal),+ $(,)?) => {$(
            let row = api::served(ApiKey::$api);
            // krocket's own types go further than these, with the field where it was.
            let known = <$response as kafka_protocol::protocol::Message>::VERSIONS.max;
            for version in row.map(|row| row.min..=row.max.min(known)).into_iter().flatten() {
                let mut bytes = throttled(ApiKey::$api, version, typed($response::default()));
                let back = $response::decode(&mut bytes, version).expect("decodes");
                let expected = if version >= $since { MILLIS } else { 0 };
                assert_eq!(back.throttle_time_ms, expected, "{} version {version}", stringify!($api));
                assert_eq!(back, $response::default().with_throttle_time_ms(expected));
            }
            $seen.insert(ApiKey::$api as i16);
        )+};
    }

    #[test]
    fn every_answer_at_every_version_says_how_long_and_nothing_else_changes() {
        let mut seen = BTreeSet::new();
        check!(seen,
            Produce => ProduceResponse from 1, ListOffsets => ListOffsetsResponse from 2,
            Metadata => MetadataResponse from 3, OffsetCommit => OffsetCommitResponse from 3,
            OffsetFetch => OffsetFetchResponse from 3, FindCoordinator => FindCoordinatorResponse from 1,
            JoinGroup => JoinGroupResponse from 2, Heartbeat => HeartbeatResponse from 1,
            LeaveGroup => LeaveGroupResponse from 1, SyncGroup => SyncGroupResponse from 1,
            DescribeGroups => DescribeGroupsResponse from 1, ListGroups => ListGroupsResponse from 1,
            ApiVersions => ApiVersionsResponse from 1, CreateTopics => CreateTopicsResponse from 2,
            DeleteTopics => DeleteTopicsResponse from 1, DeleteRecords => DeleteRecordsResponse from 0,
            InitProducerId => InitProducerIdResponse from 0,
            OffsetForLeaderEpoch => OffsetForLeaderEpochResponse from 2,
            AddPartitionsToTxn => AddPartitionsToTxnResponse from 0, AddOffsetsToTxn => AddOffsetsToTxnResponse from 0,
            EndTxn => EndTxnResponse from 0, TxnOffsetCommit => TxnOffsetCommitResponse from 0,
            DescribeAcls => DescribeAclsResponse from 0, CreateAcls => CreateAclsResponse from 0,
            DeleteAcls => DeleteAclsResponse from 0,
            DescribeConfigs => DescribeConfigsResponse from 0, AlterConfigs => AlterConfigsResponse from 0,
            DescribeLogDirs => DescribeLogDirsResponse from 0, CreatePartitions => CreatePartitionsResponse from 0,
            DeleteGroups => DeleteGroupsResponse from 0, ElectLeaders => ElectLeadersResponse from 0,
            IncrementalAlterConfigs => IncrementalAlterConfigsResponse from 0,
            AlterPartitionReassignments => AlterPartitionReassignmentsResponse from 0,
            ListPartitionReassignments => ListPartitionReassignmentsResponse from 0,
            OffsetDelete => OffsetDeleteResponse from 0,
            DescribeClientQuotas => DescribeClientQuotasResponse from 0,
            AlterClientQuotas => AlterClientQuotasResponse from 0,
            DescribeUserScramCredentials => DescribeUserScramCredentialsResponse from 0,
            AlterUserScramCredentials => AlterUserScramCredentialsResponse from 0,
            DescribeCluster => DescribeClusterResponse from 0, DescribeProducers => DescribeProducersResponse from 0,
            DescribeTransactions => DescribeTransactionsResponse from 0,
            ListTransactions => ListTransactionsResponse from 0,
            ConsumerGroupHeartbeat => ConsumerGroupHeartbeatResponse from 0,
            ConsumerGroupDescribe => ConsumerGroupDescribeResponse from 0,
            ListConfigResources => ListConfigResourcesResponse from 0,
            DescribeTopicPartitions => DescribeTopicPartitionsResponse from 0,
            ShareGroupHeartbeat => ShareGroupHeartbeatResponse from 0,
            ShareGroupDescribe => ShareGroupDescribeResponse from 0,
            ShareAcknowledge => ShareAcknowledgeResponse from 0,
            DescribeShareGroupOffsets => DescribeShareGroupOffsetsResponse from 0,
            AlterShareGroupOffsets => AlterShareGroupOffsetsResponse from 0,
            DeleteShareGroupOffsets => DeleteShareGroupOffsetsResponse from 0,
        );
        for version in 4..=18 {
            let bytes = throttled(ApiKey::Fetch, version, Body::Fetch(FetchResponse::default()));
            assert_eq!(bytes[..4], MILLIS.to_be_bytes());
        }
        let bytes = throttled(ApiKey::ShareFetch, 1, Body::ShareFetch(ShareFetchResponse::default()));
        assert_eq!(bytes[..4], MILLIS.to_be_bytes());
        for (api, body) in [
            (ApiKey::StreamsGroupHeartbeat, typed(StreamsGroupHeartbeatResponse::default())),
            (ApiKey::StreamsGroupDescribe, typed(StreamsGroupDescribeResponse::default())),
        ] {
            assert_eq!(throttled(api, 0, body)[..4], MILLIS.to_be_bytes());
        }
        let own = [ApiKey::Fetch, ApiKey::ShareFetch, ApiKey::StreamsGroupHeartbeat, ApiKey::StreamsGroupDescribe];
        let none = [ApiKey::SaslHandshake, ApiKey::SaslAuthenticate, ApiKey::WriteTxnMarkers, ApiKey::DescribeQuorum];
        seen.extend(own.iter().chain(&none).map(|api| *api as i16));
        let missing: Vec<_> = TABLE.iter().filter(|row| !seen.contains(&(row.key as i16))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_the_backend_says_already_stays_when_it_is_more() {
        let response = CreateTopicsResponse::default().with_throttle_time_ms(500);
        let mut chunks = typed(response).encode(7).expect("encodes");
        assert_eq!(raise(ApiKey::CreateTopics, 7, &mut chunks, 400), 500);
        assert_eq!(raise(ApiKey::CreateTopics, 7, &mut chunks, 600), 600);
    }

    #[test]
    fn a_body_that_is_too_short_is_left_alone() {
        let mut short = Chunks::default();
        short.buffer.extend_from_slice(b"abc");
        assert_eq!(raise(ApiKey::Metadata, 12, &mut short, 7), 7);
        assert_eq!(&short.buffer[..], b"abc");
    }
}
