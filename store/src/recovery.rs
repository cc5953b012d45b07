//! Opening: which files make up the log, what the index lacks, and what a crash left at the end.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Options;
use crate::appender::{self, Appender};
use crate::cleaner;
use crate::error::{BoxError, StoreError};
use crate::fs::LogFile;
use crate::index::{Database, Index, Memory, Meta, Rows};
use crate::lock::{Format, Lock};
use crate::op::{Op, Position};
use crate::scan::{Scanner, Step};
use crate::segment::{SEGMENT_HEADER_LEN, Segment, Segments};
use crate::shared::{Progress, Shared};
use crate::syncer::Syncer;

/// Where a replayed frame is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAt {
    /// Its position.
    pub position: Position,
    /// Position after it.
    pub end: Position,
}

/// Turns replayed ops into rows.
pub type Apply<'a> = dyn FnMut(FrameAt, &[Op<'_>], &mut Rows) -> Result<(), BoxError> + 'a;

/// What opening found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Frames that were read again into the index.
    pub replayed_frames: u64,
    /// Their bytes.
    pub replayed_bytes: u64,
    /// Why the index was built anew, if it was.
    pub rebuilt: Option<String>,
    /// Parts of the log that hold no whole frames any more; what follows them was kept.
    pub damaged: Vec<Damage>,
    /// The torn end that was cut off.
    pub truncated: Option<Damage>,
    /// Leftovers of an interrupted cleaning that were removed.
    pub removed: Vec<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

/// A part of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// First byte.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// A segment file on disk.
struct Found {
    segment: Segment,
    path: PathBuf,
    file_len: u64,
    /// The log's id in the header; `None` when the header is damaged.
    log_id: Option<u64>,
}

/// Everything but the parts that callers get.
pub(crate) struct Recovered {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: Index,
    pub(crate) appender: Appender,
    pub(crate) report: RecoveryReport,
}

pub(crate) fn open(data: &Path, options: &Options, apply: &mut Apply<'_>) -> Result<Recovered, StoreError> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let (log_dir, index_dir) = (data.join("log"), data.join("index"));
    fs::create_dir_all(&log_dir).map_err(StoreError::io("create", &log_dir))?;
    let lock = Lock::acquire(data)?;
    let format = Format::read(data)?;
    let mut found = list(&log_dir, options, &mut report)?;
    let log_id = match format.map(|format| format.log_id).or_else(|| found.iter().find_map(|found| found.log_id)) {
        Some(log_id) => log_id,
        None if found.is_empty() => rand::random(),
        None => {
            let reason = "neither this file nor any segment says which log it is".to_owned();
            return Err(StoreError::Format { path: data.join("format"), reason });
        }
    };
    if format.is_none() {
        Format { log_id }.write(data)?;
    }
    if let Some(foreign) = found.iter().find(|found| found.log_id.is_some_and(|id| id != log_id)) {
        let reason = "a segment of another log".to_owned();
        return Err(StoreError::Format { path: foreign.path.clone(), reason });
    }

    let memory = Memory { cache_bytes: options.index_cache_bytes, memtable_bytes: options.index_memtable_bytes };
    let mut usable = open_index(&index_dir, memory, log_id);
    let known = usable.as_ref().ok().map(|(_, meta)| meta.clone());
    let unfinished = resolve(&mut found, known.as_ref(), options, &mut report)?;
    if let Some(meta) = &known
        && let Err(reason) = matches_files(meta, &found, &unfinished)
    {
        usable = Err(reason);
    }

    let next_id = found.iter().map(|found| found.segment.id + 1).max().unwrap_or(1);
    let known_id = known.iter().flat_map(|meta| meta.files.keys()).max().map_or(1, |id| id + 1);
    let segments = Segments::new(log_dir.clone(), found.iter().map(|found| found.segment), next_id.max(known_id));
    for old in unfinished.iter().flat_map(|(_, old)| old) {
        segments.offer(old.segment, None);
    }
    let progress = Progress { written: 0, synced: 0, unsynced: Vec::new(), dir_changed: true };
    let shared = Arc::new(Shared::new(options.fs.clone(), segments, log_id, progress, lock));

    let mut replay = Replay { shared: &shared, found: &found, report };
    // A usable index may still turn out to be ahead of a log that lost its end.
    let attempt = match usable {
        Ok((database, meta)) => {
            let index = Index::new(database, shared.clone(), meta.clone(), options.index_flush_bytes);
            match replay.run(&index, &meta, apply)? {
                Ok(tail) => Ok((index, tail)),
                Err(reason) => Err(reason),
            }
        }
        Err(reason) => Err(reason),
    };
    let (index, tail) = match attempt {
        Ok(done) => done,
        Err(reason) => {
            if !found.is_empty() || !reason.is_empty() {
                tracing::warn!(reason, "building the index anew from the log");
                replay.report.rebuilt = Some(reason);
            }
            let meta = Meta::empty(log_id);
            let database = create_index(&index_dir, memory)?;
            let index = Index::new(database, shared.clone(), meta.clone(), options.index_flush_bytes);
            let tail = replay
                .run(&index, &meta, apply)?
                .map_err(|reason| StoreError::Index(crate::IndexError(reason.into())))?;
            (index, tail)
        }
    };
    let mut report = replay.report;
    let appender = resume(&shared, &index, &found, &tail, options, &mut report)?;
    Syncer::new(shared.clone()).sync()?;
    for (new, old) in &unfinished {
        tracing::info!(segment = new.id, "finishing an interrupted cleaning");
        let old: Vec<Segment> = old.iter().map(|old| old.segment).collect();
        cleaner::finish(&shared, &index, *new, &old, &mut |_| {})?;
    }
    report.took = started.elapsed();
    Ok(Recovered { shared, index, appender, report })
}

/// All segment files in order of base and id. Unfinished ones of the cleaner are removed.
fn list(dir: &Path, options: &Options, report: &mut RecoveryReport) -> Result<Vec<Found>, StoreError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io("list", dir))? {
        let path = entry.map_err(StoreError::io("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".tmp") {
            options.fs.remove(&path).map_err(StoreError::io("remove", &path))?;
            report.removed.push(path);
            continue;
        }
        let Some((base, id)) = Segment::parse_name(&name) else {
            tracing::warn!(path = %path.display(), "not a segment file: ignored");
            continue;
        };
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let file_len = file.metadata().map_err(StoreError::io("read", &path))?.len();
        let mut header = [0; SEGMENT_HEADER_LEN as usize];
        let parsed = match file.read_exact_at(&mut header, 0) {
            Ok(()) => Segment::parse_header(&header).filter(|(segment, _)| segment.base == base && segment.id == id),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let segment = parsed.map_or(Segment { id, base, cleaned_end: None }, |(segment, _)| segment);
        all.push(Found { segment, path, file_len, log_id: parsed.map(|(_, log_id)| log_id) });
    }
    all.sort_by_key(|found| (found.segment.base, found.segment.id));
    Ok(all)
}

/// Opens the index if it can be used, else says why not ("" for a new data folder).
fn open_index(dir: &Path, memory: Memory, log_id: u64) -> Result<(Database, Meta), String> {
    if Database::distrust_path(dir).exists() {
        return Err("it was found damaged in the last run".to_owned());
    }
    if !dir.exists() {
        return Err(String::new());
    }
    let database = Database::open(dir, memory).map_err(|error| error.to_string())?;
    match database.meta() {
        Ok(Some(meta)) if meta.log_id == log_id => Ok((database, meta)),
        Ok(Some(_)) => Err("it belongs to another log".to_owned()),
        Ok(None) => Err("it is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn create_index(dir: &Path, memory: Memory) -> Result<Database, StoreError> {
    for path in [dir.to_owned(), Database::distrust_path(dir)] {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(Database::open(dir, memory)?)
}

/// A cleaned segment whose rows were not all moved, and those that it replaces.
type Unfinished = Vec<(Segment, Vec<Found>)>;

/// Decides between a cleaned segment and those that it replaces: the old ones go, unless the index still points at
/// them only.
fn resolve(
    found: &mut Vec<Found>,
    known: Option<&Meta>,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<Unfinished, StoreError> {
    let in_index = |id: u32| known.is_some_and(|meta| meta.files.contains_key(&id));
    let mut unfinished = Vec::new();
    let mut cleaned: Vec<Segment> =
        found.iter().filter_map(|found| found.segment.cleaned_end.and(Some(found.segment))).collect();
    cleaned.sort_by_key(|segment| std::cmp::Reverse(segment.id));
    for new in cleaned {
        if !found.iter().any(|found| found.segment.id == new.id) {
            continue;
        }
        let end = new.cleaned_end.unwrap_or(new.base);
        let replaced = |found: &Found| {
            let old = found.segment;
            old.id < new.id && old.base >= new.base && (old.base < end || old.base == new.base)
        };
        let any_old_known = found.iter().any(|found| replaced(found) && in_index(found.segment.id));
        if any_old_known && in_index(new.id) {
            unfinished.push((new, found.extract_if(.., |found| replaced(found)).collect()));
        } else if any_old_known {
            remove(found, |found| found.segment.id == new.id, "a cleaning that did not finish", options, report)?;
        } else {
            remove(found, replaced, "replaced by a cleaned one", options, report)?;
        }
    }
    Ok(unfinished)
}

fn remove(
    found: &mut Vec<Found>,
    unwanted: impl Fn(&Found) -> bool,
    reason: &str,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    for found in found.extract_if(.., |found| unwanted(found)) {
        tracing::info!(path = %found.path.display(), reason, "removing a segment");
        options.fs.remove(&found.path).map_err(StoreError::io("remove", &found.path))?;
        report.removed.push(found.path);
    }
    Ok(())
}

/// Whether the index was made from these very files.
fn matches_files(meta: &Meta, found: &[Found], unfinished: &Unfinished) -> Result<(), String> {
    let there: HashSet<u32> =
        found.iter().chain(unfinished.iter().flat_map(|(_, old)| old)).map(|found| found.segment.id).collect();
    if let Some(id) = meta.files.keys().find(|id| !there.contains(id)) {
        return Err(format!("segment {id} is missing"));
    }
    match found.iter().find(|found| found.segment.base < meta.applied && !meta.files.contains_key(&found.segment.id)) {
        Some(unknown) => Err(format!("it does not know segment {}", unknown.segment.id)),
        None => Ok(()),
    }
}

struct Replay<'a> {
    shared: &'a Shared,
    found: &'a [Found],
    report: RecoveryReport,
}

/// The end of the log as the scan found it.
struct Tail {
    end: Position,
    /// In the last file: where whole frames end.
    len: u64,
    /// Index of the first file that may hold unsynced bytes.
    first: usize,
}

impl Replay<'_> {
    /// Reads the log from where the index may lack something. `Ok(Err)` tells why the index cannot be used after all.
    fn run(&mut self, index: &Index, meta: &Meta, apply: &mut Apply<'_>) -> Result<Result<Tail, String>, StoreError> {
        self.report.damaged.clear();
        self.report.truncated = None;
        (self.report.replayed_frames, self.report.replayed_bytes) = (0, 0);
        // Frames between the synced and the applied position may have been lost with the power.
        let from = meta.synced.min(meta.applied);
        let first = self.found.iter().rposition(|found| found.segment.base <= from).unwrap_or(0);
        let mut tail = Tail { end: 0, len: SEGMENT_HEADER_LEN, first };
        if let Some(front) = self.found.first().filter(|front| first == 0 && front.segment.base > 0) {
            let (path, len) = (front.path.clone(), front.segment.base);
            self.report.damaged.push(Damage { path, offset: 0, len, reason: "the segment before it is missing" });
        }
        let mut rows = index.rows();
        let mut told = Instant::now();
        for (number, found) in self.found.iter().enumerate().skip(first) {
            let io = |what| StoreError::io(what, &found.path);
            let file = File::open(&found.path).map_err(io("open"))?;
            // What an earlier process failed to write must not be read back from the page cache.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
            let known = found.log_id.is_some();
            let mut scanner = Scanner::new(&file, found.segment, known, self.shared.log_id).map_err(io("read"))?;
            (tail.end, tail.len) = (tail.end.max(found.segment.base), SEGMENT_HEADER_LEN);
            if number == first && scanner.seek(from).map_err(io("read"))? {
                (tail.end, tail.len) = (from, from - found.segment.base + SEGMENT_HEADER_LEN);
            }
            loop {
                match scanner.step().map_err(io("read"))? {
                    Step::Frame { offset, len, position } => {
                        let end = position + len as u64;
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
                        let position = match found.segment.cleaned_end {
                            Some(_) => tail.end,
                            None => found.segment.base + offset - SEGMENT_HEADER_LEN,
                        };
                        if position + len > from && position < meta.applied {
                            return Ok(Err(format!("{} is damaged at {offset}", found.path.display())));
                        }
                        self.report.damaged.push(Damage { path: found.path.clone(), offset, len, reason });
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
}

/// Makes the end of the log ready for appending.
fn resume(
    shared: &Arc<Shared>,
    index: &Index,
    found: &[Found],
    tail: &Tail,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<Appender, StoreError> {
    shared.progress.lock().written = tail.end;
    // What the last process wrote and did not sync is about to be served: it must not vanish later.
    for found in &found[tail.first.min(found.len())..found.len().saturating_sub(1)] {
        let file = options.fs.open(&found.path).map_err(StoreError::io("open", &found.path))?;
        file.sync_data().map_err(StoreError::io("sync", &found.path))?;
    }
    let contiguous =
        |segment: &Segment| segment.cleaned_end.is_none() && tail.end - segment.base + SEGMENT_HEADER_LEN == tail.len;
    let (file, segment, len) = match found.last() {
        Some(last) if contiguous(&last.segment) => {
            (continue_segment(shared, last, tail, options, report)?, last.segment, tail.len)
        }
        last => {
            if let Some(last) = last {
                let file = options.fs.open(&last.path).map_err(StoreError::io("open", &last.path))?;
                file.sync_data().map_err(StoreError::io("sync", &last.path))?;
            }
            let (file, segment) = appender::create_segment(shared, tail.end)
                .map_err(StoreError::io("create a segment in", shared.segments.dir()))?;
            (file, segment, SEGMENT_HEADER_LEN)
        }
    };
    shared.progress.lock().unsynced.push(file.clone());
    for damage in &report.damaged {
        tracing::error!(
            path = %damage.path.display(), offset = damage.offset, len = damage.len, reason = damage.reason,
            "a part of the log is damaged and skipped"
        );
    }
    Ok(Appender::new(shared.clone(), file, segment, len, index.clone(), options))
}

/// Opens the last segment for appending: without a torn end, and with a header.
fn continue_segment(
    shared: &Shared,
    last: &Found,
    tail: &Tail,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<Arc<dyn LogFile>, StoreError> {
    let file = options.fs.open(&last.path).map_err(StoreError::io("open", &last.path))?;
    if last.file_len > tail.len {
        let torn = |damage: &Damage| damage.path == last.path && damage.offset >= tail.len;
        let reason = report.damaged.iter().find(|damage| torn(damage)).map_or("torn", |damage| damage.reason);
        report.damaged.retain(|damage| !torn(damage));
        let len = last.file_len - tail.len;
        tracing::warn!(path = %last.path.display(), offset = tail.len, len, reason, "cutting the torn end of the log off");
        report.truncated = Some(Damage { path: last.path.clone(), offset: tail.len, len, reason });
    }
    // Even without a torn end: a killed process may have left reserved blocks.
    file.set_len(tail.len).map_err(StoreError::io("truncate", &last.path))?;
    if last.log_id.is_none() {
        let header = last.segment.header(shared.log_id);
        crate::fs::write_all(&*file, &mut [io::IoSlice::new(&header)], 0)
            .map_err(StoreError::io("write", &last.path))?;
    }
    Ok(file)
}
