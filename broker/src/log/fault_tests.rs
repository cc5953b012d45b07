//! What the log does when the disk does not, and in which order things become visible.

use std::fs::File;
use std::io::{self, IoSlice};

use krocket_store::Options;
use krocket_store::fs::double::{Call, Double, Fault};
use krocket_store::fs::{FileSystem, LogFile, OsFileSystem};
use parking_lot::Condvar;

use super::tests::{append, batch, bytes, finish, range};
use super::*;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn open(dir: &Path, fs: Arc<dyn FileSystem>) -> Log {
    let store = Options { fs, ..Options::default() };
    Log::open(dir, LogConfig { store, ..LogConfig::default() }).expect("opens")
}

fn numbered(sequence: i32) -> bytes::Bytes {
    finish(batch(&[1000]).producer(7, 0, sequence))
}

#[tokio::test]
async fn what_a_full_disk_refuses_never_was() {
    let dir = tempfile::tempdir().expect("tempdir");
    let fs = Double::default();
    let log = open(dir.path(), Arc::new(fs.clone()));
    let partition = log.partition(0).expect("a partition");
    append(&log, &partition, numbered(0), Durability::Written).await.expect("appended");
    fs.script(|call, _| (call == Call::Write).then_some(Fault::Errno(ENOSPC)));
    log.health().expect("a full disk may pass");
    let refused: Vec<_> = (1..5).map(|n| append(&log, &partition, numbered(n), Durability::Synced)).collect();
    let retry = append(&log, &partition, numbered(1), Durability::Written);
    for refused in refused.into_iter().chain([retry]) {
        let error = refused.await.expect_err("no space");
        // The first group is refused by the disk; what is queued behind it no longer follows on in sequence.
        let passing = matches!(&error, AppendError::Storage(StorageError { passing: true, .. }));
        assert!(passing || matches!(error, AppendError::Sequence(_)), "{error:?}");
    }
    assert_eq!((partition.log_end(), partition.high_watermark()), (1, 1));
    let write = Write::Put { table: tables::GROUPS, key: b"k".to_vec(), value: b"v".to_vec() };
    log.commit(vec![write], Durability::Written).await.expect_err("no space");
    assert_eq!(log.get(tables::GROUPS, b"k").expect("readable"), None);
    fs.heal();
    let appended = append(&log, &partition, numbered(1), Durability::Synced).await.expect("appended");
    assert_eq!((appended.base_offset, appended.duplicate), (1, false));
    assert_eq!(partition.high_watermark(), 2);
}

#[tokio::test]
async fn after_a_failed_sync_the_log_stops_and_nothing_unsynced_is_seen() {
    let dir = tempfile::tempdir().expect("tempdir");
    let fs = Double::default();
    {
        let log = open(dir.path(), Arc::new(fs.clone()));
        let partition = log.partition(0).expect("a partition");
        append(&log, &partition, numbered(0), Durability::Synced).await.expect("appended");
        fs.script(|call, _| (call == Call::Sync).then_some(Fault::Errno(EIO)));
        let error = append(&log, &partition, numbered(1), Durability::Synced).await.expect_err("not durable");
        assert!(matches!(error, AppendError::Storage(StorageError { passing: false, .. })), "{error:?}");
        fs.heal();
        append(&log, &partition, numbered(2), Durability::Written).await.expect_err("stopped for good");
        assert!(log.health().expect_err("stopped for good").message.contains("the log stopped"));
        assert_eq!(partition.high_watermark(), 1);
    }
    let log = open(dir.path(), Arc::new(OsFileSystem));
    let partition = log.partition(0).expect("a partition");
    let retry = append(&log, &partition, numbered(1), Durability::Synced).await.expect("appended");
    assert_eq!(retry.base_offset, 1);
}

/// Holds syncs back while it is closed.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.0.0.lock() = closed;
        self.0.1.notify_all();
    }
}

#[derive(Debug)]
struct GatedFile(Arc<dyn LogFile>, Gate);

impl FileSystem for Gate {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(GatedFile(OsFileSystem.create(path)?, self.clone())))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(GatedFile(OsFileSystem.open(path)?, self.clone())))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsFileSystem.sync_dir(path)
    }
}

impl LogFile for GatedFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.0.write_at(slices, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        let (closed, changed) = &*self.1.0;
        let mut closed = closed.lock();
        while *closed {
            changed.wait(&mut closed);
        }
        drop(closed);
        self.0.sync_data()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.reserve(offset, len)
    }
    fn reader(&self) -> Arc<File> {
        self.0.reader()
    }
}

#[tokio::test]
async fn batches_become_visible_when_they_are_durable_and_in_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let gate = Gate::default();
    let log = open(dir.path(), Arc::new(gate.clone()));
    let (partition, other) = (log.partition(0).expect("a partition"), log.partition(1).expect("a partition"));
    append(&log, &partition, numbered(0), Durability::Synced).await.expect("appended");
    gate.set_closed(true);
    let synced = append(&log, &partition, numbered(1), Durability::Synced);
    let written = append(&log, &partition, numbered(2), Durability::Written).await.expect("written");
    assert_eq!(written.base_offset, 2);
    assert_eq!((partition.high_watermark(), partition.log_end()), (1, 3), "2 is not seen before 1");
    assert!(log.read_recent(&partition, range(1, &partition)).expect("in memory").chunks.is_empty());
    // A retry of what is not durable yet is answered when it is.
    let retry = append(&log, &partition, numbered(1), Durability::Synced);
    append(&log, &other, numbered(0), Durability::Written).await.expect("written");
    assert_eq!(other.high_watermark(), 1, "other partitions do not wait");
    let watch = Watch::new(vec![partition.clone()], 1);
    gate.set_closed(false);
    assert_eq!(synced.await.expect("synced").base_offset, 1);
    let retry = retry.await.expect("synced");
    assert_eq!((retry.base_offset, retry.duplicate), (1, true));
    watch.ready().await;
    while partition.high_watermark() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bytes(&log.read_recent(&partition, range(1, &partition)).expect("in memory").chunks).len(),
        numbered(1).len() * 2
    );
}
