//! Nothing goes wrong.

use super::*;

#[test]
fn batches_are_found_and_read_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut store = open_small(dir.path());
    let mut written = Vec::new();
    for n in 0..50 {
        let bytes = batch(3, 40 * n as usize, n);
        append(&mut store, FrameBuilder::new(), &[(1, i64::from(n) * 3, bytes.clone())]);
        written.push(bytes);
    }
    assert_eq!(store.syncer.sync().expect("sync"), store.appender.end());
    let image = killed(dir.path());
    for replayed in [0, 50] {
        if replayed > 0 {
            store = open_small(image.path());
            assert_eq!(store.report.replayed_frames, replayed);
        }
        for (n, bytes) in written.iter().enumerate() {
            let row = store.index.batch(1, n as i64 * 3 + 1).expect("index").expect("row");
            assert_eq!((row.base_offset, row.last_offset), (n as i64 * 3, n as i64 * 3 + 2));
            assert_eq!(store.reader.read(row.location).expect("read"), patched(bytes, row.base_offset));
        }
        assert_eq!(store.index.batch(1, 150).expect("index"), None);
        assert_eq!(store.index.batch(0, 0).expect("index"), None);
        assert_eq!(store.index.batch_before(1, 3).expect("index").expect("row").last_offset, 2);
        assert_eq!(store.index.batch_before(1, 2).expect("index"), None);
        assert_eq!(store.index.last_batch(1).expect("index").expect("row").last_offset, 149);
        assert_eq!(store.index.last_batch(2).expect("index"), None);
        assert_eq!(store.index.batches(1, 0).count(), 50);
    }
    assert!(std::fs::read_dir(dir.path().join("log")).expect("log").count() > 5, "segments roll");
}

#[test]
fn tables_keep_their_last_value() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut store = open_small(dir.path());
    for n in 0..10u8 {
        let mut builder = FrameBuilder::new();
        builder.put(3, &[n], b"old").put(3, &[n], &[n, n]).put(4, b"x", &[n]);
        if n % 2 == 1 {
            builder.delete(3, &[n - 1]);
        }
        let mut frames = [builder.build().expect("frame")];
        let appended = store.appender.append(&mut frames).expect("append");
        let mut rows = store.index.rows();
        rows.put(appended[0].position, 3, &[n], &[n, n]).expect("put");
        rows.put(appended[0].position, 4, b"x", &[n]).expect("put");
        if n % 2 == 1 {
            rows.delete(3, &[n - 1]).expect("delete");
        }
        rows.put_derived(200, &[n], b"derived");
        rows.commit(appended[0].end).expect("commit");
    }
    assert_eq!(store.index.get_derived(200, &[3]).expect("get"), Some(b"derived".to_vec()));
    let image = killed(dir.path());
    for replayed in [false, true] {
        if replayed {
            store = open_small(image.path());
        }
        let all: Vec<_> = store.index.scan(3, b"").collect::<Result<_, _>>().expect("scan");
        assert_eq!(all, [1, 3, 5, 7, 9].map(|n| (vec![n], vec![n, n])));
        assert_eq!(store.index.scan_from(3, &[4]).count(), 3);
        assert_eq!(store.index.scan(3, &[7]).count(), 1);
        assert_eq!(store.index.get(4, b"x").expect("get"), Some(vec![9]));
        assert_eq!(store.index.get(3, &[2]).expect("get"), None);
    }
}

#[test]
fn a_flushed_index_needs_no_replay() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut store = open_small(dir.path());
    for n in 0..10 {
        append(&mut store, FrameBuilder::new(), &[(0, n, batch(1, 600, 1))]);
    }
    store.index.flush().expect("flush");
    append(&mut store, FrameBuilder::new(), &[(0, 10, batch(1, 600, 1))]);
    let image = killed(dir.path());
    let store = open_small(image.path());
    assert_eq!(store.report.replayed_frames, 1);
    assert_eq!(store.report.rebuilt, None);
    assert_eq!(store.index.batches(0, 0).count(), 11);
}

#[test]
fn dropped_batches_are_gone_before_and_after_commit() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut store = open_small(dir.path());
    for n in 0..10 {
        append(&mut store, FrameBuilder::new(), &[(0, n, batch(1, 10, 1)), (1, n, batch(1, 10, 1))]);
    }
    let mut builder = FrameBuilder::new();
    builder.batch(new_batch(0, 10, batch(2, 10, 1))).drop_batches(0, 3, 11);
    let mut frames = [builder.build().expect("frame")];
    let appended = store.appender.append(&mut frames).expect("append");
    let mut rows = store.index.rows();
    let header = batch::BatchHeader { base_offset: 10, ..batch::BatchHeader::read(&batch(2, 10, 1)).expect("header") };
    rows.put_batch(0, &BatchRow::new(&header, appended[0].batches[0], 0, 0, 0, b"")).expect("put");
    rows.drop_batches(0, 3, 11).expect("drop");
    rows.commit(appended[0].end).expect("commit");
    let image = killed(dir.path());
    for replayed in [false, true] {
        if replayed {
            store = open_small(image.path());
        }
        let left: Vec<i64> = store.index.batches(0, 0).map(|row| row.expect("row").base_offset).collect();
        assert_eq!(left, [0, 1, 2]);
        assert_eq!(store.index.batches(1, 0).count(), 10);
    }
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = open_small(dir.path());
    let error = open(dir.path(), small(), &mut apply).expect_err("locked");
    assert!(error.to_string().contains(&format!("in use by another process (pid {})", std::process::id())), "{error}");
    let reader = store.reader.clone();
    drop(store);
    assert!(open(dir.path(), small(), &mut apply).is_err(), "a part still lives");
    drop(reader);
    open_small(dir.path());
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    drop(open_small(dir.path()));
    for other in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
        std::fs::write(dir.path().join("format"), format!("krocket {other} something\n")).expect("write");
        let error = open(dir.path(), small(), &mut apply).expect_err("another");
        assert!(error.to_string().contains(&format!("format {other} is not {FORMAT_VERSION}")), "{error}");
    }
}

#[test]
fn reserved_blocks_are_given_back() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("tempdir");
    let blocks = || {
        let files = std::fs::read_dir(dir.path().join("log")).expect("list");
        files.map(|file| file.expect("file").metadata().expect("meta").blocks() * 512).sum::<u64>()
    };
    let mut store = open_with(dir.path(), Options { reserve_bytes: 1 << 20, segment_bytes: 8 << 20, ..small() });
    for n in 0..5 {
        append(&mut store, FrameBuilder::new(), &[(0, n, batch(1, 500_000, 1))]);
    }
    assert!(blocks() > 3_000_000 || blocks() < 2_600_000, "reserved, if the file system can");
    drop(store);
    assert!((2_500_000..2_600_000).contains(&blocks()), "{}", blocks());
    assert_eq!(open_small(dir.path()).index.batches(0, 0).count(), 5);
}

#[test]
fn closed_segments_are_synced_unasked() {
    let dir = tempdir();
    let mut store = open_small(dir.path());
    for n in 0..20 {
        append(&mut store, FrameBuilder::new(), &[(0, n, batch(1, 3000, 1))]);
    }
    let end = store.appender.end();
    drop(store.appender);
    assert!(store.syncer.synced() > 0 && store.syncer.synced() <= end);
}
