//! Reads ahead: what a fetch is about to send is brought into memory on a thread that may block, and what the next one
//! probably wants after it.
//!
//! Partitions share the log, so one partition's batches lie scattered, and the kernel's own read-ahead, made for one
//! reader of one file, reads them one after the other, on the thread that sends.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use krocket_store::Location;
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::Log;

/// Most bytes between two slices that are read from disk along with them.
const GAP: u64 = 32 << 10;
/// Ranges from this length on are taken for a part of a longer one that is read from its start to its end.
const LONG: u64 = 256 << 10;
/// Most bytes that are read before somebody asks for them.
const AHEAD: u64 = 8 << 20;

/// Where bytes go that are only wanted in memory.
static NOWHERE: LazyLock<io::Result<File>> = LazyLock::new(|| File::options().write(true).open("/dev/null"));

/// Bytes of a file from `start` to `end`.
struct Range {
    file: Arc<File>,
    start: u64,
    end: u64,
}

impl Range {
    fn is_long(&self) -> bool {
        self.end - self.start >= LONG
    }
}

impl Log {
    /// Waits until what lies there is in memory, and begins to read what follows. Advice: errors show up when the batches are
    /// read. Blocks; to be called within a runtime.
    pub(crate) fn read_ahead(&self, locations: impl Iterator<Item = Location>) {
        let ranges = ranges(locations, |location| self.0.reader.slice(location).ok().map(|slice| slice.file));
        // The state of a few is the state of all: they were written at about the same time, and sent together.
        let samples = [ranges.first(), ranges.get(ranges.len() / 2), ranges.last()];
        let in_memory = |range: &Range| in_memory(&range.file, range.start) && in_memory(&range.file, range.end - 1);
        if !samples.into_iter().flatten().all(in_memory) {
            read(&ranges);
        }
        for range in ranges.iter().filter(|range| range.is_long() && !self::in_memory(&range.file, range.end)) {
            let (file, start) = (range.file.clone(), range.end);
            let end = start + (range.end - range.start).min(AHEAD);
            tokio::task::spawn_blocking(move || load(&file, start, end));
        }
    }
}

/// Short ranges at the same time, long ones as the kernel reads best: from the start to the end.
fn read(ranges: &[Range]) {
    let short = || ranges.iter().filter(|range| !range.is_long());
    for Range { file, start, end } in short() {
        let _ = fadvise(&**file, *start, NonZeroU64::new(end - start), Advice::WillNeed);
    }
    ranges.iter().filter(|range| range.is_long()).for_each(|range| load(&range.file, range.start, range.end));
    if let Some(last) = short().next_back() {
        let _ = last.file.read_at(&mut [0], last.end - 1);
    }
}

/// Brings a part of a file into memory without copying it. Measured: 0.015 s of CPU per GB, where `posix_fadvise` takes
/// 0.12 since it fills memory page by page.
fn load(file: &File, start: u64, end: u64) {
    let Ok(nowhere) = &*NOWHERE else { return };
    let mut at = start;
    while at < end {
        let left = (end - at) as usize;
        match sendfile(nowhere, file, Some(&mut at), left) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The batches in the order of the log, those together that are near each other.
fn ranges(locations: impl Iterator<Item = Location>, open: impl Fn(Location) -> Option<Arc<File>>) -> Vec<Range> {
    let mut locations: Vec<Location> = locations.collect();
    locations.sort_unstable();
    let mut ranges: Vec<Range> = Vec::new();
    let mut last: Option<u32> = None;
    for location in locations {
        let (start, end) = (u64::from(location.offset), u64::from(location.offset) + u64::from(location.len));
        match ranges.last_mut().filter(|_| last == Some(location.file)) {
            Some(range) if start <= range.end + GAP => range.end = range.end.max(end),
            _ => {
                // Gone: who reads it finds out where it is now.
                let Some(file) = open(location) else { continue };
                ranges.push(Range { file, start, end });
                last = Some(location.file);
            }
        }
    }
    ranges
}

/// Whether a byte can be read without the disk; the file's end can, and so can what no question can be asked about.
fn in_memory(file: &File, at: u64) -> bool {
    let mut byte = [0];
    preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_batches_are_one_range_whatever_their_order() {
        let at = |file, offset, len| Location { file, offset, len };
        let gap = GAP as u32;
        let locations =
            [at(1, 50_000, 10_000), at(2, 60_000, 10), at(1, 0, 20_000), at(3, 0, 9), at(1, 60_000 + gap + 1, 5)];
        let open = |location: Location| (location.file != 3).then(|| Arc::new(tempfile::tempfile().expect("file")));
        let found: Vec<_> = ranges(locations.into_iter(), open).iter().map(|r| (r.start, r.end)).collect();
        assert_eq!(found, [(0, 60_000), (60_001 + GAP, 60_006 + GAP), (60_000, 60_010)]);
    }

    #[test]
    fn what_was_written_is_in_memory_and_so_is_the_end_of_a_file() {
        let file = tempfile::tempfile().expect("file");
        file.write_all_at(&[7; 8192], 0).expect("write");
        assert!(in_memory(&file, 0) && in_memory(&file, 8191) && in_memory(&file, 8192));
    }
}
