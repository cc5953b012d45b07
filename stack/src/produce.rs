//! A Produce request as layers see it: one batch per partition, what they note about it, why they refuse it.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::TransactionalId;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use krocket_protocol::records::{Rejection, Walked};
use krocket_protocol::{ErrorCode, StrBytes};
use uuid::Uuid;

use crate::notes::Notes;

/// A Produce request.
#[derive(Clone, Debug, Default)]
pub struct Produce {
    /// The producer's transactional id.
    pub transactional_id: Option<TransactionalId>,
    /// 0, 1 or -1; anything else is refused by the backend.
    pub acks: i16,
    /// How long the client waits, ms.
    pub timeout_ms: i32,
    /// What is produced, by topic.
    pub topics: Vec<ProduceTopic>,
}

/// The part of a request that is for one topic.
#[derive(Clone, Debug, Default)]
pub struct ProduceTopic {
    /// Its name; empty from version 13 on, until a layer looked it up.
    pub name: StrBytes,
    /// Its id; zero before version 13.
    pub id: Uuid,
    /// What is produced, by partition.
    pub partitions: Vec<ProducePartition>,
}

/// The batch for one partition.
#[derive(Clone, Debug, Default)]
pub struct ProducePartition {
    /// Index of the partition.
    pub index: i32,
    /// As it came: not checked yet.
    pub records: Bytes,
    /// What layers add.
    pub notes: Notes,
    /// Set by a layer: the batch is not appended, and this is the partition's answer. Other layers pass it over.
    pub refused: Option<Refusal>,
    /// What a walk over records found, once somebody walked; see whether it was over these.
    pub walked: Option<Walked>,
}

/// Why a batch is refused: an answer, not a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For the partition's error message.
    pub message: String,
    /// Records at fault, by their place in the batch, and what is wrong with each.
    pub records: Vec<(i32, String)>,
}

impl Refusal {
    /// The batch as such is refused.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into(), records: Vec::new() }
    }

    /// INVALID_RECORD because of one record.
    pub fn record(index: i32, message: impl Into<String>) -> Self {
        let message = message.into();
        Refusal { code: ErrorCode::InvalidRecord, message: message.clone(), records: vec![(index, message)] }
    }

    /// Not now, because of one record. NOT_ENOUGH_REPLICAS: nothing was appended, and every client tries again by itself.
    pub fn busy(index: i32, message: impl Into<String>) -> Self {
        Refusal { code: ErrorCode::NotEnoughReplicas, ..Refusal::record(index, message) }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Refusal { code: rejection.code, message: rejection.message, records: rejection.records }
    }
}

impl Produce {
    /// The partitions that nobody refused yet, with their topics.
    pub fn open_partitions(&mut self) -> impl Iterator<Item = (&StrBytes, &mut ProducePartition)> {
        self.topics.iter_mut().flat_map(|topic| {
            let name = &topic.name;
            let open = topic.partitions.iter_mut().filter(|partition| partition.refused.is_none());
            open.map(move |partition| (name, partition))
        })
    }
}

impl From<ProduceRequest> for Produce {
    fn from(request: ProduceRequest) -> Self {
        let partition = |data: PartitionProduceData| ProducePartition {
            index: data.index,
            records: data.records.unwrap_or_default(),
            ..ProducePartition::default()
        };
        let topic = |topic: TopicProduceData| ProduceTopic {
            name: topic.name.0,
            id: topic.topic_id,
            partitions: topic.partition_data.into_iter().map(partition).collect(),
        };
        Produce {
            transactional_id: request.transactional_id,
            acks: request.acks,
            timeout_ms: request.timeout_ms,
            topics: request.topic_data.into_iter().map(topic).collect(),
        }
    }
}
