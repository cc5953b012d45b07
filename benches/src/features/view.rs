//! Views: what a consumer gets and a server spends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::reader::Reader;
use super::report::Numbers;
use super::{PARTITIONS, memory, now_ms};
use crate::batch;
use crate::process::cpu_seconds;
use crate::server::{Kind, Places, Server};
use crate::wire::{self, Connection};

/// What a consumer gets and a server spends on views that match 1, 10 and 100 % of 1 KB records, and on everything.
pub(super) fn views(places: &Places, numbers: &mut Numbers, count: usize) -> Result<()> {
    let server = Server::start(Kind::Krocket, places)?;
    let topic = "source".to_owned();
    let mut connection = Connection::open(server.aim.address)?;
    wire::create_topics(&mut connection, std::slice::from_ref(&topic), PARTITIONS, &[])?;
    for (turn, first) in (0..count).step_by(16).enumerate() {
        let tags: Vec<[(&str, &str); 1]> = (first..count.min(first + 16))
            .map(|n| match n % 100 {
                0 => [("TAGS", "one||ten||all")],
                m if m % 10 == 0 => [("TAGS", "ten||all")],
                _ => [("TAGS", "all")],
            })
            .collect();
        let value = vec![b'x'; 1000];
        let records: Vec<(&[u8], &[(&str, &str)])> = tags.iter().map(|tags| (&value[..], &tags[..])).collect();
        wire::produce(&mut connection, &topic, turn as i32 % PARTITIONS, 1, &batch::with_headers(&records, now_ms()))?;
    }
    for (view, matches) in [("one", count / 100), ("ten", count / 10), ("all", count)] {
        wire::create_topics(
            &mut connection,
            &[format!("v-{view}")],
            PARTITIONS,
            &[("krocket.view.source", &topic), ("krocket.view.filter", view)],
        )?;
        // Once for the index, once for the measurement.
        let started = Instant::now();
        read(&server, &format!("v-{view}"), matches)?;
        numbers.add(&format!("{view}: index and first read"), started.elapsed().as_secs_f64() * 1e3, "ms");
    }
    for (name, records) in [("source", count), ("v-one", count / 100), ("v-ten", count / 10), ("v-all", count)] {
        let cpu = (cpu_seconds(server.aim.pid)?, cpu_seconds(std::process::id())?);
        let started = Instant::now();
        let mut bytes = 0.0;
        let mut rounds = 0.0;
        while started.elapsed() < Duration::from_secs(2) {
            bytes += read(&server, name, records)?;
            rounds += 1.0;
        }
        let seconds = started.elapsed().as_secs_f64() / rounds;
        numbers.add(&format!("{name}: read whole"), seconds * 1e3, "ms");
        numbers.add(&format!("{name}: throughput"), bytes / 1e6 / rounds / seconds, "MB/s");
        numbers.add(&format!("{name}: server CPU"), (cpu_seconds(server.aim.pid)? - cpu.0) * 1e3 / rounds, "ms");
        numbers.add(&format!("{name}: client CPU"), (cpu_seconds(std::process::id())? - cpu.1) * 1e3 / rounds, "ms");
    }
    memory(numbers, server.aim.pid)?;
    Ok(())
}

/// Reads a topic whole, looking at every record's tag as a client that filters would; its bytes.
fn read(server: &Server, topic: &str, records: usize) -> Result<f64> {
    let mut reader = Reader::new(server.aim.address, topic, 0..PARTITIONS)?;
    let (mut seen, mut bytes, mut tagged) = (0, 0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen < records {
        for set in reader.poll()? {
            bytes += set.batches.len();
            batch::each_header(&set.batches, b"TAGS", |tags| {
                seen += 1;
                tagged += usize::from(tags.is_some());
            });
        }
        ensure!(Instant::now() < deadline, "only {seen} of {records} records of {topic} came");
    }
    ensure!(seen == records && tagged == records, "{seen} records of {topic}, wanted {records}");
    Ok(bytes as f64)
}
