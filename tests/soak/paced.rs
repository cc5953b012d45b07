//! A load of so many batches a second, whatever the answers take: latency counts from when a batch was to be sent.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use krocket_protocol::StrBytes;
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_testkit::promises::wire::{self, now_ms};
use krocket_testkit::session::Session;
use parking_lot::Mutex;
use tokio::task::JoinSet;

pub(crate) const TOPIC: &str = "main";
pub(crate) const PARTITIONS: i32 = 4;
/// Each has one request in flight. With 8 of them the time of an answer was the knee, not the server: at 1.4 ms for each request
/// one slow answer was followed by a queue that took seconds to go.
const CONNECTIONS: usize = 40;
const RECORDS: i64 = 10;
const VALUE: usize = 1000;

/// What was seen in an interval.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) phase: usize,
    /// Since the phase began.
    pub(crate) second: f64,
    /// Batches a second.
    pub(crate) done: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// The server's memory, bytes.
    pub(crate) rss: u64,
    /// What its log takes of the disk, bytes.
    pub(crate) log: u64,
    /// Of the CPU time that this machine asked its host for, the part that it did not get.
    pub(crate) stolen: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { second, done, p50_ms, p99_ms, p999_ms, rss, log, stolen, .. } = self;
        let (memory, log, stolen) = (*rss as f64 / 1e6, *log as f64 / 1e6, stolen * 100.0);
        write!(
            f,
            "{second:6.0} s  {done:7.0}/s  p50 {p50_ms:6.2}  p99 {p99_ms:7.2}  p99.9 {p999_ms:7.2} ms  {memory:6.1} MB, log {log:6.0} MB, {stolen:2.0} % stolen"
        )
    }
}

fn batch() -> Bytes {
    let (now, value) = (now_ms(), [b'v'; VALUE]);
    let mut batch = BatchBuilder::new(0, now);
    for at in 0..RECORDS {
        batch.push(at, now, Some(b"key"), Some(&value), &[]);
    }
    batch.finish(LastOffset::Trim).expect("no codec").expect("records")
}

async fn send(session: &mut Session, partition: i32, batch: &Bytes) -> std::io::Result<()> {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
    let name = TopicName(StrBytes::from_static_str(TOPIC));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let response = session.call(9, &request).await?;
    let code = response.responses[0].partition_responses[0].error_code;
    if code == 0 { Ok(()) } else { Err(std::io::Error::other(format!("error {code}"))) }
}

/// What half of the batches may take at a rate that is sustained: beyond that they queue (as in `make bench`).
const PROMPT_MS: f64 = 20.0;
/// Part of a rate that has to be reached for it to count.
const SUSTAINED: f64 = 0.95;
/// From one rate that is tried to the next.
const STEP: f64 = 0.9;

/// The highest rate that is sustained, batches a second. What producers reach that wait for each answer is tried first, and then
/// less and less. That comes after three times `length`: a young log has nothing to clean and a small index, and takes what an old
/// one does not. Where a tenth of the first is not sustained either, that tenth.
pub(crate) async fn knee(server: Server<'_>, length: Duration) -> f64 {
    wire::create_topic(server.address, TOPIC, PARTITIONS).await;
    let most = most(server.address, length).await;
    let mut rate = most;
    while !is_sustained(server, rate, length).await && rate > most / 10.0 {
        rate *= STEP;
    }
    println!("{most:.0} batches a second by producers that wait for each answer, {rate:.0} by producers that don't");
    rate
}

async fn is_sustained(server: Server<'_>, rate: f64, length: Duration) -> bool {
    let samples = Paced { server, rate }.run(length, length, |_| {}).await;
    samples.iter().all(|sample| sample.p50_ms <= PROMPT_MS && sample.done >= rate * SUSTAINED)
}

/// Batches a second when each is sent once the last is answered, with a reader at the tail as later.
async fn most(address: SocketAddr, length: Duration) -> f64 {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    senders.spawn(follow(address, stop.clone()));
    for at in 0..CONNECTIONS {
        let (stop, count) = (stop.clone(), count.clone());
        senders.spawn(async move {
            let (mut session, batch) = (Session::connect(address).await.expect("connects"), batch());
            while !stop.load(Ordering::Relaxed) {
                send(&mut session, at as i32 % PARTITIONS, &batch).await.expect("taken");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(length * 3).await;
    let (before, begun) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(length).await;
    let rate = (count.load(Ordering::Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended.expect("no sender failed");
    }
    rate
}

/// What is under load.
#[derive(Clone, Copy)]
pub(crate) struct Server<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    /// The folder of its log.
    pub(crate) log: &'a Path,
}

/// A paced load.
pub(crate) struct Paced<'a> {
    pub(crate) server: Server<'a>,
    /// Batches a second, all connections together.
    pub(crate) rate: f64,
}

impl Paced<'_> {
    /// Sends for so long, and reads along from the tail; a sample for each interval, shown when it is taken.
    pub(crate) async fn run(&self, length: Duration, interval: Duration, show: impl Fn(&Sample)) -> Vec<Sample> {
        let Server { address, pid, log } = self.server;
        let latencies = Arc::new(Mutex::new(Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).expect("bounds")));
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        let gap = Duration::from_secs_f64(CONNECTIONS as f64 / self.rate);
        for at in 0..CONNECTIONS {
            clients.spawn(produce(address, at, gap, latencies.clone(), stop.clone()));
        }
        clients.spawn(follow(address, stop.clone()));
        let (begun, mut samples) = (Instant::now(), Vec::new());
        while begun.elapsed() < length {
            let (from, cpu) = (Instant::now(), Cpu::now());
            tokio::time::sleep(interval).await;
            let seen = std::mem::replace(
                &mut *latencies.lock(),
                Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds"),
            );
            let ms = |quantile: f64| seen.value_at_quantile(quantile) as f64 / 1e3;
            let sample = Sample {
                phase: 0,
                second: begun.elapsed().as_secs_f64(),
                done: seen.len() as f64 / from.elapsed().as_secs_f64(),
                p50_ms: ms(0.5),
                p99_ms: ms(0.99),
                p999_ms: ms(0.999),
                rss: rss(pid),
                log: size(log),
                stolen: Cpu::now().stolen_since(&cpu),
            };
            show(&sample);
            samples.push(sample);
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            ended.expect("no client failed");
        }
        samples
    }
}

async fn produce(
    address: SocketAddr,
    at: usize,
    gap: Duration,
    latencies: Arc<Mutex<Histogram<u64>>>,
    stop: Arc<AtomicBool>,
) {
    let (mut session, batch) = (Session::connect(address).await.expect("connects"), batch());
    let mut due = Instant::now() + gap.mul_f64(at as f64 / CONNECTIONS as f64);
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due.into()).await;
        send(&mut session, at as i32 % PARTITIONS, &batch).await.expect("taken");
        latencies.lock().saturating_record(due.elapsed().as_micros() as u64);
        due += gap;
    }
}

/// Reads the first partition from its end on.
async fn follow(address: SocketAddr, stop: Arc<AtomicBool>) {
    let mut session = Session::connect(address).await.expect("connects");
    let mut position = crate::crowd::end(&mut session, TOPIC).await;
    while !stop.load(Ordering::Relaxed) {
        match wire::fetch(&mut session, TOPIC, 0, position).await.expect("an answer") {
            Ok((_, end, _)) if end > position => position = end,
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            // Retention was faster.
            Err(_) => position = crate::crowd::end(&mut session, TOPIC).await,
        }
    }
}

/// CPU time of this machine, in ticks.
struct Cpu {
    used: u64,
    stolen: u64,
}

impl Cpu {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").expect("Linux");
        let ticks: Vec<u64> = stat.split_whitespace().skip(1).map_while(|text| text.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal
        Cpu { used: ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6], stolen: ticks[7] }
    }

    fn stolen_since(&self, before: &Cpu) -> f64 {
        let stolen = (self.stolen - before.stolen) as f64;
        stolen / (stolen + (self.used - before.used) as f64).max(1.0)
    }
}

/// Of all files in a folder; one may go meanwhile.
fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a folder");
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

/// Resident memory of a process, bytes.
fn rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux, and the server is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kilobytes * 1024
}
