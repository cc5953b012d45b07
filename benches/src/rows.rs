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
    Read {
        cold: bool,
    },
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
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) work: Work,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, work: Work) -> Self {
        Self { name: name.into(), work }
    }

    pub(crate) fn acks(&self) -> i16 {
        match self.work {
            Work::Produce(Producing { acks, .. }) | Work::Latency { acks, .. } => acks,
            Work::Transactions { .. } | Work::Pipeline => -1,
            _ => 1,
        }
    }

    pub(crate) fn limit(&self) -> Option<Limit> {
        match self.work {
            Work::Produce(Producing { acks: -1, .. }) => Some(Limit::DiskSyncWrite),
            Work::Produce(_) | Work::Follow { .. } | Work::Read { cold: false } | Work::Partitions => {
                Some(Limit::LoopbackTcp)
            }
            Work::Read { cold: true } => Some(Limit::DiskRead),
            Work::Latency { .. } | Work::Transactions { .. } | Work::Share { .. } | Work::Pipeline => None,
        }
    }

    /// Kafka wants more maps and files than a machine allows as it comes for 50,000 partitions.
    pub(crate) fn runs_on(&self, kind: Kind) -> bool {
        kind == Kind::Krocket || !matches!(self.work, Work::Partitions)
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
    for consumers in [1, 10] {
        rows.push(Row::new(format!("fetch tail x{consumers}"), Work::Follow { consumers }));
    }
    rows.push(Row::new("fetch cached", Work::Read { cold: false }));
    rows.push(Row::new("fetch cold", Work::Read { cold: true }));
    rows.push(Row::new("latency acks=1 2000/s", Work::Latency { acks: 1, rate: 2000.0 }));
    rows.push(Row::new("latency acks=all 200/s", Work::Latency { acks: -1, rate: 200.0 }));
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
    rows
}
