//! A file system for tests: fails on demand, and loses with the power what was not synced.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::{FileSystem, LogFile, OsFileSystem};

const PAGE: u64 = 4096;
const EIO: i32 = 5;

/// A call that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`FileSystem::create`]
    Create,
    /// [`FileSystem::open`]
    Open,
    /// [`LogFile::write_at`]
    Write,
    /// [`LogFile::sync_data`]
    Sync,
    /// [`LogFile::set_len`]
    SetLen,
    /// [`FileSystem::rename`]
    Rename,
    /// [`FileSystem::remove`]
    Remove,
    /// [`FileSystem::sync_dir`]
    SyncDir,
}

/// How it fails.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// With an errno, having done nothing.
    Errno(i32),
    /// A write that takes only so many bytes.
    Short(usize),
}

/// Decides about each call.
pub type Script = dyn FnMut(Call, &Path) -> Option<Fault> + Send;

/// Real files underneath, with faults, and with a memory of what is not yet durable.
#[derive(Clone, Default)]
pub struct Double {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    script: Option<Box<Script>>,
    /// Per file: what the next sync makes durable.
    unsynced: HashMap<PathBuf, Unsynced>,
    /// Changes of the directory since it was synced.
    dir_changes: Vec<DirChange>,
    removed: u32,
    /// What a sync of a file takes.
    sync_takes: Duration,
}

#[derive(Clone, Default)]
struct Unsynced {
    durable_len: u64,
    /// Bytes below `durable_len` as they were, newest last.
    before: Vec<(u64, Vec<u8>)>,
    /// Pages written.
    pages: Vec<u64>,
}

#[derive(Clone)]
enum DirChange {
    Created(PathBuf),
    Renamed(PathBuf, PathBuf),
    /// The file lives on under the second name.
    Removed(PathBuf, PathBuf),
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

impl Double {
    /// Asks `script` before each call from now on.
    pub fn script(&self, script: impl FnMut(Call, &Path) -> Option<Fault> + Send + 'static) {
        self.state.lock().script = Some(Box::new(script));
    }

    /// The power goes: nothing is written or synced any more. What was becomes the disk's with [`Double::power_loss`].
    pub fn cut(&self) {
        self.script(|_, _| Some(Fault::Errno(EIO)));
    }

    /// Syncs take so long from now on, as they do on a disk: more is written meanwhile.
    pub fn slow_syncs(&self, takes: Duration) {
        self.state.lock().sync_takes = takes;
    }

    /// No more faults.
    pub fn heal(&self) {
        self.state.lock().script = None;
    }

    /// Cuts the power: changes the log directory `image`, a copy of `original`, into what the disk may hold then.
    /// Of what was not synced, `survives` picks: pages one by one, directory changes in their order. Gives how many
    /// changes were lost.
    pub fn power_loss(&self, original: &Path, image: &Path, survives: &mut dyn FnMut() -> bool) -> io::Result<u64> {
        let mut lost = 0;
        let state = self.state.lock();
        let in_image = |path: &Path| image.join(path.strip_prefix(original).unwrap_or(path));
        for (path, unsynced) in &state.unsynced {
            let Ok(file) = OpenOptions::new().read(true).write(true).open(in_image(path)) else { continue };
            let full_len = file.metadata()?.len();
            let mut len = unsynced.durable_len.min(full_len);
            let mut pages = unsynced.pages.clone();
            pages.sort_unstable();
            pages.dedup();
            for page in pages {
                let (start, end) = (page * PAGE, (page * PAGE + PAGE).min(full_len));
                if survives() {
                    len = len.max(end);
                    continue;
                }
                lost += 1;
                let fresh = start.max(unsynced.durable_len);
                if fresh < end {
                    file.write_all_at(&vec![0; (end - fresh) as usize], fresh)?;
                }
                for (at, bytes) in unsynced.before.iter().rev() {
                    let (from, to) = ((*at).max(start), (at + bytes.len() as u64).min(end));
                    if from < to {
                        file.write_all_at(&bytes[(from - at) as usize..(to - at) as usize], from)?;
                    }
                }
            }
            file.set_len(len)?;
        }
        let kept = state.dir_changes.iter().take_while(|_| survives()).count();
        for change in state.dir_changes[kept..].iter().rev() {
            match change {
                DirChange::Created(path) => fs::remove_file(in_image(path))?,
                DirChange::Renamed(from, to) => fs::rename(in_image(to), in_image(from))?,
                DirChange::Removed(path, kept) => fs::rename(in_image(kept), in_image(path))?,
            }
            lost += 1;
        }
        Ok(lost)
    }

    fn ask(&self, call: Call, path: &Path) -> io::Result<Option<usize>> {
        match self.state.lock().script.as_mut().and_then(|script| script(call, path)) {
            Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Short(len)) => Ok(Some(len)),
            None => Ok(None),
        }
    }
}

impl FileSystem for Double {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.ask(Call::Create, path)?;
        let inner = OsFileSystem.create(path)?;
        let mut state = self.state.lock();
        state.unsynced.insert(path.to_owned(), Unsynced::default());
        state.dir_changes.push(DirChange::Created(path.to_owned()));
        Ok(Arc::new(DoubleFile { double: self.clone(), path: path.to_owned(), inner }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.ask(Call::Open, path)?;
        let inner = OsFileSystem.open(path)?;
        let durable_len = inner.reader().metadata()?.len();
        let fresh = Unsynced { durable_len, ..Unsynced::default() };
        self.state.lock().unsynced.entry(path.to_owned()).or_insert(fresh);
        Ok(Arc::new(DoubleFile { double: self.clone(), path: path.to_owned(), inner }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Call::Rename, from)?;
        OsFileSystem.rename(from, to)?;
        let mut state = self.state.lock();
        if let Some(unsynced) = state.unsynced.remove(from) {
            state.unsynced.insert(to.to_owned(), unsynced);
        }
        state.dir_changes.push(DirChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::Remove, path)?;
        let mut state = self.state.lock();
        state.removed += 1;
        let kept = path.with_extension(format!("removed{}", state.removed));
        fs::rename(path, &kept)?;
        state.dir_changes.push(DirChange::Removed(path.to_owned(), kept));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::SyncDir, path)?;
        let mut state = self.state.lock();
        OsFileSystem.sync_dir(path)?;
        for change in state.dir_changes.drain(..) {
            if let DirChange::Removed(_, kept) = change {
                fs::remove_file(kept)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct DoubleFile {
    double: Double,
    path: PathBuf,
    inner: Arc<dyn LogFile>,
}

impl DoubleFile {
    /// Remembers what a change of these bytes overwrites.
    fn remember(&self, state: &mut State, offset: u64, len: u64) -> io::Result<()> {
        let file = self.inner.reader();
        let Some(unsynced) = state.unsynced.get_mut(&self.path) else { return Ok(()) };
        if offset < unsynced.durable_len {
            let mut before = vec![0; (unsynced.durable_len.min(offset + len) - offset) as usize];
            file.read_exact_at(&mut before, offset)?;
            unsynced.before.push((offset, before));
        }
        unsynced.pages.extend(offset / PAGE..(offset + len).div_ceil(PAGE));
        Ok(())
    }
}

impl LogFile for DoubleFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let short = self.double.ask(Call::Write, &self.path)?;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let bytes = &bytes[..short.unwrap_or(bytes.len()).min(bytes.len())];
        // A sync finds the write done or not begun.
        let mut state = self.double.state.lock();
        self.remember(&mut state, offset, bytes.len() as u64)?;
        self.inner.write_at(&[IoSlice::new(bytes)], offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.double.state.lock().sync_takes;
        std::thread::sleep(takes);
        self.double.ask(Call::Sync, &self.path)?;
        // What is written meanwhile is not part of it.
        let (pages, overwritten, durable_len) = {
            let state = self.double.state.lock();
            let unsynced = state.unsynced.get(&self.path);
            let len = self.inner.reader().metadata()?.len();
            (unsynced.map_or(0, |it| it.pages.len()), unsynced.map_or(0, |it| it.before.len()), len)
        };
        self.inner.sync_data()?;
        let mut state = self.double.state.lock();
        let now = state.unsynced.entry(self.path.clone()).or_default();
        now.durable_len = durable_len;
        now.pages.drain(..pages);
        now.before.drain(..overwritten);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.double.ask(Call::SetLen, &self.path)?;
        let old = self.inner.reader().metadata()?.len();
        self.inner.set_len(len)?;
        // Truncation is taken as durable at once.
        let mut state = self.double.state.lock();
        if let Some(unsynced) = state.unsynced.get_mut(&self.path).filter(|_| len < old) {
            unsynced.durable_len = unsynced.durable_len.min(len);
        }
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.reserve(offset, len)
    }

    fn reader(&self) -> Arc<File> {
        self.inner.reader()
    }
}
