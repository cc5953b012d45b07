//! Taking a backup.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;

use super::{BackupError, BackupFile, Folder, Manifest, Progress};

/// Bytes copied at once.
const BUFFER: usize = 1 << 20;

/// A snapshot of a running krocket: the answer to POST /v1/snapshots.
#[derive(Clone, Debug, Deserialize)]
pub struct Source {
    /// Names the snapshot.
    pub id: String,
    /// Version of what is in the files.
    pub format: u32,
    /// The log's id, hexadecimal.
    pub log_id: String,
    /// Which history of the log.
    pub lineage: String,
    /// The cluster it is of.
    pub cluster_id: String,
    /// When it was taken, epoch ms.
    pub created_ms: i64,
    /// Everything before this position is in it.
    pub position: u64,
    /// In order.
    pub files: Vec<SourceFile>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, Deserialize)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// Its length in the snapshot.
    pub len: u64,
}

/// What taking a backup came to.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The backup.
    pub manifest: Manifest,
    /// Bytes that had to be copied.
    pub copied: u64,
}

/// Copies what the folder lacks; `read` opens a file of the snapshot from an offset on.
pub fn take(
    folder: &Folder,
    source: &Source,
    read: &dyn Fn(&str, u64) -> Result<Box<dyn Read>, BackupError>,
    progress: Progress<'_>,
) -> Result<Taken, BackupError> {
    if !is_name(&source.lineage) {
        return Err(BackupError::Source(format!("the snapshot's lineage `{}` is none", source.lineage)));
    }
    let known = folder.known(&source.lineage)?;
    let had = |file: &SourceFile| known.get(&file.name).filter(|had| had.len <= file.len);
    let total: u64 = source.files.iter().map(|file| file.len - had(file).map_or(0, |had| had.len)).sum();
    let (mut files, mut copied) = (Vec::with_capacity(source.files.len()), 0);
    for file in &source.files {
        if !is_name(&file.name) {
            return Err(BackupError::Source(format!("the snapshot's file `{}` is none", file.name)));
        }
        let path = folder.segment(&source.lineage, &file.name);
        let start = had(file).filter(|had| path.metadata().is_ok_and(|metadata| metadata.len() >= had.len));
        let (len, crc) = start.map_or((0, 0), |had| (had.len, had.crc32c));
        let crc = match len == file.len {
            true => crc,
            false => append(&path, len, crc, file.len, read(&file.name, len)?, &mut |bytes| {
                progress(copied + bytes, total.max(copied + bytes));
            })?,
        };
        copied += file.len - len;
        files.push(BackupFile { name: file.name.clone(), len: file.len, crc32c: crc });
    }
    let manifest = Manifest::new(source, files);
    folder.add(&manifest)?;
    Ok(Taken { manifest, copied })
}

/// Brings a file to its length; what an interrupted backup left behind `from` is written over.
fn append(
    path: &Path,
    from: u64,
    mut crc: u32,
    len: u64,
    source: Box<dyn Read>,
    progress: &mut dyn FnMut(u64),
) -> Result<u32, BackupError> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).map_err(BackupError::io("create", dir))?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let mut file = file.map_err(BackupError::io("open", path))?;
    let place = file.set_len(from).and_then(|()| file.seek(SeekFrom::Start(from)));
    place.map_err(BackupError::io("write", path))?;
    let (mut buffer, mut at) = (vec![0; BUFFER], from);
    let mut source = source.take(len - from);
    loop {
        let read =
            source.read(&mut buffer).map_err(|error| BackupError::Source(format!("the server stopped: {error}")))?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read]).map_err(BackupError::io("write", path))?;
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        at += read as u64;
        progress(at - from);
    }
    if at != len {
        let name = path.file_name().unwrap_or_default().display();
        return Err(BackupError::Source(format!("the server sent {at} of {len} bytes of {name}")));
    }
    let sync = file.sync_all().and_then(|()| File::open(dir)?.sync_all());
    sync.map_err(BackupError::io("sync", path))?;
    Ok(crc)
}

/// Names come from a server and become file names.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
