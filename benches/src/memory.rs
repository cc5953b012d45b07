//! Free memory that is there when it is needed.
//!
//! Many virtual machines give free memory back to their host, and who touches such a page next waits for the host: up to a
//! second per GB, several times what a write into the page cache costs otherwise. Whether a measurement meets such pages is chance. A
//! machine that has been in use for a while has hardly any: its memory is full of cached files. So that is what is made of it here.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use rustix::fs::{ftruncate, sendfile};

use crate::process::size_in;

/// Left free, so that nobody has to look for memory at once.
const SPARE: u64 = 256 << 20;
/// What is filled before it is looked whether that helped.
const PART: u64 = 1 << 30;

/// A file without a name and without blocks, whose pages the kernel keeps as long as nobody wants the memory.
pub(crate) struct Filler {
    file: File,
    nowhere: File,
    /// Nothing is read twice: pages that were are kept longer than what a server writes.
    end: AtomicU64,
}

impl Filler {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).with_context(|| format!("a file in {}", folder.display()))?;
        Ok(Self { file, nowhere: File::create("/dev/null")?, end: AtomicU64::new(0) })
    }

    /// Turns free memory into cache of this file, but for 256 MiB.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut free = free_memory()?;
        while free > SPARE {
            let bytes = PART.min(free - SPARE);
            self.read(bytes)?;
            let left = free_memory()?;
            // A control group may have less than the machine has, and then gives up one page for another.
            if left + bytes / 2 > free {
                break;
            }
            free = left;
        }
        Ok(())
    }

    fn read(&self, bytes: u64) -> Result<()> {
        let mut offset = self.end.fetch_add(bytes, Relaxed);
        let end = offset + bytes;
        ftruncate(&self.file, end)?;
        while offset < end {
            let missing = (end - offset) as usize;
            if sendfile(&self.nowhere, &self.file, Some(&mut offset), missing)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Bytes that nobody uses, not even for a cache.
fn free_memory() -> Result<u64> {
    size_in("/proc/meminfo", "MemFree")
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;

    use rustix::io::{ReadWriteFlags, preadv2};

    use super::*;

    #[test]
    fn what_was_read_is_cached_and_takes_no_room() {
        use std::os::unix::fs::MetadataExt;

        let folder = tempfile::tempdir().expect("tempdir");
        let filler = Filler::new(folder.path()).expect("a file");
        filler.read(1 << 20).expect("read");
        filler.read(3 << 20).expect("read");
        let metadata = filler.file.metadata().expect("metadata");
        assert_eq!((metadata.len(), metadata.blocks()), (4 << 20, 0));
        let mut bytes = vec![1; 4 << 20];
        // Fails or falls short where the page cache has nothing.
        let read = preadv2(&filler.file, &mut [IoSliceMut::new(&mut bytes)], 0, ReadWriteFlags::NOWAIT);
        assert_eq!(read.expect("cached"), 4 << 20);
    }
}
