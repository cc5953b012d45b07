//! Looking at a log that nobody runs: what a segment file holds, and whether log and index are whole.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::StoreError;
use crate::fs::OsFileSystem;
use crate::index::{BatchRow, Database, Index, Memory, Meta};
use crate::lock::{Format, Lock};
use crate::op::{Op, Position};
use crate::recovery::Damage;
use crate::scan::{Scanner, Step};
use crate::segment::{SEGMENT_HEADER_LEN, Segment, Segments};
use crate::shared::{Progress, Shared};

const MEMORY: Memory = Memory { cache_bytes: 32 << 20, memtable_bytes: 1 << 20 };
/// Batches that a report names one by one.
const MAX_NAMED: usize = 1000;

/// What lies in a segment file.
#[derive(Debug)]
pub enum Found<'a> {
    /// A whole frame.
    Frame {
        /// First byte in the file.
        offset: u64,
        /// Length in bytes.
        len: usize,
        /// Its place in the log.
        position: Position,
        /// The log was durable up to here when the frame was written.
        synced: Position,
        /// What it does.
        ops: &'a [Op<'a>],
    },
    /// Bytes that are no frame.
    Damage {
        /// First byte in the file.
        offset: u64,
        /// Length in bytes.
        len: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Walks a segment file, wherever it lies. A damaged header is read past when the file `format` two folders up says which
/// log it is.
pub fn walk(path: &Path, visit: &mut dyn FnMut(Found<'_>)) -> Result<(), StoreError> {
    let foreign = |reason: &str| StoreError::Format { path: path.to_owned(), reason: reason.to_owned() };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (base, id) = Segment::parse_name(&name)
        .ok_or_else(|| foreign("not the name of a segment file such as 00000000000000000000-0000000001.seg"))?;
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    let header = header(&file, path)?.filter(|(segment, _)| segment.base == base && segment.id == id);
    let data = path.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let (segment, log_id) = match header {
        Some((segment, log_id)) => (segment, log_id),
        None => match Format::read(data)? {
            Some(format) => {
                visit(Found::Damage { offset: 0, len: SEGMENT_HEADER_LEN, reason: "a damaged segment header" });
                (Segment { id, base, cleaned_end: None }, format.log_id)
            }
            None => return Err(foreign("its header is damaged, and no file `format` says which log it belongs to")),
        },
    };
    walk_file(path, &file, segment, header.is_some(), log_id, visit)
}

fn walk_file(
    path: &Path,
    file: &File,
    segment: Segment,
    header_known: bool,
    log_id: u64,
    visit: &mut dyn FnMut(Found<'_>),
) -> Result<(), StoreError> {
    let io = || StoreError::io("read", path);
    let mut scanner = Scanner::new(file, segment, header_known, log_id).map_err(io())?;
    loop {
        match scanner.step().map_err(io())? {
            Step::Frame { offset, len, position, synced } => {
                visit(Found::Frame { offset, len, position, synced, ops: &scanner.ops(offset, len) });
            }
            Step::Damage { offset, len, reason } => visit(Found::Damage { offset, len, reason }),
            Step::End => return Ok(()),
        }
    }
}

fn header(file: &File, path: &Path) -> Result<Option<(Segment, u64)>, StoreError> {
    let mut header = [0; SEGMENT_HEADER_LEN as usize];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(Segment::parse_header(&header)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// A data folder that is looked at. Nobody else can have it open meanwhile, and nothing in it is changed.
pub struct Inspection {
    shared: Arc<Shared>,
    index: Result<Index, String>,
    files: Vec<SegmentFile>,
}

struct SegmentFile {
    segment: Segment,
    path: PathBuf,
    file: File,
    header_known: bool,
}

/// What a walk through log and index showed.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Segment files.
    pub segments: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Record batches in them, those included that are deleted.
    pub batches: u64,
    /// Parts that were durable and hold no whole frame any more.
    pub damaged: Vec<Damage>,
    /// Parts that a crash tore before they were durable: the next start cuts the log off at the first.
    pub torn: Vec<Damage>,
    /// Batches that clients can no longer read, as far as the index knows of them.
    pub lost: Vec<Lost>,
    /// True when there are more of them than named.
    pub more_lost: bool,
    /// Why the index cannot be used, if it cannot: the next start builds it anew.
    pub index_unusable: Option<String>,
    /// Rows of the index, and those of them that the log confirms.
    pub rows: u64,
    /// See `rows`.
    pub confirmed: u64,
    /// Bytes of log that the index has not seen: the next start reads them.
    pub behind: u64,
}

/// A batch that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The partition's number in the log.
    pub partition: u32,
    /// First offset.
    pub first_offset: i64,
    /// Last offset.
    pub last_offset: i64,
}

impl Verdict {
    /// True when nothing is wrong but what a crash leaves and the next start mends.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_empty() && self.index_unusable.is_none() && self.rows <= self.confirmed
    }
}

impl Inspection {
    /// Opens a data folder.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let log = data.join("log");
        if !log.is_dir() {
            let reason = "no data folder of krocket: it has no folder `log`".to_owned();
            return Err(StoreError::Format { path: data.to_owned(), reason });
        }
        let lock = Lock::acquire(data)?;
        let format = Format::read(data)?;
        let (mut files, mut log_id) = (Vec::new(), format.map(|format| format.log_id));
        for entry in fs::read_dir(&log).map_err(StoreError::io("list", &log))? {
            let path = entry.map_err(StoreError::io("list", &log))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((base, id)) = Segment::parse_name(&name) else { continue };
            let file = File::open(&path).map_err(StoreError::io("open", &path))?;
            let known = header(&file, &path)?.filter(|(segment, _)| segment.base == base && segment.id == id);
            log_id = log_id.or(known.map(|(_, log_id)| log_id));
            let segment = known.map_or(Segment { base, id, cleaned_end: None }, |(segment, _)| segment);
            files.push(SegmentFile { segment, path, file, header_known: known.is_some() });
        }
        files.sort_by_key(|file| (file.segment.base, file.segment.id));
        let Some(log_id) = log_id.or_else(|| files.is_empty().then_some(0)) else {
            let reason = "neither this file nor any segment says which log it is".to_owned();
            return Err(StoreError::Format { path: data.join("format"), reason });
        };
        let segments = Segments::new(log, files.iter().map(|file| file.segment), 1);
        let progress = Progress { written: 0, synced: 0, unsynced: Vec::new(), dir_changed: false };
        let shared = Arc::new(Shared::new(Arc::new(OsFileSystem), segments, log_id, progress, lock));
        let index = open_index(&data.join("index"), &shared);
        Ok(Inspection { shared, index, files })
    }

    /// The index, if it can be used.
    pub fn index(&self) -> Option<&Index> {
        self.index.as_ref().ok()
    }

    /// Reads everything once. `progress` gets the bytes read so far and those there are.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict, StoreError> {
        let mut verdict = Verdict { index_unusable: self.index.as_ref().err().cloned(), ..Verdict::default() };
        let len = |file: &SegmentFile| file.file.metadata().map_or(0, |metadata| metadata.len());
        let total: u64 = self.files.iter().map(len).sum();
        let mut damaged: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        let (mut before, mut end, mut failed) = (0, 0, None);
        let mut durable = self.index.as_ref().map_or(0, Index::synced);
        // Places of what is damaged, in the log.
        let mut positions = Vec::new();
        for segment_file in &self.files {
            let SegmentFile { segment, path, file, header_known } = segment_file;
            verdict.segments += 1;
            durable = durable.max(segment.cleaned_end.unwrap_or(0));
            if !header_known {
                positions.push(segment.base);
                let reason = "a damaged segment header";
                verdict.damaged.push(Damage { path: path.clone(), offset: 0, len: SEGMENT_HEADER_LEN, reason });
            }
            walk_file(path, file, *segment, *header_known, self.shared.log_id, &mut |found| match found {
                Found::Frame { offset, len, position, synced, ops } => {
                    verdict.frames += 1;
                    durable = durable.max(synced);
                    verdict.bytes += len as u64;
                    verdict.batches += ops.iter().filter(|op| matches!(op, Op::Batch(_))).count() as u64;
                    end = end.max(position + len as u64);
                    match self.confirmed(position, ops) {
                        Ok(count) => verdict.confirmed += count,
                        Err(error) => failed = Some(error),
                    }
                    progress(before + offset, total);
                }
                Found::Damage { offset, len, reason } => {
                    damaged.entry(segment.id).or_default().push((offset, offset + len));
                    positions.push(segment.position_of_damage(offset, end));
                    verdict.damaged.push(Damage { path: path.clone(), offset, len, reason });
                }
            })?;
            if let Some(error) = failed.take() {
                return Err(error);
            }
            before += len(segment_file);
        }
        progress(total, total);
        let (durably, torn) = std::iter::zip(std::mem::take(&mut verdict.damaged), positions)
            .partition::<Vec<_>, _>(|(_, position)| *position < durable);
        let places = |parts: Vec<(Damage, Position)>| parts.into_iter().map(|(damage, _)| damage).collect();
        (verdict.damaged, verdict.torn) = (places(durably), places(torn));
        if let Ok(index) = &self.index {
            let begin = self.files.first().map_or(0, |file| file.segment.base);
            verdict.behind = end.saturating_sub(index.applied().max(begin));
            verdict.rows = index.count_rows(&mut |partition, row| {
                let within = |from: u64, to: u64| {
                    let first = u64::from(row.location.offset);
                    first < to && first + u64::from(row.location.len) > from
                };
                let parts = damaged.get(&row.location.file);
                let gone = !self.files.iter().any(|file| file.segment.id == row.location.file)
                    || parts.is_some_and(|parts| parts.iter().any(|(from, to)| within(*from, *to)));
                if gone && verdict.lost.len() < MAX_NAMED {
                    verdict.lost.push(lost(partition, row));
                } else if gone {
                    verdict.more_lost = true;
                }
            })?;
        }
        Ok(verdict)
    }

    /// How many rows of the index this frame stands behind.
    fn confirmed(&self, position: Position, ops: &[Op<'_>]) -> Result<u64, StoreError> {
        let Ok(index) = &self.index else { return Ok(0) };
        let (mut count, mut keys) = (0, HashSet::new());
        for op in ops {
            let again = matches!(op, Op::Put { table, key, .. } if !keys.insert((*table, *key)));
            if !again && index.is_live(position, op)? == Some(true) {
                count += 1;
            }
        }
        Ok(count)
    }
}

fn lost(partition: u32, row: &BatchRow) -> Lost {
    Lost { partition, first_offset: row.base_offset, last_offset: row.last_offset }
}

fn open_index(dir: &Path, shared: &Arc<Shared>) -> Result<Index, String> {
    if Database::distrust_path(dir).exists() {
        return Err("it was found damaged in the last run".to_owned());
    }
    if !dir.exists() {
        return Err("there is none".to_owned());
    }
    let database = Database::open_read_only(dir, MEMORY).map_err(rocksdb::Error::into_string)?;
    match database.meta() {
        Ok(Some(meta)) if meta.log_id == shared.log_id => Ok(Index::new(database, shared.clone(), meta, u64::MAX)),
        Ok(Some(_)) => Err("it belongs to another log".to_owned()),
        // A crash came before it was first written to disk.
        Ok(None) => Ok(Index::new(database, shared.clone(), Meta::empty(shared.log_id), u64::MAX)),
        Err(error) => Err(error.to_string()),
    }
}

/// Has the next start build the index anew from the log. The folder must not be in use.
pub fn distrust_index(data: &Path) -> Result<(), StoreError> {
    let _lock = Lock::acquire(data)?;
    let path = Database::distrust_path(&data.join("index"));
    fs::write(&path, "an operator asked for a new one").map_err(StoreError::io("write", &path))
}
