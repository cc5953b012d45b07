//! Makes what was appended durable.

use std::sync::Arc;

use crate::error::LogFailed;
use crate::op::Position;
use crate::shared::Shared;

/// Syncs the log in rounds. Cheap to clone; calls from several threads take turns.
#[derive(Clone, Debug)]
pub struct Syncer {
    shared: Arc<Shared>,
}

impl Syncer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Syncer { shared }
    }

    /// Makes everything durable that was appended before the call; returns the position up to which it is.
    ///
    /// A failure is final: the kernel may have dropped the pages, so a second fsync could succeed without them
    /// being on disk. The log stops.
    pub fn sync(&self) -> Result<Position, LogFailed> {
        let _round = self.shared.sync_round.lock();
        self.shared.check()?;
        let (written, files, dir_changed) = {
            let mut progress = self.shared.progress.lock();
            if progress.synced == progress.written && !progress.dir_changed {
                return Ok(progress.synced);
            }
            let dir_changed = std::mem::take(&mut progress.dir_changed);
            (progress.written, progress.unsynced.clone(), dir_changed)
        };
        for file in &files {
            file.sync_data().map_err(|error| self.shared.fail(format!("fsync of a segment failed: {error}")))?;
        }
        if dir_changed {
            self.shared.sync_dir()?;
        }
        let mut progress = self.shared.progress.lock();
        progress.synced = progress.synced.max(written);
        // The last one is still written to.
        progress.unsynced.drain(..files.len().saturating_sub(1));
        Ok(progress.synced)
    }

    /// The position up to which everything is durable.
    pub fn synced(&self) -> Position {
        self.shared.progress.lock().synced
    }

    /// The position up to which everything is written.
    pub fn written(&self) -> Position {
        self.shared.progress.lock().written
    }
}
