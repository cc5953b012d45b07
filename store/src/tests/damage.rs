//! A log that was cut or flipped anywhere: of what was durable nothing but the damaged frame is lost, of what was not the
//! rest of the log; nothing false is served.

use std::fs;
use std::path::PathBuf;

use super::*;

struct Written {
    file: PathBuf,
    start: u64,
    end: u64,
    base_offset: i64,
    bytes: Vec<u8>,
}

/// Three small segments of one-batch frames, each synced, closed cleanly.
fn small_log(dir: &Path) -> Vec<Written> {
    let all = write_log(dir, 560, true);
    assert_eq!(files(dir).len(), 3);
    all
}

fn write_log(dir: &Path, segment_bytes: u64, sync: bool) -> Vec<Written> {
    let mut store = open_with(dir, Options { segment_bytes, ..small() });
    let mut all = Vec::new();
    for n in 0..6u8 {
        let bytes = batch(2, [1, 30, 40, 270, 9, 0][n as usize], n);
        let base_offset = i64::from(n) * 2;
        let appended = append(&mut store, FrameBuilder::new(), &[(n.into(), base_offset, bytes.clone())]);
        let segments = files(dir);
        let file = segments.last().expect("a segment").clone();
        let base: u64 = file.file_name().expect("name").to_string_lossy()[..20].parse().expect("base");
        let (start, end) = (appended.position - base + 48, appended.end - base + 48);
        all.push(Written { file, start, end, base_offset, bytes: patched(&bytes, base_offset) });
        if sync {
            store.syncer.sync().expect("sync");
        }
    }
    all
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("log")).expect("list").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    files
}

/// Reads everything that the index knows; exactly the frames that `expected` picks must come back.
fn check(store: &Opened, all: &[Written], expected: impl Fn(&Written) -> bool) {
    for (partition, written) in all.iter().enumerate() {
        let row = store.index.last_batch(partition as u32).expect("index");
        match row {
            Some(row) => {
                assert!(expected(written), "partition {partition} should be lost");
                assert_eq!(row.base_offset, written.base_offset);
                assert_eq!(store.reader.read(row.location).expect("read"), written.bytes);
            }
            None => assert!(!expected(written), "partition {partition} is lost"),
        }
    }
}

/// The log still takes and keeps appends.
fn check_append(dir: &Path, mut store: Opened) {
    let bytes = batch(1, 20, 99);
    append(&mut store, FrameBuilder::new(), &[(99, 5, bytes.clone())]);
    drop(store);
    fs::remove_dir_all(dir.join("index")).expect("remove");
    let store = open_small(dir);
    assert_eq!(store.report.truncated, None);
    let row = store.index.last_batch(99).expect("index").expect("row");
    assert_eq!(store.reader.read(row.location).expect("read"), patched(&bytes, 5));
}

#[test]
fn a_flip_at_any_byte_costs_one_frame() {
    let dir = tempdir();
    let all = small_log(dir.path());
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let mut opens = 0;
    for (number, file) in files(dir.path()).iter().enumerate() {
        let sound = fs::read(file).expect("read");
        for at in 0..sound.len() {
            let image = killed(dir.path());
            let damaged = image.path().join("log").join(file.file_name().expect("name"));
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&damaged, bytes).expect("write");
            let hit = |written: &Written| written.file == *file && (written.start..written.end).contains(&(at as u64));
            let store = open_small(image.path());
            check(&store, &all, |written| !hit(written));
            let last_frame = all.last().expect("frames");
            if hit(last_frame) {
                let cut = store.report.truncated.as_ref().expect("truncated");
                assert_eq!((cut.offset, cut.len), (last_frame.start, last_frame.end - last_frame.start));
                assert!(store.report.damaged.is_empty());
            } else if let Some(lost) = all.iter().find(|written| hit(written)) {
                let [damage] = &store.report.damaged[..] else { panic!("{:?}", store.report.damaged) };
                assert_eq!((damage.offset, damage.len), (lost.start, lost.end - lost.start));
                assert_eq!(damage.path, damaged);
            } else {
                assert!(at < 48 && store.report.damaged.is_empty() && store.report.truncated.is_none());
            }
            if number == 2 && at % 16 == 0 {
                check_append(image.path(), store);
            }
            opens += 1;
        }
    }
    assert!(opens > 1000);
}

#[test]
fn a_log_that_was_killed_before_its_index_was_written_is_sound() {
    let dir = tempdir();
    let mut store = open_small(dir.path());
    let appended = append(&mut store, FrameBuilder::new(), &[(0, 0, batch(2, 30, 0))]);
    let image = killed(dir.path());
    let verdict = Inspection::open(image.path()).and_then(|it| it.verify(&mut |_, _| {})).expect("verified");
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!((verdict.batches, verdict.rows, verdict.behind), (1, 0, appended.end));
}

#[test]
fn a_flip_in_what_was_never_synced_ends_the_log() {
    let dir = tempdir();
    let all = write_log(dir.path(), 1 << 20, false);
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let file = &all[0].file;
    let sound = fs::read(file).expect("read");
    for at in (48..sound.len()).step_by(5) {
        let image = killed(dir.path());
        let damaged = image.path().join("log").join(file.file_name().expect("name"));
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&damaged, bytes).expect("write");
        let inspected = Inspection::open(image.path()).and_then(|it| it.verify(&mut |_, _| {})).expect("verified");
        assert!(inspected.damaged.is_empty() && inspected.torn.len() == 1, "{inspected:?}");
        let store = open_small(image.path());
        let hit = all.iter().position(|written| (at as u64) < written.end).expect("in a frame");
        check(&store, &all, |written| written.end <= all[hit].start);
        let cut = store.report.truncated.as_ref().expect("truncated");
        assert_eq!((cut.offset, cut.len), (all[hit].start, sound.len() as u64 - all[hit].start));
        assert!(store.report.damaged.is_empty());
        if at % 16 == 0 {
            check_append(image.path(), store);
        }
    }
}

#[test]
fn a_flip_in_what_was_never_synced_but_sealed_costs_one_frame() {
    let dir = tempdir();
    let all = write_log(dir.path(), 1 << 20, false);
    let mut store = open_small(dir.path());
    store.appender.seal().expect("sealed");
    drop(store);
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let file = &all[0].file;
    for at in (all[0].start..all.last().expect("frames").end).step_by(5) {
        let image = killed(dir.path());
        let damaged = image.path().join("log").join(file.file_name().expect("name"));
        let mut bytes = fs::read(&damaged).expect("read");
        bytes[at as usize] ^= 1 << (at % 8);
        fs::write(&damaged, bytes).expect("write");
        let store = open_small(image.path());
        let hit = all.iter().find(|written| at < written.end).expect("in a frame");
        check(&store, &all, |written| written.start != hit.start);
        let [damage] = &store.report.damaged[..] else { panic!("{:?}", store.report) };
        assert_eq!((damage.offset, damage.len), (hit.start, hit.end - hit.start));
    }
}

#[test]
fn a_cut_at_any_byte_costs_what_is_behind_it() {
    let dir = tempdir();
    let all = small_log(dir.path());
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let files = files(dir.path());
    for (number, file) in files.iter().enumerate() {
        let len = fs::metadata(file).expect("meta").len();
        for cut in 0..len {
            let image = killed(dir.path());
            let damaged = image.path().join("log").join(file.file_name().expect("name"));
            fs::OpenOptions::new().write(true).open(&damaged).and_then(|file| file.set_len(cut)).expect("cut");
            let store = open_small(image.path());
            check(&store, &all, |written| written.file != *file || written.end <= cut);
            let torn = !all.iter().any(|written| written.file == *file && written.end == cut) && cut > 48;
            if number == files.len() - 1 {
                assert_eq!(store.report.truncated.is_some(), torn, "cut at {cut}");
                assert!(store.report.damaged.is_empty());
                if cut % 16 == 0 {
                    check_append(image.path(), store);
                }
            } else {
                let [damage] = &store.report.damaged[..] else { panic!("cut at {cut}: {:?}", store.report.damaged) };
                assert_eq!(damage.path, damaged);
            }
        }
    }
}

#[test]
fn a_flip_or_a_cut_under_an_open_store_is_found_when_it_is_read() {
    let dir = tempdir();
    let all = small_log(dir.path());
    let store = open_small(dir.path());
    let (mut flips, mut hits) = (0, 0);
    for file in files(dir.path()) {
        let sound = fs::read(&file).expect("read");
        for at in (48..sound.len()).step_by(3) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&file, bytes).expect("write");
            for (partition, written) in all.iter().enumerate().filter(|(_, written)| written.file == file) {
                let row = store.index.last_batch(partition as u32).expect("index").expect("row");
                let start = u64::from(row.location.offset);
                let hit = (start..start + u64::from(row.location.len)).contains(&(at as u64));
                match store.reader.sound(&row) {
                    Ok(slice) => assert!(!hit && slice.read().expect("read") == written.bytes, "flip at {at}"),
                    Err(ReadError::Damaged { path, offset, .. }) => {
                        assert!(hit && path == file && offset == start, "flip at {at}");
                        hits += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            flips += 1;
        }
        fs::write(&file, &sound[..50]).expect("write");
        for (partition, _) in all.iter().enumerate().filter(|(_, written)| written.file == file) {
            let row = store.index.last_batch(partition as u32).expect("index").expect("row");
            assert!(matches!(store.reader.sound(&row), Err(ReadError::Damaged { .. })), "the file is cut");
        }
        fs::write(&file, sound).expect("write");
    }
    assert!(flips > 300 && hits > 200, "{flips} flips, {hits} hits");
}

#[test]
fn a_large_batch_is_checked_once_and_again_after_it_was_moved() {
    let dir = tempdir();
    let mut store = open_with(dir.path(), Options { segment_bytes: 1 << 20, ..small() });
    let bytes = batch(1, 300_000, 1);
    append(&mut store, FrameBuilder::new(), &[(0, 0, bytes.clone())]);
    let row = store.index.last_batch(0).expect("index").expect("row");
    assert_eq!(store.reader.sound(&row).expect("sound").read().expect("read"), patched(&bytes, 0));
    let file = &files(dir.path())[0];
    let mut log = fs::read(file).expect("read");
    let last = (row.location.offset + row.location.len - 1) as usize;
    log[last] ^= 1;
    fs::write(file, log).expect("write");
    store.reader.sound(&row).expect("looked at already");
    drop(store);
    let store = open_with(dir.path(), Options { segment_bytes: 1 << 20, ..small() });
    let row = store.index.last_batch(0).expect("index");
    assert!(row.is_none_or(|row| store.reader.sound(&row).is_err()), "a new run looks again");
}

#[test]
fn an_index_ahead_of_a_torn_log_is_rebuilt() {
    let dir = tempdir();
    let all = small_log(dir.path());
    let last = all.last().expect("frames");
    let file = fs::OpenOptions::new().write(true).open(&last.file).expect("open");
    file.set_len(last.end - 1).expect("cut");
    let store = open_small(dir.path());
    assert!(store.report.rebuilt.is_some());
    check(&store, &all, |written| written.bytes != last.bytes);
}

#[test]
fn damage_between_synced_and_applied_is_noticed() {
    let dir = tempdir();
    // Never synced after opening, and RocksDB flushes when it is closed.
    let all = write_log(dir.path(), 1 << 20, false);
    let lost = &all[3];
    let mut bytes = fs::read(&lost.file).expect("read");
    bytes[lost.end as usize - 20] ^= 4;
    fs::write(&lost.file, bytes).expect("write");
    let store = open_small(dir.path());
    assert!(store.report.rebuilt.as_ref().is_some_and(|reason| reason.contains("damaged at")), "{:?}", store.report);
    check(&store, &all, |written| written.end <= lost.start);
}

#[test]
fn a_missing_segment_rebuilds_the_index() {
    let dir = tempdir();
    let all = small_log(dir.path());
    fs::remove_file(&all[0].file).expect("remove");
    let store = open_small(dir.path());
    assert!(store.report.rebuilt.is_some());
    assert_eq!(store.report.damaged[0].reason, "the segment before it is missing");
    check(&store, &all, |written| written.file != all[0].file);
}

#[test]
fn an_index_with_flipped_bytes_is_rebuilt_or_right() {
    let dir = tempdir();
    let all = small_log(dir.path());
    let index = dir.path().join("index");
    let names: Vec<_> = fs::read_dir(&index).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    let mut rebuilt = 0;
    for name in names.iter().filter(|name| *name != "LOCK" && *name != "LOG") {
        let sound = fs::read(index.join(name)).expect("read");
        for at in (0..sound.len()).step_by(sound.len() / 8 + 1) {
            let image = killed(dir.path());
            let mut bytes = sound.clone();
            bytes[at] ^= 16;
            fs::write(image.path().join("index").join(name), bytes).expect("write");
            let store = open_small(image.path());
            rebuilt += u32::from(store.report.rebuilt.is_some());
            let readable = (0..all.len()).all(|partition| store.index.last_batch(partition as u32).is_ok());
            if readable {
                check(&store, &all, |_| true);
                continue;
            }
            // Damage that RocksDB finds when it reads: the next start knows.
            drop(store);
            let store = open_small(image.path());
            assert!(store.report.rebuilt.is_some());
            check(&store, &all, |_| true);
        }
    }
    assert!(rebuilt > 0);
}

#[test]
fn a_lost_format_file_is_written_again() {
    let dir = tempdir();
    let all = small_log(dir.path());
    let foreign = format!("krocket {FORMAT_VERSION} 0000000000000001 00000000\n");
    for text in [None, Some("krock\0t"), Some(foreign.as_str())] {
        match text {
            None => fs::remove_file(dir.path().join("format")).expect("remove"),
            Some(text) => fs::write(dir.path().join("format"), text).expect("write"),
        }
        let store = open_small(dir.path());
        assert_eq!(store.report.rebuilt, None);
        check(&store, &all, |_| true);
    }
}
