//! The real program on a file system that is really full: a tmpfs of its own, where the user may mount one.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_testkit::session::Session;
use krocket_testkit::torture::Plan;
use krocket_testkit::{PATIENCE, http};
use rustix::process::Signal;

use crate::log::{create, produce, read, serve, value};

const TOPIC: &str = "filling";
const RECORDS: (i64, usize) = (10, 2000);
const STORAGE_ERROR: i16 = 56;
const OUT_OF_RANGE: i16 = 1;

/// A mounted tmpfs; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where mounting is not permitted.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "krocket-test"])
            .arg(folder.path())
            .output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Small(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, how: &str) {
        let remount = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path()).output();
        let remount = remount.expect("mount is there");
        assert!(remount.status.success(), "{remount:?}");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// All there is was written, and all that was acknowledged is there.
async fn check(address: SocketAddr, acked: i64) {
    let found = read(address, TOPIC, 0, i64::MAX).await.expect("reads go on");
    // What was deleted is out of range.
    let refused: Vec<_> = found.refused.iter().filter(|(_, code)| *code != OUT_OF_RANGE).collect();
    assert!(refused.is_empty(), "reads go on: {refused:?}");
    for (offset, read) in &found.records {
        assert!(*read == value(TOPIC, 0, *offset, RECORDS.1), "offset {offset}");
    }
    let there: Vec<i64> = found.records.keys().copied().filter(|offset| *offset < acked).collect();
    let start = there.first().copied().unwrap_or(acked);
    assert!(there.into_iter().eq(start..acked), "K1: something of {start}..{acked} is missing");
}

/// Appends until it is refused; the end of what was acknowledged.
async fn fill(address: SocketAddr, from: i64) -> i64 {
    let mut session = Session::connect(address).await.expect("the server is ready");
    for batch in 0.. {
        let first = from + batch * RECORDS.0;
        match produce(&mut session, (TOPIC, 0), first, RECORDS, -1).await.expect("an answer") {
            0 => {}
            code => {
                assert_eq!(code, STORAGE_ERROR);
                return first;
            }
        }
    }
    unreachable!("no disk is endless")
}

async fn delete(address: SocketAddr, before: i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(before);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let mut session = Session::connect(address).await.expect("the server is ready");
    let response = session.call(2, &request).await.expect("an answer");
    assert_eq!(response.topics[0].partitions[0].error_code, 0, "{response:?}");
}

/// Appends until it is taken again.
async fn goes_on(address: SocketAddr, first: i64) {
    let deadline = Instant::now() + 3 * PATIENCE;
    let mut session = Session::connect(address).await.expect("the server is ready");
    while produce(&mut session, (TOPIC, 0), first, RECORDS, -1).await.expect("an answer") != 0 {
        assert!(Instant::now() < deadline, "it takes nothing though there is room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_producers_and_serves_readers() {
    let plan = Plan::of("KROCKET_DISK_FULL", 1, 1);
    let mut fills = 0;
    for _ in 0..plan.rounds {
        // With room kept for deletions, as it comes; and down to the last byte.
        for min_free in if plan.long { &["16MiB", "0"][..] } else { &["0"] } {
            let Some(disk) = Small::mount(40) else {
                println!("SKIPPED: no tmpfs can be mounted here");
                return;
            };
            fill_and_free(&disk, min_free).await;
            fills += 1;
        }
    }
    plan.report("Disk", "the real program on a full disk", fills, "refused, reads go on, goes on when there is room");
}

async fn fill_and_free(disk: &Small, min_free: &str) {
    let toml = format!(
        "[log]\nsegment_bytes = \"1MiB\"\nindex_memtable_bytes = \"1MiB\"\nindex_flush_bytes = \"4MiB\"\n\
         min_free_bytes = \"{min_free}\"\n"
    );
    let mut server = serve(disk.path(), &toml);
    let (mut address, mut web) = server.wait_until_ready();
    create(address, TOPIC, 1, &[]).await;
    let acked = fill(address, 0).await;
    check(address, acked).await;
    println!("full after {acked} records, min_free_bytes = {min_free}: {:?}", http::get(web, "/readyz").await);
    // On a disk that is full to the last byte a killed process comes back, or says why not.
    server.signal(Signal::KILL);
    server.wait();
    server = serve(disk.path(), &toml);
    let room = match server.ready_or_ended() {
        Some(addresses) => {
            (address, web) = addresses;
            false
        }
        None => {
            let (_, said) = server.wait();
            assert!(said.contains("No space left on device"), "{said}");
            disk.remount("size=60m");
            server = serve(disk.path(), &toml);
            (address, web) = server.wait_until_ready();
            true
        }
    };
    check(address, acked).await;
    if room {
        println!("it starts when there is room");
    }
    let keep = acked - 100;
    delete(address, keep).await;
    goes_on(address, acked).await;
    check(address, acked + RECORDS.0).await;
    assert_eq!(http::get(web, "/readyz").await.0, 200);
    server.signal(Signal::TERM);
    server.wait();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_read_only_refuses_producers_and_serves_readers() {
    let plan = Plan::of("KROCKET_DISK_FULL", 1, 1);
    for _ in 0..plan.rounds {
        let Some(disk) = Small::mount(200) else {
            println!("SKIPPED: no tmpfs can be mounted here");
            return;
        };
        let toml = "[log]\nsegment_bytes = \"1MiB\"\nmin_free_bytes = 0\n";
        let mut server = serve(disk.path(), toml);
        let (address, _) = server.wait_until_ready();
        create(address, TOPIC, 1, &[]).await;
        let mut session = Session::connect(address).await.expect("the server is ready");
        for batch in 0..100 {
            assert_eq!(produce(&mut session, (TOPIC, 0), batch * RECORDS.0, RECORDS, -1).await.expect("an answer"), 0);
        }
        // Files that are open for writing keep the kernel from it: the process has to be down.
        server.signal(Signal::KILL);
        server.wait();
        disk.remount("ro");
        let (data, listen) = (disk.path().join("data"), "127.0.0.1:0");
        let data = data.to_str().expect("text");
        let (code, _, said) = krocket_testkit::process::run(
            crate::log::KROCKET,
            &["serve", "--listen", listen, "--http", listen, "--data-dir", data],
        );
        assert_ne!(code, Some(0));
        assert!(said.contains("Read-only file system"), "{said}");
        disk.remount("rw");
        let mut server = serve(disk.path(), toml);
        let (address, _) = server.wait_until_ready();
        check(address, 1000).await;
        goes_on(address, 1000).await;
        server.signal(Signal::TERM);
        server.wait();
    }
    plan.report(
        "Disk",
        "the real program on a read-only disk",
        plan.rounds.into(),
        "says so, starts when it is writable",
    );
}
