//! The commit log of all partitions, and its index in RocksDB.
//!
//! The log is the only truth: every durable fact is an [`Op`] in a frame, and one frame is atomic whatever it
//! touches. The index is computed from the log by the caller's `apply`, the same code live and in replay, and can
//! always be built anew. Everything here blocks; callers choose the threads.
//!
//! ```text
//! Appender::append -> Rows::commit -> (acks=1) -> Syncer::sync -> (acks=all)
//! Index::batch -> LogReader::slice -> socket
//! ```

mod appender;
mod cleaner;
mod error;
mod frame;
pub mod fs;
mod index;
mod inspect;
mod lock;
mod op;
mod reader;
mod recovery;
mod scan;
mod segment;
mod shared;
mod snapshot;
mod syncer;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

pub use appender::{Appended, Appender};
pub use cleaner::{Cleaned, Cleaner, SegmentStats, Victim};
pub use error::{AppendError, BoxError, IndexError, LogFailed, ReadError, StoreError};
pub use frame::{Frame, FrameBuilder, FrameError, NewBatch};
pub use index::{BatchRow, Batches, Index, IndexStats, Rows, Scan};
pub use inspect::{Found, Inspection, Lost, Verdict, distrust_index, walk};
pub use lock::FORMAT_VERSION;
pub use op::{BatchOp, Location, Op, Position, REPLACEMENT};
pub use reader::LogReader;
pub use recovery::{Apply, Damage, FrameAt, RecoveryReport};
pub use snapshot::{Restoring, Snapshot, SnapshotFile};
pub use syncer::Syncer;

/// How the store uses disk and memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// A segment file is closed before it grows beyond this. At most 2 GiB.
    pub segment_bytes: u64,
    /// Blocks are reserved ahead in steps of this size; 0 for not at all.
    pub reserve_bytes: u64,
    /// RocksDB's block cache.
    pub index_cache_bytes: usize,
    /// RocksDB's memtables, all together.
    pub index_memtable_bytes: usize,
    /// The index is flushed after so many bytes of log: what a restart replays at most.
    pub index_flush_bytes: u64,
    /// Where files are written; tests put failing ones here.
    pub fs: Arc<dyn fs::FileSystem>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 512 << 20,
            reserve_bytes: 32 << 20,
            index_cache_bytes: 32 << 20,
            index_memtable_bytes: 16 << 20,
            index_flush_bytes: 256 << 20,
            fs: Arc::new(fs::OsFileSystem),
        }
    }
}

/// The parts of an open store. The data folder is locked until all of them are dropped.
#[derive(Debug)]
pub struct Opened {
    /// For the one thread that writes.
    pub appender: Appender,
    /// For whoever makes the log durable.
    pub syncer: Syncer,
    /// For fetches.
    pub reader: LogReader,
    /// For look-ups.
    pub index: Index,
    /// For the background.
    pub cleaner: Cleaner,
    /// What was found and repaired.
    pub report: RecoveryReport,
}

/// Opens or creates the store in `data`.
///
/// `apply` is called for each frame that the index lacks, in order; it is never called on an index that turns out
/// unusable later. What it sees through [`Rows::index`] lacks the rows that are not committed yet.
pub fn open(data: &Path, options: Options, apply: &mut Apply<'_>) -> Result<Opened, StoreError> {
    let options = Options { segment_bytes: options.segment_bytes.min(2 << 30), ..options };
    let recovery::Recovered { shared, index, appender, report, unfinished } = recovery::open(data, &options, apply)?;
    let cleaner = Cleaner::new(shared.clone(), index.clone(), options.segment_bytes, unfinished);
    let (syncer, reader) = (Syncer::new(shared.clone()), LogReader::new(shared));
    Ok(Opened { appender, syncer, reader, index, cleaner, report })
}
