//! Opening: which files make up the log, what the index lacks, and what a crash left at the end.

mod files;
mod replay;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use files::Found;
use replay::{Replay, Tail};

use crate::Options;
use crate::appender::{self, Appender};
use crate::cleaner::{self, Unfinished};
use crate::error::{BoxError, IndexError, StoreError};
use crate::fs::LogFile;
use crate::index::{Database, Index, Memory, Meta, Rows};
use crate::lock::{Format, Lock};
use crate::op::{Op, Position};
use crate::segment::{SEGMENT_HEADER_LEN, Segment, Segments};
use crate::shared::{Progress, Shared};
use crate::snapshot;
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
    /// Parts of the log that were durable and hold no whole frames any more; what follows them was kept.
    pub damaged: Vec<Damage>,
    /// The end that a crash tore and that was cut off: where it began, and how long it was with all that followed.
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

/// Everything but the parts that callers get.
pub(crate) struct Recovered {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: Index,
    pub(crate) appender: Appender,
    pub(crate) report: RecoveryReport,
    /// A cleaning that the last process began, and that could not be finished now.
    pub(crate) unfinished: Option<Unfinished>,
}

pub(crate) fn open(data: &Path, options: &Options, apply: &mut Apply<'_>) -> Result<Recovered, StoreError> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let (log_dir, index_dir) = (data.join("log"), data.join("index"));
    fs::create_dir_all(&log_dir).map_err(StoreError::io("create", &log_dir))?;
    let lock = Lock::acquire(data)?;
    snapshot::check_finished(data)?;
    let format = Format::read(data)?;
    let mut found = files::list(&log_dir, options, &mut report)?;
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
    let mut usable = open_index(&index_dir, memory, log_id)?;
    let known = usable.as_ref().ok().map(|(_, meta)| meta.clone());
    let unfinished = files::resolve(&mut found, known.as_ref(), options, &mut report)?;
    if let Some(meta) = &known
        && let Err(reason) = files::matches(meta, &found, &unfinished)
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
            let tail =
                replay.run(&index, &meta, apply)?.map_err(|reason| StoreError::Index(IndexError(reason.into())))?;
            (index, tail)
        }
    };
    let mut report = replay.report;
    let torn = found.split_off(tail.files);
    cut_off(&shared, found.last(), torn, &tail, options, &mut report)?;
    let appender = resume(&shared, &index, &found, &tail, options)?;
    for damage in &report.damaged {
        tracing::error!(
            path = %damage.path.display(), offset = damage.offset, len = damage.len, reason = damage.reason,
            "a part of the log is damaged and skipped"
        );
    }
    Syncer::new(shared.clone()).sync()?;
    let unfinished = unfinished.into_iter().map(|(new, old)| (new, old.iter().map(|old| old.segment).collect()));
    let unfinished = finish_cleaning(&shared, &index, unfinished.collect());
    report.took = started.elapsed();
    Ok(Recovered { shared, index, appender, report, unfinished })
}

/// Moves the rest of the rows of an interrupted cleaning. What fails now leaves everything readable.
fn finish_cleaning(shared: &Shared, index: &Index, unfinished: Vec<Unfinished>) -> Option<Unfinished> {
    for (new, old) in unfinished {
        tracing::info!(segment = new.id, "finishing an interrupted cleaning");
        if let Err(error) = cleaner::finish(shared, index, new, &old, &mut |_| {}) {
            tracing::error!(%error, "an interrupted cleaning cannot be finished");
            return Some((new, old));
        }
    }
    None
}

/// Opens the index. If it cannot be used but can be built anew, says why ("" for a new data folder).
fn open_index(dir: &Path, memory: Memory, log_id: u64) -> Result<Result<(Database, Meta), String>, StoreError> {
    if Database::distrust_path(dir).exists() {
        return Ok(Err("it was found damaged in the last run".to_owned()));
    }
    if !dir.exists() {
        return Ok(Err(String::new()));
    }
    let database = match Database::open(dir, memory) {
        Ok(database) => database,
        Err(error) => {
            // A full disk or a missing permission is no reason to throw the index away; a missing file is.
            let missing = error.as_ref().contains("No such file");
            return match error.kind() {
                rocksdb::ErrorKind::IOError if !missing => Err(IndexError::from(error).into()),
                _ => Ok(Err(error.into_string())),
            };
        }
    };
    Ok(match database.meta() {
        Ok(Some(meta)) if meta.log_id == log_id => Ok((database, meta)),
        Ok(Some(_)) => Err("it belongs to another log".to_owned()),
        Ok(None) => Err("it is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    })
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
    Ok(Database::open(dir, memory).map_err(IndexError::from)?)
}

/// Takes away what a crash tore, and all that follows it: the last file is cut when it is opened for appending.
fn cut_off(
    shared: &Shared,
    last: Option<&Found>,
    torn: Vec<Found>,
    tail: &Tail,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    let cut = last.filter(|last| last.segment.cleaned_end.is_none() && last.file_len > tail.len);
    let begins = cut.map(|last| (last.path.clone(), tail.len));
    let Some((path, offset)) = begins.or_else(|| torn.first().map(|torn| (torn.path.clone(), 0))) else {
        return Ok(());
    };
    let is_gone = |damage: &Damage| {
        let behind = torn.iter().any(|torn| torn.path == damage.path);
        behind || last.is_some_and(|last| last.path == damage.path && damage.offset >= tail.len)
    };
    let reason = report.damaged.iter().find(|damage| is_gone(damage)).map_or("torn", |damage| damage.reason);
    report.damaged.retain(|damage| !is_gone(damage));
    let len = cut.map_or(0, |last| last.file_len - tail.len) + torn.iter().map(|torn| torn.file_len).sum::<u64>();
    tracing::warn!(path = %path.display(), offset, len, reason, "cutting the torn end of the log off");
    report.truncated = Some(Damage { path, offset, len, reason });
    // From the end on: stopped halfway, the next start finds the same hole.
    for torn in torn.iter().rev() {
        options.fs.remove(&torn.path).map_err(StoreError::io("remove", &torn.path))?;
        shared.segments.remove(&torn.segment);
    }
    Ok(())
}

/// Makes the end of the log ready for appending.
fn resume(
    shared: &Arc<Shared>,
    index: &Index,
    found: &[Found],
    tail: &Tail,
    options: &Options,
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
            (continue_segment(shared, last, tail, options)?, last.segment, tail.len)
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
    Ok(Appender::new(shared.clone(), file, segment, len, index.clone(), options))
}

/// Opens the last segment for appending: without a torn end, and with a header.
fn continue_segment(
    shared: &Shared,
    last: &Found,
    tail: &Tail,
    options: &Options,
) -> Result<Arc<dyn LogFile>, StoreError> {
    let file = options.fs.open(&last.path).map_err(StoreError::io("open", &last.path))?;
    // Even without a torn end: a killed process may have left reserved blocks.
    file.set_len(tail.len).map_err(StoreError::io("truncate", &last.path))?;
    if last.log_id.is_none() {
        let header = last.segment.header(shared.log_id);
        crate::fs::write_all(&*file, &mut [io::IoSlice::new(&header)], 0)
            .map_err(StoreError::io("write", &last.path))?;
    }
    Ok(file)
}
