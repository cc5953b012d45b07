//! What groups ask of the log: atomic writes, durable and in order, and a scan at start.

use krocket_stack::BoxFuture;

pub use crate::log::Write;
use crate::log::{Durability, Log};

/// The log would not take the writes, or not give them back.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log failed: {0}")]
pub struct JournalError(pub String);

/// Rows of a table, by key.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// The part of the log that groups see.
pub trait Journal: Send + Sync + 'static {
    /// Writes all or nothing and resolves once that survives a power loss. Calls take effect in the order they are
    /// made, whether or not anybody waits for them.
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), JournalError>>;

    /// Every row whose key starts with the prefix.
    fn scan(&self, table: u8, prefix: &[u8]) -> Result<Rows, JournalError>;
}

impl Journal for Log {
    fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), JournalError>> {
        // Enqueued here, not when the future is first polled.
        let committing = Log::commit(self, writes, Durability::Synced);
        Box::pin(async move { committing.await.map_err(|error| JournalError(error.to_string())) })
    }

    fn scan(&self, table: u8, prefix: &[u8]) -> Result<Rows, JournalError> {
        Log::scan(self, table, prefix).collect::<Result<Rows, _>>().map_err(|error| JournalError(error.to_string()))
    }
}

#[cfg(test)]
pub(super) mod memory {
    //! A journal for tests.

    use std::collections::BTreeMap;

    use parking_lot::Mutex;

    use super::*;

    type Tables = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

    #[derive(Default)]
    pub(in crate::group) struct Memory {
        pub(in crate::group) tables: Mutex<Tables>,
        pub(in crate::group) commits: Mutex<usize>,
        pub(in crate::group) broken: Mutex<bool>,
    }

    impl Memory {
        pub(in crate::group) fn apply(&self, writes: Vec<Write>) {
            let mut tables = self.tables.lock();
            for write in writes {
                match write {
                    Write::Put { table, key, value } | Write::PutNew { table, key, value } => {
                        tables.insert((table, key), value)
                    }
                    Write::Delete { table, key } | Write::DeleteKnown { table, key, .. } => {
                        tables.remove(&(table, key))
                    }
                };
            }
            *self.commits.lock() += 1;
        }
    }

    impl Journal for Memory {
        fn commit(&self, writes: Vec<Write>) -> BoxFuture<'static, Result<(), JournalError>> {
            if *self.broken.lock() {
                return Box::pin(async {
                    tokio::task::yield_now().await;
                    Err(JournalError("broken".to_owned()))
                });
            }
            self.apply(writes);
            Box::pin(async {
                tokio::task::yield_now().await;
                Ok(())
            })
        }

        fn scan(&self, table: u8, prefix: &[u8]) -> Result<Rows, JournalError> {
            let tables = self.tables.lock();
            let rows = tables.iter().filter(|((t, key), _)| *t == table && key.starts_with(prefix));
            Ok(rows.map(|((_, key), value)| (key.clone(), value.clone())).collect())
        }
    }
}
