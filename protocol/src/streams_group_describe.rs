//! StreamsGroupDescribe, version 0 (KIP-1071), which the `kafka-protocol` crate lacks.

use kafka_protocol::protocol::{Request, StrBytes, VersionRange};

use crate::ApiKey;
use crate::streams_group_heartbeat::{Endpoint, KeyValue, TaskIds, TaskOffset, TopicInfo};
use crate::structure::{messages, structures};

/// The served version.
pub const VERSIONS: VersionRange = VersionRange { min: 0, max: 0 };

structures! {
    /// A StreamsGroupDescribe request.
    pub struct StreamsGroupDescribeRequest {
        /// The groups.
        pub group_ids: Vec<StrBytes>,
        /// Whether to say what the client may do with them.
        pub include_authorized_operations: bool,
    }

    /// A StreamsGroupDescribe response.
    pub struct StreamsGroupDescribeResponse {
        /// How long the client was throttled.
        pub throttle_time_ms: i32,
        /// Groups in the order asked for.
        pub groups: Vec<DescribedGroup>,
    }

    /// One group of a [`StreamsGroupDescribeResponse`].
    pub struct DescribedGroup {
        /// Error code.
        pub error_code: i16,
        /// What a person is told of the error.
        pub error_message: Option<StrBytes>,
        /// The group's id.
        pub group_id: StrBytes,
        /// What state it is in.
        pub group_state: StrBytes,
        /// Its epoch.
        pub group_epoch: i32,
        /// Epoch of its assignment.
        pub assignment_epoch: i32,
        /// Its topology.
        pub topology: Option<DescribedTopology>,
        /// Its members.
        pub members: Vec<DescribedMember>,
        /// What the client may do with it.
        pub authorized_operations: i32,
    }

    /// The topology of a [`DescribedGroup`].
    pub struct DescribedTopology {
        /// Its epoch.
        pub epoch: i32,
        /// Its parts, once their topics are there.
        pub subtopologies: Option<Vec<DescribedSubtopology>>,
    }

    /// One part of a [`DescribedTopology`].
    pub struct DescribedSubtopology {
        /// Its id.
        pub subtopology_id: StrBytes,
        /// Topics that it reads.
        pub source_topics: Vec<StrBytes>,
        /// Repartition topics that it writes.
        pub repartition_sink_topics: Vec<StrBytes>,
        /// Changelogs of its stores.
        pub state_changelog_topics: Vec<TopicInfo>,
        /// Repartition topics that it reads.
        pub repartition_source_topics: Vec<TopicInfo>,
    }

    /// One member of a [`DescribedGroup`].
    pub struct DescribedMember {
        /// Its id.
        pub member_id: StrBytes,
        /// Its epoch.
        pub member_epoch: i32,
        /// Its instance id.
        pub instance_id: Option<StrBytes>,
        /// Its rack.
        pub rack_id: Option<StrBytes>,
        /// What its client calls itself.
        pub client_id: StrBytes,
        /// Where its client is.
        pub client_host: StrBytes,
        /// Epoch of its topology.
        pub topology_epoch: i32,
        /// Its process.
        pub process_id: StrBytes,
        /// Where that answers interactive queries.
        pub user_endpoint: Option<Endpoint>,
        /// Tags of the process.
        pub client_tags: Vec<KeyValue>,
        /// How far changelogs have been read.
        pub task_offsets: Vec<TaskOffset>,
        /// Where changelogs end.
        pub task_end_offsets: Vec<TaskOffset>,
        /// Tasks that it owns.
        pub assignment: Assignment,
        /// Tasks that it is to own.
        pub target_assignment: Assignment,
        /// True for a member of the classic protocol.
        pub is_classic: bool,
    }

    /// Tasks of a [`DescribedMember`].
    pub struct Assignment {
        /// Active ones.
        pub active_tasks: Vec<TaskIds>,
        /// Standby ones.
        pub standby_tasks: Vec<TaskIds>,
        /// Warm-up ones.
        pub warmup_tasks: Vec<TaskIds>,
    }
}

messages! {
    StreamsGroupDescribeRequest: header 2;
    StreamsGroupDescribeResponse: header 1;
}

impl Request for StreamsGroupDescribeRequest {
    const KEY: i16 = ApiKey::StreamsGroupDescribe as i16;
    type Response = StreamsGroupDescribeResponse;
}
