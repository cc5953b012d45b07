//! Dead bytes are given back, live ones stay, whenever the process dies.

use std::sync::Arc;

use super::*;
use crate::fs::double::{Call, Double, Fault};

/// Twenty rounds over four partitions and two tables, then most of it deleted.
fn wasteful(store: &mut Opened) -> Vec<(u32, i64, Bytes)> {
    let mut live = Vec::new();
    for n in 0..20u8 {
        let mut builder = FrameBuilder::new();
        let key = [n % 3];
        builder.put(1, &key, &[n; 40]).put(2, &[n], b"kept");
        let ops: Vec<_> = (0..4).map(|partition| (partition, i64::from(n), batch(1, 200, n))).collect();
        for (partition, offset, bytes) in &ops {
            builder.batch(new_batch(*partition, *offset, bytes.clone()));
            if *partition == 3 || n >= 18 {
                live.push((*partition, *offset, bytes.clone()));
            }
        }
        apply_live(store, builder, |at, rows, locations| {
            rows.put(at.position, 1, &key, &[n; 40])?;
            rows.put(at.position, 2, &[n], b"kept")?;
            for ((partition, offset, bytes), location) in ops.iter().zip(locations) {
                let mut header = batch::BatchHeader::read(bytes).expect("header");
                (header.base_offset, header.leader_epoch) = (*offset, 7);
                rows.put_batch(*partition, &BatchRow::new(&header, *location, 1000, 1, 0, b""))?;
            }
            Ok(())
        });
    }
    for partition in 0..3 {
        let mut builder = FrameBuilder::new();
        builder.drop_batches(partition, 0, 17).delete(2, &[partition as u8]);
        apply_live(store, builder, |_, rows, _| {
            rows.drop_batches(partition, 0, 17)?;
            rows.delete(2, &[partition as u8])
        });
    }
    live
}

fn apply_live(
    store: &mut Opened,
    mut builder: FrameBuilder,
    apply: impl FnOnce(FrameAt, &mut Rows, &[Location]) -> Result<(), IndexError>,
) {
    let appended = store.appender.append(&mut [builder.build().expect("frame")]).expect("append").remove(0);
    let mut rows = store.index.rows();
    apply(FrameAt { position: appended.position, end: appended.end }, &mut rows, &appended.batches).expect("rows");
    rows.commit(appended.end).expect("commit");
}

fn check(store: &Opened, live: &[(u32, i64, Bytes)]) {
    for partition in 0..4 {
        let there: Vec<_> = store.index.batches(partition, 0).map(|row| row.expect("row")).collect();
        let expected: Vec<_> = live.iter().filter(|(of, ..)| *of == partition).collect();
        assert_eq!(there.len(), expected.len(), "partition {partition}");
        for (row, (_, offset, bytes)) in there.iter().zip(expected) {
            assert_eq!(row.base_offset, *offset);
            assert_eq!(store.reader.read(row.location).expect("read"), patched(bytes, *offset));
        }
    }
    for key in 0..3u8 {
        let last = (0..20).rfind(|n| n % 3 == key).expect("some");
        assert_eq!(store.index.get(1, &[key]).expect("get"), Some(vec![last; 40]));
        assert_eq!(store.index.get(2, &[key]).expect("get"), None);
    }
    assert_eq!(store.index.scan(2, b"").count(), 17);
}

fn clean_all(store: &Opened) -> Result<(), StoreError> {
    // Each rewrite may make a victim of its result and a neighbour.
    for _ in 0..20 {
        let Some(victim) = store.cleaner.victims(0.3).into_iter().next() else { return Ok(()) };
        assert!(!store.cleaner.rewrite(&victim, &mut |_| {})?.skipped);
    }
    panic!("cleaning does not come to an end: {:?}", store.cleaner.segments());
}

fn disk_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log")).expect("list");
    files.map(|file| file.expect("file").metadata().expect("meta").len()).sum()
}

fn without_index(image: &Path) {
    std::fs::remove_dir_all(image.join("index")).expect("remove");
}

#[test]
fn space_is_given_back_and_what_lives_stays() {
    let dir = tempdir();
    let mut store = open_small(dir.path());
    let live = wasteful(&mut store);
    let before = disk_bytes(dir.path());
    let held = store.index.batch(3, 0).expect("index").expect("row").location;
    let slice = store.reader.slice(held).expect("slice");
    clean_all(&store).expect("clean");
    let after = disk_bytes(dir.path());
    assert!(after * 2 < before, "{before} -> {after}");
    check(&store, &live);
    assert_eq!(slice.read().expect("still readable"), patched(&live[0].2, 0));
    assert!(matches!(store.reader.slice(held), Err(ReadError::Gone(_))));

    // The log goes on, and both the index and a rebuild know the same.
    append(&mut store, FrameBuilder::new(), &[(9, 0, batch(1, 10, 1))]);
    for lost in [false, true] {
        let image = killed(dir.path());
        if lost {
            without_index(image.path());
        }
        let store = open_small(image.path());
        assert_eq!(store.report.rebuilt.is_some(), lost);
        assert_eq!(store.report.damaged, []);
        check(&store, &live);
        assert_eq!(store.index.batches(9, 0).count(), 1);
    }
}

/// Dies at each call to the file system in turn.
#[test]
fn any_point_of_a_cleaning_may_be_the_last() {
    let dir = tempdir();
    let mut store = open_small(dir.path());
    let live = wasteful(&mut store);
    store.index.flush().expect("flush");
    drop(store);
    let mut deaths = 0;
    loop {
        let work = killed(dir.path());
        let double = Double::default();
        let store = open_with(work.path(), Options { fs: Arc::new(double.clone()), ..small() });
        let mut calls = 0;
        double.script(move |_: Call, _| {
            calls += 1;
            (calls > deaths).then_some(Fault::Errno(5))
        });
        let result = clean_all(&store);
        double.heal();
        for index in ["as it was", "flushed", "lost", "power loss"] {
            if index == "flushed" {
                store.index.flush_without_sync().expect("flush");
            }
            let image = killed(work.path());
            match index {
                "lost" => without_index(image.path()),
                "power loss" => {
                    let (from, to) = (work.path().join("log"), image.path().join("log"));
                    double.power_loss(&from, &to, &mut || false).expect("cut");
                }
                _ => {}
            }
            let store = open_small(image.path());
            assert_eq!(store.report.damaged, []);
            check(&store, &live);
            clean_all(&store).expect("clean");
            check(&store, &live);
            let image = killed(image.path());
            without_index(image.path());
            check(&open_small(image.path()), &live);
        }
        check(&store, &live);
        if result.is_ok() {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 12, "{deaths}");
}

#[test]
fn a_failed_cleaning_can_be_repeated() {
    for failing in [Call::Create, Call::Write, Call::Rename, Call::Remove] {
        let dir = tempdir();
        let double = Double::default();
        let mut store = open_with(dir.path(), Options { fs: Arc::new(double.clone()), ..small() });
        let live = wasteful(&mut store);
        double.script(move |call, _| (call == failing).then_some(Fault::Errno(28)));
        assert!(clean_all(&store).is_err());
        double.heal();
        check(&store, &live);
        clean_all(&store).expect("clean");
        check(&store, &live);
        append(&mut store, FrameBuilder::new(), &[(9, 0, batch(1, 10, 1))]);
    }
}

#[test]
fn a_damaged_segment_is_left_alone_while_it_is_needed() {
    let dir = tempdir();
    let mut store = open_small(dir.path());
    let live = wasteful(&mut store);
    store.index.flush().expect("flush");
    let victim = store.cleaner.victims(0.3).remove(0);
    let name = format!("{:020}-{:010}.seg", victim.segments[0].base, victim.segments[0].file);
    let path = dir.path().join("log").join(name);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    assert!(store.cleaner.rewrite(&victim, &mut |_| {}).expect("rewrite").skipped);
    clean_all(&store).expect("the rest");
    assert!(path.exists());
    check(&store, &live);
}

#[test]
fn the_writer_goes_on_while_rows_move() {
    let dir = tempdir();
    let mut store = open_small(dir.path());
    let live = wasteful(&mut store);
    let (cleaner, reader, index) = (store.cleaner.clone(), store.reader.clone(), store.index.clone());
    std::thread::scope(|scope| {
        let cleaning = scope.spawn(move || {
            while let Some(victim) = cleaner.victims(0.3).into_iter().next() {
                cleaner.rewrite(&victim, &mut |_| std::thread::yield_now()).expect("rewrite");
            }
        });
        let reading = scope.spawn(move || {
            for _ in 0..2000 {
                let row = index.batch(3, 5).expect("index").expect("row");
                match reader.read(row.location) {
                    Ok(bytes) => assert_eq!(i64::from_be_bytes(bytes[..8].try_into().expect("8")), 5),
                    Err(ReadError::Gone(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for n in 0..500 {
            append(&mut store, FrameBuilder::new(), &[(20, n, batch(1, 100, 1))]);
        }
        cleaning.join().expect("cleaner");
        reading.join().expect("reader");
    });
    check(&store, &live);
    assert_eq!(store.index.batches(20, 0).count(), 500);
    let image = killed(dir.path());
    without_index(image.path());
    let store = open_small(image.path());
    check(&store, &live);
    assert_eq!(store.index.batches(20, 0).count(), 500);
}
