//! Delayed records: how late they are, and what many that wait cost.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::reader::Reader;
use super::report::Numbers;
use super::{MIB, PARTITIONS, PER_BATCH, memory, now_ms};
use crate::batch;
use crate::process::{cpu_seconds, peak_memory, reset_peak};
use crate::server::{Kind, Places, Server, check_interrupted};
use crate::wire::{self, Connection};

/// `count` records due evenly over `seconds`, from when all of them are stored: how late each is in a consumer's hands.
pub(super) fn lateness(places: &Places, numbers: &mut Numbers, count: usize, seconds: u64) -> Result<()> {
    let server = Server::start(Kind::Krocket, places)?;
    let topic = "delayed".to_owned();
    let mut admin = Connection::open(server.aim.address)?;
    wire::create_topics(&mut admin, std::slice::from_ref(&topic), PARTITIONS, &[])?;
    let lead = Duration::from_secs(4 + count as u64 / 50_000);
    let first_due = now_ms() + lead.as_millis() as i64;
    let due = |n: usize| first_due + (n as u64 * seconds * 1000 / count as u64) as i64;
    let started = Instant::now();
    park(&server, &topic, count, due)?;
    numbers.add("stored, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    ensure!(now_ms() < first_due, "storing took longer than the time until the first is due");
    reset_peak(server.aim.pid);
    let cpu = cpu_seconds(server.aim.pid)?;
    let latencies = consume(server.aim.address, &topic, count)?;
    let done = now_ms();
    numbers.add("lateness p50", latencies.value_at_quantile(0.5) as f64, "ms");
    numbers.add("lateness p99", latencies.value_at_quantile(0.99) as f64, "ms");
    numbers.add("lateness max", latencies.max() as f64, "ms");
    numbers.add("delivered", count as f64 / ((done - first_due) as f64 / 1e3), "1/s");
    numbers.add("server CPU per million", (cpu_seconds(server.aim.pid)? - cpu) / count as f64 * 1e6, "s");
    memory(numbers, server.aim.pid)?;
    Ok(())
}

/// Produces delayed records over a few connections.
fn park(server: &Server, topic: &str, count: usize, due: impl Fn(usize) -> i64 + Sync) -> Result<()> {
    let threads = 4;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let due = &due;
                scope.spawn(move || -> Result<()> {
                    let mut connection = Connection::open(server.aim.address)?;
                    for (turn, first) in (0..count).step_by(PER_BATCH).enumerate().skip(worker).step_by(threads) {
                        let dues: Vec<String> =
                            (first..count.min(first + PER_BATCH)).map(|n| due(n).to_string()).collect();
                        let headers: Vec<_> = dues.iter().map(|due| [("TIMER_DELIVER_MS", due.as_str())]).collect();
                        let records: Vec<(&[u8], &[(&str, &str)])> =
                            headers.iter().map(|headers| (&[b'x'; 100][..], &headers[..])).collect();
                        let batch = batch::with_headers(&records, now_ms());
                        wire::produce(&mut connection, topic, turn as i32 % PARTITIONS, 1, &batch)?;
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
        }
        Ok(())
    })
}

/// Reads delivered records until there are so many; how late each was, ms.
fn consume(address: SocketAddr, topic: &str, count: usize) -> Result<Histogram<u64>> {
    let mut latencies = Histogram::new_with_bounds(1, 3_600_000, 3)?;
    let mut reader = Reader::new(address, topic, 0..PARTITIONS)?;
    let mut seen = 0;
    let mut last = Instant::now();
    while seen < count {
        check_interrupted()?;
        let mut early = 0;
        let sets = reader.poll()?;
        let now = now_ms();
        let before = seen;
        for set in &sets {
            batch::each_header(&set.batches, b"TIMER_DELIVER_MS", |due| {
                seen += 1;
                let due = due.and_then(|due| std::str::from_utf8(due).ok()?.parse::<i64>().ok()).unwrap_or(i64::MAX);
                early += usize::from(now < due);
                latencies.saturating_record((now - due).max(0) as u64);
            });
        }
        ensure!(early == 0, "{early} records came early");
        if seen > before {
            last = Instant::now();
        }
        ensure!(last.elapsed() < Duration::from_secs(120), "only {seen} of {count} records came");
    }
    ensure!(seen == count, "{seen} records came where {count} were sent");
    Ok(latencies)
}

/// Memory and restart with many records waiting for tomorrow.
pub(super) fn waiting(places: &Places, numbers: &mut Numbers, count: usize) -> Result<()> {
    let mut server = Server::start(Kind::Krocket, places)?;
    let topic = "pending".to_owned();
    let mut admin = Connection::open(server.aim.address)?;
    wire::create_topics(&mut admin, std::slice::from_ref(&topic), PARTITIONS, &[])?;
    let tomorrow = now_ms() + 86_400_000;
    let started = Instant::now();
    park(&server, &topic, count, |n| tomorrow + n as i64 / 10)?;
    numbers.add("stored, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    memory(numbers, server.aim.pid)?;
    let restart = server.crash()?;
    numbers.add("start after kill -9", restart.as_secs_f64() * 1e3, "ms");
    thread::sleep(Duration::from_secs(2));
    numbers.add("peak memory after the start", peak_memory(server.aim.pid)? / MIB, "MiB");
    Ok(())
}
