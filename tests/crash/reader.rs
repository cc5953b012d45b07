//! Fetches, and what they say, as events.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchHeader, Records};
use krocket_testkit::history::{History, Partition, RecordId, Sequences, What};
use krocket_testkit::session::Session;

use crate::record::identify;
use crate::world::by_topic;

const VERSION: i16 = 12;
const LIST_OFFSETS: i16 = 7;
const DELETE_RECORDS: i16 = 2;
/// ListOffsets' timestamp for the first offset.
const EARLIEST: i64 = -2;
/// The error of a fetch below the first offset.
pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
const LIMIT: usize = 64 << 20;

/// What one partition of a fetch response held.
pub(crate) struct Fetched {
    pub(crate) error_code: i16,
    pub(crate) records: Vec<(i64, Option<RecordId>)>,
    pub(crate) sequences: Vec<Sequences>,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// Where to fetch next.
    pub(crate) position: i64,
}

/// Fetches once, from each partition at its position, without a session.
pub(crate) async fn fetch(
    session: &mut Session,
    positions: &[(Partition, i64)],
    max_wait_ms: i32,
) -> io::Result<Vec<(Partition, Fetched)>> {
    let topics = by_topic(positions).into_iter().map(|(topic, partitions)| {
        let partition = |(index, position): (i32, i64)| {
            FetchPartition::default()
                .with_partition(index)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(position)
                .with_partition_max_bytes(256 << 10)
        };
        FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_static_str(topic)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    let request = FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(4 << 20)
        .with_session_epoch(-1)
        .with_topics(topics.collect());
    let response = session.call(VERSION, &request).await?;
    assert_eq!(response.error_code, 0, "a fetch without a session has no error of its own");
    let mut answers = HashMap::new();
    for topic in response.responses {
        for data in topic.partitions {
            answers.insert((topic.topic.to_string(), data.partition_index), data);
        }
    }
    let answer = |(partition, position): &(Partition, i64)| {
        let data =
            answers.remove(&(partition.0.to_owned(), partition.1)).expect("every partition asked for is answered");
        let mut fetched = Fetched {
            error_code: data.error_code,
            records: Vec::new(),
            sequences: Vec::new(),
            high_watermark: data.high_watermark,
            log_start: data.log_start_offset,
            position: *position,
        };
        read(data.records.unwrap_or_default(), &mut fetched);
        (*partition, fetched)
    };
    Ok(positions.iter().map(answer).collect())
}

/// Takes the records at and after the position out of whole batches.
fn read(mut bytes: Bytes, fetched: &mut Fetched) {
    let from = fetched.position;
    while let Ok(header) = BatchHeader::read(&bytes) {
        let batch = bytes.split_to(header.len);
        header.check_crc(&batch).expect("a fetched batch has a right crc");
        let records = Records::open(&batch, &header, LIMIT).expect("a fetched batch opens");
        for record in &records {
            let record = record.expect("a fetched record is sound");
            if record.offset >= from {
                fetched.records.push((record.offset, identify(&record)));
            }
        }
        let BatchHeader { producer_id, producer_epoch, base_sequence, count, .. } = header;
        fetched.sequences.push(Sequences { producer_id, producer_epoch, base_sequence, count });
        fetched.position = fetched.position.max(header.last_offset() + 1);
    }
}

/// The first offset that a partition still has.
pub(crate) async fn earliest(session: &mut Session, (topic, index): Partition) -> io::Result<i64> {
    let partition = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(EARLIEST);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let response = session.call(LIST_OFFSETS, &request).await?;
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0, "ListOffsets");
    Ok(answer.offset)
}

/// Deletes the records of a partition below an offset.
pub(crate) async fn trim(session: &mut Session, history: &History, partition: Partition, to: i64) -> io::Result<()> {
    let invoked = history.invoke();
    let (topic, index) = partition;
    let below = DeleteRecordsPartition::default().with_partition_index(index).with_offset(to);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(topic)))
        .with_partitions(vec![below]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = session.call(DELETE_RECORDS, &request).await?;
    let answer = &response.topics[0].partitions[0];
    assert_eq!((answer.error_code, answer.low_watermark), (0, to), "DeleteRecords");
    history.complete(invoked, What::Trimmed { partition, log_start: to });
    Ok(())
}

/// Reads a partition from its start to its high watermark; gives both.
pub(crate) async fn scan(session: &mut Session, history: &History, partition: Partition) -> io::Result<(i64, i64)> {
    let invoked = history.invoke();
    let start = earliest(session, partition).await?;
    let (mut records, mut sequences, mut position) = (Vec::new(), Vec::new(), start);
    loop {
        let mut answer = fetch(session, &[(partition, position)], 0).await?;
        let fetched = answer.remove(0).1;
        assert_eq!(fetched.error_code, 0, "{partition:?} at {position}");
        let progress = fetched.position > position;
        records.extend(fetched.records);
        sequences.extend(fetched.sequences);
        position = fetched.position;
        if !progress || position >= fetched.high_watermark {
            let (high_watermark, log_start) = (fetched.high_watermark, fetched.log_start);
            assert_eq!(log_start, start, "Fetch and ListOffsets agree where {partition:?} starts");
            history.complete(invoked, What::Scan { partition, records, sequences, high_watermark, log_start });
            return Ok((log_start, high_watermark));
        }
    }
}
