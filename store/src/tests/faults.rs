//! A disk that is full, fails, or loses its power.

#![allow(clippy::print_stdout)]

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::fs::double::{Call, Double, Fault};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn with_double(dir: &Path) -> (Opened, Double) {
    let double = Double::default();
    (open_with(dir, Options { fs: Arc::new(double.clone()), ..small() }), double)
}

fn frame(partition: u32, base_offset: i64, body_len: usize) -> Frame {
    FrameBuilder::new().batch(new_batch(partition, base_offset, batch(1, body_len, 1))).build().expect("frame")
}

/// Offsets of a partition, each read back.
fn offsets(store: &Opened, partition: u32) -> Vec<i64> {
    let rows = store.index.batches(partition, 0).map(|row| row.expect("row"));
    rows.map(|row| {
        let bytes = store.reader.read(row.location).expect("read");
        let header = batch::BatchHeader::read(&bytes).expect("header");
        header.check_crc(&bytes).expect("crc");
        assert_eq!(header.base_offset, row.base_offset);
        row.base_offset
    })
    .collect()
}

#[test]
fn a_full_disk_undoes_the_append_and_nothing_else() {
    for partial in [0, 1, 30, 100, 700] {
        let dir = tempdir();
        let (mut store, double) = with_double(dir.path());
        append(&mut store, FrameBuilder::new(), &[(0, 0, batch(1, 500, 1))]);
        let end = store.appender.end();
        let mut writes = 0;
        double.script(move |call, _| {
            writes += u32::from(call == Call::Write);
            let short = partial > 0 && writes == 1;
            (call == Call::Write).then_some(if short { Fault::Short(partial) } else { Fault::Errno(ENOSPC) })
        });
        let mut frames = [frame(0, 1, 300), frame(0, 2, 300)];
        assert!(matches!(store.appender.append(&mut frames), Err(AppendError::Full(_))));
        assert_eq!(store.appender.end(), end);
        double.heal();
        // The same frames may be tried again.
        let appended = store.appender.append(&mut frames).expect("append");
        assert_eq!(appended[0].position, end);
        let image = killed(dir.path());
        let reopened = open_small(image.path());
        assert_eq!(offsets(&reopened, 0), [0, 1, 2]);
        assert_eq!(reopened.report.truncated, None);
        assert_eq!(reopened.index.applied(), appended[1].end);
    }
}

#[test]
fn short_writes_are_continued() {
    let dir = tempdir();
    let (mut store, double) = with_double(dir.path());
    let mut short = 0;
    double.script(move |call, _| {
        short += 1;
        (call == Call::Write && short < 200).then_some(Fault::Short(7))
    });
    let mut frames: Vec<_> = (0..6).map(|n| frame(0, n, 400)).collect();
    store.appender.append(&mut frames).expect("append");
    let image = killed(dir.path());
    assert_eq!(offsets(&open_small(image.path()), 0), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_roll_without_space_leaves_the_old_segment_in_use() {
    for failing in [Call::Create, Call::Write] {
        let dir = tempdir();
        let (mut store, double) = with_double(dir.path());
        append(&mut store, FrameBuilder::new(), &[(0, 0, batch(1, 3000, 1))]);
        double.script(move |call, _| (call == failing).then_some(Fault::Errno(ENOSPC)));
        assert!(matches!(store.appender.append(&mut [frame(0, 1, 2000)]), Err(AppendError::Full(_))));
        double.heal();
        append(&mut store, FrameBuilder::new(), &[(0, 1, batch(1, 100, 1))]);
        append(&mut store, FrameBuilder::new(), &[(0, 2, batch(1, 2000, 1))]);
        let image = killed(dir.path());
        assert_eq!(offsets(&open_small(image.path()), 0), [0, 1, 2]);
    }
}

#[test]
fn a_write_that_cannot_be_undone_stops_the_log() {
    let dir = tempdir();
    let (mut store, double) = with_double(dir.path());
    append(&mut store, FrameBuilder::new(), &[(0, 0, batch(1, 100, 1))]);
    let mut writes = 0;
    double.script(move |call, _| match call {
        Call::Write => {
            writes += 1;
            Some(if writes == 1 { Fault::Short(50) } else { Fault::Errno(EIO) })
        }
        Call::SetLen => Some(Fault::Errno(EIO)),
        _ => None,
    });
    assert!(matches!(store.appender.append(&mut [frame(0, 1, 100)]), Err(AppendError::Failed(_))));
    double.heal();
    let error = store.appender.append(&mut [frame(0, 1, 100)]).expect_err("stopped");
    assert!(error.to_string().contains("restart to recover"), "{error}");
    assert!(store.syncer.sync().is_err());
    assert_eq!(offsets(&store, 0), [0], "reads go on");
    let image = killed(dir.path());
    let reopened = open_small(image.path());
    assert_eq!(offsets(&reopened, 0), [0]);
    assert!(reopened.report.truncated.is_some());
}

#[test]
fn a_failed_sync_stops_the_log() {
    for failing in [Call::Sync, Call::SyncDir] {
        let dir = tempdir();
        let (mut store, double) = with_double(dir.path());
        append(&mut store, FrameBuilder::new(), &[(0, 0, batch(1, 3000, 1))]);
        let synced = store.syncer.sync().expect("sync");
        let mut failed = false;
        double.script(move |call, _| {
            let fail = call == failing && !failed;
            failed |= fail;
            fail.then_some(Fault::Errno(EIO))
        });
        // Begins a new segment, so the background may be the first to sync and to fail.
        store.appender.append(&mut [frame(0, 1, 3000)]).expect("written");
        assert!(store.syncer.sync().is_err());
        assert!(store.syncer.sync().is_err(), "never tried again");
        assert!(matches!(store.appender.append(&mut [frame(0, 2, 1)]), Err(AppendError::Failed(_))));
        assert!(store.index.flush().is_err(), "the index must not get ahead");
        assert_eq!(store.syncer.synced(), synced);
    }
}

#[test]
fn rows_that_were_refused_come_before_later_ones() {
    let dir = tempdir();
    let (mut store, _) = with_double(dir.path());
    append(&mut store, FrameBuilder::new(), &[(0, 0, batch(1, 100, 1))]);
    let put = |store: &Opened, value: &[u8], appended: &Appended| {
        let mut rows = store.index.rows();
        rows.put(appended.position, 1, b"key", value).expect("put");
        rows.commit(appended.end)
    };
    let mut builder = FrameBuilder::new();
    let mut frames = [builder.put(1, b"key", b"first").build().expect("frame")];
    store.index.refuse_writes(true);
    let appended = store.appender.append(&mut frames).expect("append");
    assert!(put(&store, b"first", &appended[0]).is_err());
    assert_eq!(store.index.get(1, b"key").expect("get"), None);
    assert!(store.index.applied() < appended[0].end);
    assert!(matches!(store.appender.append(&mut [frame(0, 1, 1)]), Err(AppendError::Index(_))));
    assert!(store.index.flush().is_err());

    store.index.refuse_writes(false);
    let mut frames = [builder.put(1, b"key", b"second").build().expect("frame")];
    let later = store.appender.append(&mut frames).expect("append");
    assert_eq!(store.index.get(1, b"key").expect("get"), Some(b"first".to_vec()));
    assert_eq!(store.index.applied(), appended[0].end);
    put(&store, b"second", &later[0]).expect("commit");
    assert_eq!(store.index.get(1, b"key").expect("get"), Some(b"second".to_vec()));
    assert_eq!(store.index.applied(), later[0].end);
}

#[test]
fn opening_reports_what_it_cannot_do() {
    let dir = tempdir();
    drop(with_double(dir.path()));
    let double = Double::default();
    double.script(|call, _| (call == Call::Open).then_some(Fault::Errno(30)));
    let options = Options { fs: Arc::new(double), ..small() };
    let error = open(dir.path(), options, &mut apply).expect_err("read-only");
    assert!(error.to_string().contains(".seg: Read-only file system"), "{error}");
}

/// The log is a beginning of what was written, with all that was synced, whatever else the disk kept.
#[test]
fn power_loss_keeps_what_was_synced() {
    let seeds = std::env::var("KROCKET_STORE_SEEDS").ok().map_or(300, |text| text.parse().expect("a number"));
    let begun = std::time::Instant::now();
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempdir();
        let (mut store, double) = with_double(dir.path());
        let (mut written, mut synced) = (0, 0);
        for _ in 0..random.random_range(1..25) {
            match random.random_range(0..10) {
                0..7 => {
                    append(&mut store, FrameBuilder::new(), &[(0, written, batch(1, random.random_range(0..3000), 1))]);
                    written += 1;
                }
                7..9 => {
                    store.syncer.sync().expect("sync");
                    synced = written;
                }
                _ => {
                    store.index.flush().expect("flush");
                    synced = written;
                }
            }
        }
        let index_survives = random.random();
        if index_survives {
            // RocksDB may write its memtables at any time.
            store.index.flush_without_sync().expect("flush");
        }
        let image = killed(dir.path());
        let odds = random.random_range(0.0..1.0);
        double
            .power_loss(&dir.path().join("log"), &image.path().join("log"), &mut || random.random_bool(odds))
            .expect("cut");
        let mut store = open_small(image.path());
        let back = offsets(&store, 0);
        let count = back.len() as i64;
        assert!(back.iter().copied().eq(0..count), "seed {seed}: {back:?}");
        assert!(
            (synced..=written).contains(&count),
            "seed {seed}: {count} of {written} are back, {synced} were synced"
        );
        append(&mut store, FrameBuilder::new(), &[(1, 0, batch(1, 10, 1))]);
        let image = killed(image.path());
        let store = open_small(image.path());
        assert_eq!(offsets(&store, 0), back, "seed {seed}: a second crash changes nothing");
        assert_eq!(offsets(&store, 1), [0], "seed {seed}");
    }
    if let Some(lines) = std::env::var_os("KROCKET_TORTURE_LINES") {
        let seconds = begun.elapsed().as_secs_f64();
        let line = format!(
            r#"{{"group":"Power loss","case":"the store alone","count":{seeds},"result":"a beginning of what was written is there, with all that was synced","seconds":{seconds:.1},"seed":0}}"#
        );
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(lines).expect("the file of lines");
        std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).expect("it can be written");
    }
}

/// On a file system of some 50 MB named by KROCKET_SMALL_DISK: fills it up, frees space, and goes on.
#[test]
#[ignore = "needs a small file system"]
fn a_disk_that_is_really_full() {
    let Some(disk) = std::env::var_os("KROCKET_SMALL_DISK") else { return };
    let dir = tempfile::tempdir_in(disk).expect("tempdir");
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 16 << 20]).expect("ballast");
    let options = Options { segment_bytes: 4 << 20, index_memtable_bytes: 256 << 10, ..small() };
    let mut store = open_with(dir.path(), options.clone());
    let bytes = batch(1, 1000, 1);
    let mut header = batch::BatchHeader::read(&bytes).expect("header");
    // A batch's row and a large value that weighs on the index.
    let mut step = |store: &mut Opened, offset: i64| -> Result<(), BoxError> {
        let key = [offset as u8, (offset >> 8) as u8];
        let mut builder = FrameBuilder::new();
        builder.batch(new_batch(0, offset, bytes.clone())).put(1, &key, &[9; 500]);
        let appended = store.appender.append(&mut [builder.build()?])?.remove(0);
        header.base_offset = offset;
        let mut rows = store.index.rows();
        rows.put_batch(0, &BatchRow::new(&header, appended.batches[0], 0, 0, 0, b""))?;
        rows.put(appended.position, 1, &key, &[9; 500])?;
        Ok(rows.commit(appended.end)?)
    };
    let mut offset = 0;
    let full = loop {
        match step(&mut store, offset) {
            Ok(()) => offset += 1,
            Err(error) => break error,
        }
    };
    println!("full after {offset}: {full}");
    // The frame of a refused commit is in the log.
    let (mut last, mut errors) = (offset, 0);
    for _ in 0..1000 {
        match step(&mut store, last + 1) {
            Ok(()) => last += 1,
            Err(_) => errors += 1,
        }
    }
    println!("{errors} errors and {} successes while full", last - offset);
    std::fs::remove_file(&ballast).expect("remove");
    let started = std::time::Instant::now();
    while let Err(error) = step(&mut store, last + 1) {
        assert!(started.elapsed().as_secs() < 60, "{error}");
        std::thread::yield_now();
    }
    println!("goes on after {:?}", started.elapsed());
    for offset in last + 2..last + 1000 {
        step(&mut store, offset).expect("step");
    }
    let there = offsets(&store, 0);
    let image = tempdir();
    drop(store);
    std::process::Command::new("cp").arg("-a").arg(dir.path().join(".")).arg(image.path()).status().expect("cp");
    std::fs::remove_dir_all(image.path().join("index")).expect("remove");
    assert_eq!(offsets(&open_with(dir.path(), options.clone()), 0), there);
    assert_eq!(offsets(&open_with(image.path(), options), 0), there);
}
