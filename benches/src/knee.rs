//! How many requests a second a server answers in time, and how long they take at half of that: until they are answered,
//! and until a consumer has their records.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::load::{Aim, Consumer, Paced, Window, histogram, prepared};
use crate::measure::{Kept, Outcome, PUBLISH, configs, new_batch, quantiles, values, verify};
use crate::metric::Metric;
use crate::server::{Server, check_interrupted};
use crate::wire::{self, Connection};

/// Each writes to a partition of its own, so that an offset tells which request it was.
const CONNECTIONS: usize = 4;
/// Part of a rate that has to be reached for it to count.
const SUSTAINED: f64 = 0.95;
/// What half of the requests may take, ms: beyond that they queue, and a longer window would not reach the rate.
const PROMPT_MS: f64 = 20.0;
/// More is beyond what the load generator sends.
const FASTEST: f64 = 1_000_000.0;
const END_TO_END: [Metric; 3] = [Metric::EndToEndP50, Metric::EndToEndP99, Metric::EndToEndP999];
/// Not yet known how many records there are.
const OPEN: u64 = u64::MAX;

/// What came of asking for a rate.
struct Tried {
    rate: f64,
    /// Requests a second that were answered.
    answered: f64,
    /// Half of them took longer, ms.
    p50: f64,
}

impl Tried {
    fn is_sustained(&self) -> bool {
        self.p50 <= PROMPT_MS && self.answered >= self.rate * SUSTAINED
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} of {} requests a second, half of them in {:.1} ms", self.answered, self.rate, self.p50)
    }
}

/// The highest rate of requests with a 1 KB record each that is sustained: doubled until it is not, then halved thrice.
/// A rate has two tries, for a virtual machine's host may take the time of one.
pub(crate) fn find(server: &Server, acks: i16, length: Duration) -> Result<f64> {
    let twice = |rate: f64| -> Result<Tried> {
        let tried = attempt(server, acks, rate, length)?;
        if tried.is_sustained() { Ok(tried) } else { attempt(server, acks, rate, length) }
    };
    let (mut low, mut high) = (0.0, 500.0);
    while high < FASTEST {
        let tried = twice(high)?;
        if !tried.is_sustained() {
            ensure!(low > 0.0, "{} answers {tried}: there is no knee to find", server.label);
            break;
        }
        (low, high) = (high, high * 2.0);
    }
    for _ in 0..3 {
        let middle = (low + high) / 2.0;
        if twice(middle)?.is_sustained() { low = middle } else { high = middle }
    }
    Ok(low)
}

fn attempt(server: &Server, acks: i16, rate: f64, length: Duration) -> Result<Tried> {
    check_interrupted()?;
    server.settle()?;
    let window = Window { warm_up: length / 4, length, max_bytes: u64::MAX };
    with_topic(server, "bench-knee", acks, |topics| {
        let prepared = prepared(new_batch(1000, 1), acks, topics, CONNECTIONS as i32)?;
        let (latencies, measured, acknowledged) = Paced::new(&prepared, CONNECTIONS, rate).run(server.aim, window)?;
        let p50 = latencies.value_at_quantile(0.5) as f64 / 1e6;
        Ok((Tried { rate, answered: measured.sent_records / measured.seconds, p50 }, acknowledged))
    })
}

/// Latencies at the rate that the rounds have in common.
pub(crate) fn run(server: &Server, topic: &str, acks: i16, window: Window, kept: &Kept) -> Result<Outcome> {
    let rate = kept.rate.ok_or_else(|| anyhow::anyhow!("no knee was found"))?;
    with_topic(server, topic, acks, |topics| {
        let prepared = prepared(new_batch(1000, 1), acks, topics, CONNECTIONS as i32)?;
        let paced = Paced::new(&prepared, CONNECTIONS, rate);
        let records = AtomicU64::new(OPEN);
        let (published, consumed) = thread::scope(|scope| {
            let warm = window.warm_up.as_secs_f64() * rate;
            let (paced, records) = (&paced, &records);
            let consumer = scope.spawn(move || consume(server.aim, &topics[0], paced, warm as u64, records));
            let published = paced.run(server.aim, window);
            // A failure must not leave the consumer waiting.
            records.store(published.as_ref().map_or(0, |(_, _, acknowledged)| *acknowledged), Relaxed);
            (published, consumer.join())
        });
        let (latencies, measured, acknowledged) = published?;
        let consumed = consumed.map_err(|_| anyhow::anyhow!("the consumer panicked"))??;
        let mut values = values(server, &server.label, &measured, measured.sent_records, measured.sent_bytes)?;
        values.retain(|value| !value.metric.higher_is_better());
        values.extend(quantiles(&server.label, PUBLISH, &latencies));
        values.extend(quantiles(&server.label, END_TO_END, &consumed));
        let achieved = measured.sent_records / measured.seconds;
        let note = (achieved < rate * SUSTAINED).then(|| format!("{}: {achieved:.0} of {rate:.0}/s", server.label));
        Ok((Outcome { values, note }, acknowledged))
    })
}

/// Reads along; how long after it should have been sent each record was there, the first `warm` left out.
fn consume(aim: Aim, topic: &str, paced: &Paced<'_>, warm: u64, records: &AtomicU64) -> Result<Histogram<u64>> {
    let mut consumer = Consumer::new(aim, topic, 0..CONNECTIONS as i32)?;
    let mut latencies = histogram()?;
    let mut seen = 0;
    let mut last = Instant::now();
    while seen < records.load(Relaxed) {
        let before = consumer.positions().clone();
        let (more, _) = consumer.poll()?;
        let now = Instant::now();
        for (partition, position) in consumer.positions() {
            for offset in before[partition]..*position {
                let number = offset as u64 * CONNECTIONS as u64 + *partition as u64;
                if number >= warm {
                    let late = now.saturating_duration_since(paced.due(number as i32));
                    latencies.saturating_record(late.as_nanos() as u64);
                }
            }
        }
        seen += more;
        if more > 0 {
            last = now;
        }
        ensure!(last.elapsed() < Duration::from_secs(60), "the consumer saw only {seen} records");
    }
    Ok(latencies)
}

/// Runs a load on a topic of its own, which has to hold as many records as were acknowledged.
fn with_topic<T>(
    server: &Server,
    topic: &str,
    acks: i16,
    load: impl FnOnce(&[String]) -> Result<(T, u64)>,
) -> Result<T> {
    let mut admin = Connection::open(server.aim.address)?;
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |at| at.as_micros());
    let topics = [format!("{topic}-{stamp}")];
    wire::create_topics(&mut admin, &topics, CONNECTIONS as i32, configs(server.kind, acks))?;
    let (value, acknowledged) = load(&topics)?;
    verify(&mut admin, &topics, CONNECTIONS as i32, acknowledged)?;
    wire::delete_topics(&mut admin, &topics)?;
    Ok(value)
}
