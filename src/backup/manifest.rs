//! What a backup consists of.

use std::path::Path;

use krocket_store::FORMAT_VERSION;
use serde::{Deserialize, Serialize};

use super::BackupError;

/// The layout of manifests.
const VERSION: u32 = 1;

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// Its name: the time when it was taken.
    pub id: String,
    /// The same in epoch ms.
    pub created_ms: i64,
    /// The krocket that took it.
    pub krocket: String,
    /// Version of what is in the segment files.
    pub format: u32,
    /// The cluster it is of.
    pub cluster_id: String,
    /// The log's id, hexadecimal.
    pub log_id: String,
    /// Which history of the log.
    pub lineage: String,
    /// Everything before this position of the log is in it.
    pub position: u64,
    /// Segment files in order.
    pub files: Vec<BackupFile>,
}

/// The part of a segment file that belongs to a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its name.
    pub name: String,
    /// Bytes from its start.
    pub len: u64,
    /// CRC-32C of those bytes.
    pub crc32c: u32,
}

impl Manifest {
    /// Of files that were just copied.
    pub fn new(source: &super::Source, files: Vec<BackupFile>) -> Self {
        Manifest {
            version: VERSION,
            id: name(source.created_ms),
            created_ms: source.created_ms,
            krocket: env!("CARGO_PKG_VERSION").to_owned(),
            format: source.format,
            cluster_id: source.cluster_id.clone(),
            log_id: source.log_id.clone(),
            lineage: source.lineage.clone(),
            position: source.position,
            files,
        }
    }

    /// Reads one that a krocket of this or an earlier version wrote.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, BackupError> {
        let bad = |reason: String| BackupError::Manifest { path: path.to_owned(), reason };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let found: Version = serde_json::from_slice(text).map_err(|error| bad(format!("not a manifest: {error}")))?;
        if found.version != VERSION {
            return Err(bad(format!("its version is {}, this krocket reads {VERSION}", found.version)));
        }
        serde_json::from_slice(text).map_err(|error| bad(format!("not a manifest: {error}")))
    }

    /// An error where this krocket cannot read the segment files.
    pub fn check_format(&self) -> Result<(), BackupError> {
        if self.format == FORMAT_VERSION {
            return Ok(());
        }
        Err(BackupError::Missing(format!(
            "backup {} has format {}, this krocket reads {FORMAT_VERSION}: restore it with krocket {}",
            self.id, self.format, self.krocket
        )))
    }

    /// The log's id as a number.
    pub fn log_id(&self) -> Result<u64, BackupError> {
        u64::from_str_radix(&self.log_id, 16)
            .map_err(|_| BackupError::Missing(format!("backup {} has no log id", self.id)))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

/// `20261121T142000.123Z`: sorts by time and is a file name everywhere.
fn name(ms: i64) -> String {
    crate::time::show(ms).replace(['-', ':'], "")
}
