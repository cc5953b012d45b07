//! Gives the space of dead frames back.
//!
//! A run of neighbouring segments is rewritten as one, with only what is alive, in the same place of the log.
//! Every point of it may be the last one before a crash:
//!
//! | on disk                    | the index knows | the next start                          |
//! |----------------------------|-----------------|-----------------------------------------|
//! | old, `*.tmp`               | old             | removes the unfinished file             |
//! | old, new                   | old             | removes the new one                     |
//! | old, new                   | old, new        | moves the rest of the rows, removes old |
//! | (some) old, new            | new             | removes the old ones                    |
//! | (some) old, new            | nothing: lost   | removes the old ones, rebuilds          |

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::StoreError;
use crate::frame::FrameBuilder;
use crate::fs::{self, LogFile};
use crate::index::{Index, MOVES_AT_ONCE};
use crate::op::{Op, Position};
use crate::scan::{Scanner, Step};
use crate::segment::{SEGMENT_HEADER_LEN, Segment};
use crate::shared::Shared;

/// A run of segments is so many full ones at most, so that space is given back piece by piece.
const MAX_RUN: u64 = 8;
/// Bytes collected before a write.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes written before a sync: producers who wait for theirs should not wait for half a gigabyte of ours.
const SYNC_BYTES: u64 = 8 << 20;

/// Finds and rewrites segments with garbage. One at a time: calls take turns.
#[derive(Clone, Debug)]
pub struct Cleaner {
    shared: Arc<Shared>,
    index: Index,
    segment_bytes: u64,
    /// A rewrite that failed half-way through moving rows. Held by whoever cleans.
    unfinished: Arc<Mutex<Option<Unfinished>>>,
    /// Segments with damage, which are left alone.
    damaged: Arc<Mutex<Vec<u32>>>,
}

/// A new segment and the old ones in whose place it is.
pub(crate) type Unfinished = (Segment, Vec<Segment>);
/// A new file and its length.
type Written = (Arc<dyn LogFile>, u64);

/// A segment as the cleaner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentStats {
    /// The file's id.
    pub file: u32,
    /// Position where it begins.
    pub base: Position,
    /// Bytes of frames.
    pub total: u64,
    /// Bytes that are needed, by estimate.
    pub live: u64,
}

/// Neighbouring segments to be rewritten as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Victim {
    /// In order of position.
    pub segments: Vec<SegmentStats>,
}

impl Victim {
    /// Bytes on disk.
    pub fn total(&self) -> u64 {
        self.segments.iter().map(|segment| segment.total).sum()
    }

    /// Bytes that stay, by estimate.
    pub fn live(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live).sum()
    }
}

/// What a rewrite achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Bytes before.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
    /// The victim was left alone: it has damage, or is not there any more.
    pub skipped: bool,
}

impl Cleaner {
    pub(crate) fn new(shared: Arc<Shared>, index: Index, segment_bytes: u64, unfinished: Option<Unfinished>) -> Self {
        Cleaner { shared, index, segment_bytes, unfinished: Arc::new(Mutex::new(unfinished)), damaged: Arc::default() }
    }

    /// All segments that are not written to any more, in order.
    pub fn segments(&self) -> Vec<SegmentStats> {
        let live = self.index.live_bytes();
        let mut segments = self.shared.segments.list();
        segments.pop();
        let stats = |segment: Segment| {
            let len = std::fs::metadata(self.shared.segments.path(&segment)).map_or(0, |meta| meta.len());
            let live = live.get(&segment.id).copied().unwrap_or(i64::MAX).max(0) as u64;
            let total = len.saturating_sub(SEGMENT_HEADER_LEN);
            SegmentStats { file: segment.id, base: segment.base, total, live: live.min(total) }
        };
        segments.into_iter().map(stats).collect()
    }

    /// Runs of segments worth a rewrite, the most garbage first: those of which at least this part (0 to 1) is
    /// garbage, and small neighbours.
    pub fn victims(&self, min_garbage_ratio: f64) -> Vec<Victim> {
        let damaged = self.damaged.lock().clone();
        let wasteful = |segment: &SegmentStats| {
            segment.total > 0 && (segment.total - segment.live) as f64 >= min_garbage_ratio * segment.total as f64
        };
        let small = |segment: &SegmentStats| segment.total <= self.segment_bytes / 16;
        let mut runs = vec![Victim::default()];
        for segment in self.segments() {
            let usable = !damaged.contains(&segment.file) && (wasteful(&segment) || small(&segment));
            let full = |run: &Victim| {
                run.live() + segment.live > self.segment_bytes
                    || run.total() + segment.total > MAX_RUN * self.segment_bytes
            };
            if runs.last().is_none_or(|run| !usable || full(run)) {
                runs.push(Victim::default());
            }
            if let Some(run) = runs.last_mut().filter(|_| usable) {
                run.segments.push(segment);
            }
        }
        runs.retain(|run| run.segments.len() > 1 || run.segments.iter().any(wasteful));
        runs.sort_by_key(|run| std::cmp::Reverse(run.total() - run.live()));
        runs
    }

    /// Rewrites a victim. `throttle` is told of each piece of work in bytes and may sleep.
    pub fn rewrite(&self, victim: &Victim, throttle: &mut dyn FnMut(u64)) -> Result<Cleaned, StoreError> {
        let mut unfinished = self.unfinished.lock();
        if let Some((new, old)) = unfinished.clone() {
            finish(&self.shared, &self.index, new, &old, throttle)?;
            *unfinished = None;
        }
        let before = victim.total();
        let skipped = Cleaned { before, after: before, skipped: true };
        let all = self.shared.segments.list();
        let Some(at) = all.iter().position(|segment| Some(segment.id) == victim.segments.first().map(|s| s.file))
        else {
            return Ok(skipped);
        };
        let old = &all[at..];
        let same = victim.segments.iter().zip(old).all(|(victim, segment)| victim.file == segment.id);
        let (Some(next), true) = (old.get(victim.segments.len()).copied(), same) else { return Ok(skipped) };
        let old = &old[..victim.segments.len()];

        // From here on the index on disk knows all of the victim.
        self.index.flush()?;
        if next.base > self.index.applied() {
            return Ok(skipped);
        }
        let id = self.shared.segments.next_id();
        let new = Segment { id, base: old[0].base, cleaned_end: Some(next.base) };
        let path = self.shared.segments.path(&new);
        let tmp = path.with_extension("tmp");
        let written = self.write(&tmp, new, old, at == 0, throttle);
        let Some((file, len)) = written.inspect_err(|_| self.discard(&tmp))? else {
            self.discard(&tmp);
            return Ok(skipped);
        };
        self.place(&tmp, &path, new, &file, len).inspect_err(|_| {
            self.shared.segments.withdraw(new.id);
            self.discard(&tmp);
            self.discard(&path);
        })?;
        *unfinished = Some((new, old.to_vec()));
        finish(&self.shared, &self.index, new, old, throttle)?;
        *unfinished = None;
        Ok(Cleaned { before, after: len - SEGMENT_HEADER_LEN, skipped: false })
    }

    /// Gives the new segment its name and tells the index.
    fn place(
        &self,
        tmp: &Path,
        path: &Path,
        new: Segment,
        file: &Arc<dyn LogFile>,
        len: u64,
    ) -> Result<(), StoreError> {
        self.shared.fs.rename(tmp, path).map_err(StoreError::io("rename", tmp))?;
        self.shared.sync_dir()?;
        self.shared.segments.offer(new, Some(file.reader()));
        Ok(self.index.add_file(new, (len - SEGMENT_HEADER_LEN) as i64)?)
    }

    /// Writes what is alive; nothing if a victim turns out to be damaged.
    fn write(
        &self,
        tmp: &Path,
        new: Segment,
        old: &[Segment],
        oldest: bool,
        throttle: &mut dyn FnMut(u64),
    ) -> Result<Option<Written>, StoreError> {
        let file = self.shared.fs.create(tmp).map_err(StoreError::io("create", tmp))?;
        let mut out =
            Output { file: &*file, path: tmp, len: 0, synced: 0, pending: new.header(self.shared.log_id).to_vec() };
        for (number, segment) in old.iter().enumerate() {
            let path = self.shared.segments.path(segment);
            let io = |what| StoreError::io(what, &path);
            let input = File::open(&path).map_err(io("open"))?;
            let mut scanner = Scanner::new(&input, *segment, true, self.shared.log_id).map_err(io("read"))?;
            loop {
                match scanner.step().map_err(io("read"))? {
                    Step::Frame { offset, len, position, synced } => {
                        throttle(len as u64);
                        let ops = scanner.ops(offset, len);
                        let mut alive = Vec::with_capacity(ops.len());
                        for op in &ops {
                            // What a deletion deletes can only lie before it.
                            if self.index.is_live(position, op)?.unwrap_or(!oldest) {
                                alive.push(op);
                            }
                        }
                        if alive.len() == ops.len() {
                            out.push(scanner.bytes(offset, len))?;
                        } else if !alive.is_empty() {
                            out.push(&rebuild(&alive, (position, synced), self.shared.log_id)?)?;
                        }
                    }
                    Step::Damage { offset, reason, .. } => {
                        let end = old.get(number + 1).map_or(new.cleaned_end, |next| Some(next.base));
                        if self.index.points_into(*segment, end.unwrap_or(u64::MAX))? {
                            tracing::error!(path = %path.display(), offset, reason, "damaged: not cleaned");
                            self.damaged.lock().push(segment.id);
                            return Ok(None);
                        }
                    }
                    Step::End => break,
                }
            }
        }
        out.flush()?;
        let len = out.len;
        file.sync_data().map_err(StoreError::io("sync", tmp))?;
        Ok(Some((file, len)))
    }

    fn discard(&self, tmp: &Path) {
        // The next start removes it, too.
        let _ = self.shared.fs.remove(tmp);
    }
}

/// The file being written.
struct Output<'a> {
    file: &'a dyn LogFile,
    path: &'a Path,
    len: u64,
    synced: u64,
    pending: Vec<u8>,
}

impl Output<'_> {
    fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let written = fs::write_all(self.file, &mut [IoSlice::new(&self.pending)], self.len);
        written.map_err(StoreError::io("write", self.path))?;
        self.len += self.pending.len() as u64;
        self.pending.clear();
        if self.len - self.synced >= SYNC_BYTES {
            self.file.sync_data().map_err(StoreError::io("sync", self.path))?;
            self.synced = self.len;
        }
        Ok(())
    }
}

/// A frame with some of its ops, in the place of the whole one.
fn rebuild(alive: &[&Op<'_>], (position, synced): (Position, Position), log_id: u64) -> Result<Vec<u8>, StoreError> {
    let mut builder = FrameBuilder::new();
    for op in alive {
        builder.copy(op);
    }
    let mut frame = builder.build().map_err(|source| StoreError::Apply { position, source: source.into() })?;
    frame.place(position, synced, log_id);
    let mut slices = Vec::new();
    frame.slices(&mut slices);
    Ok(slices.iter().flat_map(|slice| slice.iter().copied()).collect())
}

/// From where the index knows both the old segments and the new one: points rows at the new one, forgets the old.
pub(crate) fn finish(
    shared: &Shared,
    index: &Index,
    new: Segment,
    old: &[Segment],
    throttle: &mut dyn FnMut(u64),
) -> Result<(), StoreError> {
    let path = shared.segments.path(&new);
    let io = |what| StoreError::io(what, &path);
    let input = File::open(&path).map_err(io("open"))?;
    let mut scanner = Scanner::new(&input, new, true, shared.log_id).map_err(io("read"))?;
    let mut moves = Vec::with_capacity(MOVES_AT_ONCE);
    loop {
        match scanner.step().map_err(io("read"))? {
            Step::Frame { offset, len, .. } => {
                throttle(len as u64);
                for op in scanner.ops(offset, len) {
                    if let Op::Batch(batch) = op {
                        moves.push((batch.partition, batch.header.last_offset(), batch.location));
                    }
                }
            }
            Step::Damage { offset, reason, .. } => {
                // Written a moment ago, and the old ones are still there.
                let reason = format!("damaged at {offset}: {reason}");
                return Err(StoreError::Format { path, reason });
            }
            Step::End => break,
        }
        if moves.len() >= MOVES_AT_ONCE {
            index.move_batches(old, &moves)?;
            moves.clear();
        }
    }
    index.move_batches(old, &moves)?;
    index.remove_files(old, || shared.segments.replace(old, new))?;
    index.flush()?;
    for segment in old {
        let path = shared.segments.path(segment);
        match shared.fs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(shared.sync_dir()?)
}
