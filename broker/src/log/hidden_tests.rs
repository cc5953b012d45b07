//! Hidden records, the rows that come with them, and what is parked.

use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use krocket_protocol::chunk::Chunk;
use krocket_protocol::records::{BatchBuilder, BatchHeader, Codec, LastOffset, Records};
use krocket_stack::ledger::tables::{DUE, FACTS, PARKED, WORK};
use krocket_stack::{Notes, Row, Template};
use proptest::prelude::*;

use super::tests::range;
use super::*;
use crate::config::{Layers, TopicConfig};

const NOW: i64 = 1_000_000_000;

fn open(dir: &Path) -> Log {
    Log::open(dir, LogConfig { clock: Clock::manual(NOW), ..LogConfig::default() }).expect("opens")
}

/// The log and its partition again, with an index made anew.
fn rebuilt(dir: &Path, log: Log, partition: Arc<Partition>) -> (Log, Arc<Partition>) {
    log.close().expect("closes");
    drop((log, partition));
    std::fs::remove_dir_all(dir.join("index")).expect("the index can be lost");
    let log = open(dir);
    let partition = log.partition(1).expect("a partition");
    (log, partition)
}

async fn append(log: &Log, partition: &Arc<Partition>, count: i64, codec: Codec, notes: Notes) -> i64 {
    let mut builder = BatchBuilder::new(0, 1000).codec(codec);
    (0..count).for_each(|n| builder.push(n, 1000 + n, Some(b"k"), Some(b"value"), &[]));
    let batch = builder.finish(LastOffset::Trim).expect("compresses").expect("records");
    let header = BatchHeader::read(&batch).expect("a batch");
    let durability = Durability::Written;
    let append = Append { partition: partition.clone(), batch, header, durability, notes };
    log.append(append).await.expect("appended").base_offset
}

fn hiding(hidden: &[i32]) -> Notes {
    Notes { hidden: hidden.to_vec(), ..Notes::default() }
}

/// Offsets that a consumer at `from` gets; every batch has to be sound and to lead on.
fn offsets(chunks: Vec<Chunk>, from: i64) -> Vec<i64> {
    let mut bytes = BytesMut::new();
    chunks.iter().for_each(|chunk| bytes.extend_from_slice(&chunk.read().expect("readable")));
    let mut rest: Bytes = bytes.freeze();
    let mut offsets = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::read(&rest).expect("a batch");
        let batch = rest.split_to(header.len);
        header.check_crc(&batch).expect("a right crc");
        assert!(header.count > 0 && header.last_offset() >= from, "{header:?} from {from}");
        let records = Records::open(&batch, &header, MAX_DECOMPRESSED).expect("opens");
        let of_batch: Vec<i64> = records.iter().map(|record| record.expect("a record").offset).collect();
        assert_eq!(of_batch.last(), Some(&header.last_offset()));
        offsets.extend(of_batch.into_iter().filter(|offset| *offset >= from));
    }
    offsets
}

fn from_disk(log: &Log, partition: &Partition, from: i64) -> Vec<i64> {
    offsets(log.read(partition, range(from, partition)).expect("readable").chunks, from)
}

fn from_memory(log: &Log, partition: &Partition, from: i64) -> Option<Vec<i64>> {
    Some(offsets(log.read_recent(partition, range(from, partition))?.chunks, from))
}

#[tokio::test]
async fn hidden_records_are_left_out_with_every_codec() {
    for codec in Codec::ALL {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        append(&log, &partition, 3, codec, Notes::default()).await;
        append(&log, &partition, 4, codec, hiding(&[0, 2])).await;
        append(&log, &partition, 2, codec, hiding(&[0, 1])).await;
        assert_eq!((partition.high_watermark(), partition.durable_end()), (7, 9), "the end is that of what is visible");
        append(&log, &partition, 3, codec, hiding(&[1, 2])).await;
        let visible = [0, 1, 2, 4, 6, 9];
        assert_eq!((partition.high_watermark(), partition.log_end()), (10, 12));
        for from in 0..=12 {
            let wanted: Vec<i64> = visible.into_iter().filter(|offset| *offset >= from).collect();
            assert_eq!(from_disk(&log, &partition, from), wanted, "{codec:?} from {from}");
            // Where records have to be taken out, memory leaves it to the disk.
            let recent = from_memory(&log, &partition, from);
            assert!(recent.is_none_or(|recent| recent == wanted), "{codec:?} from {from}");
        }
        assert_eq!(log.max_timestamp(&partition).expect("readable").map(|found| found.offset), Some(6));
        drop((log, partition));
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        assert_eq!((partition.high_watermark(), partition.log_end()), (10, 12), "after a restart");
        assert_eq!(from_disk(&log, &partition, 0), visible);
    }
}

/// The disk may lose a batch and keep one that was written after it. The end is that of what there is: consumers that
/// read up to the high watermark would wait for what never comes.
#[tokio::test]
async fn the_end_is_that_of_a_visible_record_that_survived() {
    // What is hidden of each batch of three records, which batches are lost, and the end.
    let (all, none): (&[i32], &[i32]) = (&[0, 1, 2], &[]);
    let cases = [
        (vec![none, none, all], vec![1], 3),
        (vec![none, all, none, all, all], vec![2], 3),
        (vec![none, all, none, all, none, all], vec![2, 4], 3),
        (vec![none, &[1, 2], none, all], vec![2], 4),
        (vec![none, &[1, 2], all, &[2], all], vec![3], 4),
        (vec![none, none, all], vec![0, 1], 0),
        (vec![all, none, all], vec![1], 0),
        (vec![none, all, all], vec![1], 3),
        (vec![none, all, none], vec![1], 9),
    ];
    for (batches, lost, end) in cases {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        for hidden in &batches {
            append(&log, &partition, 3, Codec::None, hiding(hidden)).await;
            // What was never durable would end with the first that is lost.
            let fact = Write::of(Row::put(FACTS, &b"synced"[..], Vec::new()), 0);
            log.commit(vec![fact], Durability::Synced).await.expect("synced");
        }
        let offsets: Vec<i64> = lost.iter().map(|batch| batch * 3).collect();
        let places = log.locate(&partition, &offsets).expect("readable");
        log.close().expect("closes");
        drop((log, partition));
        let segment = std::fs::read_dir(dir.path().join("log")).expect("a folder").next().expect("a segment");
        let file = std::fs::OpenOptions::new().write(true).open(segment.expect("a segment").path()).expect("opens");
        for place in places {
            let place = place.expect("a place");
            file.write_all_at(&vec![0; place.len], place.offset).expect("written");
        }
        std::fs::remove_dir_all(dir.path().join("index")).expect("the index can be lost");
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        let ends = (partition.high_watermark(), partition.log_end());
        assert_eq!(ends, (end, batches.len() as i64 * 3), "{batches:?} without {lost:?}");
        // What is hidden from now on knows it as well.
        append(&log, &partition, 1, Codec::None, hiding(&[0])).await;
        drop((log, partition));
        let log = open(dir.path());
        let partition = log.partition(1).expect("a partition");
        assert_eq!(partition.high_watermark(), end, "{batches:?} without {lost:?}, after another restart");
        let next = append(&log, &partition, 1, Codec::None, Notes::default()).await;
        assert_eq!((partition.high_watermark(), from_disk(&log, &partition, end)), (next + 1, vec![next]));
    }
}

#[tokio::test]
async fn batches_hidden_as_a_whole_are_passed_over_in_memory() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    append(&log, &partition, 1, Codec::None, Notes::default()).await;
    for _ in 0..5000 {
        append(&log, &partition, 1, Codec::None, hiding(&[0])).await;
    }
    assert_eq!((partition.high_watermark(), from_memory(&log, &partition, 1)), (1, Some(vec![])));
    append(&log, &partition, 1, Codec::None, Notes::default()).await;
    assert_eq!(from_memory(&log, &partition, 0), Some(vec![0, 5001]));
    assert_eq!(from_disk(&log, &partition, 1), [5001]);
}

/// A fetch that gives the rest of a batch no record must not take it for the one batch that it gives whatever its size.
#[tokio::test]
async fn a_consumer_gets_past_a_hidden_end_of_a_batch() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    append(&log, &partition, 3, Codec::None, hiding(&[1, 2])).await;
    append(&log, &partition, 3, Codec::None, Notes::default()).await;
    let narrow = Range { max_bytes: 1, ..range(1, &partition) };
    assert!(narrow.at_least_one);
    assert_eq!(offsets(log.read(&partition, narrow).expect("readable").chunks, 1), [3, 4, 5]);
}

#[tokio::test]
async fn compaction_looks_at_what_is_visible_and_keeps_what_is_parked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    let park = |place: i32| {
        let key = Template::default().bytes(&1_u32.to_be_bytes()).offset_of(place);
        Notes {
            hidden: vec![place],
            rows: vec![Row::put(PARKED, key, b"".to_vec())],
            indexed: true,
            ..Notes::default()
        }
    };
    // All records have the same key.
    append(&log, &partition, 2, Codec::Gzip, park(1)).await;
    append(&log, &partition, 2, Codec::Gzip, hiding(&[1])).await;
    append(&log, &partition, 1, Codec::Gzip, hiding(&[0])).await;
    append(&log, &partition, 1, Codec::Gzip, park(0)).await;
    append(&log, &partition, 1, Codec::Gzip, Notes::default()).await;
    append(&log, &partition, 1, Codec::Gzip, park(0)).await;
    append(&log, &partition, 1, Codec::Gzip, Notes::default()).await;
    let overrides = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
    let jobs = vec![(partition.clone(), Arc::new(TopicConfig::resolve(overrides, &Layers::default())))];
    let keeper = log.clone();
    tokio::task::spawn_blocking(move || keeper.keep_house(&jobs)).await.expect("no panic").expect("kept");
    let stored = |log: &Log, partition: &Partition| -> Vec<(i64, Vec<i64>)> {
        let batches = log.stored(partition, 0, i64::MAX, 1 << 20).expect("readable");
        let offsets = |batch: &Bytes| {
            let header = BatchHeader::read(batch).expect("a batch");
            let records = Records::open(batch, &header, MAX_DECOMPRESSED).expect("opens");
            (header.base_offset, records.iter().map(|record| record.expect("a record").offset).collect())
        };
        batches.iter().map(|stored| offsets(&stored.batch)).collect()
    };
    let kept = vec![(0, vec![1]), (5, vec![5]), (6, vec![6]), (7, vec![7]), (8, vec![8])];
    assert_eq!(stored(&log, &partition), kept);
    assert_eq!(from_disk(&log, &partition, 0), [6, 8]);
    let (log, partition) = rebuilt(dir.path(), log, partition);
    assert_eq!(stored(&log, &partition), kept, "rebuilt from the log");
    assert_eq!(from_disk(&log, &partition, 0), [6, 8]);
    let mut work: Vec<_> = log.index().scan_derived(WORK, b"").map(|row| row.expect("a row").0[8..].to_vec()).collect();
    work.sort_unstable();
    work.dedup();
    assert_eq!(work, [parked(1), parked(5), parked(7)], "what compaction has rewritten is work as well");
}

#[tokio::test]
async fn rows_come_with_their_batch_and_know_its_offsets() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    append(&log, &partition, 5, Codec::None, Notes::default()).await;
    let key = || Template::default().bytes(&1_u32.to_be_bytes()).offset_of(2);
    let rows = vec![Row::put(PARKED, key(), b"due".to_vec()), Row::put(DUE, b"d".to_vec(), key())];
    append(&log, &partition, 3, Codec::None, Notes { hidden: vec![2], rows, indexed: true, ..Notes::default() }).await;
    let locator = [&1_u32.to_be_bytes()[..], &7_i64.to_be_bytes()].concat();
    for log in [log.clone(), {
        // As a kill leaves it, and without the index.
        let copy = tempfile::tempdir().expect("tempdir");
        let from = dir.path().join("log");
        std::fs::create_dir(copy.path().join("log")).expect("a folder");
        for file in std::fs::read_dir(from).expect("a folder") {
            let file = file.expect("a file").path();
            std::fs::copy(&file, copy.path().join("log").join(file.file_name().expect("a name"))).expect("copies");
        }
        std::fs::copy(dir.path().join("format"), copy.path().join("format")).expect("copies");
        open(&copy.keep())
    }] {
        assert_eq!(log.get(PARKED, &locator).expect("readable").as_deref(), Some(&b"due"[..]));
        assert_eq!(log.get(DUE, b"d").expect("readable"), Some(locator.clone()));
        let work: Vec<_> = log.index().scan_derived(WORK, b"").map(|row| row.expect("a row").0[8..].to_vec()).collect();
        assert_eq!(work, std::slice::from_ref(&locator), "the batch is work for the indexer");
    }
}

fn parked(offset: i64) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], &offset.to_be_bytes()].concat()
}

#[tokio::test]
async fn what_is_parked_stays_until_it_is_delivered() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    for n in 0..6 {
        let notes = if n % 2 == 1 {
            let key = Template::default().bytes(&1_u32.to_be_bytes()).offset_of(0);
            Notes {
                hidden: vec![0],
                rows: vec![Row::put(PARKED, key, b"".to_vec())],
                indexed: false,
                ..Notes::default()
            }
        } else {
            Notes::default()
        };
        append(&log, &partition, 1, Codec::None, notes).await;
    }
    append(&log, &partition, 1, Codec::None, Notes::default()).await;
    let overrides = [("retention.ms".to_owned(), "1".to_owned())].into();
    let config = Arc::new(TopicConfig::resolve(overrides, &Layers::default()));
    let house = async |log: &Log, partition: &Arc<Partition>| {
        let (log, jobs) = (log.clone(), vec![(partition.clone(), config.clone())]);
        tokio::task::spawn_blocking(move || log.keep_house(&jobs)).await.expect("no panic").expect("kept");
    };
    house(&log, &partition).await;
    assert_eq!(partition.log_start(), 7, "everything is past its time");
    assert_eq!(stored(&log, &partition), [1, 3, 5]);
    log.commit(vec![Write::Delete { table: PARKED, key: parked(3) }], Durability::Written).await.expect("written");
    house(&log, &partition).await;
    assert_eq!(stored(&log, &partition), [1, 5]);
    let (log, partition) = rebuilt(dir.path(), log, partition);
    assert_eq!((partition.log_start(), stored(&log, &partition)), (7, vec![1, 5]), "rebuilt from the log");
    log.commit(vec![Write::Delete { table: PARKED, key: parked(1) }], Durability::Written).await.expect("written");
    log.commit(vec![Write::Delete { table: PARKED, key: parked(5) }], Durability::Written).await.expect("written");
    house(&log, &partition).await;
    assert_eq!(stored(&log, &partition), [0_i64; 0]);
}

/// Where the batches that are there begin.
fn stored(log: &Log, partition: &Partition) -> Vec<i64> {
    let batches = log.stored(partition, 0, i64::MAX, 1 << 20).expect("readable");
    batches.iter().map(|stored| BatchHeader::read(&stored.batch).expect("a batch").base_offset).collect()
}

/// House-keeping where nothing is past its time.
async fn sweep(log: &Log, partition: &Arc<Partition>) {
    let overrides = [("retention.ms".to_owned(), "-1".to_owned())].into();
    let config = Arc::new(TopicConfig::resolve(overrides, &Layers::default()));
    let (log, jobs) = (log.clone(), vec![(partition.clone(), config)]);
    tokio::task::spawn_blocking(move || log.keep_house(&jobs)).await.expect("no panic").expect("kept");
}

/// The log start goes on while earlier batches are still parked below it.
#[tokio::test]
async fn later_trims_go_round_what_is_parked_too() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    for n in 0..12 {
        let key = Template::default().bytes(&1_u32.to_be_bytes()).offset_of(1);
        let rows = if n % 3 == 0 { vec![Row::put(PARKED, key, b"".to_vec())] } else { Vec::new() };
        append(&log, &partition, 2, Codec::None, Notes { hidden: vec![1], rows, indexed: false, ..Notes::default() })
            .await;
    }
    for (to, left) in [
        // In the middle of a batch each time.
        (7, vec![0, 6, 8, 10, 12, 14, 16, 18, 20, 22]),
        (15, vec![0, 6, 12, 14, 16, 18, 20, 22]),
        (21, vec![0, 6, 12, 18, 20, 22]),
    ] {
        log.delete_records(&partition, to, Durability::Written).await.expect("trimmed");
        sweep(&log, &partition).await;
        assert_eq!((partition.log_start(), stored(&log, &partition)), (to, left));
    }
    let expected = stored(&log, &partition);
    let (log, partition) = rebuilt(dir.path(), log, partition);
    assert_eq!((partition.log_start(), stored(&log, &partition)), (21, expected), "rebuilt from the log");
    for offset in [1, 7, 13, 19] {
        log.commit(vec![Write::Delete { table: PARKED, key: parked(offset) }], Durability::Written)
            .await
            .expect("written");
    }
    sweep(&log, &partition).await;
    assert_eq!(stored(&log, &partition), [20, 22]);
}

/// Rows go some hundred at a time; what is parked between them does not, nor does it come back or go when the index is lost.
#[tokio::test]
async fn a_long_sweep_goes_round_what_is_parked() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    let waits = |n: i64| n >= 700 && n % 5 == 0;
    for n in 0..2000 {
        let key = Template::default().bytes(&1_u32.to_be_bytes()).offset_of(0);
        let rows = if waits(n) { vec![Row::put(PARKED, key, b"".to_vec())] } else { Vec::new() };
        append(&log, &partition, 1, Codec::None, Notes { hidden: vec![0], rows, indexed: false, ..Notes::default() })
            .await;
    }
    log.delete_records(&partition, 1900, Durability::Written).await.expect("trimmed");
    sweep(&log, &partition).await;
    let expected: Vec<i64> = (0..2000).filter(|n| *n >= 1900 || waits(*n)).collect();
    assert_eq!(stored(&log, &partition), expected);
    assert_eq!(log.0.log_start(1).expect("readable"), LogStart { start: 1900, floor: 700 });
    let (log, partition) = rebuilt(dir.path(), log, partition);
    assert_eq!((partition.log_start(), stored(&log, &partition)), (1900, expected), "rebuilt from the log");
    for n in (0..2000).filter(|n| waits(*n)) {
        log.commit(vec![Write::Delete { table: PARKED, key: parked(n) }], Durability::Written).await.expect("written");
    }
    sweep(&log, &partition).await;
    assert_eq!(stored(&log, &partition), (1900..2000).collect::<Vec<_>>());
    assert_eq!(log.0.log_start(1).expect("readable"), LogStart { start: 1900, floor: 1900 });
}

/// What a crash after the deletion leaves is found at the next start.
#[tokio::test]
async fn a_deleted_partitions_rows_go_even_if_its_batches_went_before() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path());
    let partition = log.partition(1).expect("a partition");
    append(&log, &partition, 1, Codec::None, Notes::default()).await;
    for (table, key) in [(PARKED, parked(0)), (DUE, parked(7)), (DUE, [0, 0, 0, 2, 1].to_vec())] {
        log.commit(vec![Write::Put { table, key, value: Vec::new() }], Durability::Written).await.expect("written");
    }
    log.delete_partition(partition).await.expect("deleted");
    log.close().expect("closes");
    drop(log);
    let log = open(dir.path());
    let keeper = log.clone();
    tokio::task::spawn_blocking(move || keeper.keep_house(&[])).await.expect("no panic").expect("kept");
    assert_eq!(log.get(PARKED, &parked(0)).expect("readable"), None);
    let due: Vec<_> = log.scan(DUE, b"").map(|row| row.expect("a row").0).collect();
    assert_eq!(due, [[0, 0, 0, 2, 1]], "another partition's stay");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn fetch_gives_what_is_visible_and_nothing_else(
        batches in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..6), 1..30),
        from in 0_i64..100,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("tempdir");
            let log = open(dir.path());
            let partition = log.partition(1).expect("a partition");
            let (mut visible, mut next) = (Vec::new(), 0);
            for (n, batch) in batches.iter().enumerate() {
                let hidden: Vec<i32> = (0..).zip(batch).filter(|(_, hidden)| **hidden).map(|(place, _)| place).collect();
                let codec = Codec::ALL[n % Codec::ALL.len()];
                append(&log, &partition, batch.len() as i64, codec, hiding(&hidden)).await;
                visible.extend((next..).zip(batch).filter(|(_, hidden)| !**hidden).map(|(offset, _)| offset));
                next += batch.len() as i64;
            }
            let end = visible.last().map_or(0, |last| last + 1);
            assert_eq!((partition.high_watermark(), partition.log_end()), (end, next));
            visible.retain(|offset| *offset >= from);
            assert_eq!(from_disk(&log, &partition, from), visible);
            let recent = from_memory(&log, &partition, from);
            assert!(recent.is_none_or(|recent| recent == visible));
        });
    }
}
