//! Requests about groups of every protocol.
//!
//! Transcribed from Kafka's message definitions (`clients/src/main/resources/common/message`).

use super::schema::{INT32, NEVER, STRING, Schema, array, array_of, bytes, int8, int32, int64, string, uuid};

pub(super) const OFFSET_COMMIT: Schema = Schema {
    flexible: 8,
    fields: &[
        string("GroupId"),
        int32("GenerationIdOrMemberEpoch"),
        string("MemberId"),
        string("GroupInstanceId").since(7).nullable(7),
        int64("RetentionTimeMs").until(4),
        array(
            "Topics",
            &[
                string("Name").until(9),
                uuid("TopicId").since(10),
                array(
                    "Partitions",
                    &[
                        int32("PartitionIndex"),
                        int64("CommittedOffset"),
                        int32("CommittedLeaderEpoch").since(6),
                        string("CommittedMetadata").nullable(0),
                    ],
                ),
            ],
        ),
    ],
};

pub(super) const OFFSET_FETCH: Schema = Schema {
    flexible: 6,
    fields: &[
        string("GroupId").until(7),
        array("Topics", &[string("Name").until(7), array_of("PartitionIndexes", &INT32).until(7)]).until(7).nullable(2),
        array(
            "Groups",
            &[
                string("GroupId").since(8),
                string("MemberId").since(9).nullable(9),
                int32("MemberEpoch").since(9),
                array(
                    "Topics",
                    &[
                        string("Name").since(8).until(9),
                        uuid("TopicId").since(10),
                        array_of("PartitionIndexes", &INT32).since(8),
                    ],
                )
                .since(8)
                .nullable(8),
            ],
        )
        .since(8),
        int8("RequireStable").since(7),
    ],
};

pub(super) const OFFSET_DELETE: Schema = Schema {
    flexible: NEVER,
    fields: &[string("GroupId"), array("Topics", &[string("Name"), array("Partitions", &[int32("PartitionIndex")])])],
};

pub(super) const FIND_COORDINATOR: Schema = Schema {
    flexible: 3,
    fields: &[string("Key").until(3), int8("KeyType").since(1), array_of("CoordinatorKeys", &STRING).since(4)],
};

pub(super) const JOIN_GROUP: Schema = Schema {
    flexible: 6,
    fields: &[
        string("GroupId"),
        int32("SessionTimeoutMs"),
        int32("RebalanceTimeoutMs").since(1),
        string("MemberId"),
        string("GroupInstanceId").since(5).nullable(5),
        string("ProtocolType"),
        array("Protocols", &[string("Name"), bytes("Metadata")]),
        string("Reason").since(8).nullable(8),
    ],
};

pub(super) const HEARTBEAT: Schema = Schema {
    flexible: 4,
    fields: &[
        string("GroupId"),
        int32("GenerationId"),
        string("MemberId"),
        string("GroupInstanceId").since(3).nullable(3),
    ],
};

pub(super) const LEAVE_GROUP: Schema = Schema {
    flexible: 4,
    fields: &[
        string("GroupId"),
        string("MemberId").until(2),
        array(
            "Members",
            &[
                string("MemberId").since(3),
                string("GroupInstanceId").since(3).nullable(3),
                string("Reason").since(5).nullable(5),
            ],
        )
        .since(3),
    ],
};

pub(super) const SYNC_GROUP: Schema = Schema {
    flexible: 4,
    fields: &[
        string("GroupId"),
        int32("GenerationId"),
        string("MemberId"),
        string("GroupInstanceId").since(3).nullable(3),
        string("ProtocolType").since(5).nullable(5),
        string("ProtocolName").since(5).nullable(5),
        array("Assignments", &[string("MemberId"), bytes("Assignment")]),
    ],
};

pub(super) const DESCRIBE_GROUPS: Schema =
    Schema { flexible: 5, fields: &[array_of("Groups", &STRING), int8("IncludeAuthorizedOperations").since(3)] };

pub(super) const LIST_GROUPS: Schema = Schema {
    flexible: 3,
    fields: &[array_of("StatesFilter", &STRING).since(4), array_of("TypesFilter", &STRING).since(5)],
};

pub(super) const DELETE_GROUPS: Schema = Schema { flexible: 2, fields: &[array_of("GroupsNames", &STRING)] };

pub(super) const CONSUMER_GROUP_HEARTBEAT: Schema = Schema {
    flexible: 0,
    fields: &[
        string("GroupId"),
        string("MemberId"),
        int32("MemberEpoch"),
        string("InstanceId").nullable(0),
        string("RackId").nullable(0),
        int32("RebalanceTimeoutMs"),
        array_of("SubscribedTopicNames", &STRING).nullable(0),
        string("SubscribedTopicRegex").since(1).nullable(1),
        string("ServerAssignor").nullable(0),
        array("TopicPartitions", &[uuid("TopicId"), array_of("Partitions", &INT32)]).nullable(0),
    ],
};

pub(super) const CONSUMER_GROUP_DESCRIBE: Schema =
    Schema { flexible: 0, fields: &[array_of("GroupIds", &STRING), int8("IncludeAuthorizedOperations")] };

pub(super) const SHARE_GROUP_HEARTBEAT: Schema = Schema {
    flexible: 0,
    fields: &[
        string("GroupId"),
        string("MemberId"),
        int32("MemberEpoch"),
        string("RackId").nullable(0),
        array_of("SubscribedTopicNames", &STRING).nullable(0),
    ],
};

pub(super) const SHARE_GROUP_DESCRIBE: Schema =
    Schema { flexible: 0, fields: &[array_of("GroupIds", &STRING), int8("IncludeAuthorizedOperations")] };

pub(super) const DESCRIBE_SHARE_GROUP_OFFSETS: Schema = Schema {
    flexible: 0,
    fields: &[array(
        "Groups",
        &[string("GroupId"), array("Topics", &[string("TopicName"), array_of("Partitions", &INT32)]).nullable(0)],
    )],
};

pub(super) const ALTER_SHARE_GROUP_OFFSETS: Schema = Schema {
    flexible: 0,
    fields: &[
        string("GroupId"),
        array("Topics", &[string("TopicName"), array("Partitions", &[int32("PartitionIndex"), int64("StartOffset")])]),
    ],
};

pub(super) const DELETE_SHARE_GROUP_OFFSETS: Schema =
    Schema { flexible: 0, fields: &[string("GroupId"), array("Topics", &[string("TopicName")])] };
