//! Backups: copies of the log's segment files in a folder of their own, each file once, and a manifest a backup.
//!
//! ```text
//! FOLDER/segments/<lineage>/<name>.seg     grow with the log, never change
//! FOLDER/backups/<id>.json                 which files, how much of each, their checksums
//! ```
//! A backup copies what the folder does not have yet. The index is not in it: it is built from the log.

mod manifest;
mod restore;
mod store;
mod take;

pub use manifest::{BackupFile, Manifest};
pub use restore::restore;
pub use store::{Folder, Pruned};
pub use take::{Source, Taken, take};

use std::io;
use std::path::{Path, PathBuf};

/// Called with the bytes done and the bytes there are.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Why a backup cannot be taken, checked or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A manifest cannot be read.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A copied file is not what was copied.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no such backup.
    #[error("{0}")]
    Missing(String),
    /// Someone else works on the folder.
    #[error("another backup works on {}", .0.display())]
    Busy(PathBuf),
    /// The server did not send what it promised.
    #[error("{0}")]
    Source(String),
    /// The data folder cannot be filled.
    #[error(transparent)]
    Store(#[from] krocket_store::StoreError),
}

impl BackupError {
    /// For `map_err` on file operations.
    fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BackupError + 'a {
        move |source| BackupError::Io { what, path: path.to_owned(), source }
    }
}
