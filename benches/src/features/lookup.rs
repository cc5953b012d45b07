//! Look-ups by key.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::report::Numbers;
use super::{PARTITIONS, PER_BATCH, memory, now_ms};
use crate::batch;
use crate::server::{Kind, Places, Server};
use crate::wire::{self, Connection};

/// How long the index takes, and a look-up by key takes, connection included.
pub(super) fn lookups(places: &Places, numbers: &mut Numbers, count: usize) -> Result<()> {
    let server = Server::start(Kind::Krocket, places)?;
    let topic = "keyed".to_owned();
    let mut connection = Connection::open(server.aim.address)?;
    wire::create_topics(&mut connection, std::slice::from_ref(&topic), PARTITIONS, &[])?;
    let started = Instant::now();
    for (turn, first) in (0..count).step_by(PER_BATCH).enumerate() {
        let keys: Vec<String> = (first..count.min(first + PER_BATCH)).map(|n| format!("order-{n}")).collect();
        let headers: Vec<_> = keys.iter().map(|key| [("KEYS", key.as_str())]).collect();
        let records: Vec<(&[u8], &[(&str, &str)])> =
            headers.iter().map(|headers| (&[b'x'; 100][..], &headers[..])).collect();
        let batch = batch::with_headers(&records, now_ms());
        wire::produce(&mut connection, &topic, turn as i32 % PARTITIONS, 1, &batch)?;
    }
    numbers.add("stored, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    while !get(server.http, "/v1/lookup")?.contains("\"waiting\":0,") {
        ensure!(started.elapsed() < Duration::from_secs(300), "the index does not catch up");
        thread::sleep(Duration::from_millis(20));
    }
    numbers.add("stored and indexed, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let mut random = SmallRng::seed_from_u64(1);
    let started = Instant::now();
    for _ in 0..2000 {
        let n = random.random_range(0..count);
        let asked = Instant::now();
        let answer = get(server.http, &format!("/v1/messages?key=order-{n}"))?;
        latencies.saturating_record(asked.elapsed().as_micros() as u64);
        ensure!(answer.contains(&format!("order-{n}")), "order-{n} is not found: {answer}");
    }
    numbers.add("look-ups", 2000.0 / started.elapsed().as_secs_f64(), "1/s");
    numbers.add("look-up p50", latencies.value_at_quantile(0.5) as f64 / 1e3, "ms");
    numbers.add("look-up p99", latencies.value_at_quantile(0.99) as f64 / 1e3, "ms");
    memory(numbers, server.aim.pid)?;
    Ok(())
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: krocket\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
    Ok(text)
}
