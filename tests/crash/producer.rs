//! Producers as real clients are: several requests in flight, and retries in order where sequences make them safe.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_testkit::history::{History, Partition, RecordId, What};
use krocket_testkit::session::Session;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::record;
use crate::world::{PARTITIONS, World};

const VERSION: i16 = 9;
const INIT_VERSION: i16 = 4;
/// Requests in flight, the most that Kafka's idempotence allows.
const DEPTH: usize = 5;
/// The answer to a batch that is there already but too long ago to tell where.
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;

struct Batch {
    partition: Partition,
    first: RecordId,
    count: u32,
    bytes: Bytes,
    invoked: u64,
}

pub(crate) struct Producer {
    id: u32,
    acks: i16,
    idempotent: bool,
    rng: StdRng,
    history: Arc<History>,
    producer: Option<(i64, i16)>,
    next_number: u64,
    next_sequence: HashMap<Partition, i32>,
    /// Sent or about to be, without an answer.
    pending: VecDeque<Batch>,
}

impl Producer {
    pub(crate) fn new(id: u32, acks: i16, idempotent: bool, seed: u64, history: Arc<History>) -> Self {
        Producer {
            id,
            acks,
            idempotent,
            rng: StdRng::seed_from_u64(seed),
            history,
            producer: None,
            next_number: 0,
            next_sequence: HashMap::new(),
            pending: VecDeque::new(),
        }
    }

    /// Produces until the world ends, reconnecting whenever the server comes back.
    pub(crate) async fn run(mut self, mut world: World) {
        while let Some(address) = world.server().await {
            if let Ok(mut session) = Session::connect(address).await {
                let _ = self.produce(&mut session, &world).await;
            }
            if !self.idempotent {
                // Whether these arrived is not known and may not be tried again.
                self.pending.clear();
            }
            world.server_gone(address).await;
        }
    }

    async fn produce(&mut self, session: &mut Session, world: &World) -> io::Result<()> {
        if self.idempotent && self.producer.is_none() {
            let request =
                InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
            let response = session.call(INIT_VERSION, &request).await?;
            assert_eq!(response.error_code, 0, "InitProducerId");
            self.producer = Some((response.producer_id.0, response.producer_epoch));
        }
        while !world.has_ended() {
            let depth = self.rng.random_range(1..=DEPTH);
            while self.pending.len() < depth {
                let batch = self.next_batch();
                self.pending.push_back(batch);
            }
            let mut sent = Vec::new();
            for batch in &self.pending {
                sent.push(session.send(VERSION, &request(batch, self.acks)).await?);
            }
            for correlation_id in sent {
                let response = session.receive::<ProduceRequest>(VERSION, correlation_id).await?;
                let answer = &response.responses[0].partition_responses[0];
                self.answered(answer.error_code, answer.base_offset);
            }
            let pause = self.rng.random_range(0..20);
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        }
        Ok(())
    }

    fn next_batch(&mut self) -> Batch {
        let partition = PARTITIONS[self.rng.random_range(0..PARTITIONS.len())];
        let count = self.rng.random_range(1..=20);
        let first = RecordId { producer: self.id, number: self.next_number };
        self.next_number += u64::from(count);
        let producer = self.producer.map(|(id, epoch)| {
            let next = self.next_sequence.entry(partition).or_insert(0);
            let sequence = *next;
            *next += count as i32;
            (id, epoch, sequence)
        });
        let bytes = record::batch(first, count, producer);
        Batch { partition, first, count, bytes, invoked: self.history.invoke() }
    }

    fn answered(&mut self, code: i16, base_offset: i64) {
        let Batch { partition, first, count, invoked, .. } = self.pending.pop_front().expect("it was sent");
        let acks = self.acks;
        let what = match code {
            0 => What::Acked { partition, base_offset: Some(base_offset), first, count, acks },
            DUPLICATE_SEQUENCE_NUMBER => What::Acked { partition, base_offset: None, first, count, acks },
            code => What::Refused { partition, first, code },
        };
        self.history.complete(invoked, what);
    }
}

fn request(batch: &Batch, acks: i16) -> ProduceRequest {
    let partition =
        PartitionProduceData::default().with_index(batch.partition.1).with_records(Some(batch.bytes.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str(batch.partition.0)))
        .with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}
