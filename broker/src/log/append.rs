//! What callers hand to the writer and how they wait for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use krocket_protocol::records::BatchHeader;
use krocket_stack::{Notes, Row, Written};
use tokio::sync::oneshot;

use super::error::{AppendError, StorageError};
use super::partition::Partition;

/// What an answer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing (acks=0). The write happens all the same.
    None,
    /// Survives the end of this process (acks=1).
    Written,
    /// Survives a power loss (acks=all).
    Synced,
}

/// A change to a key-value table of the log (see [`super::tables`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Its table.
        table: u8,
        /// The key, at most 65535 bytes.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes a key.
    Delete {
        /// Its table.
        table: u8,
        /// The key.
        key: Vec<u8>,
    },
    /// Sets a key that is not there yet, so that the index need not look.
    PutNew {
        /// Its table.
        table: u8,
        /// The key, at most 65535 bytes.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Removes a key whose row was read, so that the index need not look.
    DeleteKnown {
        /// Its table.
        table: u8,
        /// The key.
        key: Vec<u8>,
        /// What was read.
        was: Written,
    },
}

impl Write {
    /// A layer's row, written with a batch at this offset.
    pub(crate) fn of(row: Row, base_offset: i64) -> Self {
        match row {
            Row::Put { table, key, value, new } => {
                let (key, value) = (key.fill(base_offset), value.fill(base_offset));
                if new { Write::PutNew { table, key, value } } else { Write::Put { table, key, value } }
            }
            Row::Delete { table, key, was: None } => Write::Delete { table, key },
            Row::Delete { table, key, was: Some(was) } => Write::DeleteKnown { table, key, was },
        }
    }
}

/// A batch to append, validated.
#[derive(Debug)]
pub struct Append {
    /// Where.
    pub partition: Arc<Partition>,
    /// One whole batch; base offset and leader epoch are overwritten.
    pub batch: Bytes,
    /// Its header.
    pub header: BatchHeader,
    /// When it is answered and becomes visible.
    pub durability: Durability,
    /// What layers want with it: hidden records, rows in the same frame, indexing.
    pub notes: Notes,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record; a duplicate's is the original's.
    pub base_offset: i64,
    /// The batch's highest timestamp, ms; a duplicate's is the original's.
    pub timestamp: i64,
    /// The partition's start.
    pub log_start_offset: i64,
    /// True when the batch was in the log already (an idempotent producer's retry).
    pub duplicate: bool,
}

pub(super) type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// Resolves to the outcome of an append or commit. The write goes on when this is dropped.
#[derive(Debug)]
#[must_use = "the outcome may be an error"]
pub struct Outcome<T, E>(pub(super) oneshot::Receiver<Result<T, E>>);

impl<T, E: From<StorageError>> Future for Outcome<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(StorageError::closed().into())))
    }
}

impl<T, E: From<StorageError>> Outcome<T, E> {
    /// Waits on a plain thread.
    pub fn wait(self) -> Result<T, E> {
        self.0.blocking_recv().unwrap_or_else(|_| Err(StorageError::closed().into()))
    }
}

/// Outcome of [`super::Log::append`].
pub type Appending = Outcome<Appended, AppendError>;
/// Outcome of [`super::Log::commit`].
pub type Committing = Outcome<(), StorageError>;
