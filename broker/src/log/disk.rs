//! Room on the disk: producers are refused before it is full, so that what frees space can still be written.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::error::StorageError;
use super::metrics::METRICS;

/// Bytes that are admitted between two looks at the disk.
const STRIDE: i64 = 16 << 20;
/// A full disk is looked at so often at most.
const PAUSE: Duration = Duration::from_millis(100);

/// How much of the disk krocket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Producers are refused while the file system has less than this free; 0 for never.
    pub min_free_bytes: u64,
    /// Producers are refused while the data folder holds more than this; 0 for no limit.
    pub max_bytes: u64,
}

impl Default for DiskLimits {
    fn default() -> Self {
        DiskLimits { min_free_bytes: 128 << 20, max_bytes: 0 }
    }
}

/// Says whether a producer's bytes may be written.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    limits: DiskLimits,
    /// Bytes that may come before the next look.
    left: AtomicI64,
    low: AtomicBool,
    looked: Mutex<Option<Instant>>,
}

impl Disk {
    pub(super) fn new(folder: &Path, limits: DiskLimits) -> Self {
        let folder = folder.to_owned();
        Disk { folder, limits, left: AtomicI64::new(0), low: AtomicBool::new(false), looked: Mutex::default() }
    }

    /// Counts a producer's bytes, or refuses them.
    pub(super) fn admit(&self, bytes: usize) -> Result<(), StorageError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.left.fetch_sub(bytes, Ordering::Relaxed) > bytes {
            return Ok(());
        }
        self.look(bytes)
    }

    fn look(&self, bytes: i64) -> Result<(), StorageError> {
        let mut looked = self.looked.lock();
        if self.low.load(Ordering::Relaxed) && looked.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(self.full());
        }
        *looked = Some(Instant::now());
        let room = match self.room() {
            Ok(room) => i64::try_from(room).unwrap_or(i64::MAX),
            Err(error) => {
                tracing::warn!(%error, "cannot tell how full the disk is");
                STRIDE
            }
        };
        let low = room < bytes;
        self.left.store(if low { 0 } else { room.min(STRIDE.max(bytes)) - bytes }, Ordering::Relaxed);
        METRICS.disk_low.set(i64::from(low));
        if self.low.swap(low, Ordering::Relaxed) != low {
            match low {
                true => tracing::error!(reason = %self.full(), "producers are refused, reads go on"),
                false => tracing::info!("there is room on the disk again"),
            }
        }
        if low { Err(self.full()) } else { Ok(()) }
    }

    /// Bytes that may still be written.
    fn room(&self) -> std::io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        METRICS.disk_free_bytes.set(i64::try_from(free).unwrap_or(i64::MAX));
        let by_free = free.saturating_sub(self.limits.min_free_bytes);
        if self.limits.max_bytes == 0 {
            return Ok(by_free);
        }
        let used = folder_bytes(&self.folder.join("log"))? + folder_bytes(&self.folder.join("index"))?;
        Ok(by_free.min(self.limits.max_bytes.saturating_sub(used)))
    }

    fn full(&self) -> StorageError {
        let DiskLimits { min_free_bytes, max_bytes } = self.limits;
        let mut message = format!("the disk is nearly full: log.min_free_bytes = {min_free_bytes} must stay free");
        if max_bytes > 0 {
            message.push_str(&format!(", and log.max_bytes = {max_bytes} is all that may be used"));
        }
        StorageError { message, passing: true, damaged: false }
    }
}

/// Blocks that a folder's files take. Files that vanish meanwhile count nothing.
fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let files = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.metadata().ok());
    Ok(files.map(|metadata| metadata.blocks() * 512).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(limits: DiskLimits) -> (Disk, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["log", "index"] {
            std::fs::create_dir(folder.path().join(name)).expect("created");
        }
        (Disk::new(folder.path(), limits), folder)
    }

    #[test]
    fn a_disk_with_room_admits_and_one_without_refuses_until_there_is_some() {
        let (disk, _folder) = disk(DiskLimits { min_free_bytes: 1, max_bytes: 0 });
        assert_eq!(disk.admit(1 << 20), Ok(()));

        let (disk, _folder) = self::disk(DiskLimits { min_free_bytes: u64::MAX, max_bytes: 0 });
        let error = disk.admit(1).expect_err("nothing is that free");
        assert!(error.passing && error.message.contains("log.min_free_bytes"), "{error}");
        assert_eq!(disk.admit(1), Err(error));
    }

    #[test]
    fn the_budget_counts_what_the_folder_holds() {
        let (disk, folder) = disk(DiskLimits { min_free_bytes: 0, max_bytes: 1 << 20 });
        assert_eq!(disk.admit(1000), Ok(()));
        let segment = folder.path().join("log/segment");
        std::fs::write(&segment, vec![1; 2 << 20]).expect("written");
        let refused = (0..3).map(|_| disk.admit(512 << 10)).find(Result::is_err);
        assert!(refused.is_some_and(|error| error.is_err_and(|error| error.message.contains("log.max_bytes"))));
        std::fs::remove_file(segment).expect("removed");
        std::thread::sleep(PAUSE);
        assert_eq!(disk.admit(1000), Ok(()));
    }
}
