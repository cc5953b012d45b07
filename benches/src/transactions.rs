//! Transactional producers: each writes a batch into some partitions and commits, one transaction after the other.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProducerId, TransactionalId};

use crate::batch::{self, Batch};
use crate::load::{Aim, Counters, Measured, Window, histogram};
use crate::wire::{Connection, check, name, topic_name};

/// Versions of transaction protocol 2 (KIP-890) with topic names.
const PRODUCE: i16 = 12;
const END_TXN: i16 = 5;
const TRANSACTION: i8 = 1;
/// How long a coordinator may take to get going, and a transaction to be over.
const PATIENCE: Duration = Duration::from_secs(30);

/// Saturating transactional producers.
pub(crate) struct Transactions<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) topic: &'a str,
    /// Partitions that a transaction writes to, from the first on.
    pub(crate) partitions: i32,
    pub(crate) producers: usize,
}

impl Transactions<'_> {
    /// Returns latencies of whole transactions in nanoseconds, what was measured, and the records that were committed.
    pub(crate) fn run(&self, aim: Aim, window: Window) -> Result<(Histogram<u64>, Measured, u64)> {
        let counters = Counters::default();
        let (latencies, measured) = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.producers)
                .map(|index| {
                    let c = &counters;
                    scope.spawn(move || c.guard(self.produce(aim, index, c)))
                })
                .collect();
            let measured = counters.watch(aim.pid, window);
            let mut latencies = histogram()?;
            for thread in threads {
                latencies.add(thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??)?;
            }
            Ok::<_, anyhow::Error>((latencies, measured?))
        })?;
        Ok((latencies, measured, counters.sent_records.load(Relaxed)))
    }

    fn produce(&self, aim: Aim, index: usize, counters: &Counters) -> Result<Histogram<u64>> {
        let mut connection = Connection::open(aim.address)?;
        let mut producer = Transactional::begin(&mut connection, &format!("{}-{index}", self.topic))?;
        let indexes: Vec<i32> = (0..self.partitions).collect();
        let mut latencies = histogram()?;
        while !counters.stop.load(Relaxed) {
            let started = Instant::now();
            producer.produce(&mut connection, self.topic, &indexes, self.batch)?;
            producer.commit(&mut connection)?;
            latencies.record(started.elapsed().as_nanos() as u64)?;
            let partitions = self.partitions as u64;
            counters.sent_records.fetch_add(partitions * u64::from(self.batch.records), Relaxed);
            counters.sent_bytes.fetch_add(partitions * self.batch.bytes.len() as u64, Relaxed);
        }
        Ok(latencies)
    }
}

/// A transactional producer's identity.
pub(crate) struct Transactional {
    pub(crate) id: TransactionalId,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

impl Transactional {
    /// Takes a transactional id.
    pub(crate) fn begin(connection: &mut Connection, id: &str) -> Result<Self> {
        let id = TransactionalId(name(id));
        let asked =
            FindCoordinatorRequest::default().with_key_type(TRANSACTION).with_coordinator_keys(vec![id.0.clone()]);
        again("FindCoordinator", || Ok(connection.call(4, &asked)?.coordinators[0].error_code))?;
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let mut producer = (-1, -1);
        again("InitProducerId", || {
            let response = connection.call(4, &init)?;
            producer = (response.producer_id.0, response.producer_epoch);
            Ok(response.error_code)
        })?;
        Ok(Self { id, producer_id: producer.0, epoch: producer.1 })
    }

    /// A batch for each partition; the offset of the first.
    pub(crate) fn produce(
        &self,
        connection: &mut Connection,
        topic: &str,
        partitions: &[i32],
        batch: &Batch,
    ) -> Result<i64> {
        let bytes = batch::transactional(batch, self.producer_id, self.epoch);
        let data = partitions
            .iter()
            .map(|index| PartitionProduceData::default().with_index(*index).with_records(Some(bytes.clone())));
        let data = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(data.collect());
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id.clone()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data]);
        let mut offset = -1;
        again("Produce", || {
            let response = connection.call(PRODUCE, &request)?;
            let mut answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            offset = answers.clone().next().map_or(-1, |answer| answer.base_offset);
            Ok(answers.find(|answer| answer.error_code != 0).map_or(0, |answer| answer.error_code))
        })?;
        Ok(offset)
    }

    pub(crate) fn commit(&mut self, connection: &mut Connection) -> Result<()> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(true);
        again("EndTxn", || {
            let response = connection.call(END_TXN, &request)?;
            if response.error_code == 0 {
                (self.producer_id, self.epoch) = (response.producer_id.0, response.producer_epoch);
            }
            Ok(response.error_code)
        })
    }
}

/// Asks until the answer is not to ask again: Kafka's coordinator says so while it starts, and while the markers of the
/// last transaction are on their way.
pub(crate) fn again(what: &str, mut ask: impl FnMut() -> Result<i16>) -> Result<()> {
    let passing = [
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::CoordinatorNotAvailable,
        ResponseError::NotCoordinator,
        ResponseError::ConcurrentTransactions,
    ]
    .map(|error| error.code());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let code = ask()?;
        if !passing.contains(&code) {
            return check(code, what);
        }
        if Instant::now() > deadline {
            bail!("{what}: error {code} for {PATIENCE:?}");
        }
        // Less than clients wait: how long the server really takes is what is measured.
        thread::sleep(Duration::from_millis(1));
    }
}
