//! The loads: threads with blocking sockets, since a generator on the servers' own cores has to be cheap.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use kafka_protocol::messages::{
    FetchRequest,
    fetch_request::{FetchPartition, FetchTopic},
};

use crate::batch;
use crate::process::cpu_seconds;
use crate::rows::IN_FLIGHT;
use crate::wire::{Connection, Prepared, Producer, acknowledged, check, topic_name};

/// The last version with topic names instead of ids.
const FETCH: i16 = 12;
/// How far consumers that follow may fall behind before producers wait for them: what they read is then the tail.
const TAIL_BYTES: u64 = 32 << 20;

/// When a measurement starts counting and when it ends.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) warm_up: Duration,
    pub(crate) length: Duration,
    /// Ends it earlier, so that a fast server doesn't fill the disk.
    pub(crate) max_bytes: u64,
}

/// What happened within the window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) sent_records: f64,
    pub(crate) sent_bytes: f64,
    pub(crate) fetched_records: f64,
    pub(crate) fetched_bytes: f64,
    pub(crate) server_cpu: f64,
    pub(crate) generator_cpu: f64,
}

impl Measured {
    pub(crate) fn add(&mut self, other: &Measured) {
        self.seconds += other.seconds;
        self.sent_records += other.sent_records;
        self.sent_bytes += other.sent_bytes;
        self.fetched_records += other.fetched_records;
        self.fetched_bytes += other.fetched_bytes;
        self.server_cpu += other.server_cpu;
        self.generator_cpu += other.generator_cpu;
    }
}

/// Counters that all threads of a load share.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sent_records: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    fetched_records: AtomicU64,
    fetched_bytes: AtomicU64,
    /// Bytes of the consumer that is furthest behind.
    slowest: AtomicU64,
    pub(crate) stop: AtomicBool,
    failed: AtomicBool,
}

impl Counters {
    fn snapshot(&self, pid: u32) -> Result<Measured> {
        Ok(Measured {
            seconds: 0.0,
            sent_records: self.sent_records.load(Relaxed) as f64,
            sent_bytes: self.sent_bytes.load(Relaxed) as f64,
            fetched_records: self.fetched_records.load(Relaxed) as f64,
            fetched_bytes: self.fetched_bytes.load(Relaxed) as f64,
            server_cpu: cpu_seconds(pid)?,
            generator_cpu: cpu_seconds(std::process::id())?,
        })
    }

    /// Sleeps through a window that begins with the first answer, for that may take its time (a cold JIT).
    pub(crate) fn watch(&self, pid: u32, window: Window) -> Result<Measured> {
        let patience = Instant::now() + Duration::from_secs(30);
        while self.sent_records.load(Relaxed) == 0 && Instant::now() < patience && !self.failed.load(Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        self.watch_from(Instant::now(), pid, window)
    }

    /// Sleeps through the window and returns what was counted in it; stops the threads in any case.
    fn watch_from(&self, begin: Instant, pid: u32, window: Window) -> Result<Measured> {
        let idle = |until: Instant, max: u64| {
            while Instant::now() < until && !self.failed.load(Relaxed) && self.sent_bytes.load(Relaxed) < max {
                thread::sleep(Duration::from_millis(10).min(until.saturating_duration_since(Instant::now())));
            }
        };
        let watch = || {
            idle(begin + window.warm_up, window.max_bytes / 2);
            let before = self.snapshot(pid)?;
            let start = Instant::now();
            idle(start + window.length, window.max_bytes);
            let after = self.snapshot(pid)?;
            Ok(Measured {
                seconds: start.elapsed().as_secs_f64(),
                sent_records: after.sent_records - before.sent_records,
                sent_bytes: after.sent_bytes - before.sent_bytes,
                fetched_records: after.fetched_records - before.fetched_records,
                fetched_bytes: after.fetched_bytes - before.fetched_bytes,
                server_cpu: after.server_cpu - before.server_cpu,
                generator_cpu: after.generator_cpu - before.generator_cpu,
            })
        };
        let result = watch();
        self.stop.store(true, Relaxed);
        result
    }

    /// Marks the load as failed when a thread ends with an error, so that nobody waits for it.
    pub(crate) fn guard<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.failed.store(true, Relaxed);
            self.stop.store(true, Relaxed);
        }
        result
    }
}

/// The server that a load is aimed at.
#[derive(Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
}

/// Saturating producers, and consumers that follow them when `consumers` isn't 0.
pub(crate) struct Stream<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) producers: usize,
    pub(crate) in_flight: usize,
    pub(crate) idempotent: bool,
    pub(crate) consumers: usize,
    /// The topic and number of partitions that consumers read.
    pub(crate) topic: (&'a str, i32),
}

impl<'a> Stream<'a> {
    /// Producers as the Java producer sends, and no consumers.
    pub(crate) fn new(prepared: &'a Prepared, producers: usize) -> Self {
        Self { prepared, producers, in_flight: IN_FLIGHT, idempotent: false, consumers: 0, topic: ("", 0) }
    }
}

impl Stream<'_> {
    /// Runs through the window. Returns what was measured and how many records were acknowledged in all.
    pub(crate) fn run(&self, aim: Aim, window: Window) -> Result<(Measured, u64)> {
        let counters = Counters::default();
        let positions: Vec<AtomicU64> = (0..self.consumers).map(|_| AtomicU64::new(0)).collect();
        let measured = thread::scope(|scope| {
            let producers: Vec<_> = (0..self.producers)
                .map(|i| {
                    let c = &counters;
                    scope.spawn(move || c.guard(self.produce(aim, i, c)))
                })
                .collect();
            let consumers: Vec<_> = (0..self.consumers)
                .map(|i| {
                    let (c, p) = (&counters, &positions);
                    scope.spawn(move || c.guard(self.follow(aim, i, c, p)))
                })
                .collect();
            let measured = counters.watch(aim.pid, window);
            for thread in producers.into_iter().chain(consumers) {
                thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??;
            }
            measured
        })?;
        Ok((measured, counters.sent_records.load(Relaxed)))
    }

    fn produce(&self, aim: Aim, index: usize, counters: &Counters) -> Result<()> {
        let mut connection = Connection::open(aim.address)?;
        let mut writer = connection.writer()?;
        let destinations = self.prepared.destinations();
        let mut producer = if self.idempotent { Some(Producer::new(&mut connection, destinations)?) } else { None };
        // Producers start evenly spread over the partitions.
        let mut destination = index * destinations / self.producers;
        let mut waiting = VecDeque::with_capacity(self.in_flight);
        let mut correlation = 0;
        loop {
            let stopping = counters.stop.load(Relaxed);
            let ahead =
                self.consumers > 0 && counters.sent_bytes.load(Relaxed) > counters.slowest.load(Relaxed) + TAIL_BYTES;
            if waiting.len() < self.in_flight && !stopping && !ahead {
                correlation += 1;
                let to = destination % destinations;
                match &mut producer {
                    None => self.prepared.send(&mut writer, to, correlation)?,
                    Some(state) => self.prepared.send_idempotent(&mut writer, to, correlation, state)?,
                }
                waiting.push_back(correlation);
                destination += 1;
            } else if let Some(expected) = waiting.pop_front() {
                let answered = acknowledged(connection.receive()?)?;
                ensure!(answered == expected, "response {answered} came where {expected} was due");
                counters.sent_records.fetch_add(u64::from(self.prepared.batch.records), Relaxed);
                counters.sent_bytes.fetch_add(self.prepared.batch.bytes.len() as u64, Relaxed);
            } else if stopping {
                return Ok(());
            } else {
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    fn follow(&self, aim: Aim, index: usize, counters: &Counters, positions: &[AtomicU64]) -> Result<()> {
        let mut consumer = Consumer::new(aim, self.topic.0, 0..self.topic.1)?;
        while !counters.stop.load(Relaxed) {
            let (records, bytes) = consumer.poll()?;
            positions[index].fetch_add(bytes, Relaxed);
            let slowest = positions.iter().map(|p| p.load(Relaxed)).min().unwrap_or(0);
            counters.slowest.store(slowest, Relaxed);
            counters.fetched_records.fetch_add(records, Relaxed);
            counters.fetched_bytes.fetch_add(bytes, Relaxed);
        }
        Ok(())
    }
}

/// Reads all partitions of a topic over one connection with the Java consumer's default limits.
pub(crate) struct Consumer {
    connection: Connection,
    topic: String,
    /// Of each partition that is read, and where the next Fetch begins.
    positions: BTreeMap<i32, i64>,
}

impl Consumer {
    pub(crate) fn new(aim: Aim, topic: &str, partitions: impl IntoIterator<Item = i32>) -> Result<Self> {
        let connection = Connection::open(aim.address)?;
        let positions = partitions.into_iter().map(|partition| (partition, 0)).collect();
        Ok(Self { connection, topic: topic.to_owned(), positions })
    }

    /// Where the next Fetch begins in each partition.
    pub(crate) fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// One Fetch; returns the records and bytes of the whole batches in it. Offsets must continue without a gap.
    pub(crate) fn poll(&mut self) -> Result<(u64, u64)> {
        let partitions = self.positions.iter().map(|(index, position)| {
            FetchPartition::default()
                .with_partition(*index)
                .with_current_leader_epoch(-1)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_fetch_offset(*position)
                .with_partition_max_bytes(1 << 20)
        });
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default().with_topic(topic_name(&self.topic)).with_partitions(partitions.collect()),
            ]);
        let response = self.connection.call(FETCH, &request)?;
        check(response.error_code, "fetching")?;
        let (mut records, mut bytes) = (0, 0);
        for partition in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            check(partition.error_code, &format!("fetching {}-{}", self.topic, partition.partition_index))?;
            let Some(set) = partition.records else {
                continue;
            };
            let fetched = batch::count(set);
            let position =
                self.positions.get_mut(&partition.partition_index).context("a partition nobody asked for")?;
            if let Some(first) = fetched.first_offset {
                ensure!(first == *position, "offset {first} came where {position} was due");
                *position = fetched.next_offset;
            }
            records += fetched.records;
            bytes += fetched.bytes;
        }
        Ok((records, bytes))
    }
}

/// Reads partitions with `records` records in all, again and again for at least `length`; fails when another number is there.
pub(crate) fn read_all(aim: Aim, topic: &str, partitions: &[i32], records: u64, length: Duration) -> Result<Measured> {
    let cpu = (cpu_seconds(aim.pid)?, cpu_seconds(std::process::id())?);
    let start = Instant::now();
    let mut measured = Measured::default();
    loop {
        let mut consumer = Consumer::new(aim, topic, partitions.iter().copied())?;
        let mut seen = 0;
        while seen < records {
            let (more, bytes) = consumer.poll()?;
            ensure!(more > 0, "{topic} ended after {seen} of {records} records");
            seen += more;
            measured.fetched_bytes += bytes as f64;
        }
        ensure!(seen == records, "{topic} holds {seen} records where {records} were acknowledged");
        measured.fetched_records += seen as f64;
        if start.elapsed() >= length {
            break;
        }
    }
    measured.seconds = start.elapsed().as_secs_f64();
    measured.server_cpu = cpu_seconds(aim.pid)? - cpu.0;
    measured.generator_cpu = cpu_seconds(std::process::id())? - cpu.1;
    Ok(measured)
}

/// Requests at a fixed rate over several connections, each timed from when it should have been sent.
pub(crate) struct Paced<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) connections: usize,
    /// Requests per second in all.
    pub(crate) rate: f64,
    /// When the first is due.
    start: Instant,
}

impl<'a> Paced<'a> {
    /// Begins shortly, so that all connections are there.
    pub(crate) fn new(prepared: &'a Prepared, connections: usize, rate: f64) -> Self {
        Self { prepared, connections, rate, start: Instant::now() + Duration::from_millis(50) }
    }

    /// When a request should be sent.
    pub(crate) fn due(&self, number: i32) -> Instant {
        self.start + Duration::from_secs_f64(f64::from(number) / self.rate)
    }

    /// Returns latencies in nanoseconds, what was measured, and the number of acknowledged records.
    pub(crate) fn run(&self, aim: Aim, window: Window) -> Result<(Histogram<u64>, Measured, u64)> {
        let counters = Counters::default();
        let warm = (window.warm_up.as_secs_f64() * self.rate) as i32;
        let total = warm + (window.length.as_secs_f64() * self.rate) as i32;
        let (latencies, measured) = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections as i32)
                .map(|i| {
                    let c = &counters;
                    scope.spawn(move || c.guard(self.connection(aim, i, warm, total, c)))
                })
                .collect();
            // By the timetable: a window that began with a late first answer would outlast the requests.
            let measured = counters.watch_from(self.start, aim.pid, window);
            let mut latencies = histogram()?;
            for thread in threads {
                latencies.add(thread.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))??)?;
            }
            Ok::<_, anyhow::Error>((latencies, measured?))
        })?;
        Ok((latencies, measured, counters.sent_records.load(Relaxed)))
    }

    fn connection(&self, aim: Aim, index: i32, warm: i32, total: i32, counters: &Counters) -> Result<Histogram<u64>> {
        let mut connection = Connection::open(aim.address)?;
        let mut writer = connection.writer()?;
        let turns = (index..total).step_by(self.connections);
        thread::scope(|scope| {
            let sender_turns = turns.clone();
            let sender = scope.spawn(move || -> Result<()> {
                // A late wake-up is a latency that no client would see: ask the kernel for punctual ones.
                rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
                for n in sender_turns {
                    if counters.failed.load(Relaxed) {
                        break;
                    }
                    thread::sleep(self.due(n).saturating_duration_since(Instant::now()));
                    self.prepared.send(&mut writer, n as usize % self.prepared.destinations(), n)?;
                }
                Ok(())
            });
            let mut latencies = histogram()?;
            let receive = || -> Result<()> {
                for n in turns {
                    let answered = acknowledged(connection.receive()?)?;
                    ensure!(answered == n, "response {answered} came where {n} was due");
                    if n >= warm {
                        latencies.record(Instant::now().saturating_duration_since(self.due(n)).as_nanos() as u64)?;
                    }
                    counters.sent_records.fetch_add(u64::from(self.prepared.batch.records), Relaxed);
                    counters.sent_bytes.fetch_add(self.prepared.batch.bytes.len() as u64, Relaxed);
                }
                Ok(())
            };
            let received = counters.guard(receive());
            sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
            received.map(|()| latencies)
        })
    }
}

/// From 1 µs to 100 s with three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 100_000_000_000, 3)?)
}

/// Shared by producers of one load.
pub(crate) fn prepared(batch: batch::Batch, acks: i16, topics: &[String], partitions: i32) -> Result<Prepared> {
    let destinations: Vec<_> = topics.iter().flat_map(|t| (0..partitions).map(move |p| (t.clone(), p))).collect();
    Prepared::new(Arc::new(batch), acks, &destinations)
}
