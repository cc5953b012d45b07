//! The log on a real folder: what is appended is read, now and after a crash.

use bytes::Bytes;
use krocket_protocol::chunk::Chunk;
use krocket_protocol::records::{BatchBuilder, BatchHeader, LastOffset};

use super::*;

/// A batch of records with these timestamps.
pub(super) fn batch(timestamps: &[i64]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(0, timestamps.first().copied().unwrap_or(0));
    for (offset, timestamp) in timestamps.iter().enumerate() {
        let key = format!("key-{offset}");
        builder.push(offset as i64, *timestamp, Some(key.as_bytes()), Some(b"value"), &[]);
    }
    builder
}

pub(super) fn finish(builder: BatchBuilder) -> Bytes {
    builder.finish(LastOffset::Trim).expect("compresses").expect("has records")
}

pub(super) fn append(log: &Log, partition: &Arc<Partition>, batch: Bytes, durability: Durability) -> Appending {
    let header = BatchHeader::read(&batch).expect("a batch");
    log.append(Append {
        partition: partition.clone(),
        batch,
        header,
        durability,
        notes: krocket_stack::Notes::default(),
    })
}

pub(super) fn range(offset: i64, partition: &Partition) -> Range {
    Range { offset, up_to: partition.high_watermark(), max_bytes: 1 << 20, at_least_one: true }
}

pub(super) fn bytes(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.read().expect("readable")).collect()
}

fn open(dir: &Path) -> Log {
    Log::open(dir, LogConfig::default()).expect("opens")
}

/// One record with a value of so many bytes.
fn long(len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(0, 1000);
    builder.push(0, 1000, None, Some(&vec![b'l'; len]), &[]);
    finish(builder)
}

fn idempotent(sequence: i32, count: usize) -> Bytes {
    finish(batch(&vec![1000; count]).producer(7, 0, sequence))
}

#[tokio::test]
async fn what_is_appended_is_read_from_memory_and_from_disk_alike() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(3).expect("a partition");
    for n in 0..10 {
        let durability = if n % 2 == 0 { Durability::Synced } else { Durability::Written };
        let appended = append(&log, &partition, finish(batch(&[n, n + 1, n + 2])), durability).await.expect("appended");
        assert_eq!(appended.base_offset, n * 3);
    }
    append(&log, &partition, finish(batch(&[99])), Durability::Synced).await.expect("appended");
    assert_eq!(partition.high_watermark(), 31);
    // From the middle of a batch the whole batch is returned.
    let recent = bytes(&log.read_recent(&partition, range(4, &partition)).expect("in memory").chunks);
    let disk = bytes(&log.read(&partition, range(4, &partition)).expect("readable").chunks);
    assert_eq!(recent, disk);
    let header = BatchHeader::read(&disk).expect("a batch");
    assert_eq!((header.base_offset, header.leader_epoch), (3, LEADER_EPOCH));
    header.check_crc(&disk).expect("crc");
    let small = Range { max_bytes: 1, ..range(0, &partition) };
    assert_eq!(bytes(&log.read(&partition, small).expect("readable").chunks).len(), header.len);
    assert!(log.read(&partition, Range { at_least_one: false, ..small }).expect("readable").chunks.is_empty());
}

/// What a client is slow to take is memory, which is not for the taking: what is beyond a bound stays in the files.
#[tokio::test]
async fn what_is_read_and_not_sent_is_bounded() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = Log::open(dir.path(), LogConfig { unsent_bytes: 140_000, ..LogConfig::default() }).expect("opens");
    let partition = log.partition(1).expect("a partition");
    let (large, small) = (20_000, 1_000);
    for len in [large, small, small, large, small, large, small] {
        append(&log, &partition, long(len), Durability::Written).await.expect("appended");
    }
    let read = || log.read(&partition, range(0, &partition)).expect("readable").chunks;
    let kinds = |chunks: &[Chunk]| -> String {
        chunks.iter().map(|chunk| if matches!(chunk, Chunk::File(_)) { 'f' } else { 'm' }).collect()
    };
    let written = bytes(&log.read_recent(&partition, range(0, &partition)).expect("in memory").chunks);
    let (first, second, third) = (read(), read(), read());
    assert_eq!([&first, &second, &third].map(|chunks| kinds(chunks)), ["mmmmmmm", "mmmmmmm", "fffffff"]);
    for chunks in [&first, &second, &third] {
        assert_eq!(bytes(chunks), written);
    }
    drop(first);
    assert_eq!(kinds(&read()), "mmmmmmm", "there is room again");
}

/// That it was sound before says nothing of a batch that the file ends within now: it is neither given nor passed over.
#[tokio::test]
async fn a_batch_that_was_read_before_is_checked_again() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    for _ in 0..3 {
        append(&log, &partition, long(20_000), Durability::Written).await.expect("appended");
    }
    assert_eq!(log.read(&partition, range(0, &partition)).expect("readable").chunks.len(), 3);
    let last = log.0.index.batch(1, 2).expect("readable").expect("a row").location;
    let slice = log.0.reader.slice(last).expect("a slice");
    let segment = std::fs::read_dir(dir.path().join("log")).expect("a folder").map(|file| file.expect("a file").path());
    let segment = segment.max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len())).expect("a segment");
    let file = std::fs::File::options().write(true).open(segment).expect("opens");
    file.set_len(slice.offset + 100).expect("cut");
    let read = log.read(&partition, range(0, &partition)).expect("readable");
    assert_eq!((read.chunks.len(), read.end), (2, 2));
    assert!(log.read(&partition, range(2, &partition)).expect_err("damaged").damaged);
}

#[tokio::test]
async fn a_log_that_was_dropped_without_a_flush_comes_back_whole() {
    let dir = tempfile::tempdir().expect("tempdir");
    let before = {
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        for n in 0..100 {
            append(&log, &partition, idempotent(n * 2, 2), Durability::Written).await.expect("appended");
        }
        log.delete_records(&partition, 7, Durability::Synced).await.expect("trimmed");
        let write = |key: &[u8]| Write::Put { table: tables::GROUPS, key: key.to_vec(), value: b"v".to_vec() };
        log.commit(vec![write(b"a"), write(b"b")], Durability::Written).await.expect("committed");
        let delete = Write::Delete { table: tables::GROUPS, key: b"a".to_vec() };
        log.commit(vec![delete], Durability::Synced).await.expect("committed");
        bytes(&log.read(&partition, range(7, &partition)).expect("readable").chunks)
    };
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    assert_eq!((partition.log_start(), partition.high_watermark()), (7, 200));
    assert_eq!(bytes(&log.read(&partition, range(7, &partition)).expect("readable").chunks), before);
    let rows: Vec<_> = log.scan(tables::GROUPS, b"").map(|row| row.expect("readable").0).collect();
    assert_eq!(rows, [b"b"]);
    // Sequences are remembered: a retry is answered with the original's offset, a gap is refused.
    let retry = append(&log, &partition, idempotent(198, 2), Durability::Synced).await.expect("a duplicate");
    assert_eq!((retry.base_offset, retry.duplicate), (198, true));
    let gap = append(&log, &partition, idempotent(300, 2), Durability::Synced).await.expect_err("out of order");
    assert!(matches!(gap, AppendError::Sequence(SequenceError::OutOfOrder { expected: 200, .. })), "{gap:?}");
    let next = append(&log, &partition, idempotent(200, 2), Durability::Synced).await.expect("appended");
    assert_eq!(next.base_offset, 200);
}

#[tokio::test]
async fn producers_outlive_snapshots_trims_and_a_lost_index() {
    let dir = tempfile::tempdir().expect("tempdir");
    {
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        for n in 0..1500 {
            append(&log, &partition, idempotent(n, 1), Durability::Written).await.expect("appended");
        }
        assert!(log.get(tables::PRODUCERS, &1u32.to_be_bytes()).expect("readable").is_some());
        log.delete_records(&partition, 1500, Durability::Written).await.expect("trimmed");
        log.close().expect("closed");
    }
    std::fs::remove_dir_all(dir.path().join("index")).expect("an index");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    assert_eq!((partition.log_start(), partition.log_end()), (1500, 1500));
    let retry = append(&log, &partition, idempotent(1499, 1), Durability::Written).await.expect("a duplicate");
    assert_eq!((retry.base_offset, retry.duplicate), (1499, true));
    assert!(append(&log, &partition, idempotent(1501, 1), Durability::Written).await.is_err());
    assert_eq!(log.producers(&partition).expect("readable")[0].last_sequence, 1499);
}

#[tokio::test]
async fn calls_in_a_row_are_in_the_log_in_that_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(0).expect("a partition");
    let pending: Vec<_> = (0..500).map(|n| append(&log, &partition, idempotent(n, 1), Durability::Synced)).collect();
    for (n, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.expect("appended").base_offset, n as i64);
    }
    assert_eq!(partition.high_watermark(), 500);
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(0).expect("a partition");
    assert_eq!(log.max_timestamp(&partition).expect("readable"), None);
    // Offsets 0..3, 3..6, 6..9: the second batch is late, and one is compressed.
    for (timestamps, codec) in [([10, 40, 20], 0), ([15, 16, 17], 4), ([50, 45, 60], 3)] {
        let codec = BatchHeader { attributes: codec, ..BatchHeader::read(&finish(batch(&[1]))).expect("a batch") };
        let builder = batch(&timestamps).codec(codec.codec().expect("known"));
        append(&log, &partition, finish(builder), Durability::Written).await.expect("appended");
    }
    let find = |timestamp| {
        log.offset_for_timestamp(&partition, timestamp).expect("readable").map(|found| (found.offset, found.timestamp))
    };
    assert_eq!(find(0), Some((0, 10)));
    assert_eq!(find(10), Some((0, 10)));
    assert_eq!(find(11), Some((1, 40)));
    assert_eq!(find(41), Some((6, 50)));
    assert_eq!(find(51), Some((8, 60)));
    assert_eq!(find(61), None);
    let max = log.max_timestamp(&partition).expect("readable").map(|found| (found.offset, found.timestamp));
    assert_eq!(max, Some((8, 60)));
    log.delete_records(&partition, 2, Durability::Written).await.expect("trimmed");
    assert_eq!(find(0), Some((2, 20)));
    assert_eq!(find(30), Some((6, 50)));
}

#[tokio::test]
async fn a_deleted_partition_takes_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    {
        let log = open(dir.path());
        let partition = log.partition(5).expect("a partition");
        append(&log, &partition, idempotent(0, 3), Durability::Written).await.expect("appended");
        log.delete_partition(partition.clone()).await.expect("deleted");
        let error = append(&log, &partition, idempotent(3, 1), Durability::Written).await.expect_err("deleted");
        assert_eq!(error, AppendError::Deleted);
        assert!(partition.is_deleted());
    }
    let log = open(dir.path());
    assert!(log.partition(5).expect("a partition").is_deleted());
    assert_eq!(log.size(&log.partition(5).expect("a partition")).expect("readable"), 0);
}

#[tokio::test]
async fn a_closed_log_answers_with_an_error() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(0).expect("a partition");
    log.close().expect("closed");
    let error = append(&log, &partition, idempotent(0, 1), Durability::Written).await.expect_err("closed");
    assert_eq!(error.code(), krocket_protocol::ErrorCode::KafkaStorageError);
}
