//! Brings the index up to the end of the log.

use std::fs::File;
use std::time::{Duration, Instant};

use super::files::Found;
use super::{Apply, Damage, FrameAt, RecoveryReport};
use crate::error::StoreError;
use crate::index::{Index, Meta};
use crate::op::Position;
use crate::scan::{Scanner, Step};
use crate::segment::SEGMENT_HEADER_LEN;
use crate::shared::Shared;

pub(super) struct Replay<'a> {
    pub(super) shared: &'a Shared,
    pub(super) found: &'a [Found],
    pub(super) report: RecoveryReport,
}

/// The end of the log as the scan found it.
pub(super) struct Tail {
    pub(super) end: Position,
    /// In the last file: where whole frames end.
    pub(super) len: u64,
    /// Index of the first file that may hold unsynced bytes.
    pub(super) first: usize,
    /// So many files are the log; those behind them begin where a crash left a hole.
    pub(super) files: usize,
}

/// A hole in the log, or the end of it.
struct Hole {
    /// Where it begins, in the log.
    position: Position,
    /// The first file to look at behind it, and from where.
    file: usize,
    offset: u64,
}

impl Replay<'_> {
    /// Reads the log from where the index may lack something. `Ok(Err)` tells why the index cannot be used after all.
    pub(super) fn run(
        &mut self,
        index: &Index,
        meta: &Meta,
        apply: &mut Apply<'_>,
    ) -> Result<Result<Tail, String>, StoreError> {
        self.report.damaged.clear();
        self.report.truncated = None;
        (self.report.replayed_frames, self.report.replayed_bytes) = (0, 0);
        // Frames between the synced and the applied position may have been lost with the power.
        let from = meta.synced.min(meta.applied);
        let first = self.found.iter().rposition(|found| found.segment.base <= from).unwrap_or(0);
        let mut tail = Tail { end: 0, len: SEGMENT_HEADER_LEN, first, files: self.found.len() };
        // The log was durable up to here, by what was read so far.
        let mut durable = meta.synced;
        if let Some(front) = self.found.first().filter(|front| first == 0 && front.segment.base > 0) {
            let (path, len) = (front.path.clone(), front.segment.base);
            self.report.damaged.push(Damage { path, offset: 0, len, reason: "the segment before it is missing" });
        }
        let mut rows = index.rows();
        let mut told = Instant::now();
        'files: for (number, found) in self.found.iter().enumerate().skip(first) {
            let io = |what| StoreError::io(what, &found.path);
            let file = File::open(&found.path).map_err(io("open"))?;
            // What an earlier process failed to write must not be read back from the page cache.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
            let known = found.log_id.is_some();
            let mut scanner = Scanner::new(&file, found.segment, known, self.shared.log_id).map_err(io("read"))?;
            (tail.end, tail.len) = (tail.end.max(found.segment.base), SEGMENT_HEADER_LEN);
            durable = durable.max(found.segment.cleaned_end.unwrap_or(0));
            if number == first && scanner.seek(from).map_err(io("read"))? {
                (tail.end, tail.len) = (from, from - found.segment.base + SEGMENT_HEADER_LEN);
            }
            loop {
                match scanner.step().map_err(io("read"))? {
                    Step::Frame { offset, len, position, synced } => {
                        let end = position + len as u64;
                        durable = durable.max(synced);
                        tail.len = offset + len as u64;
                        if position < tail.end {
                            continue;
                        }
                        tail.end = end;
                        if position < meta.applied {
                            continue;
                        }
                        let at = FrameAt { position, end };
                        apply(at, &scanner.ops(offset, len), &mut rows)
                            .map_err(|source| StoreError::Apply { position, source })?;
                        self.report.replayed_frames += 1;
                        self.report.replayed_bytes += len as u64;
                        if rows.size() > 1 << 20 {
                            std::mem::replace(&mut rows, index.rows()).commit(end)?;
                        }
                        if told.elapsed() > Duration::from_secs(5) {
                            told = Instant::now();
                            tracing::info!(segment = number + 1, of = self.found.len(), "reading the log");
                        }
                    }
                    Step::Damage { offset, len, reason } => {
                        let position = found.segment.position_of_damage(offset, tail.end);
                        if position + len > from && position < meta.applied {
                            return Ok(Err(format!("{} is damaged at {offset}", found.path.display())));
                        }
                        self.report.damaged.push(Damage { path: found.path.clone(), offset, len, reason });
                        if self.is_torn(&Hole { position, file: number, offset: offset + len }, &mut durable)? {
                            tail.files = number + 1;
                            break 'files;
                        }
                    }
                    Step::End => break,
                }
            }
            tail.end = tail.end.max(found.segment.cleaned_end.unwrap_or(0));
            // Segments join without a gap: only a cleaned one takes another's place.
            let Some(next) = self.found.get(number + 1).map(|next| next.segment.base).filter(|next| *next > tail.end)
            else {
                continue;
            };
            if next > from && tail.end < meta.applied {
                return Ok(Err(format!("{} ends early", found.path.display())));
            }
            let (path, offset) = (found.path.clone(), found.file_len);
            if self.report.damaged.last().is_none_or(|last| last.path != path || last.offset + last.len != offset) {
                self.report.damaged.push(Damage { path, offset, len: next - tail.end, reason: "the rest is missing" });
                let behind = Hole { position: tail.end, file: number + 1, offset: SEGMENT_HEADER_LEN };
                if self.is_torn(&behind, &mut durable)? {
                    tail.files = number + 1;
                    break;
                }
            }
        }
        if tail.end < meta.applied {
            return Ok(Err(format!("it knows the log up to {}, which ends at {}", meta.applied, tail.end)));
        }
        if tail.end > meta.applied {
            rows.commit(tail.end)?;
        }
        Ok(Ok(tail))
    }

    /// Whether a crash made the hole: then nothing behind it was written after it had become durable, and what was is no
    /// part of the log. Producers were promised order, and nobody was promised those records.
    fn is_torn(&self, hole: &Hole, durable: &mut Position) -> Result<bool, StoreError> {
        for (number, found) in self.found.iter().enumerate().skip(hole.file) {
            *durable = (*durable).max(found.segment.cleaned_end.unwrap_or(0));
            if *durable > hole.position {
                return Ok(false);
            }
            let io = |what| StoreError::io(what, &found.path);
            let file = File::open(&found.path).map_err(io("open"))?;
            let known = found.log_id.is_some();
            let mut scanner = Scanner::new(&file, found.segment, known, self.shared.log_id).map_err(io("read"))?;
            if number == hole.file {
                scanner.skip_to(hole.offset);
            }
            loop {
                match scanner.step().map_err(io("read"))? {
                    Step::Frame { synced, .. } => *durable = (*durable).max(synced),
                    Step::Damage { .. } => {}
                    Step::End => break,
                }
                if *durable > hole.position {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
