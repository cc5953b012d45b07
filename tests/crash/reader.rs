//! Fetches, and what they say, as events.

use std::io;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchHeader, Records};
use krocket_testkit::history::{History, Partition, RecordId, Sequences, What};
use krocket_testkit::session::Session;

use crate::record::identify;

const VERSION: i16 = 12;
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
    let topics = positions.iter().map(|((topic, index), position)| {
        let partition = FetchPartition::default()
            .with_partition(*index)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*position)
            .with_partition_max_bytes(256 << 10);
        FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(topic))).with_partitions(vec![partition])
    });
    let request = FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(4 << 20)
        .with_session_epoch(-1)
        .with_topics(topics.collect());
    let response = session.call(VERSION, &request).await?;
    assert_eq!(response.error_code, 0, "a fetch without a session has no error of its own");
    assert_eq!(response.responses.len(), positions.len(), "every partition asked for is answered");
    let answers = positions.iter().zip(response.responses).map(|((partition, position), mut topic)| {
        assert_eq!((topic.topic.as_str(), topic.partitions[0].partition_index), *partition, "in the order asked for");
        let data = topic.partitions.remove(0);
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
    });
    Ok(answers.collect())
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

/// Reads a partition from its start to its high watermark.
pub(crate) async fn scan(session: &mut Session, history: &History, partition: Partition) -> io::Result<usize> {
    let invoked = history.invoke();
    let (mut records, mut sequences, mut position) = (Vec::new(), Vec::new(), 0);
    loop {
        let mut answer = fetch(session, &[(partition, position)], 0).await?;
        let fetched = answer.remove(0).1;
        assert_eq!(fetched.error_code, 0, "{partition:?} at {position}");
        let progress = fetched.position > position;
        records.extend(fetched.records);
        sequences.extend(fetched.sequences);
        position = fetched.position;
        if !progress || position >= fetched.high_watermark {
            let count = records.len();
            let (high_watermark, log_start) = (fetched.high_watermark, fetched.log_start);
            history.complete(invoked, What::Scan { partition, records, sequences, high_watermark, log_start });
            return Ok(count);
        }
    }
}
