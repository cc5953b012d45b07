//! The keys of Kafka's APIs: those of the `kafka-protocol` crate, and those that it lacks.

use kafka_protocol::messages::ApiKey as CrateKey;
use kafka_protocol::protocol::VersionRange;

use crate::{describe_share_group_offsets, streams_group_describe, streams_group_heartbeat};
use crate::{list_offsets, offset_commit, offset_fetch, share_acknowledge, share_fetch};

macro_rules! api_keys {
    ($($name:ident = $key:literal,)*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ApiKey {
            $(#[allow(missing_docs)] $name = $key,)*
        }

        impl ApiKey {
            /// Every API in key order.
            pub const ALL: &[ApiKey] = &[$(ApiKey::$name),*];
        }

        impl TryFrom<i16> for ApiKey {
            type Error = ();

            fn try_from(key: i16) -> Result<Self, ()> {
                match key {
                    $($key => Ok(ApiKey::$name),)*
                    _ => Err(()),
                }
            }
        }
    };
}

api_keys! {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    Vote = 52,
    BeginQuorumEpoch = 53,
    EndQuorumEpoch = 54,
    DescribeQuorum = 55,
    AlterPartition = 56,
    UpdateFeatures = 57,
    Envelope = 58,
    FetchSnapshot = 59,
    DescribeCluster = 60,
    DescribeProducers = 61,
    BrokerRegistration = 62,
    BrokerHeartbeat = 63,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    AllocateProducerIds = 67,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ControllerRegistration = 70,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    AssignReplicasToDirs = 73,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
    AddRaftVoter = 80,
    RemoveRaftVoter = 81,
    UpdateRaftVoter = 82,
    InitializeShareGroupState = 83,
    ReadShareGroupState = 84,
    WriteShareGroupState = 85,
    DeleteShareGroupState = 86,
    ReadShareGroupStateSummary = 87,
    StreamsGroupHeartbeat = 88,
    StreamsGroupDescribe = 89,
    DescribeShareGroupOffsets = 90,
    AlterShareGroupOffsets = 91,
    DeleteShareGroupOffsets = 92,
}

impl ApiKey {
    /// The version of a request's header.
    pub fn request_header_version(self, version: i16) -> i16 {
        self.known().map_or(2, |key| key.request_header_version(version))
    }

    /// The version of a response's header.
    pub fn response_header_version(self, version: i16) -> i16 {
        self.known().map_or(1, |key| key.response_header_version(version))
    }

    /// The versions that there are messages for.
    pub fn valid_versions(self) -> VersionRange {
        match self {
            ApiKey::ListOffsets => list_offsets::VERSIONS,
            ApiKey::OffsetCommit => offset_commit::VERSIONS,
            ApiKey::OffsetFetch => offset_fetch::VERSIONS,
            ApiKey::ShareFetch => share_fetch::VERSIONS,
            ApiKey::ShareAcknowledge => share_acknowledge::VERSIONS,
            ApiKey::StreamsGroupHeartbeat => streams_group_heartbeat::VERSIONS,
            ApiKey::StreamsGroupDescribe => streams_group_describe::VERSIONS,
            ApiKey::DescribeShareGroupOffsets => describe_share_group_offsets::VERSIONS,
            key => key.known().map_or(VersionRange { min: 0, max: -1 }, |key| key.valid_versions()),
        }
    }

    /// The crate's key; none for the APIs that it lacks, which have flexible headers at every version.
    fn known(self) -> Option<CrateKey> {
        CrateKey::try_from(self as i16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_crate_is_here_under_its_name() {
        for key in CrateKey::iter() {
            let ours = ApiKey::try_from(key as i16).expect("a key");
            assert_eq!(format!("{ours:?}"), format!("{key:?}"));
        }
        let lacking: Vec<_> = ApiKey::ALL.iter().filter(|key| key.known().is_none()).collect();
        assert_eq!(lacking, [&ApiKey::StreamsGroupHeartbeat, &ApiKey::StreamsGroupDescribe]);
    }
}
