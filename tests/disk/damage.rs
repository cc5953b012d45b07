//! A flipped bit or a cut anywhere in a data folder of the real program: the start or the fetch finds it, says in which file
//! it is, and a reader that checks nothing gets no byte that was not written.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use krocket_testkit::session::Session;
use krocket_testkit::torture::Plan;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use crate::log::{create, produce, read, serve, value};
use crate::machine::{copy, folder};

const QUICK_CASES: u32 = 30;
const TOML: &str = "[log]\nsegment_bytes = \"1MiB\"\nindex_memtable_bytes = \"1MiB\"\nindex_flush_bytes = \"1MiB\"\n";
/// Topic, partitions, batches of each, records of a batch and their length: small ones that are read, large ones that
/// the kernel sends.
const TOPICS: [(&str, i32, i64, (i64, usize)); 2] = [("small", 3, 300, (2, 150)), ("large", 2, 60, (10, 2000))];

/// What a case came to.
#[derive(Debug, Default)]
struct Seen {
    flips: u64,
    cuts: u64,
    /// Of the log, of the index, of anything else.
    log: u64,
    index: u64,
    other: u64,
    /// While it ran.
    live: u64,
    lost: u64,
    refused: u64,
    refused_starts: u64,
    /// Indexes that were found damaged by a read, and built anew by the next start.
    rebuilt: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_named_and_never_served() {
    let plan = Plan::of("KROCKET_DISK_DAMAGES", QUICK_CASES, 1);
    println!("damage: {} cases, KROCKET_CRASH_SEED={}", plan.rounds, plan.seed);
    let master = folder();
    write(master.path()).await;
    let mut seen = Seen::default();
    for case in 0..plan.rounds {
        let seed = plan.seed.wrapping_add(case.into());
        if let Err(violation) = damage(master.path(), seed, &mut seen).await {
            panic!("seed {seed}: {violation}");
        }
    }
    println!("{seen:?}, {:.0} s", plan.seconds());
    assert!(seen.log > 0 && seen.index > 0 && seen.live > 0 && seen.lost > 0, "{seen:?}");
    let result = |what: u64| format!("{what} found or harmless and named, {} records lost, none altered", seen.lost);
    plan.report("Disk", "a flipped bit anywhere in the data folder", seen.flips, &result(seen.flips));
    plan.report("Disk", "a file of the data folder cut anywhere", seen.cuts, &result(seen.cuts));
}

/// A data folder that was closed cleanly.
async fn write(folder: &Path) {
    let mut server = serve(folder, TOML);
    let (address, _) = server.wait_until_ready();
    for (topic, partitions, batches, records) in TOPICS {
        create(address, topic, partitions, &[]).await;
        let mut session = Session::connect(address).await.expect("the server is ready");
        for batch in 0..batches {
            for partition in 0..partitions {
                let first = batch * records.0;
                let code = produce(&mut session, (topic, partition), first, records, 1).await.expect("an answer");
                assert_eq!(code, 0);
            }
        }
    }
    server.signal(Signal::TERM);
    server.wait();
}

/// All files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Damages a file; says what was done.
fn spoil(path: &Path, rng: &mut StdRng, seen: &mut Seen) -> String {
    let mut bytes = std::fs::read(path).expect("a file");
    let at = rng.random_range(0..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
    if rng.random_range(0..3) > 0 && !bytes.is_empty() {
        bytes[at] ^= 1 << rng.random_range(0..8);
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("it opens");
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).expect("it can be written");
        seen.flips += 1;
        format!("a flip in {} at {at}", path.display())
    } else {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("it opens");
        file.set_len(at as u64).expect("it can be cut");
        seen.cuts += 1;
        format!("{} cut at {at}", path.display())
    }
}

async fn damage(master: &Path, seed: u64, seen: &mut Seen) -> Result<(), String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = folder();
    copy(master, folder.path()).expect("it can be copied");
    let all = files(&folder.path().join("data"));
    let of =
        |part: &str| all.iter().filter(|path| path.parent().is_some_and(|it| it.ends_with(part))).cloned().collect();
    let (log, index): (Vec<PathBuf>, Vec<PathBuf>) = (of("log"), of("index"));
    let others: Vec<_> = all.iter().filter(|path| !log.contains(path) && !index.contains(path)).cloned().collect();
    let kind = rng.random_range(0..10);
    let chosen = match kind {
        0..6 => &log,
        6..9 => &index,
        _ => &others,
    };
    let path = chosen[rng.random_range(0..chosen.len())].clone();
    let in_log = kind < 6;
    let live = in_log && rng.random();
    // One in four begins without an index: then it is the start that reads all of the log.
    if in_log && !live && rng.random_range(0..4) == 0 {
        std::fs::remove_dir_all(folder.path().join("data/index")).expect("it can be removed");
    }
    match kind {
        0..6 => seen.log += 1,
        6..9 => seen.index += 1,
        _ => seen.other += 1,
    }
    seen.live += u64::from(live);
    let mut done = if live { String::new() } else { spoil(&path, &mut rng, seen) };
    let mut server = serve(folder.path(), TOML);
    let Some((address, _)) = server.ready_or_ended() else {
        let (_, said) = server.wait();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        seen.refused_starts += 1;
        return match said.contains(&name) || !in_log && said.contains("data") {
            true => Ok(()),
            false => Err(format!("{done}: it did not start and does not name {name}:\n{said}")),
        };
    };
    if live {
        done = spoil(&path, &mut rng, seen);
    }
    let (mut missing, refused) = look(address).await.map_err(|error| format!("{done}: {error}"))?;
    seen.refused += refused;
    server.signal(Signal::TERM);
    let (_, said) = server.wait();
    let name = path.file_name().expect("a name").to_string_lossy();
    if !missing.is_empty() && !said.contains(&*name) {
        return Err(format!("{done}: lost {missing:?} and does not name the file:\n{said}"));
    }
    if !missing.is_empty() && !in_log {
        // The log is sound: the next start builds the index anew.
        let mut server = serve(folder.path(), TOML);
        let (address, _) = server.wait_until_ready();
        (missing, _) = look(address).await.map_err(|error| format!("{done}, after a restart: {error}"))?;
        server.signal(Signal::TERM);
        let (_, said) = server.wait();
        if !missing.is_empty() {
            return Err(format!("{done}: lost {missing:?} after a restart, and the log is sound:\n{said}"));
        }
        seen.rebuilt += 1;
    }
    seen.lost += missing.len() as u64;
    if done.starts_with("a flip") && missing.len() > 10 {
        return Err(format!("{done}: more than a batch is lost: {missing:?}\n{said}"));
    }
    Ok(())
}

/// What cannot be read of all that was written, and how many fetches were refused; an error where anything is altered.
async fn look(address: SocketAddr) -> Result<(Vec<String>, u64), String> {
    let (mut missing, mut refused) = (Vec::new(), 0);
    for (topic, partitions, batches, (count, len)) in TOPICS {
        for partition in 0..partitions {
            let end = batches * count;
            let found = read(address, topic, partition, end).await.map_err(|error| error.to_string())?;
            let altered = |(offset, read): &(&i64, &Vec<u8>)| **read != value(topic, partition, **offset, len);
            if let Some((offset, _)) = found.records.iter().find(altered) {
                return Err(format!("{topic}:{partition}:{offset} is altered"));
            }
            refused += found.refused.len() as u64;
            let lost = (0..end).filter(|offset| !found.records.contains_key(offset));
            missing.extend(lost.map(|offset| format!("{topic}:{partition}:{offset}")));
        }
    }
    Ok((missing, refused))
}
