//! What clients say: producing in transactions, reading what is committed.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use krocket_protocol::records::batch::ATTRIBUTE_TRANSACTIONAL;
use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset, Records};
use krocket_testkit::session::Session;

use crate::ledger::{Ledger, Seen};
use crate::{PARTITIONS, SOURCE, World};

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No answer: it may have been done.
    Lost(io::Error),
    /// The broker said no.
    Refused(i16),
}

impl Failure {
    /// For those that nobody has a reason to refuse.
    pub(crate) fn lost(self) -> io::Error {
        match self {
            Failure::Lost(error) => error,
            Failure::Refused(code) => panic!("refused with error {code}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Lost(error)
    }
}

/// A record with a key, or without one.
pub(crate) type Keyed = (Option<String>, String);

/// Answers after which the same is asked again.
const AGAIN: [i16; 4] = [14, 15, 16, 51];
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;

pub(crate) fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A transactional producer of protocol version 2, over one connection. What got no answer may be asked again over
/// another one.
pub(crate) struct Producer {
    pub(crate) session: Session,
    pub(crate) id: TransactionalId,
    pub(crate) producer: (i64, i16),
    sequences: [i32; PARTITIONS as usize],
}

impl Producer {
    /// Takes the id over: what it left open is aborted.
    pub(crate) async fn init(mut session: Session, id: &str, timeout: Duration) -> Result<Self, Failure> {
        let id = TransactionalId(StrBytes::from_string(id.to_owned()));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(timeout.as_millis() as i32)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        loop {
            let response = session.call(4, &request).await?;
            if AGAIN.contains(&response.error_code) {
                continue;
            }
            done(response.error_code)?;
            let producer = (response.producer_id.0, response.producer_epoch);
            return Ok(Producer { session, id, producer, sequences: [0; PARTITIONS as usize] });
        }
    }

    /// Where the first one is, if the broker still knows.
    pub(crate) async fn send(
        &mut self,
        to: &'static str,
        partition: i32,
        records: &[Keyed],
    ) -> Result<Option<i64>, Failure> {
        let sequence = self.sequences[partition as usize];
        let batch = BatchBuilder::new(0, now_ms())
            .producer(self.producer.0, self.producer.1, sequence)
            .attribute(ATTRIBUTE_TRANSACTIONAL, true);
        let answer = produce(&mut self.session, Some(&self.id), to, partition, batch, records).await?;
        self.sequences[partition as usize] = sequence + records.len() as i32;
        Ok(answer)
    }

    pub(crate) async fn end(&mut self, commit: bool) -> Result<(), Failure> {
        self.producer = end(&mut self.session, &self.id, self.producer, commit).await?;
        self.sequences = [0; PARTITIONS as usize];
        Ok(())
    }

    /// The offsets belong to the transaction.
    pub(crate) async fn stage(
        &mut self,
        group: &GroupId,
        of: &'static str,
        offsets: &[(i32, i64)],
    ) -> Result<(), Failure> {
        let partition = |(index, offset): &(i32, i64)| {
            TxnOffsetCommitRequestPartition::default().with_partition_index(*index).with_committed_offset(*offset)
        };
        let topics = TxnOffsetCommitRequestTopic::default()
            .with_name(topic(of))
            .with_partitions(offsets.iter().map(partition).collect());
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id.clone())
            .with_group_id(group.clone())
            .with_producer_id(ProducerId(self.producer.0))
            .with_producer_epoch(self.producer.1)
            .with_generation_id(-1)
            .with_topics(vec![topics]);
        loop {
            let response = self.session.call(5, &request).await?;
            let codes = response.topics[0].partitions.iter().map(|one| one.error_code);
            let Some(code) = codes.into_iter().find(|code| *code != 0) else { return Ok(()) };
            if !AGAIN.contains(&code) {
                return Err(Failure::Refused(code));
            }
        }
    }
}

/// Ends a transaction of this producer; gives what the next one has to call itself.
pub(crate) async fn end(
    session: &mut Session,
    id: &TransactionalId,
    producer: (i64, i16),
    commit: bool,
) -> Result<(i64, i16), Failure> {
    let request = EndTxnRequest::default()
        .with_transactional_id(id.clone())
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_committed(commit);
    loop {
        let response = session.call(5, &request).await?;
        if AGAIN.contains(&response.error_code) {
            continue;
        }
        done(response.error_code)?;
        return Ok((response.producer_id.0, response.producer_epoch));
    }
}

fn done(code: i16) -> Result<(), Failure> {
    if code == 0 { Ok(()) } else { Err(Failure::Refused(code)) }
}

/// Where the first one is, if the broker still knows.
pub(crate) async fn produce(
    session: &mut Session,
    id: Option<&TransactionalId>,
    to: &'static str,
    partition: i32,
    mut batch: BatchBuilder,
    records: &[Keyed],
) -> Result<Option<i64>, Failure> {
    for (place, (key, value)) in (0..).zip(records) {
        batch.push(place, now_ms(), key.as_ref().map(String::as_bytes), Some(value.as_bytes()), &[]);
    }
    let batch = batch.finish(LastOffset::Keep).expect("no codec").expect("has records");
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic(to)).with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_transactional_id(id.cloned())
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    loop {
        let response = session.call(12, &request).await?;
        let answer = &response.responses[0].partition_responses[0];
        match answer.error_code {
            0 => return Ok(Some(answer.base_offset)),
            DUPLICATE_SEQUENCE_NUMBER => return Ok(None),
            code if AGAIN.contains(&code) => {}
            code => return Err(Failure::Refused(code)),
        }
    }
}

/// How far a group has come, once no transaction is about to change it.
pub(crate) async fn committed(
    session: &mut Session,
    group: &GroupId,
    of: &'static str,
) -> io::Result<[i64; PARTITIONS as usize]> {
    let asked =
        OffsetFetchRequestTopics::default().with_name(topic(of)).with_partition_indexes((0..PARTITIONS).collect());
    let asked = OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(Some(vec![asked]));
    let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_require_stable(true);
    loop {
        let response = session.call(8, &request).await?;
        let partitions = &response.groups[0].topics[0].partitions;
        if partitions.iter().any(|one| one.error_code == UNSTABLE_OFFSET_COMMIT) {
            continue;
        }
        let mut offsets = [0; PARTITIONS as usize];
        for one in partitions {
            assert_eq!(one.error_code, 0, "OffsetFetch");
            offsets[one.partition_index as usize] = one.committed_offset.max(0);
        }
        return Ok(offsets);
    }
}

/// A record as a read_committed consumer sees it.
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) value: String,
}

/// What one fetch gave.
pub(crate) struct Fetched {
    pub(crate) records: Vec<Record>,
    /// Where to go on.
    pub(crate) next: i64,
    pub(crate) last_stable: i64,
    pub(crate) high_watermark: i64,
}

impl Fetched {
    pub(crate) fn values(self) -> Vec<String> {
        self.records.into_iter().map(|record| record.value).collect()
    }
}

/// Records from here on, as clients work them out of the list of aborted transactions.
pub(crate) async fn fetch(
    session: &mut Session,
    from: &'static str,
    partition: i32,
    offset: i64,
    wait_ms: i32,
) -> io::Result<Fetched> {
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
    let (mut ignored, mut seen, mut next) = (HashSet::new(), Vec::new(), offset);
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
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let (key, value) = (record.key.map(text), text(record.value.unwrap_or_default()));
                    seen.push(Record { offset: record.offset, key, value });
                }
            }
        }
    }
    Ok(Fetched { records: seen, next, last_stable: data.last_stable_offset, high_watermark: data.high_watermark })
}

/// Everything up to the last stable offsets of now.
pub(crate) async fn scan(session: &mut Session, from: &'static str) -> io::Result<Seen> {
    let mut seen = Vec::new();
    for partition in 0..PARTITIONS {
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let fetched = fetch(session, from, partition, offset, 0).await?;
            let stable = fetched.last_stable;
            let moved = std::mem::replace(&mut offset, fetched.next) != fetched.next;
            all.extend(fetched.values());
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
                let Ok(fetched) = fetch(&mut session, SOURCE, partition, *offset, 5).await else {
                    break 'connected;
                };
                *offset = fetched.next;
                fetched.values().into_iter().for_each(|value| ledger.show(value));
            }
        }
    }
}
