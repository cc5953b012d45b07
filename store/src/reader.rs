//! Reads batches by their location.

use std::sync::Arc;

use bytes::Bytes;
use krocket_protocol::chunk::FileSlice;

use crate::error::{LogFailed, ReadError};
use crate::op::Location;
use crate::shared::Shared;

/// Hands out slices of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        LogReader { shared }
    }

    /// An error once the log has stopped for good.
    pub fn health(&self) -> Result<(), LogFailed> {
        self.shared.check()
    }

    /// A slice of the file, which stays readable as long as it is held.
    pub fn slice(&self, location: Location) -> Result<FileSlice, ReadError> {
        match self.shared.segments.file(location.file) {
            Ok(Some(file)) => Ok(FileSlice { file, offset: u64::from(location.offset), len: location.len as usize }),
            Ok(None) => Err(ReadError::Gone(location.file)),
            Err(source) => Err(ReadError::Io { file: location.file, source }),
        }
    }

    /// The bytes themselves.
    pub fn read(&self, location: Location) -> Result<Bytes, ReadError> {
        self.slice(location)?.read().map_err(|source| ReadError::Io { file: location.file, source })
    }
}
