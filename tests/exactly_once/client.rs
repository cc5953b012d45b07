//! What clients say: producing in transactions, reading what is committed.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::batch::ATTRIBUTE_TRANSACTIONAL;
use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset, Records};
use krocket_testkit::session::Session;

use crate::ledger::{Ledger, Seen};
use crate::{PARTITIONS, SOURCE, World};

/// Answers after which the same is asked again.
const AGAIN: [i16; 4] = [14, 15, 16, 51];

pub(crate) fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A transactional producer of protocol version 2, over one connection.
pub(crate) struct Producer {
    pub(crate) session: Session,
    pub(crate) id: TransactionalId,
    pub(crate) producer: (i64, i16),
    sequences: [i32; PARTITIONS as usize],
}

impl Producer {
    /// Takes the id over: what it left open is aborted.
    pub(crate) async fn init(mut session: Session, id: &str) -> io::Result<Self> {
        let id = TransactionalId(StrBytes::from_string(id.to_owned()));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        loop {
            let response = session.call(4, &request).await?;
            if AGAIN.contains(&response.error_code) {
                continue;
            }
            assert_eq!(response.error_code, 0, "InitProducerId");
            let producer = (response.producer_id.0, response.producer_epoch);
            return Ok(Producer { session, id, producer, sequences: [0; PARTITIONS as usize] });
        }
    }

    pub(crate) async fn send(&mut self, to: &'static str, partition: i32, values: &[String]) -> io::Result<()> {
        let sequence = &mut self.sequences[partition as usize];
        let mut builder = BatchBuilder::new(0, now_ms())
            .producer(self.producer.0, self.producer.1, *sequence)
            .attribute(ATTRIBUTE_TRANSACTIONAL, true);
        for (place, value) in (0..).zip(values) {
            builder.push(place, now_ms(), None, Some(value.as_bytes()), &[]);
        }
        *sequence += values.len() as i32;
        let batch = builder.finish(LastOffset::Keep).expect("no codec").expect("has records");
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
        let data = TopicProduceData::default().with_name(topic(to)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id.clone()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![data]);
        let response = self.session.call(12, &request).await?;
        let code = response.responses[0].partition_responses[0].error_code;
        assert_eq!(code, 0, "Produce");
        Ok(())
    }

    pub(crate) async fn end(&mut self, commit: bool) -> io::Result<()> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_committed(commit);
        loop {
            let response = self.session.call(5, &request).await?;
            if AGAIN.contains(&response.error_code) {
                continue;
            }
            assert_eq!(response.error_code, 0, "EndTxn");
            self.producer = (response.producer_id.0, response.producer_epoch);
            self.sequences = [0; PARTITIONS as usize];
            return Ok(());
        }
    }
}

/// Values from here on, as clients work them out of the list of aborted transactions; and where to go on.
pub(crate) async fn fetch(
    session: &mut Session,
    from: &'static str,
    partition: i32,
    offset: i64,
    wait_ms: i32,
) -> io::Result<(Vec<String>, i64, i64)> {
    let asked = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(topic(from)).with_partitions(vec![asked]);
    let request = FetchRequest::default()
        .with_isolation_level(1)
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(4 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![asked]);
    let mut response = session.call(12, &request).await?;
    let mut data = response.responses.remove(0).partitions.remove(0);
    assert_eq!(data.error_code, 0, "Fetch");
    let mut aborted: Vec<(i64, i64)> =
        data.aborted_transactions.iter().flatten().map(|one| (one.first_offset, one.producer_id.0)).collect();
    aborted.sort_unstable_by(|a, b| b.cmp(a));
    let (mut ignored, mut values, mut next) = (HashSet::new(), Vec::new(), offset);
    let mut records = data.records.take().unwrap_or_default();
    while !records.is_empty() {
        let header = BatchHeader::read(&records).expect("a whole batch");
        let batch = records.split_to(header.len);
        header.check_crc(&batch).expect("crc");
        next = header.last_offset() + 1;
        while aborted.last().is_some_and(|(first, _)| *first <= header.last_offset()) {
            ignored.extend(aborted.pop().map(|(_, producer)| producer));
        }
        if header.is_control() {
            ignored.remove(&header.producer_id);
        } else if !ignored.contains(&header.producer_id) {
            let decoded = Records::open(&batch, &header, 1 << 20).expect("a batch");
            for record in decoded.iter() {
                let record = record.expect("a record");
                if record.offset >= offset {
                    values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
                }
            }
        }
    }
    Ok((values, next, data.last_stable_offset))
}

/// Everything up to the last stable offsets of now.
pub(crate) async fn scan(session: &mut Session, from: &'static str) -> io::Result<Seen> {
    let mut seen = Vec::new();
    for partition in 0..PARTITIONS {
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let (values, next, stable) = fetch(session, from, partition, offset, 0).await?;
            all.extend(values);
            let moved = std::mem::replace(&mut offset, next) != next;
            if offset >= stable || !moved {
                break;
            }
        }
        seen.push(all);
    }
    Ok(seen)
}

/// A consumer that follows the source through every crash: what it is shown has to stay.
pub(crate) async fn watch_committed(ledger: Arc<Ledger>, mut world: World) {
    let mut offsets = [0; PARTITIONS as usize];
    loop {
        let (address, ending) = world.server().await;
        if ending {
            return;
        }
        let Ok(mut session) = Session::connect(address).await else {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            continue;
        };
        'connected: while !world.is_ending() {
            for (partition, offset) in (0..).zip(offsets.iter_mut()) {
                let Ok((values, next, _)) = fetch(&mut session, SOURCE, partition, *offset, 5).await else {
                    break 'connected;
                };
                *offset = next;
                values.into_iter().for_each(|value| ledger.show(value));
            }
        }
    }
}
