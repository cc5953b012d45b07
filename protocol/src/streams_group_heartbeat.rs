//! StreamsGroupHeartbeat, version 0 (KIP-1071), which the `kafka-protocol` crate lacks.

use kafka_protocol::protocol::{Request, StrBytes, VersionRange};

use crate::ApiKey;
use crate::structure::{messages, structures};

/// The served version.
pub const VERSIONS: VersionRange = VersionRange { min: 0, max: 0 };

structures! {
    /// A StreamsGroupHeartbeat request.
    pub struct StreamsGroupHeartbeatRequest {
        /// The group.
        pub group_id: StrBytes,
        /// The member's id, its own choice.
        pub member_id: StrBytes,
        /// The member's epoch; 0 joins, -1 leaves, -2 leaves for a while.
        pub member_epoch: i32,
        /// Epoch of the endpoints that the member knows.
        pub endpoint_information_epoch: i32,
        /// Instance id of a static member; none where unchanged.
        pub instance_id: Option<StrBytes>,
        /// Rack; none where unchanged.
        pub rack_id: Option<StrBytes>,
        /// How long the member may take to give up tasks; -1 where unchanged.
        pub rebalance_timeout_ms: i32,
        /// The application's topology, of a member that joins.
        pub topology: Option<Topology>,
        /// Active tasks that the member owns; none where unchanged.
        pub active_tasks: Option<Vec<TaskIds>>,
        /// Standby tasks that the member owns; none where unchanged.
        pub standby_tasks: Option<Vec<TaskIds>>,
        /// Warm-up tasks that the member owns; none where unchanged.
        pub warmup_tasks: Option<Vec<TaskIds>>,
        /// The process, which may have several members; none where unchanged.
        pub process_id: Option<StrBytes>,
        /// Where the process answers interactive queries.
        pub user_endpoint: Option<Endpoint>,
        /// Tags of the process; none where unchanged.
        pub client_tags: Option<Vec<KeyValue>>,
        /// How far changelogs have been read; none where unchanged.
        pub task_offsets: Option<Vec<TaskOffset>>,
        /// Where changelogs end; none where unchanged.
        pub task_end_offsets: Option<Vec<TaskOffset>>,
        /// Asks all members to shut down.
        pub shutdown_application: bool,
    }

    /// The processing graph of a Streams application.
    pub struct Topology {
        /// Grows when the application is changed.
        pub epoch: i32,
        /// Its parts.
        pub subtopologies: Vec<Subtopology>,
    }

    /// A part of a [`Topology`] whose tasks read the same topics.
    pub struct Subtopology {
        /// Its id.
        pub subtopology_id: StrBytes,
        /// Topics that it reads.
        pub source_topics: Vec<StrBytes>,
        /// Patterns of topics that it reads.
        pub source_topic_regex: Vec<StrBytes>,
        /// Changelogs of its stores.
        pub state_changelog_topics: Vec<TopicInfo>,
        /// Repartition topics that it writes.
        pub repartition_sink_topics: Vec<StrBytes>,
        /// Repartition topics that it reads.
        pub repartition_source_topics: Vec<TopicInfo>,
        /// Which of its topics have as many partitions as one another.
        pub copartition_groups: Vec<CopartitionGroup>,
    }

    /// Topics that have as many partitions as one another, as indexes into the arrays of a [`Subtopology`].
    pub struct CopartitionGroup {
        /// Of `source_topics`.
        pub source_topics: Vec<i16>,
        /// Of `source_topic_regex`.
        pub source_topic_regex: Vec<i16>,
        /// Of `repartition_source_topics`.
        pub repartition_source_topics: Vec<i16>,
    }

    /// A topic that is made for the application.
    pub struct TopicInfo {
        /// Name.
        pub name: StrBytes,
        /// Partitions; 0 where it follows from other topics.
        pub partitions: i32,
        /// Replicas; 0 for the default.
        pub replication_factor: i16,
        /// Topic configs.
        pub topic_configs: Vec<KeyValue>,
    }

    /// A name and what it stands for.
    pub struct KeyValue {
        /// Name.
        pub key: StrBytes,
        /// Value.
        pub value: StrBytes,
    }

    /// Where a process answers interactive queries.
    pub struct Endpoint {
        /// Host.
        pub host: StrBytes,
        /// Port.
        pub port: u16,
    }

    /// An offset of a task's changelogs, all of them together.
    pub struct TaskOffset {
        /// The task's subtopology.
        pub subtopology_id: StrBytes,
        /// The task's partition.
        pub partition: i32,
        /// The offset.
        pub offset: i64,
    }

    /// Tasks of a subtopology.
    pub struct TaskIds {
        /// The subtopology.
        pub subtopology_id: StrBytes,
        /// Partitions of its source topics.
        pub partitions: Vec<i32>,
    }

    /// A StreamsGroupHeartbeat response.
    pub struct StreamsGroupHeartbeatResponse {
        /// How long the client was throttled.
        pub throttle_time_ms: i32,
        /// Error code.
        pub error_code: i16,
        /// What a person is told of the error.
        pub error_message: Option<StrBytes>,
        /// The member.
        pub member_id: StrBytes,
        /// Its epoch.
        pub member_epoch: i32,
        /// When to come again.
        pub heartbeat_interval_ms: i32,
        /// How far behind a warm-up task may be to take over.
        pub acceptable_recovery_lag: i32,
        /// How often offsets of tasks are told.
        pub task_offset_interval_ms: i32,
        /// What is the matter with the group; none where unchanged.
        pub status: Option<Vec<Status>>,
        /// Active tasks to own; none where unchanged.
        pub active_tasks: Option<Vec<TaskIds>>,
        /// Standby tasks to own; none where unchanged.
        pub standby_tasks: Option<Vec<TaskIds>>,
        /// Warm-up tasks to own; none where unchanged.
        pub warmup_tasks: Option<Vec<TaskIds>>,
        /// Epoch of the endpoints below.
        pub endpoint_information_epoch: i32,
        /// Which process has which partitions; none where unchanged.
        pub partitions_by_user_endpoint: Option<Vec<EndpointToPartitions>>,
    }

    /// Something that is the matter with a group.
    pub struct Status {
        /// What, a [`StatusCode`].
        pub status_code: i8,
        /// For a person.
        pub status_detail: StrBytes,
    }

    /// The partitions of one member's tasks.
    pub struct EndpointToPartitions {
        /// The member's process.
        pub user_endpoint: Endpoint,
        /// Of its active tasks.
        pub active_partitions: Vec<TopicPartitions>,
        /// Of its standby and warm-up tasks.
        pub standby_partitions: Vec<TopicPartitions>,
    }

    /// Partitions of a topic.
    pub struct TopicPartitions {
        /// Topic name.
        pub topic: StrBytes,
        /// Partition indexes.
        pub partitions: Vec<i32>,
    }
}

messages! {
    StreamsGroupHeartbeatRequest: header 2;
    StreamsGroupHeartbeatResponse: header 1;
}

impl Request for StreamsGroupHeartbeatRequest {
    const KEY: i16 = ApiKey::StreamsGroupHeartbeat as i16;
    type Response = StreamsGroupHeartbeatResponse;
}

/// What can be the matter with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum StatusCode {
    /// The member's topology is older than the group's.
    StaleTopology = 0,
    /// A source topic is not there, or a pattern matches none.
    MissingSourceTopics = 1,
    /// Topics that must have as many partitions as one another do not.
    IncorrectlyPartitionedTopics = 2,
    /// Topics that are made for the application are not there yet.
    MissingInternalTopics = 3,
    /// A member wants all of them to shut down.
    ShutdownApplication = 4,
    /// Tasks will be given out in a moment.
    AssignmentDelayed = 5,
}
