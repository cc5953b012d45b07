//! Producer ids: never the same one twice, whatever happens.

use tokio::sync::Mutex;

use crate::log::{Durability, Log, StorageError, Write, tables};

/// Ids reserved with one write (as Kafka's producer id blocks).
const BLOCK: i64 = 1000;
/// The table's only key.
const KEY: &[u8] = b"next";

/// Hands out ids from a block that was reserved durably before.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// The next id and the end of the block.
    block: Mutex<(i64, i64)>,
}

impl ProducerIds {
    /// The next id.
    pub(crate) async fn next(&self, log: &Log) -> Result<i64, StorageError> {
        let mut block = self.block.lock().await;
        if block.0 == block.1 {
            let stored = log.get(tables::PRODUCER_IDS, KEY)?;
            let start = stored.and_then(|value| Some(i64::from_be_bytes(value.try_into().ok()?))).unwrap_or(0);
            let value = (start + BLOCK).to_be_bytes().to_vec();
            let write = Write::Put { table: tables::PRODUCER_IDS, key: KEY.to_vec(), value };
            log.commit(vec![write], Durability::Synced).await?;
            *block = (start, start + BLOCK);
        }
        block.0 += 1;
        Ok(block.0 - 1)
    }
}
