//! What the features do and what they cost: krocket alone, since Kafka has none of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use serde::Serialize;

use crate::batch::{self, Batch};
use crate::load::{Stream, Window, prepared};
use crate::process::{cpu_seconds, peak_memory, reset_peak};
use crate::rows::BATCH;
use crate::server::{Kind, Places, Server, check_interrupted};
use crate::wire::{self, Connection, check, topic_name};

const FETCH: i16 = 12;
const PARTITIONS: i32 = 6;
/// Records in a batch of delayed ones: about 16 KB.
const PER_BATCH: usize = 100;
const OFF: &str = "[[rules]]\ntopics = [\"*\"]\nfilter = false\nschedule = false\nhalf = false\nlookup = false\n";

/// One number.
#[derive(Serialize)]
struct Line {
    row: String,
    metric: String,
    value: f64,
    unit: &'static str,
}

#[derive(Default)]
struct Report(Vec<Line>);

impl Report {
    #[allow(clippy::print_stdout, reason = "a command-line program's own words")]
    fn add(&mut self, row: &str, metric: &str, value: f64, unit: &'static str) {
        println!("{row:34} {metric:34} {value:14.2} {unit}");
        self.0.push(Line { row: row.to_owned(), metric: metric.to_owned(), value, unit });
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Measures everything and prints a line for each number as it comes.
pub(crate) fn run(places: &Places, quick: bool, json: Option<&Path>) -> Result<()> {
    let mut report = Report::default();
    let (burst, steady, pending, view, keyed) = if quick {
        (100_000, 3, 300_000, 200_000, 200_000)
    } else {
        (500_000, 10, 10_000_000, 1_000_000, 10_000_000)
    };
    lateness(places, &mut report, &format!("burst of {burst} within 1 s"), burst, 1)?;
    lateness(places, &mut report, &format!("steady 10000/s for {steady} s"), 10_000 * steady, steady as u64)?;
    waiting(places, &mut report, pending)?;
    views(places, &mut report, view)?;
    lookups(places, &mut report, keyed)?;
    price(places, &mut report, quick)?;
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&report.0)? + "\n")?;
    }
    Ok(())
}

/// `count` records due evenly over `seconds`, from when all of them are stored: how late each is in a consumer's hands.
fn lateness(places: &Places, report: &mut Report, row: &str, count: usize, seconds: u64) -> Result<()> {
    check_interrupted()?;
    let server = Server::start(Kind::Krocket, places)?;
    let topic = "delayed".to_owned();
    let mut admin = Connection::open(server.aim.address)?;
    wire::create_topics(&mut admin, std::slice::from_ref(&topic), PARTITIONS, &[])?;
    let lead = Duration::from_secs(4 + count as u64 / 50_000);
    let first_due = now_ms() + lead.as_millis() as i64;
    let due = |n: usize| first_due + (n as u64 * seconds * 1000 / count as u64) as i64;
    let started = Instant::now();
    park(&server, &topic, count, due)?;
    report.add(row, "stored, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    ensure!(now_ms() < first_due, "storing took longer than the time until the first is due");
    reset_peak(server.aim.pid);
    let cpu = cpu_seconds(server.aim.pid)?;
    let latencies = consume(server.aim.address, &topic, count)?;
    let done = now_ms();
    report.add(row, "lateness p50", latencies.value_at_quantile(0.5) as f64, "ms");
    report.add(row, "lateness p99", latencies.value_at_quantile(0.99) as f64, "ms");
    report.add(row, "lateness max", latencies.max() as f64, "ms");
    report.add(row, "delivered", count as f64 / ((done - first_due) as f64 / 1e3), "1/s");
    report.add(row, "server CPU per million", (cpu_seconds(server.aim.pid)? - cpu) / count as f64 * 1e6, "s");
    report.add(row, "peak memory", peak_memory(server.aim.pid)? / f64::from(1 << 20), "MiB");
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
    let mut reader = Reader::new(address, topic)?;
    let mut seen = 0;
    let mut last = Instant::now();
    while seen < count {
        check_interrupted()?;
        let mut early = 0;
        let sets = reader.poll()?;
        let now = now_ms();
        let before = seen;
        for set in &sets {
            batch::each_header(set, b"TIMER_DELIVER_MS", |due| {
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
fn waiting(places: &Places, report: &mut Report, count: usize) -> Result<()> {
    check_interrupted()?;
    let row = &format!("{count} pending");
    let mut server = Server::start(Kind::Krocket, places)?;
    let topic = "pending".to_owned();
    let mut admin = Connection::open(server.aim.address)?;
    wire::create_topics(&mut admin, std::slice::from_ref(&topic), PARTITIONS, &[])?;
    let tomorrow = now_ms() + 86_400_000;
    let started = Instant::now();
    park(&server, &topic, count, |n| tomorrow + n as i64 / 10)?;
    report.add(row, "stored, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    report.add(row, "peak memory", peak_memory(server.aim.pid)? / f64::from(1 << 20), "MiB");
    let restart = server.crash()?;
    report.add(row, "start after kill -9", restart.as_secs_f64() * 1e3, "ms");
    thread::sleep(Duration::from_secs(2));
    report.add(row, "peak memory after the start", peak_memory(server.aim.pid)? / f64::from(1 << 20), "MiB");
    Ok(())
}

/// What a consumer gets and a server spends on views that match 1, 10 and 100 % of 1 KB records, and on everything.
fn views(places: &Places, report: &mut Report, count: usize) -> Result<()> {
    check_interrupted()?;
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
        wire::create_topics(&mut connection, &[format!("v-{view}")], PARTITIONS, &[
            ("krocket.view.source", &topic),
            ("krocket.view.filter", view),
        ])?;
        // Once for the index, once for the measurement.
        let started = Instant::now();
        read(&server, &format!("v-{view}"), matches)?;
        report.add("view", &format!("{view}: index and first read"), started.elapsed().as_secs_f64() * 1e3, "ms");
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
        report.add("view", &format!("{name}: read whole"), seconds * 1e3, "ms");
        report.add("view", &format!("{name}: throughput"), bytes / 1e6 / rounds / seconds, "MB/s");
        report.add("view", &format!("{name}: server CPU"), (cpu_seconds(server.aim.pid)? - cpu.0) * 1e3 / rounds, "ms");
        report.add("view", &format!("{name}: client CPU"), (cpu_seconds(std::process::id())? - cpu.1) * 1e3 / rounds, "ms");
    }
    report.add("view", "peak memory", peak_memory(server.aim.pid)? / f64::from(1 << 20), "MiB");
    Ok(())
}

/// Reads a topic whole, looking at every record's tag as a client that filters would; its bytes.
fn read(server: &Server, topic: &str, records: usize) -> Result<f64> {
    let mut reader = Reader::new(server.aim.address, topic)?;
    let (mut seen, mut bytes, mut tagged) = (0, 0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen < records {
        for set in reader.poll()? {
            bytes += set.len();
            batch::each_header(&set, b"TAGS", |tags| {
                seen += 1;
                tagged += usize::from(tags.is_some());
            });
        }
        ensure!(Instant::now() < deadline, "only {seen} of {records} records of {topic} came");
    }
    ensure!(seen == records && tagged == records, "{seen} records of {topic}, wanted {records}");
    Ok(bytes as f64)
}

/// Produce throughput with features on but unused, beside features off; in turns.
fn price(places: &Places, report: &mut Report, quick: bool) -> Result<()> {
    let rounds = if quick { 2 } else { 5 };
    let length = Duration::from_secs_f64(if quick { 1.5 } else { 4.0 });
    let window = Window { warm_up: Duration::from_millis(700), length, max_bytes: 3 << 30 };
    for size in [100, 1000] {
        let row = format!("price of unused features, {size} B");
        let mut ratios = Vec::new();
        let mut costs = Vec::new();
        for round in 0..rounds {
            let mut measured = Vec::new();
            // Who goes first changes, so that neither has the fresher disk.
            let order: [usize; 2] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            let mut both = [(0.0, 0.0); 2];
            for which in order {
                check_interrupted()?;
                let server = Server::start_with(Kind::Krocket, places, ["", OFF][which])?;
                let topics = ["plain".to_owned()];
                wire::create_topics(&mut Connection::open(server.aim.address)?, &topics, PARTITIONS, &[])?;
                let batch: Batch = batch::fill(size, BATCH, now_ms());
                let prepared = prepared(batch, 1, &topics, PARTITIONS)?;
                let (m, _) = Stream::new(&prepared, 4).run(server.aim, window)?;
                both[which] = (m.sent_bytes / m.seconds, m.server_cpu / m.sent_bytes);
            }
            measured.push(both);
            ratios.push(both[0].0 / both[1].0);
            costs.push(both[0].1 / both[1].1);
        }
        ratios.sort_by(f64::total_cmp);
        costs.sort_by(f64::total_cmp);
        report.add(&row, "throughput, on / off", ratios[ratios.len() / 2], "");
        report.add(&row, "server CPU per byte, on / off", costs[costs.len() / 2], "");
    }
    Ok(())
}

/// Fetches all partitions of a topic; offsets may have gaps.
struct Reader {
    connection: Connection,
    topic: String,
    positions: Vec<i64>,
}

impl Reader {
    fn new(address: SocketAddr, topic: &str) -> Result<Self> {
        let connection = Connection::open(address)?;
        Ok(Reader { connection, topic: topic.to_owned(), positions: vec![0; PARTITIONS as usize] })
    }

    fn poll(&mut self) -> Result<Vec<bytes::Bytes>> {
        let partitions = self.positions.iter().enumerate().map(|(index, position)| {
            FetchPartition::default()
                .with_partition(index as i32)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_fetch_offset(*position)
                .with_partition_max_bytes(1 << 20)
        });
        let topic = FetchTopic::default().with_topic(topic_name(&self.topic)).with_partitions(partitions.collect());
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = self.connection.call(FETCH, &request)?;
        check(response.error_code, "fetching")?;
        let mut sets = Vec::new();
        for partition in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            check(partition.error_code, &format!("fetching {}-{}", self.topic, partition.partition_index))?;
            let Some(set) = partition.records.filter(|set| !set.is_empty()) else { continue };
            let fetched = batch::count(set.clone());
            let position = self.positions.get_mut(partition.partition_index as usize).context("nobody asked")?;
            *position = (*position).max(fetched.next_offset);
            sets.push(set);
        }
        Ok(sets)
    }
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: krocket\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
    Ok(text)
}

/// How long the index takes, and a look-up by key takes, connection included.
fn lookups(places: &Places, report: &mut Report, count: usize) -> Result<()> {
    check_interrupted()?;
    let row = &format!("{count} keys");
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
    report.add(row, "stored, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
    let last = format!("/v1/messages?key=order-{}", count - 1);
    while !get(server.http, &last)?.contains("keyed") {
        ensure!(started.elapsed() < Duration::from_secs(300), "the index does not catch up");
        thread::sleep(Duration::from_millis(20));
    }
    report.add(row, "stored and indexed, records/s", count as f64 / started.elapsed().as_secs_f64(), "1/s");
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
    report.add(row, "look-ups", 2000.0 / started.elapsed().as_secs_f64(), "1/s");
    report.add(row, "look-up p50", latencies.value_at_quantile(0.5) as f64 / 1e3, "ms");
    report.add(row, "look-up p99", latencies.value_at_quantile(0.99) as f64 / 1e3, "ms");
    Ok(())
}
