//! What is measured, and the raw limits it is held against.

use crate::limits::Limits;

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
    TransactionsPerSecond,
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
            Self::TransactionsPerSecond => "transactions/s",
        }
    }

    pub(crate) fn higher_is_better(self) -> bool {
        matches!(
            self,
            Self::MegabytesPerSecond | Self::RecordsPerSecond | Self::TopicsPerSecond | Self::TransactionsPerSecond
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
            Self::TransactionsPerSecond => "transactions",
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
