//! Retention, compaction and what deletion leaves.

use std::collections::BTreeMap;

use krocket_protocol::records::{BatchBuilder, BatchHeader, Records};

use super::housekeeping::pause;
use super::tests::{append, batch, finish, range};
use super::*;
use crate::config::{Layers, TopicConfig};

const NOW: i64 = 1_000_000_000;

fn config(overrides: &[(&str, &str)]) -> Arc<TopicConfig> {
    let overrides: BTreeMap<_, _> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Arc::new(TopicConfig::resolve(overrides, &Layers::default()))
}

fn open(dir: &Path, clock: &Clock) -> Log {
    let store = krocket_store::Options { segment_bytes: 64 << 10, ..krocket_store::Options::default() };
    Log::open(dir, LogConfig { store, clock: clock.clone(), ..LogConfig::default() }).expect("opens")
}

async fn keep_house(log: &Log, partition: &Arc<Partition>, config: Arc<TopicConfig>) {
    let (log, jobs) = (log.clone(), vec![(partition.clone(), config)]);
    tokio::task::spawn_blocking(move || log.keep_house(&jobs)).await.expect("no panic").expect("kept");
}

/// One batch of one record per entry.
async fn fill(log: &Log, partition: &Arc<Partition>, records: &[(&str, Option<&str>, i64)]) {
    for (key, value, timestamp) in records {
        let mut builder = BatchBuilder::new(0, *timestamp);
        builder.push(0, *timestamp, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
        append(log, partition, finish(builder), Durability::Written).await.expect("appended");
    }
}

/// Every record: offset, key, value.
fn read(log: &Log, partition: &Partition) -> Vec<(i64, String, Option<String>)> {
    let mut out = Vec::new();
    for chunk in log.read(partition, range(partition.log_start(), partition)).expect("readable").chunks {
        let bytes = chunk.read().expect("readable");
        let header = BatchHeader::read(&bytes).expect("a batch");
        header.check_crc(&bytes).expect("crc");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for record in &Records::open(&bytes, &header, MAX_DECOMPRESSED).expect("records") {
            let record = record.expect("a record");
            out.push((record.offset, text(record.key.unwrap_or_default()), record.value.map(text)));
        }
    }
    out
}

fn offsets(log: &Log, partition: &Partition) -> Vec<i64> {
    read(log, partition).into_iter().map(|(offset, ..)| offset).collect()
}

#[tokio::test]
async fn batches_past_their_time_go_and_nothing_else() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW);
    let log = open(dir.path(), &clock);
    let partition = log.partition(0).expect("a partition");
    fill(&log, &partition, &[("a", None, NOW - 50), ("b", None, NOW - 10), ("c", None, NOW - 30), ("d", None, NOW)])
        .await;
    let config = config(&[("retention.ms", "40")]);
    keep_house(&log, &partition, config.clone()).await;
    assert_eq!(offsets(&log, &partition), [1, 2, 3]);
    assert_eq!(partition.log_start(), 1);
    // The third is older than its predecessor: it goes with it, not before.
    clock.advance(15);
    keep_house(&log, &partition, config.clone()).await;
    assert_eq!(offsets(&log, &partition), [1, 2, 3]);
    clock.advance(20);
    keep_house(&log, &partition, config.clone()).await;
    assert_eq!(offsets(&log, &partition), [3]);
    clock.advance(100);
    keep_house(&log, &partition, config).await;
    assert_eq!((partition.log_start(), partition.high_watermark()), (4, 4));
    // An empty partition goes on where it was.
    drop(log);
    let log = open(dir.path(), &clock);
    let partition = log.partition(0).expect("a partition");
    fill(&log, &partition, &[("e", None, NOW)]).await;
    assert_eq!(offsets(&log, &partition), [4]);
}

#[tokio::test]
async fn batches_without_a_timestamp_go_with_the_next_that_has_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path(), &Clock::manual(NOW));
    let partition = log.partition(0).expect("a partition");
    fill(&log, &partition, &[("a", None, -1), ("b", None, NOW - 50), ("c", None, -1), ("d", None, NOW)]).await;
    keep_house(&log, &partition, config(&[("retention.ms", "40")])).await;
    assert_eq!(offsets(&log, &partition), [2, 3]);
    keep_house(&log, &partition, config(&[("retention.ms", "-1")])).await;
    assert_eq!(offsets(&log, &partition), [2, 3]);
}

#[tokio::test]
async fn the_oldest_batches_go_while_enough_bytes_stay() {
    let dir = tempfile::tempdir().expect("tempdir");
    let log = open(dir.path(), &Clock::manual(NOW));
    let partition = log.partition(0).expect("a partition");
    fill(&log, &partition, &[("a", Some("1"), NOW); 10]).await;
    let len = log.size(&partition).expect("size") / 10;
    let keep = (len * 3 + 1).to_string();
    keep_house(&log, &partition, config(&[("retention.bytes", &keep)])).await;
    assert_eq!(offsets(&log, &partition), [6, 7, 8, 9]);
    assert_eq!(log.size(&partition).expect("size"), len * 4);
    keep_house(&log, &partition, config(&[("retention.bytes", "0"), ("cleanup.policy", "compact")])).await;
    assert_eq!(partition.log_start(), 6, "retention is not for compacted topics");
}

#[tokio::test]
async fn compaction_keeps_the_latest_of_each_key_and_the_last_batch() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW);
    let compact = config(&[("cleanup.policy", "compact"), ("delete.retention.ms", "100")]);
    let expected = {
        let log = open(dir.path(), &clock);
        let partition = log.partition(0).expect("a partition");
        let mut builder = BatchBuilder::new(0, NOW);
        for (offset, key) in ["a", "b", "a", "c"].iter().enumerate() {
            builder.push(offset as i64, NOW, Some(key.as_bytes()), Some(b"first"), &[]);
        }
        append(&log, &partition, finish(builder), Durability::Written).await.expect("appended");
        fill(
            &log,
            &partition,
            &[("b", Some("2"), NOW), ("d", Some("3"), NOW), ("d", None, NOW), ("a", Some("4"), NOW)],
        )
        .await;
        fill(&log, &partition, &[("c", Some("last"), NOW)]).await;
        keep_house(&log, &partition, compact.clone()).await;
        // Offset 3 stays: its newer version is in the last batch, which is not compacted.
        assert_eq!(offsets(&log, &partition), [3, 4, 6, 7, 8]);
        assert_eq!(partition.high_watermark(), 9);
        // A batch keeps its offsets: the first still ends at 3 and begins at 0.
        let row = log.0.index.batch(0, 0).expect("readable").expect("a row");
        assert_eq!((row.base_offset, row.last_offset, row.count), (0, 3, 1));
        read(&log, &partition)
    };
    std::fs::remove_dir_all(dir.path().join("index")).expect("an index");
    let log = open(dir.path(), &clock);
    let partition = log.partition(0).expect("a partition");
    assert_eq!(read(&log, &partition), expected, "a rebuilt index knows what was compacted");
    // The tombstone of d goes with the first run after its time.
    clock.advance(200);
    fill(&log, &partition, &[("c", Some("newer"), NOW); 6]).await;
    keep_house(&log, &partition, compact).await;
    assert_eq!(offsets(&log, &partition), [4, 7, 13, 14]);
}

#[tokio::test]
async fn compaction_waits_for_dirt_and_lag() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW);
    let log = open(dir.path(), &clock);
    let partition = log.partition(0).expect("a partition");
    fill(&log, &partition, &[("a", Some("1"), NOW); 5]).await;
    let lagging = config(&[("cleanup.policy", "compact"), ("min.compaction.lag.ms", "1000")]);
    keep_house(&log, &partition, lagging.clone()).await;
    assert_eq!(offsets(&log, &partition), [0, 1, 2, 3, 4]);
    clock.advance(1001);
    keep_house(&log, &partition, lagging).await;
    assert_eq!(offsets(&log, &partition), [3, 4]);
    for n in 0..10 {
        fill(&log, &partition, &[(&format!("key-{n}"), Some("x"), NOW)]).await;
    }
    let eager = config(&[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")]);
    keep_house(&log, &partition, eager.clone()).await;
    fill(&log, &partition, &[("key-0", Some("y"), NOW); 2]).await;
    let lazy = config(&[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.5")]);
    keep_house(&log, &partition, lazy).await;
    assert!(offsets(&log, &partition).contains(&5), "too little is new");
    keep_house(&log, &partition, eager).await;
    assert!(!offsets(&log, &partition).contains(&5));
}

#[tokio::test]
async fn compaction_does_not_make_a_producer_forgotten() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW);
    {
        let log = open(dir.path(), &clock);
        let partition = log.partition(0).expect("a partition");
        let numbered = batch(&[NOW]).producer(7, 2, 41);
        append(&log, &partition, finish(numbered), Durability::Written).await.expect("appended");
        fill(&log, &partition, &[("key-0", Some("1"), NOW); 2]).await;
        keep_house(&log, &partition, config(&[("cleanup.policy", "compact")])).await;
        assert_eq!(offsets(&log, &partition), [1, 2]);
    }
    let log = open(dir.path(), &clock);
    let partition = log.partition(0).expect("a partition");
    let retry = append(&log, &partition, finish(batch(&[NOW]).producer(7, 2, 41)), Durability::Written).await;
    assert_eq!(retry.map(|appended| (appended.base_offset, appended.duplicate)), Ok((0, true)));
}

#[tokio::test]
async fn space_of_what_went_is_given_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW);
    let log = open(dir.path(), &clock);
    let (kept, doomed) = (log.partition(0).expect("a partition"), log.partition(1).expect("a partition"));
    let value = "x".repeat(1000);
    for _ in 0..300 {
        fill(&log, &doomed, &[("a", Some(&value), NOW)]).await;
    }
    fill(&log, &kept, &[("k", Some("v"), NOW); 3]).await;
    log.delete_partition(doomed.clone()).await.expect("deleted");
    for _ in 0..100 {
        fill(&log, &kept, &[("a", Some(&value), NOW)]).await;
    }
    let size = || -> u64 {
        let files = std::fs::read_dir(dir.path().join("log")).expect("a folder");
        files.map(|file| file.expect("a file").metadata().expect("metadata").len()).sum()
    };
    let before = size();
    keep_house(&log, &kept, config(&[])).await;
    assert!(size() < before - 200_000, "{before} bytes became {}", size());
    assert_eq!(offsets(&log, &kept), (0..103).collect::<Vec<_>>());
    drop(log);
    let log = open(dir.path(), &clock);
    let kept = log.partition(0).expect("a partition");
    assert_eq!(offsets(&log, &kept), (0..103).collect::<Vec<_>>());
    assert!(log.partition(1).expect("a partition").is_deleted());
}

#[tokio::test]
async fn idle_producers_are_forgotten() {
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW);
    let log = open(dir.path(), &clock);
    let partition = log.partition(0).expect("a partition");
    append(&log, &partition, finish(batch(&[NOW]).producer(7, 0, 0)), Durability::Written).await.expect("appended");
    keep_house(&log, &partition, config(&[])).await;
    assert_eq!(log.producers(&partition).expect("readable").len(), 1);
    clock.advance(24 * 3600 * 1000);
    keep_house(&log, &partition, config(&[])).await;
    assert_eq!(log.producers(&partition).expect("readable").len(), 0);
}

#[test]
fn a_pause_is_as_long_as_the_work_and_longer_for_many_bytes() {
    let ms = Duration::from_millis;
    assert_eq!(pause(0, ms(3), 1.0), ms(3), "small frames: half of a core");
    assert_eq!(pause(64 << 20, ms(400), 1.0), ms(600), "64 MiB a second");
    assert_eq!(pause(64 << 20, ms(400), 2.0), ms(200), "twice of both where there is a GiB of garbage");
}
