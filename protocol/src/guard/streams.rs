//! Requests about streams groups (KIP-1071).
//!
//! Transcribed from Kafka's message definitions (`clients/src/main/resources/common/message`).

use super::schema::Field;
use super::schema::{INT16, INT32, STRING, Schema, array, array_of, int8, int16, int32, int64, string, structure};

const TASK_IDS: &[Field] = &[string("SubtopologyId"), array_of("Partitions", &INT32)];
const TASK_OFFSET: &[Field] = &[string("SubtopologyId"), int32("Partition"), int64("Offset")];
const KEY_VALUE: &[Field] = &[string("Key"), string("Value")];
const TOPIC_INFO: &[Field] =
    &[string("Name"), int32("Partitions"), int16("ReplicationFactor"), array("TopicConfigs", KEY_VALUE)];

pub(super) const STREAMS_GROUP_HEARTBEAT: Schema = Schema {
    flexible: 0,
    fields: &[
        string("GroupId"),
        string("MemberId"),
        int32("MemberEpoch"),
        int32("EndpointInformationEpoch"),
        string("InstanceId").nullable(0),
        string("RackId").nullable(0),
        int32("RebalanceTimeoutMs"),
        structure(
            "Topology",
            &[
                int32("Epoch"),
                array(
                    "Subtopologies",
                    &[
                        string("SubtopologyId"),
                        array_of("SourceTopics", &STRING),
                        array_of("SourceTopicRegex", &STRING),
                        array("StateChangelogTopics", TOPIC_INFO),
                        array_of("RepartitionSinkTopics", &STRING),
                        array("RepartitionSourceTopics", TOPIC_INFO),
                        array(
                            "CopartitionGroups",
                            &[
                                array_of("SourceTopics", &INT16),
                                array_of("SourceTopicRegex", &INT16),
                                array_of("RepartitionSourceTopics", &INT16),
                            ],
                        ),
                    ],
                ),
            ],
        )
        .nullable(0),
        array("ActiveTasks", TASK_IDS).nullable(0),
        array("StandbyTasks", TASK_IDS).nullable(0),
        array("WarmupTasks", TASK_IDS).nullable(0),
        string("ProcessId").nullable(0),
        structure("UserEndpoint", &[string("Host"), int16("Port")]).nullable(0),
        array("ClientTags", KEY_VALUE).nullable(0),
        array("TaskOffsets", TASK_OFFSET).nullable(0),
        array("TaskEndOffsets", TASK_OFFSET).nullable(0),
        int8("ShutdownApplication"),
    ],
};

pub(super) const STREAMS_GROUP_DESCRIBE: Schema =
    Schema { flexible: 0, fields: &[array_of("GroupIds", &STRING), int8("IncludeAuthorizedOperations")] };
