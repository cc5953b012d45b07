//! The code that tells how a request went, out of the encoded answer.

use krocket_protocol::ApiKey;
use krocket_protocol::chunk::Chunks;

use crate::quota::throttled_since;

/// The code that is the whole answer's, where the protocol has one.
pub(super) fn error_code(api: ApiKey, version: i16, body: &Chunks) -> Option<i16> {
    let all_in_buffer = body.len() == body.buffer.len();
    let at = error_place(api, version).filter(|_| all_in_buffer)?;
    body.buffer.get(at..)?.first_chunk().map(|bytes| i16::from_be_bytes(*bytes))
}

/// The code's place in the bytes of the body.
fn error_place(api: ApiKey, version: i16) -> Option<usize> {
    use ApiKey::*;
    match api {
        ApiVersions | SaslHandshake | SaslAuthenticate | OffsetDelete | DescribeQuorum => Some(0),
        AlterPartitionReassignments if version >= 1 => Some(5),
        FindCoordinator if version > 3 => None,
        Fetch if version < 7 => None,
        AddPartitionsToTxn if version < 4 => None,
        DescribeLogDirs if version < 3 => None,
        ElectLeaders if version < 1 => None,
        JoinGroup
        | FindCoordinator
        | Heartbeat
        | LeaveGroup
        | SyncGroup
        | ListGroups
        | Fetch
        | InitProducerId
        | AddPartitionsToTxn
        | AddOffsetsToTxn
        | EndTxn
        | DescribeAcls
        | DescribeLogDirs
        | ElectLeaders
        | AlterPartitionReassignments
        | ListPartitionReassignments
        | DescribeClientQuotas
        | DescribeUserScramCredentials
        | AlterShareGroupOffsets
        | DeleteShareGroupOffsets
        | DescribeCluster
        | ListTransactions
        | ConsumerGroupHeartbeat
        | ListConfigResources
        | ShareGroupHeartbeat
        | ShareFetch
        | ShareAcknowledge
        | StreamsGroupHeartbeat => Some(if version >= throttled_since(api) { 4 } else { 0 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::*;
    use krocket_protocol::fetch::FetchResponse;
    use krocket_protocol::{ApiKey, api};
    use krocket_stack::{Body, Message, Response};

    use super::*;

    const CODE: i16 = 0x1234;

    fn found(api: ApiKey, version: i16, message: impl Message) -> Option<i16> {
        let Response::Body(body) = Response::new(message) else { panic!("a body") };
        error_code(api, version, &body.encode(version).expect("encodes"))
    }

    macro_rules! check {
        ($($api:ident => $response:ident from $since:literal to $until:literal),+ $(,)?) => {$({
            let row = api::served(ApiKey::$api).expect("served");
            let known = <$response as kafka_protocol::protocol::Message>::VERSIONS.max;
            for version in row.min..=row.max.min(known) {
                let message = match ($since..=$until).contains(&version) {
                    true => $response::default().with_error_code(CODE),
                    false => $response::default(),
                };
                let expected = ($since..=$until).contains(&version).then_some(CODE);
                assert_eq!(found(ApiKey::$api, version, message), expected, "{} version {version}", stringify!($api));
            }
        })+};
    }

    #[test]
    fn an_answers_own_code_is_found_in_every_version() {
        check!(
            ApiVersions => ApiVersionsResponse from 0 to 99, SaslHandshake => SaslHandshakeResponse from 0 to 99,
            SaslAuthenticate => SaslAuthenticateResponse from 0 to 99, OffsetDelete => OffsetDeleteResponse from 0 to 99,
            DescribeQuorum => DescribeQuorumResponse from 0 to 99,
            AlterPartitionReassignments => AlterPartitionReassignmentsResponse from 0 to 99,
            FindCoordinator => FindCoordinatorResponse from 0 to 3, JoinGroup => JoinGroupResponse from 0 to 99,
            Heartbeat => HeartbeatResponse from 0 to 99, LeaveGroup => LeaveGroupResponse from 0 to 99,
            SyncGroup => SyncGroupResponse from 0 to 99, ListGroups => ListGroupsResponse from 0 to 99,
            InitProducerId => InitProducerIdResponse from 0 to 99,
            AddPartitionsToTxn => AddPartitionsToTxnResponse from 4 to 99,
            AddOffsetsToTxn => AddOffsetsToTxnResponse from 0 to 99, EndTxn => EndTxnResponse from 0 to 99,
            DescribeAcls => DescribeAclsResponse from 0 to 99, DescribeLogDirs => DescribeLogDirsResponse from 3 to 99,
            ElectLeaders => ElectLeadersResponse from 1 to 99,
            ListPartitionReassignments => ListPartitionReassignmentsResponse from 0 to 99,
            DescribeClientQuotas => DescribeClientQuotasResponse from 0 to 99,
            DescribeUserScramCredentials => DescribeUserScramCredentialsResponse from 0 to 99,
            AlterShareGroupOffsets => AlterShareGroupOffsetsResponse from 0 to 99,
            DeleteShareGroupOffsets => DeleteShareGroupOffsetsResponse from 0 to 99,
            DescribeCluster => DescribeClusterResponse from 0 to 99,
            ListTransactions => ListTransactionsResponse from 0 to 99,
            ConsumerGroupHeartbeat => ConsumerGroupHeartbeatResponse from 0 to 99,
            ListConfigResources => ListConfigResourcesResponse from 0 to 99,
            ShareGroupHeartbeat => ShareGroupHeartbeatResponse from 0 to 99,
            ShareAcknowledge => ShareAcknowledgeResponse from 0 to 99,
        );
        for version in 4..=18 {
            let response = FetchResponse { error_code: CODE, ..FetchResponse::default() };
            let body = Body::Fetch(response).encode(version).expect("encodes");
            assert_eq!(error_code(ApiKey::Fetch, version, &body), (version >= 7).then_some(CODE), "version {version}");
        }
        assert_eq!(found(ApiKey::Metadata, 12, MetadataResponse::default()), None);
    }
}
