//! Appends frames to the end of the log.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use smallvec::SmallVec;

use crate::Options;
use crate::error::{AppendError, LogFailed};
use crate::frame::{Frame, MAX_FRAME_LEN};
use crate::fs::{self, LogFile};
use crate::index::Index;
use crate::op::{Location, Position};
use crate::segment::{SEGMENT_HEADER_LEN, Segment};
use crate::shared::Shared;
use crate::syncer::Syncer;

/// Bytes after which a sync is begun that nobody asked for.
const SYNC_BYTES: u64 = 128 << 20;

/// The log's one writer.
#[derive(Debug)]
pub struct Appender {
    shared: Arc<Shared>,
    index: Index,
    file: Arc<dyn LogFile>,
    segment: Segment,
    /// Length of the file as far as frames go.
    len: u64,
    end: Position,
    segment_bytes: u64,
    /// Up to where blocks are reserved, and in what steps.
    reserved: u64,
    reserve_step: u64,
    /// Syncs what no acks=all asked for.
    syncing: Option<JoinHandle<()>>,
    /// Where the log ended when that began.
    sync_begun: Position,
}

/// Where a frame went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The frame's position.
    pub position: Position,
    /// Position after it.
    pub end: Position,
    /// Of its batches, in the order of the ops.
    pub batches: SmallVec<[Location; 1]>,
}

impl Appender {
    pub(crate) fn new(
        shared: Arc<Shared>,
        file: Arc<dyn LogFile>,
        segment: Segment,
        len: u64,
        index: Index,
        options: &Options,
    ) -> Self {
        let end = shared.progress.lock().written;
        let (segment_bytes, reserve_step) = (options.segment_bytes, options.reserve_bytes);
        Appender {
            shared,
            index,
            file,
            segment,
            len,
            end,
            segment_bytes,
            reserved: len,
            reserve_step,
            syncing: None,
            sync_begun: end,
        }
    }

    /// Where the next frame goes.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Writes frames one after the other, all or none, in few calls.
    ///
    /// They survive a crash of the process when this returns, and a power loss after the next sync.
    pub fn append(&mut self, frames: &mut [Frame]) -> Result<Vec<Appended>, AppendError> {
        self.shared.check()?;
        self.index.retry_stuck()?;
        let bytes: u64 = frames.iter().map(|frame| frame.disk_len() as u64).sum();
        if bytes > MAX_FRAME_LEN as u64 {
            return Err(AppendError::TooLarge(bytes));
        }
        if self.len > SEGMENT_HEADER_LEN && self.len + bytes > self.segment_bytes {
            self.roll()?;
        }
        self.reserve(self.len + bytes);

        let mut position = self.end;
        let synced = self.shared.progress.lock().synced;
        for frame in frames.iter_mut() {
            frame.place(position, synced, self.shared.log_id);
            position += frame.disk_len() as u64;
        }
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(frames.len() * 3);
        for frame in frames.iter() {
            frame.slices(&mut slices);
        }
        if let Err(error) = fs::write_all(&*self.file, &mut slices, self.len) {
            return Err(self.undo(error));
        }

        let (mut offset, mut position) = (self.len, self.end);
        let appended = frames.iter().map(|frame| {
            let location =
                |&(at, len): &(u32, u32)| Location { file: self.segment.id, offset: offset as u32 + at, len };
            let batches = frame.batches().iter().map(location).collect();
            let start = position;
            offset += frame.disk_len() as u64;
            position += frame.disk_len() as u64;
            Appended { position: start, end: position, batches }
        });
        let appended = appended.collect();
        self.len += bytes;
        self.end += bytes;
        self.shared.progress.lock().written = self.end;
        if self.end - self.sync_begun >= SYNC_BYTES {
            self.sync_behind();
        }
        Ok(appended)
    }

    /// Makes all of it durable and has the log's end say so, where a start finds it without an index, too. For a clean end.
    pub fn seal(&mut self) -> Result<(), AppendError> {
        let syncer = Syncer::new(self.shared.clone());
        syncer.sync()?;
        self.append(&mut [Frame::empty()])?;
        self.index.rows().commit(self.end)?;
        syncer.sync()?;
        Ok(())
    }

    /// Takes back what a failed write left in the file.
    fn undo(&mut self, error: io::Error) -> AppendError {
        if let Err(undo) = self.file.set_len(self.len) {
            return self.stop(format!("a write failed ({error}) and could not be undone: {undo}")).into();
        }
        self.reserved = self.len;
        failure(error)
    }

    fn stop(&self, reason: String) -> LogFailed {
        self.shared.fail(reason)
    }

    /// Begins a new segment file. On an error the old one stays in use.
    fn roll(&mut self) -> Result<(), AppendError> {
        let (file, segment) = create_segment(&self.shared, self.end).map_err(failure)?;
        // What was reserved and not used is given back; a file that keeps it only takes more room than it need.
        if self.reserved > self.len {
            let _ = self.file.set_len(self.len);
        }
        let mut progress = self.shared.progress.lock();
        progress.unsynced.push(file.clone());
        progress.dir_changed = true;
        drop(progress);
        (self.file, self.segment) = (file, segment);
        (self.len, self.reserved) = (SEGMENT_HEADER_LEN, SEGMENT_HEADER_LEN);
        self.sync_behind();
        Ok(())
    }

    /// Syncs in the background what no acks=all may ever ask for: it bounds the open files, what a start checks, and
    /// what the next acks=all has to wait for.
    fn sync_behind(&mut self) {
        if self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            // The next append comes round again.
            return;
        }
        self.sync_begun = self.end;
        let syncer = Syncer::new(self.shared.clone());
        let sync = move || {
            if let Err(error) = syncer.sync() {
                tracing::error!(%error, "the log cannot be synced");
            }
        };
        self.syncing = thread::Builder::new().name("log-behind".to_owned()).spawn(sync).ok();
    }

    /// Reserves blocks ahead, so that a sync finds them allocated. Advice: errors show up in the write.
    fn reserve(&mut self, len: u64) {
        if self.reserve_step == 0 || len <= self.reserved {
            return;
        }
        let until = (len + self.reserve_step).min(self.segment_bytes.max(len));
        // Not again before the write passes the place, even if it failed.
        let _ = self.file.reserve(self.reserved, until - self.reserved);
        self.reserved = until;
    }
}

/// Creates the segment that begins at `base`, with its header, and tells readers.
pub(crate) fn create_segment(shared: &Shared, base: Position) -> io::Result<(Arc<dyn LogFile>, Segment)> {
    let segment = Segment { id: shared.segments.next_id(), base, cleaned_end: None };
    let path = shared.segments.path(&segment);
    let file = shared.fs.create(&path)?;
    let header = segment.header(shared.log_id);
    if let Err(error) = fs::write_all(&*file, &mut [IoSlice::new(&header)], 0) {
        // An empty file at the end of the log is tolerated at the next start, too.
        let _ = shared.fs.remove(&path);
        return Err(error);
    }
    shared.segments.insert(segment, Some(file.reader()));
    Ok((file, segment))
}

impl Drop for Appender {
    fn drop(&mut self) {
        if let Some(syncing) = self.syncing.take() {
            // It holds the folder's lock; its errors were told.
            let _ = syncing.join();
        }
        // Gives back what was reserved. A killed process leaves that to the next start.
        if self.reserved > self.len {
            let _ = self.file.set_len(self.len);
        }
    }
}

fn failure(error: io::Error) -> AppendError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            AppendError::Full(error)
        }
        _ => AppendError::Write(error),
    }
}
