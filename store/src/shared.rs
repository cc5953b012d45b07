//! What appender, syncer, readers and cleaner have in common.

use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;

use crate::error::LogFailed;
use crate::fs::{FileSystem, LogFile};
use crate::lock::Lock;
use crate::op::Position;
use crate::segment::Segments;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) segments: Segments,
    pub(crate) log_id: u64,
    pub(crate) progress: Mutex<Progress>,
    /// Held by whoever syncs, so that rounds do not overlap.
    pub(crate) sync_round: Mutex<()>,
    failed: OnceLock<LogFailed>,
    pub(crate) _lock: Lock,
}

/// How far the log is written and how far it is durable.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) written: Position,
    pub(crate) synced: Position,
    /// Files that may hold unsynced bytes, oldest first; the last one is being appended to.
    pub(crate) unsynced: Vec<Arc<dyn LogFile>>,
    /// Files were created since the directory was synced.
    pub(crate) dir_changed: bool,
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn FileSystem>,
        segments: Segments,
        log_id: u64,
        progress: Progress,
        lock: Lock,
    ) -> Self {
        let (progress, sync_round) = (Mutex::new(progress), Mutex::new(()));
        Shared { fs, segments, log_id, progress, sync_round, failed: OnceLock::new(), _lock: lock }
    }

    /// Makes names in the log's folder durable. The kernel tells of a failure once, whoever asked: so it stops the log.
    pub(crate) fn sync_dir(&self) -> Result<(), LogFailed> {
        let synced = self.fs.sync_dir(self.segments.dir());
        synced.map_err(|error| self.fail(format!("fsync of the log directory failed: {error}")))
    }

    /// Stops the log for good.
    pub(crate) fn fail(&self, reason: String) -> LogFailed {
        tracing::error!(reason, "the log stops");
        self.failed.get_or_init(|| LogFailed(reason.into())).clone()
    }

    /// Errs once the log has stopped.
    pub(crate) fn check(&self) -> Result<(), LogFailed> {
        self.failed.get().map_or(Ok(()), |failed| Err(failed.clone()))
    }
}
