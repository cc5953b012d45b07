//! Requests of administrators.
//!
//! Transcribed from Kafka's message definitions (`clients/src/main/resources/common/message`).

use super::schema::{
    INT8, INT32, INT64, STRING, Schema, array, array_of, bytes, int8, int16, int32, int64, string, structure, uuid,
};

pub(super) const CREATE_TOPICS: Schema = Schema {
    flexible: 5,
    fields: &[
        array(
            "Topics",
            &[
                string("Name"),
                int32("NumPartitions"),
                int16("ReplicationFactor"),
                array("Assignments", &[int32("PartitionIndex"), array_of("BrokerIds", &INT32)]),
                array("Configs", &[string("Name"), string("Value").nullable(0)]),
            ],
        ),
        int32("timeoutMs"),
        int8("validateOnly"),
    ],
};

pub(super) const DELETE_TOPICS: Schema = Schema {
    flexible: 4,
    fields: &[
        array("Topics", &[string("Name").since(6).nullable(6), uuid("TopicId").since(6)]).since(6),
        array_of("TopicNames", &STRING).until(5),
        int32("TimeoutMs"),
    ],
};

pub(super) const DELETE_RECORDS: Schema = Schema {
    flexible: 2,
    fields: &[
        array("Topics", &[string("Name"), array("Partitions", &[int32("PartitionIndex"), int64("Offset")])]),
        int32("TimeoutMs"),
    ],
};

pub(super) const CREATE_PARTITIONS: Schema = Schema {
    flexible: 2,
    fields: &[
        array(
            "Topics",
            &[string("Name"), int32("Count"), array("Assignments", &[array_of("BrokerIds", &INT32)]).nullable(0)],
        ),
        int32("TimeoutMs"),
        int8("ValidateOnly"),
    ],
};

pub(super) const DESCRIBE_TOPIC_PARTITIONS: Schema = Schema {
    flexible: 0,
    fields: &[
        array("Topics", &[string("Name")]),
        int32("ResponsePartitionLimit"),
        structure("Cursor", &[string("TopicName"), int32("PartitionIndex")]).nullable(0),
    ],
};

pub(super) const DESCRIBE_CONFIGS: Schema = Schema {
    flexible: 4,
    fields: &[
        array(
            "Resources",
            &[int8("ResourceType"), string("ResourceName"), array_of("ConfigurationKeys", &STRING).nullable(0)],
        ),
        int8("IncludeSynonyms"),
        int8("IncludeDocumentation").since(3),
    ],
};

pub(super) const ALTER_CONFIGS: Schema = Schema {
    flexible: 2,
    fields: &[
        array(
            "Resources",
            &[
                int8("ResourceType"),
                string("ResourceName"),
                array("Configs", &[string("Name"), string("Value").nullable(0)]),
            ],
        ),
        int8("ValidateOnly"),
    ],
};

pub(super) const INCREMENTAL_ALTER_CONFIGS: Schema = Schema {
    flexible: 1,
    fields: &[
        array(
            "Resources",
            &[
                int8("ResourceType"),
                string("ResourceName"),
                array("Configs", &[string("Name"), int8("ConfigOperation"), string("Value").nullable(0)]),
            ],
        ),
        int8("ValidateOnly"),
    ],
};

pub(super) const LIST_CONFIG_RESOURCES: Schema =
    Schema { flexible: 0, fields: &[array_of("ResourceTypes", &INT8).since(1)] };

pub(super) const DESCRIBE_LOG_DIRS: Schema =
    Schema { flexible: 2, fields: &[array("Topics", &[string("Topic"), array_of("Partitions", &INT32)]).nullable(0)] };

pub(super) const DESCRIBE_QUORUM: Schema = Schema {
    flexible: 0,
    fields: &[array("Topics", &[string("TopicName"), array("Partitions", &[int32("PartitionIndex")])])],
};

pub(super) const DESCRIBE_CLUSTER: Schema = Schema {
    flexible: 0,
    fields: &[
        int8("IncludeClusterAuthorizedOperations"),
        int8("EndpointType").since(1),
        int8("IncludeFencedBrokers").since(2),
    ],
};

pub(super) const DESCRIBE_PRODUCERS: Schema =
    Schema { flexible: 0, fields: &[array("Topics", &[string("Name"), array_of("PartitionIndexes", &INT32)])] };

pub(super) const DESCRIBE_TRANSACTIONS: Schema =
    Schema { flexible: 0, fields: &[array_of("TransactionalIds", &STRING)] };

pub(super) const LIST_TRANSACTIONS: Schema = Schema {
    flexible: 0,
    fields: &[
        array_of("StateFilters", &STRING),
        array_of("ProducerIdFilters", &INT64),
        int64("DurationFilter").since(1),
        string("TransactionalIdPattern").since(2).nullable(2),
    ],
};

pub(super) const ELECT_LEADERS: Schema = Schema {
    flexible: 2,
    fields: &[
        int8("ElectionType").since(1),
        array("TopicPartitions", &[string("Topic"), array_of("Partitions", &INT32)]).nullable(0),
        int32("TimeoutMs"),
    ],
};

pub(super) const ALTER_PARTITION_REASSIGNMENTS: Schema = Schema {
    flexible: 0,
    fields: &[
        int32("TimeoutMs"),
        int8("AllowReplicationFactorChange").since(1),
        array(
            "Topics",
            &[
                string("Name"),
                array("Partitions", &[int32("PartitionIndex"), array_of("Replicas", &INT32).nullable(0)]),
            ],
        ),
    ],
};

pub(super) const LIST_PARTITION_REASSIGNMENTS: Schema = Schema {
    flexible: 0,
    fields: &[int32("TimeoutMs"), array("Topics", &[string("Name"), array_of("PartitionIndexes", &INT32)]).nullable(0)],
};

pub(super) const DESCRIBE_ACLS: Schema = Schema {
    flexible: 2,
    fields: &[
        int8("ResourceTypeFilter"),
        string("ResourceNameFilter").nullable(0),
        int8("PatternTypeFilter"),
        string("PrincipalFilter").nullable(0),
        string("HostFilter").nullable(0),
        int8("Operation"),
        int8("PermissionType"),
    ],
};

pub(super) const CREATE_ACLS: Schema = Schema {
    flexible: 2,
    fields: &[array(
        "Creations",
        &[
            int8("ResourceType"),
            string("ResourceName"),
            int8("ResourcePatternType"),
            string("Principal"),
            string("Host"),
            int8("Operation"),
            int8("PermissionType"),
        ],
    )],
};

pub(super) const DELETE_ACLS: Schema = Schema {
    flexible: 2,
    fields: &[array(
        "Filters",
        &[
            int8("ResourceTypeFilter"),
            string("ResourceNameFilter").nullable(0),
            int8("PatternTypeFilter"),
            string("PrincipalFilter").nullable(0),
            string("HostFilter").nullable(0),
            int8("Operation"),
            int8("PermissionType"),
        ],
    )],
};

pub(super) const DESCRIBE_CLIENT_QUOTAS: Schema = Schema {
    flexible: 1,
    fields: &[
        array("Components", &[string("EntityType"), int8("MatchType"), string("Match").nullable(0)]),
        int8("Strict"),
    ],
};

pub(super) const ALTER_CLIENT_QUOTAS: Schema = Schema {
    flexible: 1,
    fields: &[
        array(
            "Entries",
            &[
                array("Entity", &[string("EntityType"), string("EntityName").nullable(0)]),
                array("Ops", &[string("Key"), int64("Value"), int8("Remove")]),
            ],
        ),
        int8("ValidateOnly"),
    ],
};

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: Schema =
    Schema { flexible: 0, fields: &[array("Users", &[string("Name")]).nullable(0)] };

pub(super) const ALTER_USER_SCRAM_CREDENTIALS: Schema = Schema {
    flexible: 0,
    fields: &[
        array("Deletions", &[string("Name"), int8("Mechanism")]),
        array(
            "Upsertions",
            &[string("Name"), int8("Mechanism"), int32("Iterations"), bytes("Salt"), bytes("SaltedPassword")],
        ),
    ],
};
