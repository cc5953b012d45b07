//! Why the log does not do what it was asked.

use krocket_protocol::ErrorCode;
use thiserror::Error;

use super::producers::SequenceError;

/// The disk or the index failed. The cause was logged where it happened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct StorageError {
    /// What happened.
    pub message: String,
    /// True where a later call may succeed (a full disk), false where only a restart helps.
    pub passing: bool,
    /// True where the disk gave other bytes than were written.
    pub damaged: bool,
}

impl StorageError {
    /// The log was closed.
    pub(super) fn closed() -> Self {
        StorageError { message: "the log is closed".to_owned(), passing: false, damaged: false }
    }

    /// What was read, or could not be, is no batch.
    pub(crate) fn unreadable(error: impl std::fmt::Display) -> Self {
        StorageError { message: error.to_string(), passing: true, damaged: false }
    }

    /// What clients are told: Kafka's KAFKA_STORAGE_ERROR, which they meet by trying again, or CORRUPT_MESSAGE, which they
    /// show.
    pub fn code(&self) -> ErrorCode {
        if self.damaged { ErrorCode::CorruptMessage } else { ErrorCode::KafkaStorageError }
    }
}

/// Why a batch was not appended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// An idempotent producer's numbers do not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A batch outside of the transaction that its producer has open in the partition.
    #[error("producer {0} has a transaction open in the partition, and the batch is not in it")]
    NotInTxn(i64),
    /// The partition was deleted.
    #[error("the partition was deleted")]
    Deleted,
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AppendError {
    /// What clients are told.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::Sequence(SequenceError::OutOfOrder { .. }) => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::Sequence(SequenceError::Epoch { .. }) => ErrorCode::InvalidProducerEpoch,
            AppendError::NotInTxn(_) => ErrorCode::InvalidTxnState,
            AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
            AppendError::Storage(error) => error.code(),
        }
    }
}

macro_rules! storage_error {
    ($($source:ty => $passing:expr),* $(,)?) => {$(
        impl From<$source> for StorageError {
            fn from(error: $source) -> Self {
                StorageError { message: error.to_string(), passing: $passing(&error), damaged: false }
            }
        }
    )*};
}

storage_error! {
    krocket_store::AppendError => |error: &krocket_store::AppendError| !matches!(error, krocket_store::AppendError::Failed(_)),
    krocket_store::IndexError => |_: &krocket_store::IndexError| false,
    krocket_store::LogFailed => |_: &krocket_store::LogFailed| false,
    krocket_store::StoreError => |_: &krocket_store::StoreError| false,
    krocket_store::FrameError => |_: &krocket_store::FrameError| true,
}

impl From<krocket_store::ReadError> for StorageError {
    fn from(error: krocket_store::ReadError) -> Self {
        let damaged = matches!(error, krocket_store::ReadError::Damaged { .. });
        StorageError { message: error.to_string(), passing: true, damaged }
    }
}
