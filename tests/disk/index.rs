//! The index is lost, or an old one is put back: it is built anew from the log, in so much time per GB.

use std::path::Path;
use std::time::Instant;

use krocket_testkit::Process;
use krocket_testkit::session::Session;
use krocket_testkit::torture::{Plan, setting};
use rustix::process::Signal;

use crate::log::{create, produce, read, serve, value};
use crate::machine::copy;

const TOPIC: &str = "much";
const PARTITIONS: i32 = 4;
const RECORDS: (i64, usize) = (100, 1000);
/// MB of log in `make test`.
const QUICK_MEGABYTES: u64 = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_stale_index_is_built_anew() {
    let plan = Plan::of("KROCKET_INDEX_ROUNDS", 1, 1);
    let megabytes = setting("KROCKET_INDEX_MEGABYTES").unwrap_or(QUICK_MEGABYTES);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, stale) = (folder.path().join("data"), folder.path().join("stale"));
    let mut server = started(folder.path()).0;
    let mut batches = [0; PARTITIONS as usize];
    let (address, _) = server.1;
    create(address, TOPIC, PARTITIONS, &[]).await;
    let total = megabytes * 1_000_000 / (RECORDS.0 as u64 * RECORDS.1 as u64);
    for part in 0..2 {
        let mut session = Session::connect(server.1.0).await.expect("the server is ready");
        for batch in 0..total / 2 {
            let partition = (batch % PARTITIONS as u64) as usize;
            let first = batches[partition] * RECORDS.0;
            let to = (TOPIC, partition as i32);
            assert_eq!(produce(&mut session, to, first, RECORDS, 1).await.expect("an answer"), 0);
            batches[partition] += 1;
        }
        server.0.signal(Signal::TERM);
        server.0.wait();
        if part == 0 {
            copy(&data.join("index"), &stale).expect("it can be copied");
            server = started(folder.path()).0;
        } else {
            break;
        }
    }
    let gigabytes = size(&data.join("log")) as f64 / 1e9;
    for (what, old) in [("deleted", false), ("stale", true)] {
        let mut seconds = 0.0;
        for _ in 0..plan.rounds {
            std::fs::remove_dir_all(data.join("index")).expect("it can be removed");
            if old {
                copy(&stale, &data.join("index")).expect("it can be copied");
            }
            let (server, took) = started(folder.path());
            seconds += took;
            check(server.1.0, &batches).await;
            server.0.signal(Signal::TERM);
            server.0.wait();
        }
        seconds /= f64::from(plan.rounds);
        let share = if old { gigabytes / 2.0 } else { gigabytes };
        let result = format!("built anew from {share:.2} GB of log in {seconds:.2} s: {:.2} s per GB", seconds / share);
        println!("index {what}: {result}");
        plan.report("Disk", &format!("the index is {what}"), plan.rounds.into(), &result);
    }
}

/// A server that is ready, and after how many seconds it was.
fn started(folder: &Path) -> ((Process, (std::net::SocketAddr, std::net::SocketAddr)), f64) {
    let begun = Instant::now();
    let mut server = serve(folder, "[log]\nsegment_bytes = \"256MiB\"\n");
    let addresses = server.wait_until_ready();
    ((server, addresses), begun.elapsed().as_secs_f64())
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |metadata| metadata.len())).sum()
}

/// The first and the last of each partition.
async fn check(address: std::net::SocketAddr, batches: &[i64]) {
    for (partition, batches) in (0..).zip(batches) {
        let end = batches * RECORDS.0;
        let found = read(address, TOPIC, partition, 2 * RECORDS.0).await.expect("readable");
        assert_eq!((found.high_watermark, found.refused), (end, vec![]));
        assert!(found.records.iter().all(|(offset, read)| *read == value(TOPIC, partition, *offset, RECORDS.1)));
        assert!(found.records.contains_key(&0));
    }
}
