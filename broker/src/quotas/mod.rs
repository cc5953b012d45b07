//! Client quotas: rows of the log, shared with whoever throttles by them; and the one that is kept here, how many
//! partitions a client may create and delete.

pub(crate) mod mutations;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use krocket_stack::security::{Entity, QuotaSet, Quotas, Values};
use tokio::sync::Mutex;

use crate::log::tables::QUOTAS;
use crate::log::{Durability, Log, StorageError, Write};
use crate::topics::LoadError;

pub(crate) use rows::fits;

/// Most entities with quotas; each is in memory.
pub(crate) const MAX_ENTITIES: usize = 100_000;

/// All quotas and the right to change them.
pub(crate) struct QuotaStore {
    log: Log,
    shared: Arc<Quotas>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl QuotaStore {
    /// Reads what is stored.
    pub(crate) fn load(log: &Log) -> Result<Arc<Self>, LoadError> {
        let mut all = BTreeMap::new();
        for row in log.scan(QUOTAS, b"") {
            let (key, value) = row?;
            let (entity, values) =
                rows::decode(&key, &value).map_err(|why| LoadError::Row { what: "a client quota", why })?;
            all.insert(entity, values);
        }
        let shared = Arc::new(Quotas::default());
        shared.set(QuotaSet::new(all));
        Ok(Arc::new(QuotaStore { log: log.clone(), shared, changing: Mutex::default() }))
    }

    /// What others read.
    pub(crate) fn shared(&self) -> &Arc<Quotas> {
        &self.shared
    }

    /// Stores what `change` makes of the quotas as one frame, then makes it visible. It happens even if the caller goes
    /// away.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut BTreeMap<Entity, Values>) -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let store = self.clone();
        let done = tokio::spawn(async move {
            let _one = store.changing.lock().await;
            let before = store.shared.get();
            let mut after = before.all().clone();
            let outcome = change(&mut after);
            let put = after.iter().filter(|(entity, values)| before.all().get(*entity) != Some(*values));
            let put = put.map(|(entity, values)| Write::Put {
                table: QUOTAS,
                key: rows::key(entity),
                value: rows::value(values),
            });
            let gone = before.all().keys().filter(|entity| !after.contains_key(*entity));
            let gone = gone.map(|entity| Write::Delete { table: QUOTAS, key: rows::key(entity) });
            let writes: Vec<Write> = put.chain(gone).collect();
            if !writes.is_empty() {
                store.log.commit(writes, Durability::Synced).await?;
                store.shared.set(QuotaSet::new(after));
            }
            Ok(outcome)
        });
        done.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a change of quotas was cut off");
            Err(StorageError { message: "the broker is shutting down".to_owned(), passing: false })
        })
    }
}
