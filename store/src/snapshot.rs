//! The log as it is at one moment, to be copied elsewhere while it goes on; and a log begun from such a copy.
//!
//! Segment files are only ever appended to, replaced by a new file of another name, or removed. So the bytes up to a
//! durable position are fixed, and whoever holds the files open can copy them at leisure.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::error::StoreError;
use crate::lock::{Format, Lock};
use crate::op::Position;
use crate::reader::LogReader;
use crate::segment::{SEGMENT_HEADER_LEN, Segment};
use crate::shared::Shared;
use crate::syncer::Syncer;

/// Where a data folder says of which history its log is.
const LINEAGE: &str = "lineage";
/// There while a data folder is being filled.
const UNFINISHED: &str = "restoring";
/// The cleaner may take files away between the list and their opening.
const ATTEMPTS: usize = 16;

/// The files that make up the log up to a position; they stay readable while this is held.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The log's id.
    pub log_id: u64,
    /// Which history of the log this is. A log restored from a copy goes on differently than the one it was copied from,
    /// under the same id and file names; its lineage is a new one.
    pub lineage: String,
    /// Everything before this position is in the files.
    pub end: Position,
    /// In order of position.
    pub files: Vec<SnapshotFile>,
}

/// A segment file, or the part of it that is durable.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// Its name in the folder `log`.
    pub name: String,
    /// Open for reading.
    pub file: Arc<File>,
    /// The bytes from its start that belong to the snapshot.
    pub len: u64,
}

impl LogReader {
    /// Syncs the log and takes hold of its files.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let shared = &self.shared;
        let end = Syncer::new(shared.clone()).sync()?;
        let mut attempt = 0;
        let files = loop {
            match files(shared, end)? {
                Some(files) => break files,
                None if attempt < ATTEMPTS => attempt += 1,
                None => return Err(StoreError::io("open", shared.segments.dir())(std::io::ErrorKind::NotFound.into())),
            }
        };
        let data = shared.segments.dir().parent().unwrap_or(Path::new("."));
        let lineage = lineage(data, shared.log_id)?;
        Ok(Snapshot { log_id: shared.log_id, lineage, end, files })
    }
}

/// All files of one moment, or nothing when one of them was cleaned away meanwhile.
fn files(shared: &Shared, end: Position) -> Result<Option<Vec<SnapshotFile>>, StoreError> {
    let mut list: Vec<Segment> = shared.segments.list();
    list.retain(|segment| segment.base < end);
    let mut files = Vec::with_capacity(list.len());
    for (number, segment) in list.iter().enumerate() {
        let path = shared.segments.path(segment);
        let file = match shared.segments.file(segment.id).map_err(StoreError::io("open", &path))? {
            Some(file) => file,
            None => return Ok(None),
        };
        let mut len = file.metadata().map_err(StoreError::io("read", &path))?.len();
        // The one that is appended to may have grown since.
        if number + 1 == list.len() && segment.cleaned_end.is_none() {
            len = len.min(SEGMENT_HEADER_LEN + end - segment.base);
        }
        files.push(SnapshotFile { name: segment.file_name(), file, len });
    }
    Ok(Some(files))
}

fn lineage(data: &Path, log_id: u64) -> Result<String, StoreError> {
    let path = data.join(LINEAGE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(format!("{log_id:016x}")),
        Err(error) => Err(StoreError::io("read", &path)(error)),
    }
}

/// A data folder that is being filled with copied segment files. Nothing can be started on it before
/// [`finish`](Restoring::finish).
#[derive(Debug)]
pub struct Restoring<'a> {
    data: &'a Path,
    _lock: Lock,
}

impl<'a> Restoring<'a> {
    /// Takes a folder that is empty or does not exist.
    pub fn begin(data: &'a Path) -> Result<Self, StoreError> {
        let log = data.join("log");
        fs::create_dir_all(&log).map_err(StoreError::io("create", &log))?;
        let lock = Lock::acquire(data)?;
        for (folder, own) in [(data, &["log", "LOCK"][..]), (&log, &[])] {
            for entry in fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
                let name = entry.map_err(StoreError::io("list", folder))?.file_name();
                if !own.iter().any(|own| name == *own) {
                    let reason = format!("holds {} already: a backup is restored into an empty folder", name.display());
                    return Err(StoreError::Format { path: folder.to_owned(), reason });
                }
            }
        }
        let mark = data.join(UNFINISHED);
        File::create(&mark).map_err(StoreError::io("create", &mark))?;
        sync_dir(data)?;
        Ok(Restoring { data, _lock: lock })
    }

    /// Creates a segment file; `name` is that of the snapshot.
    pub fn create(&self, name: &str) -> Result<File, StoreError> {
        let path = self.data.join("log").join(name);
        if Segment::parse_name(name).is_none() {
            return Err(StoreError::Format { path, reason: "not the name of a segment file".to_owned() });
        }
        File::create_new(&path).map_err(StoreError::io("create", &path))
    }

    /// Makes it a log of its own: the same id, since that is in every checksum, and a new lineage.
    pub fn finish(self, log_id: u64) -> Result<(), StoreError> {
        let (log, path) = (self.data.join("log"), self.data.join(LINEAGE));
        sync_dir(&log)?;
        let write = || {
            let mut file = File::create(&path)?;
            writeln!(file, "{:016x}", rand::random::<u64>())?;
            file.sync_all()
        };
        write().map_err(StoreError::io("write", &path))?;
        Format { log_id }.write(self.data)?;
        let mark = self.data.join(UNFINISHED);
        fs::remove_file(&mark).map_err(StoreError::io("remove", &mark))?;
        sync_dir(self.data)
    }
}

/// An error where a restore stopped halfway: a part of a log must not pass for the whole.
pub(crate) fn check_finished(data: &Path) -> Result<(), StoreError> {
    let path = data.join(UNFINISHED);
    if !path.exists() {
        return Ok(());
    }
    let reason = "a backup was not restored to its end here: empty the folder and restore it again".to_owned();
    Err(StoreError::Format { path, reason })
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync", dir))
}
