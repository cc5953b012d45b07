//! The file operations that the log depends on, behind a trait so that tests can make them fail.

pub mod double;

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Changes to the log's directory. Reading goes through [`LogFile::reader`] and plain files.
pub trait FileSystem: Send + Sync + Debug {
    /// Creates a file for reading and writing; fails if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Renames within one directory, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file of the log.
pub trait LogFile: Send + Sync + Debug {
    /// Writes at a place, possibly less than asked, as pwritev(2).
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// fdatasync(2).
    fn sync_data(&self) -> io::Result<()>;
    /// ftruncate(2).
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks without changing the length, where the file system can; advice only.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;
    /// The file as readers hold it.
    fn reader(&self) -> Arc<File>;
}

/// The operating system's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFileSystem;

impl FileSystem for OsFileSystem {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(OsFile(Arc::new(file))))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(OsFile(Arc::new(file))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[derive(Debug)]
struct OsFile(Arc<File>);

impl LogFile for OsFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&*self.0, slices, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&*self.0, rustix::fs::FallocateFlags::KEEP_SIZE, offset, len)?)
    }

    fn reader(&self) -> Arc<File> {
        self.0.clone()
    }
}

/// Most slices that one pwritev(2) takes (Linux's UIO_MAXIOV).
const MAX_SLICES: usize = 1024;
/// Most bytes of one pwritev(2). The kernel takes pages for all of a call at once: for megabytes it first makes room by
/// moving other pages about, which measured 0.33 s of CPU per GB instead of 0.2, up to 0.9, and stalls of 300 ms.
const MAX_WRITE: usize = 256 << 10;

/// Writes all of `slices`, in as few calls as are good.
pub(crate) fn write_all(file: &dyn LogFile, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    while !slices.is_empty() {
        let mut bytes = 0;
        let fits = |slice: &&IoSlice<'_>| {
            bytes += slice.len();
            bytes <= MAX_WRITE
        };
        let count = slices.iter().take(MAX_SLICES).take_while(fits).count();
        let written = match count {
            0 => file.write_at(&[IoSlice::new(&slices[0][..MAX_WRITE])], offset),
            count => file.write_at(&slices[..count], offset),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
