//! Measurements, run by hand: `cargo test --release --workspace --lib -- --ignored --nocapture speed`.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use super::*;

fn produce(
    store: &mut Opened,
    body: usize,
    group: usize,
    groups: usize,
    sync_every: usize,
) -> (Duration, Vec<Duration>) {
    let bytes = batch(1, body, 1);
    let started = Instant::now();
    let mut syncs = Vec::new();
    let mut offset = 0;
    for n in 0..groups {
        let mut frames = Vec::with_capacity(group);
        for at in 0..group {
            let new = new_batch((at % 100) as u32, offset + at as i64, bytes.clone());
            frames.push(FrameBuilder::new().batch(new).build().expect("frame"));
        }
        let appended = store.appender.append(&mut frames).expect("append");
        let mut rows = store.index.rows();
        let mut header = batch::BatchHeader::read(&bytes).expect("header");
        for (at, appended) in appended.iter().enumerate() {
            header.base_offset = offset + at as i64;
            let row = BatchRow::new(&header, appended.batches[0], 1, 1, 0, b"");
            rows.put_batch((at % 100) as u32, &row).expect("row");
        }
        rows.commit(appended.last().expect("some").end).expect("commit");
        offset += group as i64;
        if sync_every > 0 && n % sync_every == 0 {
            let started = Instant::now();
            store.syncer.sync().expect("sync");
            syncs.push(started.elapsed());
        }
    }
    let took = started.elapsed();
    syncs.sort();
    (took, syncs)
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("number") / 1024.0
}

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / 100.0
}

#[test]
#[ignore = "a measurement"]
fn speed_of_appending() {
    for (body, group, groups, sync_every, reserve) in [
        (100, 1, 200_000, 0, 0),
        (100, 64, 10_000, 0, 0),
        (1000, 64, 10_000, 0, 0),
        (16_000, 1, 40_000, 0, 0),
        (16_000, 16, 4000, 0, 0),
        (16_000, 16, 4000, 0, 64 << 20),
        (1000, 16, 1000, 1, 0),
        (1000, 16, 1000, 1, 64 << 20),
        (16_000, 16, 1000, 1, 0),
        (16_000, 16, 1000, 1, 64 << 20),
    ] {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut store = open_with(dir.path(), Options { reserve_bytes: reserve, ..Options::default() });
        let before = cpu();
        let (took, syncs) = produce(&mut store, body, group, groups, sync_every);
        let used = cpu() - before;
        let mib = ((body + 61) * group * groups) as f64 / 1048576.0;
        let batches = (group * groups) as f64;
        println!(
            "body {body:5} group {group:2} reserve {:2} MiB: {:7.0} MiB/s {:8.0} batches/s, cpu {:5.2} us/batch, {:5.2} s/GiB; sync p50 {:?} p99 {:?}; rss {:.0} MiB",
            reserve >> 20,
            mib / took.as_secs_f64(),
            batches / took.as_secs_f64(),
            used / batches * 1e6,
            used / mib * 1024.0,
            syncs.get(syncs.len() / 2).copied().unwrap_or_default(),
            syncs.get(syncs.len() * 99 / 100).copied().unwrap_or_default(),
            rss_mib(),
        );
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_look_ups_and_recovery() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut store = open_with(dir.path(), Options::default());
    let (group, groups) = (100, 10_000);
    produce(&mut store, 500, group, groups, 0);
    for (what, flush) in [("memtables", false), ("files", true)] {
        if flush {
            store.index.flush().expect("flush");
        }
        let (started, before) = (Instant::now(), cpu());
        for n in 0..200_000i64 {
            let offset = n * 7919 % (group * groups) as i64 / 100 * 100;
            store.index.batch((n % 100) as u32, offset).expect("index");
        }
        println!("look-up in {what}: {:?}, cpu {:.1} us", started.elapsed() / 200_000, (cpu() - before) * 5.0);
        let (started, before) = (Instant::now(), cpu());
        for n in 0..200_000i64 {
            let offset = (group * groups) as i64 - 100 - n % 1000;
            store.index.batch((n % 100) as u32, offset).expect("index");
        }
        println!("look-up near the end: {:?}, cpu {:.1} us", started.elapsed() / 200_000, (cpu() - before) * 5.0);
    }
    let started = Instant::now();
    let read: usize = (0..100).map(|partition| store.index.batches(partition, 0).count()).sum();
    println!("scan: {:?} per row of {read}; rss {:.0} MiB", started.elapsed() / read as u32, rss_mib());
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let (started, before) = (Instant::now(), cpu());
    let store = open_with(dir.path(), Options::default());
    let mib = store.report.replayed_bytes as f64 / 1048576.0;
    println!(
        "rebuild: {mib:.0} MiB, {} frames in {:?}: {:.0} MiB/s, cpu {:.1} s; rss {:.0} MiB",
        store.report.replayed_frames,
        started.elapsed(),
        mib / started.elapsed().as_secs_f64(),
        cpu() - before,
        rss_mib()
    );
    let started = Instant::now();
    let mut rows = store.index.rows();
    for partition in 0..100 {
        rows.drop_batches(partition, 0, i64::MAX - 1).expect("drop");
    }
    let applied = store.index.applied();
    rows.commit(applied).expect("commit");
    println!("drop: {:?}", started.elapsed());
    let started = Instant::now();
    for victim in store.cleaner.victims(0.5) {
        println!("{:?}", store.cleaner.rewrite(&victim, &mut |_| {}).expect("rewrite"));
    }
    println!("clean: {:?}; rss {:.0} MiB", started.elapsed(), rss_mib());
}
