//! Partitions over the one commit log.

pub mod partition;
pub mod tables;

pub use partition::{Partition, PartitionId};
