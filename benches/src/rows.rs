//! The rows of the table: what each one sends.

use crate::metric::Limit;
use crate::server::Kind;

/// The Java producer's `batch.size` and `max.in.flight.requests.per.connection`.
pub(crate) const BATCH: usize = 16 * 1024;
pub(crate) const IN_FLIGHT: usize = 5;
/// Just under the default `max.message.bytes`, batch header and framing included.
const BIG_BATCH: usize = 1_000_000;
pub(crate) const WIDE_TOPICS: usize = 5_000;
pub(crate) const WIDE_PARTITIONS: i32 = 10;

/// How producers send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producing {
    pub(crate) acks: i16,
    /// Bytes of a record's value.
    pub(crate) value: usize,
    pub(crate) producers: usize,
    pub(crate) batch: usize,
    pub(crate) in_flight: usize,
    pub(crate) idempotent: bool,
}

impl Producing {
    /// Ordinary batches, as the Java producer sends them.
    pub(crate) fn new(acks: i16, value: usize, producers: usize) -> Self {
        Self { acks, value, producers, batch: BATCH, in_flight: IN_FLIGHT, idempotent: false }
    }

    /// One record a request, and the next one once it is answered.
    pub(crate) fn singly(self) -> Self {
        Self { batch: 1, in_flight: 1, ..self }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Produce(Producing),
    Follow {
        consumers: usize,
    },
    Read(Reading),
    Latency {
        acks: i16,
        rate: f64,
    },
    /// Each of so many bytes in so many partitions.
    Transactions {
        producers: usize,
        bytes: usize,
        partitions: i32,
    },
    /// A share group reads a topic; with `releases`, every hundredth record comes twice.
    Share {
        consumers: usize,
        releases: bool,
    },
    /// Read, process, write: one record a transaction.
    Pipeline,
    Partitions,
    /// How many requests a second there may be, and latencies at half of that.
    Knee {
        acks: i16,
    },
    /// A server of its own, empty at first.
    Standing(Standing),
}

/// How a topic that was filled before is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Not from the page cache.
    pub(crate) cold: bool,
    /// Of the topic.
    pub(crate) partitions: i32,
    /// One consumer reads all partitions, or each partition of so many has one, one after the other.
    pub(crate) one_by_one: Option<usize>,
}

/// What a server is when nothing happens to it, and how it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Started with an empty folder.
    Empty,
    /// 50,000 of them.
    Partitions,
    /// 10,000 of them that say nothing, and 1,000 group members that heartbeat.
    Connections,
    /// Killed with much of a log.
    Log,
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// A part of the short form.
    pub(crate) quick: bool,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, work: Work) -> Self {
        Self { name: name.into(), work, quick: false }
    }

    pub(crate) fn acks(&self) -> i16 {
        match self.work {
            Work::Produce(Producing { acks, .. }) | Work::Latency { acks, .. } | Work::Knee { acks } => acks,
            Work::Transactions { .. } | Work::Pipeline => -1,
            _ => 1,
        }
    }

    /// Raw limits, one for a metric.
    pub(crate) fn limits(&self) -> Vec<Limit> {
        match self.work {
            Work::Produce(Producing { acks: -1, .. }) => vec![Limit::DiskSyncWrite],
            Work::Transactions { .. } => vec![Limit::DiskSyncWrite, Limit::Fdatasync],
            Work::Read(Reading { cold: true, .. }) => vec![Limit::DiskRead],
            Work::Produce(_) | Work::Follow { .. } | Work::Read(_) | Work::Partitions | Work::Share { .. } => {
                vec![Limit::LoopbackTcp]
            }
            Work::Latency { acks: -1, .. } | Work::Knee { acks: -1 } | Work::Pipeline => vec![Limit::Fdatasync],
            Work::Latency { .. } | Work::Knee { .. } => vec![Limit::RoundTrip],
            Work::Standing(_) => Vec::new(),
        }
    }

    /// Kafka wants more maps and files than a machine allows as it comes for 50,000 partitions. Nisshi's SQLite does not
    /// sync what it acknowledges (`synchronous = normal`), so acks=all is not like for like there.
    pub(crate) fn runs_on(&self, kind: Kind) -> bool {
        match kind {
            Kind::Krocket => true,
            Kind::Kafka => !matches!(self.work, Work::Partitions | Work::Standing(Standing::Partitions)),
            Kind::Nisshi => match self.work {
                Work::Produce(Producing { acks, .. }) | Work::Latency { acks, .. } => acks == 1,
                Work::Read(Reading { one_by_one, .. }) => one_by_one.is_none(),
                work => matches!(work, Work::Follow { .. } | Work::Standing(Standing::Empty)),
            },
        }
    }

    /// Whether it is measured once: what it takes is long, or counts bytes that hardly differ.
    pub(crate) fn once(&self) -> bool {
        matches!(self.work, Work::Standing(_))
    }

    /// Labels of the two sides of a row that compares krocket with itself.
    pub(crate) fn own_sides(&self) -> Option<[String; 2]> {
        let wide = WIDE_TOPICS * WIDE_PARTITIONS as usize;
        matches!(self.work, Work::Partitions)
            .then(|| [format!("krocket, {wide} partitions"), format!("krocket, {WIDE_PARTITIONS} partitions")])
    }
}

/// Every row, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for acks in [1, -1] {
        produce(&mut rows, acks);
    }
    for consumers in [1, 10] {
        rows.push(Row::new(format!("fetch tail x{consumers}"), Work::Follow { consumers }));
    }
    read(&mut rows);
    rows.push(Row::new("latency acks=1 2000/s", Work::Latency { acks: 1, rate: 2000.0 }));
    rows.push(Row::new("latency acks=all 200/s", Work::Latency { acks: -1, rate: 200.0 }));
    rows.push(Row::new("half of the knee, acks=1", Work::Knee { acks: 1 }));
    rows.push(Row::new("half of the knee, acks=all", Work::Knee { acks: -1 }));
    for (bytes, partitions, size) in [(1000, 1, "1 KB in 1 partition"), (BATCH, 3, "16 KB in each of 3 partitions")] {
        for producers in [1, 16] {
            let work = Work::Transactions { producers, bytes, partitions };
            rows.push(Row::new(format!("transactions {size} x{producers}"), work));
        }
    }
    rows.push(Row::new("read-process-write", Work::Pipeline));
    for (releases, also) in [(false, ""), (true, ", 1 % releases")] {
        for consumers in [1, 16] {
            rows.push(Row::new(format!("share group x{consumers}{also}"), Work::Share { consumers, releases }));
        }
    }
    rows.push(Row::new("partitions", Work::Partitions));
    rows.push(Row::new("empty", Work::Standing(Standing::Empty)));
    rows.push(Row::new("50,000 partitions", Work::Standing(Standing::Partitions)));
    rows.push(Row::new("10,000 idle connections, 1,000 groups", Work::Standing(Standing::Connections)));
    rows.push(Row::new("log, kill -9", Work::Standing(Standing::Log)));
    for row in &mut rows {
        row.quick = QUICK.contains(&row.name.as_str());
    }
    rows
}

/// One row of each kind: what fits into five minutes.
const QUICK: &[&str] = &[
    "produce acks=1 1 KB x1",
    "produce acks=1 1 KB x16",
    "produce acks=1 100 B x100, single records",
    "produce acks=all 1 KB x16",
    "produce acks=all 100 B x100, single records",
    "fetch tail x1",
    "fetch tail x10",
    "fetch cached",
    "fetch cold",
    "latency acks=1 2000/s",
    "latency acks=all 200/s",
    "transactions 1 KB in 1 partition x1",
    "read-process-write",
    "empty",
];

fn produce(rows: &mut Vec<Row>, acks: i16) {
    let named = if acks == 1 { "acks=1" } else { "acks=all" };
    for (value, size) in [(100, "100 B"), (1000, "1 KB")] {
        for producers in [1, 16] {
            let work = Work::Produce(Producing::new(acks, value, producers));
            rows.push(Row::new(format!("produce {named} {size} x{producers}"), work));
        }
    }
    if acks == -1 {
        let idempotent = Producing { idempotent: true, ..Producing::new(acks, 1000, 16) };
        rows.push(Row::new(format!("produce {named} 1 KB x16, idempotent"), Work::Produce(idempotent)));
    }
    let big = Producing { batch: BIG_BATCH, ..Producing::new(acks, 1000, 4) };
    rows.push(Row::new(format!("produce {named} 1 KB x4, 1 MB batches"), Work::Produce(big)));
    let single = Producing::new(acks, 100, 100).singly();
    rows.push(Row::new(format!("produce {named} 100 B x100, single records"), Work::Produce(single)));
}

fn read(rows: &mut Vec<Row>) {
    let whole = Reading { cold: false, partitions: 6, one_by_one: None };
    rows.push(Row::new("fetch cached", Work::Read(whole)));
    rows.push(Row::new("fetch cold", Work::Read(Reading { cold: true, ..whole })));
    for (name, partitions, read) in [("the only partition", 1, 1), ("partitions of 1,000, one by one", 1000, 50)] {
        let reading = Reading { cold: true, partitions, one_by_one: Some(read) };
        rows.push(Row::new(format!("fetch cold, {name}"), Work::Read(reading)));
    }
}
