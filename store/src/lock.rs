//! One process per data folder, and the folder's format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::StoreError;

/// The version of everything on disk that the log owns. A newer one is refused.
pub const FORMAT_VERSION: u32 = 2;

/// Held for as long as any part of the store lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes `DATA/LOCK` or says who has it.
    pub(crate) fn acquire(data: &Path) -> Result<Self, StoreError> {
        let path = data.join("LOCK");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                // The pid is a courtesy: whatever is there may be unreadable.
                let _ = file.read_to_string(&mut owner);
                return Err(StoreError::Locked { path: data.to_owned(), pid: owner.trim().parse().ok() });
            }
            Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(StoreError::io("write", &path))?;
        Ok(Lock(file))
    }
}

/// What `DATA/format` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Random; seeds every CRC, so that neither a foreign segment nor bytes that a client chose pass for a frame.
    pub(crate) log_id: u64,
}

impl Format {
    /// Reads the file; `None` if there is none.
    pub(crate) fn read(data: &Path) -> Result<Option<Self>, StoreError> {
        let path = data.join("format");
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let mut words = text.split_ascii_whitespace();
        let refuse = |reason: String| Err(StoreError::Format { path: path.clone(), reason });
        match (words.next(), words.next().and_then(|word| word.parse::<u32>().ok())) {
            (Some("krocket"), Some(FORMAT_VERSION)) => {}
            (Some("krocket"), Some(version)) => {
                return refuse(format!(
                    "format {version} is not {FORMAT_VERSION}, the one that this krocket reads and writes"
                ));
            }
            // Torn or flipped: the segments know the log's id as well.
            _ => return Ok(None),
        }
        let log_id = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let sum = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
        Ok(log_id.filter(|id| sum == Some(crc32c::crc32c(&id.to_le_bytes()))).map(|log_id| Format { log_id }))
    }

    /// Writes the file, durably and whole.
    pub(crate) fn write(self, data: &Path) -> Result<(), StoreError> {
        let path = data.join("format");
        let new = data.join("format.tmp");
        let sum = crc32c::crc32c(&self.log_id.to_le_bytes());
        let text = format!("krocket {FORMAT_VERSION} {:016x} {sum:08x}\n", self.log_id);
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(data)?.sync_all()
        };
        write().map_err(StoreError::io("write", &path))
    }
}
