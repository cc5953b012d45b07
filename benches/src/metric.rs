//! What is measured, and the raw limits it is held against.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::Metric::{
    CpuPerGigabyte, EndToEndP50, EndToEndP99, EndToEndP999, GeneratorCpuPerGigabyte, IdleCpu, KibibytesPerConnection,
    Knee, MegabytesPerSecond, P50, P99, P999, PeakMebibytes, RecordsPerSecond, RestMebibytes, Start, StartToProduce,
    TopicsPerSecond, TransactionsPerSecond,
};
use crate::limits::Limits;

/// What one row measures; the unit is part of it. In JSON it is its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
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
    /// From the intended send time until a consumer has it.
    EndToEndP50,
    EndToEndP99,
    EndToEndP999,
    TopicsPerSecond,
    TransactionsPerSecond,
    /// Most requests a second that were still answered in time.
    Knee,
    /// From the start of the process until it answers.
    Start,
    /// Until a record is acknowledged, too.
    StartToProduce,
    /// Of one core, with nothing to do.
    IdleCpu,
    /// Resident memory with nothing to do.
    RestMebibytes,
    /// Memory per idle connection.
    KibibytesPerConnection,
}

impl From<Metric> for &'static str {
    fn from(metric: Metric) -> Self {
        metric.name()
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let mut known = Self::value_variants().iter().copied();
        known.find(|metric| metric.name() == name).ok_or_else(|| format!("\"{name}\" is no metric"))
    }
}

impl Metric {
    pub(crate) fn unit(self) -> &'static str {
        self.description().1
    }

    pub(crate) fn name(self) -> &'static str {
        self.description().0
    }

    pub(crate) fn higher_is_better(self) -> bool {
        matches!(self, MegabytesPerSecond | RecordsPerSecond | TopicsPerSecond | TransactionsPerSecond | Knee)
    }

    fn description(self) -> (&'static str, &'static str) {
        match self {
            MegabytesPerSecond => ("throughput", "MB/s"),
            RecordsPerSecond => ("records", "records/s"),
            CpuPerGigabyte => ("server CPU", "s/GB"),
            GeneratorCpuPerGigabyte => ("generator CPU", "s/GB"),
            PeakMebibytes => ("peak memory", "MiB"),
            P50 => ("p50", "ms"),
            P99 => ("p99", "ms"),
            P999 => ("p99.9", "ms"),
            EndToEndP50 => ("end to end p50", "ms"),
            EndToEndP99 => ("end to end p99", "ms"),
            EndToEndP999 => ("end to end p99.9", "ms"),
            TopicsPerSecond => ("creation", "topics/s"),
            TransactionsPerSecond => ("transactions", "transactions/s"),
            Knee => ("knee", "requests/s"),
            Start => ("first answer", "s"),
            StartToProduce => ("first record acknowledged", "s"),
            IdleCpu => ("idle CPU", "% of a core"),
            RestMebibytes => ("memory at rest", "MiB"),
            KibibytesPerConnection => ("memory per connection", "KiB"),
        }
    }
}

/// A raw limit that bounds a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    DiskSyncWrite,
    DiskRead,
    LoopbackTcp,
    Fdatasync,
    RoundTrip,
}

impl Limit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DiskSyncWrite => "disk write + fdatasync",
            Self::DiskRead => "disk read",
            Self::LoopbackTcp => "loopback TCP",
            Self::Fdatasync => "fdatasync of 4 KiB",
            Self::RoundTrip => "loopback round trip",
        }
    }

    /// What it bounds.
    pub(crate) fn metric(self) -> Metric {
        match self {
            Self::DiskSyncWrite | Self::DiskRead | Self::LoopbackTcp => MegabytesPerSecond,
            Self::Fdatasync | Self::RoundTrip => P50,
        }
    }

    /// The part of it that a value of its metric reaches.
    pub(crate) fn share(self, value: f64, limits: &Limits) -> f64 {
        match self {
            Self::DiskSyncWrite => value / limits.disk_sync_write_mb_s,
            Self::DiskRead => value / limits.disk_read_mb_s,
            Self::LoopbackTcp => value / limits.loopback_tcp_mb_s,
            Self::Fdatasync => limits.fdatasync_p50_us / 1e3 / value,
            Self::RoundTrip => limits.round_trip_p50_us / 1e3 / value,
        }
    }
}
