//! The folder that holds backups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::{BackupError, BackupFile, Manifest, Progress};

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// A folder of backups; held by one process at a time.
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// What [`Folder::prune`] took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Backups by name.
    pub backups: Vec<String>,
    /// Segment files that no backup needs any more.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Folder {
    /// Opens a folder; `create` makes it where there is none.
    pub fn open(path: &Path, create: bool) -> Result<Self, BackupError> {
        if !create && !path.join("backups").is_dir() {
            return Err(BackupError::Missing(format!("{} is no folder of backups", path.display())));
        }
        for folder in [path.join("segments"), path.join("backups")] {
            fs::create_dir_all(&folder).map_err(BackupError::io("create", &folder))?;
        }
        let lock_path = path.join("LOCK");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(BackupError::io("open", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(BackupError::Busy(path.to_owned())),
            Err(error) => Err(BackupError::io("lock", &lock_path)(error.into())),
        }
    }

    /// All backups, oldest first.
    pub fn list(&self) -> Result<Vec<Manifest>, BackupError> {
        let dir = self.path.join("backups");
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(BackupError::io("list", &dir))? {
            let path = entry.map_err(BackupError::io("list", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read(&path).map_err(BackupError::io("read", &path))?;
                found.push(Manifest::parse(&path, &text)?);
            }
        }
        found.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(found)
    }

    /// The backup of this name; the newest without one.
    pub fn find(&self, id: Option<&str>) -> Result<Manifest, BackupError> {
        let mut all = self.list()?;
        let found = match id {
            Some(id) => all.iter().position(|manifest| manifest.id == id),
            None => all.len().checked_sub(1),
        };
        found.map(|at| all.swap_remove(at)).ok_or_else(|| {
            let what = id.map_or("it holds no backup".to_owned(), |id| format!("there is no backup {id}"));
            BackupError::Missing(format!("{}: {what}", self.path.display()))
        })
    }

    /// What the folder has of a lineage: the most of each file.
    pub(super) fn known(&self, lineage: &str) -> Result<BTreeMap<String, BackupFile>, BackupError> {
        let mut known: BTreeMap<String, BackupFile> = BTreeMap::new();
        for file in self.list()?.into_iter().filter(|backup| backup.lineage == lineage).flat_map(|backup| backup.files)
        {
            match known.get(&file.name) {
                Some(longer) if longer.len >= file.len => {}
                _ => drop(known.insert(file.name.clone(), file)),
            }
        }
        Ok(known)
    }

    /// Where a segment file is kept.
    pub(super) fn segment(&self, lineage: &str, name: &str) -> PathBuf {
        self.path.join("segments").join(lineage).join(name)
    }

    /// Makes a backup one that is there, once its files are durable.
    pub(super) fn add(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let path = self.path.join("backups").join(format!("{}.json", manifest.id));
        let tmp = path.with_extension("tmp");
        let write = || {
            let mut file = File::create(&tmp)?;
            file.write_all(&serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?)?;
            file.sync_all()?;
            fs::rename(&tmp, &path)?;
            File::open(self.path.join("backups"))?.sync_all()
        };
        write().map_err(BackupError::io("write", &path))
    }

    /// Reads all files of a backup and compares their checksums.
    pub fn verify(&self, manifest: &Manifest, progress: Progress<'_>) -> Result<(), BackupError> {
        let mut done = 0;
        for file in &manifest.files {
            self.copy(manifest, file, &mut io::sink(), &mut |bytes| progress(done + bytes, manifest.bytes()))?;
            done += file.len;
        }
        Ok(())
    }

    /// Copies a file of a backup, checking it.
    pub(super) fn copy(
        &self,
        manifest: &Manifest,
        file: &BackupFile,
        to: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), BackupError> {
        let path = self.segment(&manifest.lineage, &file.name);
        let mut from = File::open(&path).map_err(BackupError::io("open", &path))?.take(file.len);
        let (mut buffer, mut crc, mut len) = (vec![0; BUFFER], 0, 0);
        loop {
            let read = from.read(&mut buffer).map_err(BackupError::io("read", &path))?;
            if read == 0 {
                break;
            }
            crc = crc32c::crc32c_append(crc, &buffer[..read]);
            len += read as u64;
            to.write_all(&buffer[..read]).map_err(BackupError::io("copy", &path))?;
            progress(len);
        }
        let damaged = |reason: String| Err(BackupError::Damaged { path: path.clone(), reason });
        match (len == file.len, crc == file.crc32c) {
            (false, _) => damaged(format!("it has {len} bytes of {}", file.len)),
            (_, false) => damaged(format!("its CRC-32C is {crc:08x}, not {:08x}", file.crc32c)),
            _ => Ok(()),
        }
    }

    /// Keeps the newest backups and takes away the others, and the files that none of those kept needs.
    pub fn prune(&self, keep: usize) -> Result<Pruned, BackupError> {
        let all = self.list()?;
        let (old, kept) = all.split_at(all.len().saturating_sub(keep));
        let needed: BTreeSet<(&str, &str)> = kept
            .iter()
            .flat_map(|backup| backup.files.iter().map(|file| (backup.lineage.as_str(), file.name.as_str())))
            .collect();
        let mut pruned = Pruned::default();
        for backup in old {
            let path = self.path.join("backups").join(format!("{}.json", backup.id));
            fs::remove_file(&path).map_err(BackupError::io("remove", &path))?;
            pruned.backups.push(backup.id.clone());
        }
        let segments = self.path.join("segments");
        for lineage in entries(&segments)? {
            let dir = segments.join(&lineage);
            for name in entries(&dir)? {
                if needed.contains(&(lineage.as_str(), name.as_str())) {
                    continue;
                }
                let path = dir.join(&name);
                pruned.files += 1;
                pruned.bytes += path.metadata().map_or(0, |metadata| metadata.len());
                fs::remove_file(&path).map_err(BackupError::io("remove", &path))?;
            }
            // Only when nothing is left in it.
            let _ = fs::remove_dir(&dir);
        }
        Ok(pruned)
    }
}

fn entries(dir: &Path) -> Result<Vec<String>, BackupError> {
    let list = fs::read_dir(dir).and_then(|entries| entries.map(|entry| entry.map(|e| e.file_name())).collect());
    let names: Vec<std::ffi::OsString> = list.map_err(BackupError::io("list", dir))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
