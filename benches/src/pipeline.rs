//! Read, process, write: a record is read, its result and the position go into one transaction, and the result is read
//! by somebody who reads what is committed.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{FetchRequest, FindCoordinatorRequest, GroupId, TxnOffsetCommitRequest};

use crate::batch::Batch;
use crate::load::{Aim, Counters, Measured, Window, histogram};
use crate::transactions::{Transactional, again};
use crate::wire::{self, Connection, check, name, topic_name};

/// The last version with topic names instead of ids.
const FETCH: i16 = 12;
/// Of transaction protocol 2 (KIP-890).
const TXN_OFFSET_COMMIT: i16 = 5;

/// One record after the other through a transaction each: from partition 0 of the topic to partition 1.
pub(crate) struct Pipeline<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) topic: &'a str,
}

impl Pipeline<'_> {
    /// Returns latencies in nanoseconds, from the record's own sending to its result's arrival, and what was measured.
    pub(crate) fn run(&self, aim: Aim, window: Window) -> Result<(Histogram<u64>, Measured)> {
        let counters = Counters::default();
        thread::scope(|scope| {
            let thread = scope.spawn(|| counters.guard(self.pump(aim, &counters)));
            let measured = counters.watch(aim.pid, window);
            let latencies = thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
            Ok((latencies, measured?))
        })
    }

    fn pump(&self, aim: Aim, counters: &Counters) -> Result<Histogram<u64>> {
        let mut connection = Connection::open(aim.address)?;
        let group = GroupId(name(&format!("{}-group", self.topic)));
        let asked = FindCoordinatorRequest::default().with_coordinator_keys(vec![group.0.clone()]);
        again("FindCoordinator", || Ok(connection.call(4, &asked)?.coordinators[0].error_code))?;
        let mut producer = Transactional::begin(&mut connection, self.topic)?;
        let mut latencies = histogram()?;
        while !counters.stop.load(Relaxed) {
            let started = Instant::now();
            let offset = wire::produce(&mut connection, self.topic, 0, -1, self.batch)?;
            self.read(&mut connection, 0, offset)?;
            let result = producer.produce(&mut connection, self.topic, &[1], self.batch)?;
            let partition =
                TxnOffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset + 1);
            let topic = TxnOffsetCommitRequestTopic::default()
                .with_name(topic_name(self.topic))
                .with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default()
                .with_transactional_id(producer.id.clone())
                .with_group_id(group.clone())
                .with_producer_id(producer.producer_id.into())
                .with_producer_epoch(producer.epoch)
                .with_generation_id(-1)
                .with_topics(vec![topic]);
            again("TxnOffsetCommit", || {
                let response = connection.call(TXN_OFFSET_COMMIT, &request)?;
                Ok(response.topics[0].partitions[0].error_code)
            })?;
            producer.commit(&mut connection)?;
            self.read(&mut connection, 1, result)?;
            latencies.record(started.elapsed().as_nanos() as u64)?;
            counters.sent_records.fetch_add(1, Relaxed);
            counters.sent_bytes.fetch_add(2 * self.batch.bytes.len() as u64, Relaxed);
        }
        Ok(latencies)
    }

    /// Waits for the record of this offset, under read_committed.
    fn read(&self, connection: &mut Connection, partition: i32, offset: i64) -> Result<()> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_isolation_level(1)
            .with_session_epoch(-1)
            .with_topics(vec![FetchTopic::default().with_topic(topic_name(self.topic)).with_partitions(vec![asked])]);
        let started = Instant::now();
        loop {
            let response = connection.call(FETCH, &request)?;
            check(response.error_code, "fetching")?;
            for answer in response.responses.iter().flat_map(|topic| &topic.partitions) {
                check(answer.error_code, &format!("fetching {}-{partition}", self.topic))?;
                if answer.records.as_ref().is_some_and(|records| !records.is_empty()) {
                    return Ok(());
                }
            }
            ensure!(started.elapsed().as_secs() < 30, "record {offset} of partition {partition} can't be read");
        }
    }
}
