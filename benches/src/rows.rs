//! The rows of the table: what each one sends, and what of it is a result.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};

use crate::batch::{self, Batch};
use crate::limits::Limits;
use crate::load::{Measured, Paced, Stream, Window, prepared, read_all};
use crate::process;
use crate::server::{Kind, Server};
use crate::wire::{self, Connection};

/// Partitions of a row's topic, unless the row says otherwise.
const PARTITIONS: i32 = 6;
/// The Java producer's `batch.size` and `max.in.flight.requests.per.connection`.
const BATCH: usize = 16 * 1024;
const IN_FLIGHT: usize = 5;
/// Just under the default `max.message.bytes`, batch header and framing included.
const BIG_BATCH: usize = 1_000_000;
const WIDE_TOPICS: usize = 5_000;
const WIDE_PARTITIONS: i32 = 10;

/// What one row measures; the unit is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Metric {
    /// Record batches, as on the wire.
    MegabytesPerSecond,
    RecordsPerSecond,
    /// The server's CPU seconds per 10^9 bytes sent and fetched.
    CpuPerGigabyte,
    /// The load generator's own, to show that it is small.
    GeneratorCpuPerGigabyte,
    /// Peak resident memory within the row.
    PeakMebibytes,
    P50,
    P99,
    P999,
    TopicsPerSecond,
}

impl Metric {
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::MegabytesPerSecond => "MB/s",
            Self::RecordsPerSecond => "records/s",
            Self::CpuPerGigabyte | Self::GeneratorCpuPerGigabyte => "s/GB",
            Self::PeakMebibytes => "MiB",
            Self::P50 | Self::P99 | Self::P999 => "ms",
            Self::TopicsPerSecond => "topics/s",
        }
    }

    pub(crate) fn higher_is_better(self) -> bool {
        matches!(
            self,
            Self::MegabytesPerSecond | Self::RecordsPerSecond | Self::TopicsPerSecond
        )
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MegabytesPerSecond => "throughput",
            Self::RecordsPerSecond => "records",
            Self::CpuPerGigabyte => "server CPU",
            Self::GeneratorCpuPerGigabyte => "generator CPU",
            Self::PeakMebibytes => "peak memory",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::TopicsPerSecond => "creation",
        }
    }
}

/// A raw limit that bounds a row's throughput.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    DiskSyncWrite,
    DiskRead,
    LoopbackTcp,
}

impl Limit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DiskSyncWrite => "disk write + fdatasync",
            Self::DiskRead => "disk read",
            Self::LoopbackTcp => "loopback TCP",
        }
    }

    pub(crate) fn of(self, limits: &Limits) -> f64 {
        match self {
            Self::DiskSyncWrite => limits.disk_sync_write_mb_s,
            Self::DiskRead => limits.disk_read_mb_s,
            Self::LoopbackTcp => limits.loopback_tcp_mb_s,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Produce {
        acks: i16,
        value: usize,
        producers: usize,
        batch: usize,
        in_flight: usize,
    },
    Follow {
        consumers: usize,
    },
    Read {
        cold: bool,
    },
    Latency {
        acks: i16,
        rate: f64,
    },
    Partitions,
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    work: Work,
}

fn acks_name(acks: i16) -> &'static str {
    if acks == 1 { "1" } else { "all" }
}

/// Every row, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for acks in [1, -1] {
        for (value, size) in [(100, "100 B"), (1000, "1 KB")] {
            for producers in [1, 16] {
                rows.push(Row {
                    name: format!("produce acks={} {size} x{producers}", acks_name(acks)),
                    work: Work::Produce {
                        acks,
                        value,
                        producers,
                        batch: BATCH,
                        in_flight: IN_FLIGHT,
                    },
                });
            }
        }
        rows.push(Row {
            name: format!("produce acks={} 1 KB x4, 1 MB batches", acks_name(acks)),
            work: Work::Produce {
                acks,
                value: 1000,
                producers: 4,
                batch: BIG_BATCH,
                in_flight: IN_FLIGHT,
            },
        });
        rows.push(Row {
            name: format!(
                "produce acks={} 100 B x100, single records",
                acks_name(acks)
            ),
            work: Work::Produce {
                acks,
                value: 100,
                producers: 100,
                batch: 1,
                in_flight: 1,
            },
        });
    }
    for consumers in [1, 10] {
        rows.push(Row {
            name: format!("fetch tail x{consumers}"),
            work: Work::Follow { consumers },
        });
    }
    rows.push(Row {
        name: "fetch cached".into(),
        work: Work::Read { cold: false },
    });
    rows.push(Row {
        name: "fetch cold".into(),
        work: Work::Read { cold: true },
    });
    for (acks, rate) in [(1, 2000.0), (-1, 200.0)] {
        rows.push(Row {
            name: format!("latency acks={} {rate}/s", acks_name(acks)),
            work: Work::Latency { acks, rate },
        });
    }
    rows.push(Row {
        name: "partitions".into(),
        work: Work::Partitions,
    });
    rows
}

impl Row {
    pub(crate) fn limit(&self) -> Option<Limit> {
        match self.work {
            Work::Produce { acks: -1, .. } => Some(Limit::DiskSyncWrite),
            Work::Produce { .. }
            | Work::Follow { .. }
            | Work::Read { cold: false }
            | Work::Partitions => Some(Limit::LoopbackTcp),
            Work::Read { cold: true } => Some(Limit::DiskRead),
            Work::Latency { .. } => None,
        }
    }

    /// Kafka wants more maps and files than a machine allows as it comes for 50,000 partitions.
    pub(crate) fn runs_on(&self, kind: Kind) -> bool {
        kind == Kind::Krocket || !matches!(self.work, Work::Partitions)
    }

    /// Labels of the two sides of a row that compares krocket with itself.
    pub(crate) fn own_sides(&self) -> Option<[String; 2]> {
        let wide = WIDE_TOPICS * WIDE_PARTITIONS as usize;
        matches!(self.work, Work::Partitions).then(|| {
            [
                format!("krocket, {wide} partitions"),
                format!("krocket, {WIDE_PARTITIONS} partitions"),
            ]
        })
    }
}

/// How long and how much.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) window: Window,
    /// Of the topic that is read whole.
    pub(crate) read_bytes: u64,
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
    topics: Vec<String>,
    records: u64,
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

fn new_batch(value: usize, bytes: usize) -> Batch {
    batch::fill(value, bytes, now_ms())
}

/// Kafka flushes by topic; krocket by what the producer asks for.
fn configs(kind: Kind, acks: i16) -> &'static [(&'static str, &'static str)] {
    match (kind, acks) {
        (Kind::Krocket, _) => &[],
        (Kind::Kafka, -1) => &[("file.delete.delay.ms", "1000"), ("flush.messages", "1")],
        (Kind::Kafka, _) => &[("file.delete.delay.ms", "1000")],
    }
}

/// Throughput, CPU and memory of a window; the bytes are what the row is about.
fn values(
    server: &Server,
    side: &str,
    measured: &Measured,
    records: f64,
    bytes: f64,
) -> Result<Vec<Value>> {
    ensure!(
        records > 0.0,
        "nothing went through within {:.1} s",
        measured.seconds
    );
    let gigabytes = (measured.sent_bytes + measured.fetched_bytes) / 1e9;
    let value = |metric, value| Value {
        side: side.to_owned(),
        metric,
        value,
    };
    Ok(vec![
        value(Metric::MegabytesPerSecond, bytes / 1e6 / measured.seconds),
        value(Metric::RecordsPerSecond, records / measured.seconds),
        value(Metric::CpuPerGigabyte, measured.server_cpu / gigabytes),
        value(
            Metric::GeneratorCpuPerGigabyte,
            measured.generator_cpu / gigabytes,
        ),
        value(
            Metric::PeakMebibytes,
            process::peak_memory(server.aim.pid)? / f64::from(1 << 20),
        ),
    ])
}

/// Fails unless the topics hold exactly what was acknowledged.
fn verify(
    connection: &mut Connection,
    topics: &[String],
    partitions: i32,
    acknowledged: u64,
) -> Result<()> {
    let mut held = 0;
    for topic in topics {
        held += wire::end_offsets(connection, topic, partitions)?
            .iter()
            .sum::<i64>() as u64;
    }
    ensure!(
        held == acknowledged,
        "{acknowledged} records were acknowledged, but the topic holds {held}"
    );
    Ok(())
}

impl Row {
    /// Measures the row once.
    pub(crate) fn run(
        &self,
        server: &Server,
        round: usize,
        scale: Scale,
        kept: &mut Kept,
    ) -> Result<Outcome> {
        server.settle()?;
        process::reset_peak(server.aim.pid);
        let topic = format!("bench-{}-{round}", self.slug());
        match self.work {
            Work::Produce { .. } | Work::Follow { .. } | Work::Latency { .. } => {
                let mut admin = Connection::open(server.aim.address)?;
                let topics = [topic];
                wire::create_topics(
                    &mut admin,
                    &topics,
                    PARTITIONS,
                    configs(server.kind, self.acks()),
                )?;
                let (outcome, acknowledged) = self.stream(server, &topics[0], scale.window)?;
                verify(&mut admin, &topics, PARTITIONS, acknowledged)?;
                wire::delete_topics(&mut admin, &topics)?;
                Ok(outcome)
            }
            Work::Read { cold } => read(server, &topic, cold, scale, kept),
            Work::Partitions => self.partitions(server, &topic, scale.window, kept),
        }
    }

    /// Gives back what the row kept.
    pub(crate) fn finish(&self, server: &Server, kept: Kept) -> Result<()> {
        let mut admin = Connection::open(server.aim.address)?;
        kept.topics
            .chunks(100)
            .try_for_each(|topics| wire::delete_topics(&mut admin, topics))
    }

    fn slug(&self) -> String {
        self.name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect()
    }

    fn acks(&self) -> i16 {
        match self.work {
            Work::Produce { acks, .. } | Work::Latency { acks, .. } => acks,
            _ => 1,
        }
    }

    fn stream(&self, server: &Server, topic: &str, window: Window) -> Result<(Outcome, u64)> {
        let topics = [topic.to_owned()];
        let load = |batch, producers, in_flight, consumers| -> Result<_> {
            let prepared = prepared(batch, self.acks(), &topics, PARTITIONS)?;
            Stream {
                prepared: &prepared,
                producers,
                in_flight,
                consumers,
                topic: (topic, PARTITIONS),
            }
            .run(server.aim, window)
        };
        match self.work {
            Work::Produce {
                value,
                producers,
                batch,
                in_flight,
                ..
            } => {
                let (m, acknowledged) = load(new_batch(value, batch), producers, in_flight, 0)?;
                let values = values(server, &server.label, &m, m.sent_records, m.sent_bytes)?;
                Ok((Outcome { values, note: None }, acknowledged))
            }
            Work::Follow { consumers } => {
                let (m, acknowledged) = load(new_batch(1000, BATCH), 2, IN_FLIGHT, consumers)?;
                let values = values(
                    server,
                    &server.label,
                    &m,
                    m.fetched_records,
                    m.fetched_bytes,
                )?;
                Ok((Outcome { values, note: None }, acknowledged))
            }
            Work::Latency { rate, .. } => latency(server, &topics, self.acks(), rate, window),
            Work::Read { .. } | Work::Partitions => unreachable!("not a stream"),
        }
    }

    fn partitions(
        &self,
        server: &Server,
        topic: &str,
        window: Window,
        kept: &mut Kept,
    ) -> Result<Outcome> {
        let [wide_side, narrow_side] = self.own_sides().unwrap_or_default();
        let mut admin = Connection::open(server.aim.address)?;
        let mut outcome = Outcome::default();
        if kept.topics.is_empty() {
            kept.topics = (0..WIDE_TOPICS).map(|i| format!("wide-{i:04}")).collect();
            let start = std::time::Instant::now();
            for topics in kept.topics.chunks(100) {
                wire::create_topics(&mut admin, topics, WIDE_PARTITIONS, &[])?;
            }
            let value = WIDE_TOPICS as f64 / start.elapsed().as_secs_f64();
            outcome.values.push(Value {
                side: wide_side.clone(),
                metric: Metric::TopicsPerSecond,
                value,
            });
        }
        let narrow = [topic.to_owned()];
        wire::create_topics(&mut admin, &narrow, WIDE_PARTITIONS, &[])?;
        for (side, topics, before) in [
            (&wide_side, &kept.topics[..], kept.records),
            (&narrow_side, &narrow[..], 0),
        ] {
            let prepared = prepared(new_batch(1000, BATCH), 1, topics, WIDE_PARTITIONS)?;
            let load = Stream {
                prepared: &prepared,
                producers: 4,
                in_flight: IN_FLIGHT,
                consumers: 0,
                topic: (topic, WIDE_PARTITIONS),
            };
            server.settle()?;
            process::reset_peak(server.aim.pid);
            let (m, acknowledged) = load.run(server.aim, window)?;
            verify(&mut admin, topics, WIDE_PARTITIONS, before + acknowledged)?;
            if topics.len() > 1 {
                kept.records += acknowledged;
            }
            outcome
                .values
                .extend(values(server, side, &m, m.sent_records, m.sent_bytes)?);
        }
        wire::delete_topics(&mut admin, &narrow)?;
        Ok(outcome)
    }
}

fn latency(
    server: &Server,
    topics: &[String],
    acks: i16,
    rate: f64,
    window: Window,
) -> Result<(Outcome, u64)> {
    let prepared = prepared(new_batch(1000, 1), acks, topics, PARTITIONS)?;
    let (latencies, m, acknowledged) = Paced {
        prepared: &prepared,
        connections: 4,
        rate,
    }
    .run(server.aim, window)?;
    let mut values = values(server, &server.label, &m, m.sent_records, m.sent_bytes)?;
    let achieved = m.sent_records / m.seconds;
    let note = (achieved < rate * 0.95)
        .then(|| format!("{}: only {achieved:.0} of {rate}/s", server.label));
    // At a fixed rate the throughput is no result; CPU and memory are.
    values.retain(|v| !v.metric.higher_is_better());
    for (metric, quantile) in [
        (Metric::P50, 0.5),
        (Metric::P99, 0.99),
        (Metric::P999, 0.999),
    ] {
        let value = latencies.value_at_quantile(quantile) as f64 / 1e6;
        values.push(Value {
            side: server.label.clone(),
            metric,
            value,
        });
    }
    Ok((Outcome { values, note }, acknowledged))
}

fn read(
    server: &Server,
    topic: &str,
    cold: bool,
    scale: Scale,
    kept: &mut Kept,
) -> Result<Outcome> {
    let mut admin = Connection::open(server.aim.address)?;
    if kept.topics.is_empty() {
        let topics = [topic.to_owned()];
        wire::create_topics(&mut admin, &topics, PARTITIONS, configs(server.kind, 1))?;
        let prepared = prepared(new_batch(1000, BATCH), 1, &topics, PARTITIONS)?;
        let fill = Stream {
            prepared: &prepared,
            producers: 4,
            in_flight: IN_FLIGHT,
            consumers: 0,
            topic: (topic, PARTITIONS),
        };
        let long = Duration::from_secs(60);
        let window = Window {
            warm_up: Duration::ZERO,
            length: long,
            max_bytes: scale.read_bytes,
        };
        kept.records = fill.run(server.aim, window)?.1;
        verify(&mut admin, &topics, PARTITIONS, kept.records)?;
        kept.topics = topics.into();
    }
    if cold {
        server.drop_cache()?;
    }
    process::reset_peak(server.aim.pid);
    let before = process::storage_read(server.aim.pid);
    // What was read once is no longer cold.
    let length = if cold {
        Duration::ZERO
    } else {
        scale.window.length
    };
    let m = read_all(
        server.aim,
        &kept.topics[0],
        PARTITIONS,
        kept.records,
        length,
    )?;
    let from_disk = match (before, process::storage_read(server.aim.pid)) {
        (Some(before), Some(after)) => (after - before) as f64 / m.fetched_bytes,
        _ => 0.0,
    };
    let note = (cold && from_disk < 0.8).then(|| {
        format!(
            "{}: warm, only {:.0} % came from disk",
            server.label,
            from_disk * 100.0
        )
    });
    Ok(Outcome {
        values: values(
            server,
            &server.label,
            &m,
            m.fetched_records,
            m.fetched_bytes,
        )?,
        note,
    })
}

/// Lets a server get going before anything counts, a JIT compiler above all.
pub(crate) fn warm_up(server: &Server, length: Duration) -> Result<()> {
    let scale = |length| Scale {
        window: Window {
            warm_up: Duration::ZERO,
            length,
            max_bytes: 2 << 30,
        },
        read_bytes: 0,
    };
    let works = [
        Work::Produce {
            acks: 1,
            value: 100,
            producers: 16,
            batch: BATCH,
            in_flight: IN_FLIGHT,
        },
        Work::Produce {
            acks: 1,
            value: 100,
            producers: 16,
            batch: 1,
            in_flight: 1,
        },
        Work::Follow { consumers: 2 },
        Work::Produce {
            acks: -1,
            value: 1000,
            producers: 4,
            batch: BATCH,
            in_flight: IN_FLIGHT,
        },
    ];
    for (i, work) in works.into_iter().enumerate() {
        let row = Row {
            name: format!("warm up {i}"),
            work,
        };
        row.run(
            server,
            0,
            scale(length / works.len() as u32),
            &mut Kept::default(),
        )?;
    }
    Ok(())
}
