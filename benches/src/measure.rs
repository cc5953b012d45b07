//! Runs a row once against a server.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::batch::{self, Batch};
use crate::knee;
use crate::load::{Measured, Paced, Stream, Window, prepared};
use crate::metric::Metric;
use crate::pipeline::Pipeline;
use crate::process;
use crate::rows::{BATCH, Producing, Row, WIDE_PARTITIONS, WIDE_TOPICS, Work};
use crate::server::{Kind, Places, Server};
use crate::share::Sharing;
use crate::transactions::Transactions;
use crate::wire::{self, Connection};

/// Partitions of a row's topic, unless the row says otherwise.
pub(crate) const PARTITIONS: i32 = 6;

/// How long and how much.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) window: Window,
    /// Of the topic that is read whole.
    pub(crate) read_bytes: u64,
    /// Of the topic that share groups read.
    pub(crate) share_bytes: u64,
    /// Of the log that a server is killed with.
    pub(crate) log_bytes: u64,
    /// How long a server is watched doing nothing.
    pub(crate) idle: Duration,
}

/// One number of one side.
pub(crate) struct Value {
    pub(crate) side: String,
    pub(crate) metric: Metric,
    pub(crate) value: f64,
}

/// What one measurement gave, and what a reader should know about it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) values: Vec<Value>,
    pub(crate) note: Option<String>,
}

/// What a row keeps on a server from one round to the next.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) topics: Vec<String>,
    pub(crate) records: u64,
    /// Requests a second at which latencies are measured.
    pub(crate) rate: Option<f64>,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

pub(crate) fn new_batch(value: usize, bytes: usize) -> Batch {
    batch::fill(value, bytes, now_ms())
}

/// Kafka flushes by topic; krocket by what the producer asks for.
pub(crate) fn configs(kind: Kind, acks: i16) -> &'static [(&'static str, &'static str)] {
    match (kind, acks) {
        (Kind::Krocket | Kind::Nisshi, _) => &[],
        (Kind::Kafka, -1) => &[("file.delete.delay.ms", "1000"), ("flush.messages", "1")],
        (Kind::Kafka, _) => &[("file.delete.delay.ms", "1000")],
    }
}

/// Throughput, CPU and memory of a window; the bytes are what the row is about.
pub(crate) fn values(server: &Server, side: &str, measured: &Measured, records: f64, bytes: f64) -> Result<Vec<Value>> {
    ensure!(records > 0.0, "nothing went through within {:.1} s", measured.seconds);
    let gigabytes = (measured.sent_bytes + measured.fetched_bytes) / 1e9;
    let value = |metric, value| Value { side: side.to_owned(), metric, value };
    Ok(vec![
        value(Metric::MegabytesPerSecond, bytes / 1e6 / measured.seconds),
        value(Metric::RecordsPerSecond, records / measured.seconds),
        value(Metric::CpuPerGigabyte, measured.server_cpu / gigabytes),
        value(Metric::GeneratorCpuPerGigabyte, measured.generator_cpu / gigabytes),
        value(Metric::PeakMebibytes, process::peak_memory(server.aim.pid)? / f64::from(1 << 20)),
    ])
}

/// Fails unless the topics hold exactly what was acknowledged.
pub(crate) fn verify(connection: &mut Connection, topics: &[String], partitions: i32, acknowledged: u64) -> Result<()> {
    let mut held = 0;
    for topic in topics {
        held += wire::end_offsets(connection, topic, partitions)?.iter().sum::<i64>() as u64;
    }
    ensure!(held == acknowledged, "{acknowledged} records were acknowledged, but the topic holds {held}");
    Ok(())
}

impl Row {
    /// Measures the row once.
    pub(crate) fn run(
        &self,
        server: &Server,
        places: &Places,
        round: usize,
        scale: Scale,
        kept: &mut Kept,
    ) -> Result<Outcome> {
        server.settle()?;
        process::reset_peak(server.aim.pid);
        let topic = format!("bench-{}-{round}", self.slug());
        match self.work {
            Work::Produce(_)
            | Work::Follow { .. }
            | Work::Latency { .. }
            | Work::Transactions { .. }
            | Work::Pipeline => {
                let mut admin = Connection::open(server.aim.address)?;
                let topics = [topic];
                wire::create_topics(&mut admin, &topics, PARTITIONS, configs(server.kind, self.acks()))?;
                let (outcome, acknowledged) = self.stream(server, &topics[0], scale.window)?;
                // Markers take offsets, too.
                if !matches!(self.work, Work::Transactions { .. } | Work::Pipeline) {
                    verify(&mut admin, &topics, PARTITIONS, acknowledged)?;
                }
                wire::delete_topics(&mut admin, &topics)?;
                Ok(outcome)
            }
            Work::Share { consumers, releases } => share(server, &topic, (consumers, releases), round, scale, kept),
            Work::Read(reading) => reading.run(server, &topic, scale, kept),
            Work::Partitions => self.partitions(server, &topic, scale.window, kept),
            Work::Knee { acks } => knee::run(server, &topic, acks, scale.window, kept),
            Work::Standing(standing) => standing.run(server.kind, &server.label, places, scale),
        }
    }

    /// Gives back what the row kept.
    pub(crate) fn finish(&self, server: &Server, kept: Kept) -> Result<()> {
        let mut admin = Connection::open(server.aim.address)?;
        kept.topics.chunks(100).try_for_each(|topics| wire::delete_topics(&mut admin, topics))
    }

    fn slug(&self) -> String {
        self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }

    fn stream(&self, server: &Server, topic: &str, window: Window) -> Result<(Outcome, u64)> {
        let topics = [topic.to_owned()];
        let load = |producing: Producing, consumers| -> Result<_> {
            let batch = new_batch(producing.value, producing.batch);
            let prepared = prepared(batch, producing.acks, &topics, PARTITIONS)?;
            let stream = Stream::new(&prepared, producing.producers);
            let (in_flight, idempotent) = (producing.in_flight, producing.idempotent);
            Stream { in_flight, idempotent, consumers, topic: (topic, PARTITIONS), ..stream }.run(server.aim, window)
        };
        match self.work {
            Work::Produce(producing) => {
                let (m, acknowledged) = load(producing, 0)?;
                let values = values(server, &server.label, &m, m.sent_records, m.sent_bytes)?;
                Ok((Outcome { values, note: None }, acknowledged))
            }
            Work::Follow { consumers } => {
                let (m, acknowledged) = load(Producing::new(1, 1000, 2), consumers)?;
                let values = values(server, &server.label, &m, m.fetched_records, m.fetched_bytes)?;
                Ok((Outcome { values, note: None }, acknowledged))
            }
            Work::Latency { rate, .. } => latency(server, &topics, self.acks(), rate, window),
            Work::Transactions { producers, bytes, partitions } => {
                let batch = new_batch(100, bytes);
                transactions(server, Transactions { batch: &batch, topic, partitions, producers }, window)
            }
            Work::Pipeline => pipeline(server, topic, window),
            _ => unreachable!("not a stream"),
        }
    }

    fn partitions(&self, server: &Server, topic: &str, window: Window, kept: &mut Kept) -> Result<Outcome> {
        let [wide_side, narrow_side] = self.own_sides().unwrap_or_default();
        let mut admin = Connection::open(server.aim.address)?;
        let mut outcome = Outcome::default();
        if kept.topics.is_empty() {
            kept.topics = (0..WIDE_TOPICS).map(|i| format!("wide-{i:04}")).collect();
            let start = Instant::now();
            for topics in kept.topics.chunks(100) {
                wire::create_topics(&mut admin, topics, WIDE_PARTITIONS, &[])?;
            }
            let value = WIDE_TOPICS as f64 / start.elapsed().as_secs_f64();
            outcome.values.push(Value { side: wide_side.clone(), metric: Metric::TopicsPerSecond, value });
        }
        let narrow = [topic.to_owned()];
        wire::create_topics(&mut admin, &narrow, WIDE_PARTITIONS, &[])?;
        for (side, topics, before) in [(&wide_side, &kept.topics[..], kept.records), (&narrow_side, &narrow[..], 0)] {
            let prepared = prepared(new_batch(1000, BATCH), 1, topics, WIDE_PARTITIONS)?;
            let load = Stream::new(&prepared, 4);
            server.settle()?;
            process::reset_peak(server.aim.pid);
            let (m, acknowledged) = load.run(server.aim, window)?;
            verify(&mut admin, topics, WIDE_PARTITIONS, before + acknowledged)?;
            if topics.len() > 1 {
                kept.records += acknowledged;
            }
            outcome.values.extend(values(server, side, &m, m.sent_records, m.sent_bytes)?);
        }
        wire::delete_topics(&mut admin, &narrow)?;
        Ok(outcome)
    }
}

/// Quantiles of latencies in nanoseconds as milliseconds.
pub(crate) fn quantiles(side: &str, metrics: [Metric; 3], latencies: &Histogram<u64>) -> impl Iterator<Item = Value> {
    metrics.into_iter().zip([0.5, 0.99, 0.999]).map(|(metric, quantile)| {
        let value = latencies.value_at_quantile(quantile) as f64 / 1e6;
        Value { side: side.to_owned(), metric, value }
    })
}

/// Of the time until a request is answered.
pub(crate) const PUBLISH: [Metric; 3] = [Metric::P50, Metric::P99, Metric::P999];

fn latency(server: &Server, topics: &[String], acks: i16, rate: f64, window: Window) -> Result<(Outcome, u64)> {
    let prepared = prepared(new_batch(1000, 1), acks, topics, PARTITIONS)?;
    let (latencies, m, acknowledged) = Paced::new(&prepared, 4, rate).run(server.aim, window)?;
    let mut values = values(server, &server.label, &m, m.sent_records, m.sent_bytes)?;
    let achieved = m.sent_records / m.seconds;
    let note = (achieved < rate * 0.95).then(|| format!("{}: only {achieved:.0} of {rate}/s", server.label));
    // At a fixed rate the throughput is no result; CPU and memory are.
    values.retain(|v| !v.metric.higher_is_better());
    values.extend(quantiles(&server.label, PUBLISH, &latencies));
    Ok((Outcome { values, note }, acknowledged))
}

fn transactions(server: &Server, load: Transactions<'_>, window: Window) -> Result<(Outcome, u64)> {
    let (latencies, m, committed) = load.run(server.aim, window)?;
    let mut values = values(server, &server.label, &m, m.sent_records, m.sent_bytes)?;
    let of_one = f64::from(load.batch.records) * f64::from(load.partitions);
    let value = m.sent_records / of_one / m.seconds;
    values.push(Value { side: server.label.clone(), metric: Metric::TransactionsPerSecond, value });
    values.extend(quantiles(&server.label, PUBLISH, &latencies));
    Ok((Outcome { values, note: None }, committed))
}

fn pipeline(server: &Server, topic: &str, window: Window) -> Result<(Outcome, u64)> {
    let batch = new_batch(100, 1);
    let (latencies, m) = Pipeline { batch: &batch, topic }.run(server.aim, window)?;
    let mut values = values(server, &server.label, &m, m.sent_records, m.sent_bytes)?;
    let value = m.sent_records / m.seconds;
    values.push(Value { side: server.label.clone(), metric: Metric::TransactionsPerSecond, value });
    values.extend(quantiles(&server.label, PUBLISH, &latencies));
    Ok((Outcome { values, note: None }, 0))
}

/// A topic that is filled once and read by a group of its own in every round.
fn share(
    server: &Server,
    topic: &str,
    (consumers, releases): (usize, bool),
    round: usize,
    scale: Scale,
    kept: &mut Kept,
) -> Result<Outcome> {
    let mut admin = Connection::open(server.aim.address)?;
    if kept.topics.is_empty() {
        let topics = [topic.to_owned()];
        wire::create_topics(&mut admin, &topics, PARTITIONS, configs(server.kind, 1))?;
        let prepared = prepared(new_batch(100, BATCH), 1, &topics, PARTITIONS)?;
        let window = Window { warm_up: Duration::ZERO, length: Duration::from_secs(60), max_bytes: scale.share_bytes };
        kept.records = Stream::new(&prepared, 1).run(server.aim, window)?.1;
        verify(&mut admin, &topics, PARTITIONS, kept.records)?;
        kept.topics = topics.into();
        server.settle()?;
    }
    process::reset_peak(server.aim.pid);
    let topic = &kept.topics[0];
    let ends = wire::end_offsets(&mut admin, topic, PARTITIONS)?;
    let group = format!("{topic}-group-{round}");
    let m = Sharing { topic, ends: &ends, group, consumers, releases }.run(server.aim)?;
    Ok(Outcome { values: values(server, &server.label, &m, m.fetched_records, m.fetched_bytes)?, note: None })
}

/// Lets a server get going before anything counts, a JIT compiler above all.
pub(crate) fn warm_up(server: &Server, places: &Places, length: Duration) -> Result<()> {
    let scale = |length| Scale {
        window: Window { warm_up: Duration::ZERO, length, max_bytes: 2 << 30 },
        read_bytes: 0,
        share_bytes: 0,
        log_bytes: 0,
        idle: Duration::ZERO,
    };
    let works = [
        Work::Produce(Producing::new(1, 100, 16)),
        Work::Produce(Producing::new(1, 100, 16).singly()),
        Work::Follow { consumers: 2 },
        Work::Produce(Producing::new(-1, 1000, 4)),
    ];
    for (i, work) in works.into_iter().enumerate() {
        let row = Row::new(format!("warm up {i}"), work);
        row.run(server, places, 0, scale(length / works.len() as u32), &mut Kept::default())?;
    }
    Ok(())
}
