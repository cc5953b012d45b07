//! Which files make up the log.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::RecoveryReport;
use crate::Options;
use crate::error::StoreError;
use crate::index::Meta;
use crate::segment::{SEGMENT_HEADER_LEN, Segment};

/// A segment file on disk.
pub(super) struct Found {
    pub(super) segment: Segment,
    pub(super) path: PathBuf,
    pub(super) file_len: u64,
    /// The log's id in the header; `None` when the header is damaged.
    pub(super) log_id: Option<u64>,
}

/// All segment files in order of base and id. Interrupted ones of the cleaner are removed.
pub(super) fn list(dir: &Path, options: &Options, report: &mut RecoveryReport) -> Result<Vec<Found>, StoreError> {
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

/// A cleaned segment whose rows were not all moved, and those that it replaces.
pub(super) type Interrupted = Vec<(Segment, Vec<Found>)>;

/// Decides between a cleaned segment and those that it replaces: the old ones go, unless the index still points at
/// them only.
pub(super) fn resolve(
    found: &mut Vec<Found>,
    known: Option<&Meta>,
    options: &Options,
    report: &mut RecoveryReport,
) -> Result<Interrupted, StoreError> {
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
pub(super) fn matches(meta: &Meta, found: &[Found], unfinished: &Interrupted) -> Result<(), String> {
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
