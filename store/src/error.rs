//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// An error of a caller's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Opening, cleaning or flushing failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another process holds the data folder.
    #[error("{} is in use by another process{}", path.display(), pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// Its owner, if the lock file tells.
        pid: Option<u32>,
    },
    /// Written by a newer krocket, or not a data folder at all.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// In words.
        reason: String,
    },
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried, such as "create".
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// RocksDB refused.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The log stopped for good.
    #[error(transparent)]
    Failed(#[from] LogFailed),
    /// The caller's `apply` refused a frame.
    #[error("frame at position {position}: {source}")]
    Apply {
        /// The frame's position.
        position: u64,
        /// Why.
        source: BoxError,
    },
}

impl StoreError {
    /// For `map_err` on file operations.
    pub(crate) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
        move |source| StoreError::Io { what, path: path.to_owned(), source }
    }
}

/// RocksDB reports an error. After a corruption the next start rebuilds the index.
#[derive(Clone, Debug, Error)]
#[error("index: {0}")]
pub struct IndexError(pub Arc<str>);

impl From<rocksdb::Error> for IndexError {
    fn from(error: rocksdb::Error) -> Self {
        IndexError(error.into_string().into())
    }
}

/// The log stopped: after a failed fsync or a write that could not be undone, what is on disk is known only
/// after a restart.
#[derive(Clone, Debug, Error)]
#[error("the log stopped: {0}; restart to recover from disk")]
pub struct LogFailed(pub Arc<str>);

/// Nothing of the call was appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The disk or the quota is full; a later call may succeed.
    #[error("disk full: {0}")]
    Full(io::Error),
    /// A write failed and was undone; a later call may succeed.
    #[error("write failed: {0}")]
    Write(io::Error),
    /// The index lacks what was appended before and still cannot take it.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// More bytes in one call than a segment file can address.
    #[error("{0} bytes in one append")]
    TooLarge(u64),
    /// The log stopped for good.
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Bytes of the log cannot be had.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The cleaner moved them: read the index row again and retry.
    #[error("file {0} was cleaned away")]
    Gone(u32),
    /// What is on disk is not what was written there.
    #[error("{} is damaged at {offset}: {reason}", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// Where the batch begins in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("read segment {file}: {source}")]
    Io {
        /// The segment's id.
        file: u32,
        /// Why.
        source: io::Error,
    },
}
