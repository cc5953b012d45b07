//! Requests of producers and consumers, transactions included.
//!
//! Transcribed from Kafka's message definitions (`clients/src/main/resources/common/message`).

use super::schema::{
    INT8, INT32, NEVER, Schema, array, array_of, bytes, int8, int16, int32, int64, string, structure, uuid,
};

pub(super) const PRODUCE: Schema = Schema {
    flexible: 9,
    fields: &[
        string("TransactionalId").nullable(3),
        int16("Acks"),
        int32("TimeoutMs"),
        array(
            "TopicData",
            &[
                string("Name").until(12),
                uuid("TopicId").since(13),
                array("PartitionData", &[int32("Index"), bytes("Records").nullable(0)]),
            ],
        ),
    ],
};

pub(super) const FETCH: Schema = Schema {
    flexible: 12,
    fields: &[
        string("ClusterId").since(12).nullable(12).tag(0),
        int32("ReplicaId").until(14),
        structure("ReplicaState", &[int32("ReplicaId").since(15), int64("ReplicaEpoch").since(15)]).since(15).tag(1),
        int32("MaxWaitMs"),
        int32("MinBytes"),
        int32("MaxBytes"),
        int8("IsolationLevel"),
        int32("SessionId").since(7),
        int32("SessionEpoch").since(7),
        array(
            "Topics",
            &[
                string("Topic").until(12),
                uuid("TopicId").since(13),
                array(
                    "Partitions",
                    &[
                        int32("Partition"),
                        int32("CurrentLeaderEpoch").since(9),
                        int64("FetchOffset"),
                        int32("LastFetchedEpoch").since(12),
                        int64("LogStartOffset").since(5),
                        int32("PartitionMaxBytes"),
                        uuid("ReplicaDirectoryId").since(17).tag(0),
                        int64("HighWatermark").since(18).tag(1),
                    ],
                ),
            ],
        ),
        array(
            "ForgottenTopicsData",
            &[string("Topic").since(7).until(12), uuid("TopicId").since(13), array_of("Partitions", &INT32).since(7)],
        )
        .since(7),
        string("RackId").since(11),
    ],
};

pub(super) const LIST_OFFSETS: Schema = Schema {
    flexible: 6,
    fields: &[
        int32("ReplicaId"),
        int8("IsolationLevel").since(2),
        array(
            "Topics",
            &[
                string("Name"),
                array(
                    "Partitions",
                    &[int32("PartitionIndex"), int32("CurrentLeaderEpoch").since(4), int64("Timestamp")],
                ),
            ],
        ),
        int32("TimeoutMs").since(10),
    ],
};

pub(super) const METADATA: Schema = Schema {
    flexible: 9,
    fields: &[
        array("Topics", &[uuid("TopicId").since(10), string("Name").nullable(10)]).nullable(1),
        int8("AllowAutoTopicCreation").since(4),
        int8("IncludeClusterAuthorizedOperations").since(8).until(10),
        int8("IncludeTopicAuthorizedOperations").since(8),
    ],
};

pub(super) const API_VERSIONS: Schema = Schema {
    flexible: 3,
    fields: &[
        string("ClientSoftwareName").since(3),
        string("ClientSoftwareVersion").since(3),
        string("ClusterId").since(5).nullable(5),
        int32("NodeId").since(5),
    ],
};

pub(super) const INIT_PRODUCER_ID: Schema = Schema {
    flexible: 2,
    fields: &[
        string("TransactionalId").nullable(0),
        int32("TransactionTimeoutMs"),
        int64("ProducerId").since(3),
        int16("ProducerEpoch").since(3),
        int8("Enable2Pc").since(6),
        int8("KeepPreparedTxn").since(6),
    ],
};

pub(super) const WRITE_TXN_MARKERS: Schema = Schema {
    flexible: 1,
    fields: &[array(
        "Markers",
        &[
            int64("ProducerId"),
            int16("ProducerEpoch"),
            int8("TransactionResult"),
            array("Topics", &[string("Name"), array_of("PartitionIndexes", &INT32)]),
            int32("CoordinatorEpoch"),
            int8("TransactionVersion").since(2),
        ],
    )],
};

pub(super) const OFFSET_FOR_LEADER_EPOCH: Schema = Schema {
    flexible: 4,
    fields: &[
        int32("ReplicaId").since(3),
        array(
            "Topics",
            &[
                string("Topic"),
                array("Partitions", &[int32("Partition"), int32("CurrentLeaderEpoch"), int32("LeaderEpoch")]),
            ],
        ),
    ],
};

pub(super) const ADD_PARTITIONS_TO_TXN: Schema = Schema {
    flexible: 3,
    fields: &[
        array(
            "Transactions",
            &[
                string("TransactionalId").since(4),
                int64("ProducerId").since(4),
                int16("ProducerEpoch").since(4),
                int8("VerifyOnly").since(4),
                array("Topics", &[string("Name"), array_of("Partitions", &INT32)]).since(4),
            ],
        )
        .since(4),
        string("V3AndBelowTransactionalId").until(3),
        int64("V3AndBelowProducerId").until(3),
        int16("V3AndBelowProducerEpoch").until(3),
        array("V3AndBelowTopics", &[string("Name"), array_of("Partitions", &INT32)]).until(3),
    ],
};

pub(super) const ADD_OFFSETS_TO_TXN: Schema = Schema {
    flexible: 3,
    fields: &[string("TransactionalId"), int64("ProducerId"), int16("ProducerEpoch"), string("GroupId")],
};

pub(super) const END_TXN: Schema = Schema {
    flexible: 3,
    fields: &[string("TransactionalId"), int64("ProducerId"), int16("ProducerEpoch"), int8("Committed")],
};

pub(super) const TXN_OFFSET_COMMIT: Schema = Schema {
    flexible: 3,
    fields: &[
        string("TransactionalId"),
        string("GroupId"),
        int64("ProducerId"),
        int16("ProducerEpoch"),
        int32("GenerationIdOrMemberEpoch").since(3),
        string("MemberId").since(3),
        string("GroupInstanceId").since(3).nullable(3),
        array(
            "Topics",
            &[
                string("Name").until(5),
                uuid("TopicId").since(6),
                array(
                    "Partitions",
                    &[
                        int32("PartitionIndex"),
                        int64("CommittedOffset"),
                        int32("CommittedLeaderEpoch").since(2),
                        string("CommittedMetadata").nullable(0),
                    ],
                ),
            ],
        ),
    ],
};

pub(super) const SHARE_FETCH: Schema = Schema {
    flexible: 0,
    fields: &[
        string("GroupId").nullable(0),
        string("MemberId").nullable(0),
        int32("ShareSessionEpoch"),
        int32("MaxWaitMs"),
        int32("MinBytes"),
        int32("MaxBytes"),
        int32("MaxRecords"),
        int32("BatchSize"),
        int8("ShareAcquireMode").since(2),
        int8("IsRenewAck").since(2),
        array(
            "Topics",
            &[
                uuid("TopicId"),
                array(
                    "Partitions",
                    &[
                        int32("PartitionIndex"),
                        array(
                            "AcknowledgementBatches",
                            &[int64("FirstOffset"), int64("LastOffset"), array_of("AcknowledgeTypes", &INT8)],
                        ),
                    ],
                ),
            ],
        ),
        array("ForgottenTopicsData", &[uuid("TopicId"), array_of("Partitions", &INT32)]),
    ],
};

pub(super) const SHARE_ACKNOWLEDGE: Schema = Schema {
    flexible: 0,
    fields: &[
        string("GroupId").nullable(0),
        string("MemberId").nullable(0),
        int32("ShareSessionEpoch"),
        int8("IsRenewAck").since(2),
        array(
            "Topics",
            &[
                uuid("TopicId"),
                array(
                    "Partitions",
                    &[
                        int32("PartitionIndex"),
                        array(
                            "AcknowledgementBatches",
                            &[int64("FirstOffset"), int64("LastOffset"), array_of("AcknowledgeTypes", &INT8)],
                        ),
                    ],
                ),
            ],
        ),
    ],
};

pub(super) const SASL_HANDSHAKE: Schema = Schema { flexible: NEVER, fields: &[string("Mechanism")] };

pub(super) const SASL_AUTHENTICATE: Schema = Schema { flexible: 2, fields: &[bytes("AuthBytes")] };
