//! The broker's other face: rows and hidden records for the layers above. See [`krocket_stack::ledger`].

use std::sync::Arc;

use krocket_protocol::StrBytes;
use krocket_protocol::chunk::FileSlice;
use krocket_stack::ledger::{Fate, PartitionInfo, StoredBatch, TopicInfo, Watching};
use krocket_stack::share::ShareRules;
use krocket_stack::{BoxFuture, Ledger, LedgerError, Row, Written};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Broker;
use crate::log::{Durability, Partition, PartitionId, Watch, Write};
use crate::topics::Topic;

/// Tables from here on are derived from the log.
const DERIVED: u8 = 128;

fn failed(error: impl std::fmt::Display) -> LedgerError {
    LedgerError(error.to_string())
}

fn info(topic: &Topic) -> TopicInfo {
    TopicInfo {
        name: StrBytes::from_string(topic.name.clone()),
        id: topic.id,
        partitions: topic.partitions.load().iter().map(|partition| partition.id).collect(),
    }
}

impl Broker {
    /// The topic that a partition belongs to, and the partition.
    fn find(&self, id: PartitionId) -> Option<(Arc<Topic>, i32, Arc<Partition>)> {
        let (topic, index) = self.topics.owner(id)?;
        let partition = topic.partition(index)?;
        Some((topic, index, partition))
    }

    fn opened(&self, id: PartitionId) -> Result<Arc<Partition>, LedgerError> {
        self.log.partition(id).map_err(failed)
    }
}

impl Ledger for Broker {
    fn set_share_rules(&self, rules: Arc<dyn ShareRules>) {
        self.shares.set_rules(rules);
    }

    fn now_ms(&self) -> i64 {
        self.log.clock().now_ms()
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.topics.get(name).map(|topic| info(&topic))
    }

    fn topic_by_id(&self, id: Uuid) -> Option<TopicInfo> {
        self.topics.by_id(id).map(|topic| info(&topic))
    }

    fn topics(&self) -> Vec<TopicInfo> {
        self.topics.all().iter().map(|topic| info(topic)).collect()
    }

    fn topic_config(&self, topic: &str, config: &str) -> Option<String> {
        self.topics.get(topic)?.config.load().overrides.get(config).cloned()
    }

    fn topics_changed(&self) -> BoxFuture<'static, ()> {
        let mut changes = self.topics.changes();
        Box::pin(async move {
            // The end of the table is the end of the broker.
            let _ = changes.changed().await;
        })
    }

    fn partition(&self, id: PartitionId) -> Option<PartitionInfo> {
        let (topic, index, partition) = self.find(id)?;
        Some(PartitionInfo {
            topic: StrBytes::from_string(topic.name.clone()),
            topic_id: topic.id,
            index,
            log_start: partition.log_start(),
            high_watermark: partition.high_watermark(),
            end: partition.durable_end(),
            last_stable: partition.last_stable_offset(),
        })
    }

    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        let index = self.log.index();
        if table < DERIVED { index.get(table, key) } else { index.get_derived(table, key) }.map_err(failed)
    }

    fn scan(&self, table: u8, from: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), LedgerError> {
        let index = self.log.index();
        let rows = if table < DERIVED { index.scan_from(table, from) } else { index.scan_derived_from(table, from) };
        for row in rows {
            let (key, value) = row.map_err(failed)?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn scan_written(
        &self,
        table: u8,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8], Written) -> bool,
    ) -> Result<(), LedgerError> {
        let mut rows = self.log.index().scan_from(table, from);
        while let Some(row) = rows.next() {
            let (key, value) = row.map_err(failed)?;
            let written = Written { position: rows.position(), len: value.len() as u32 };
            if !visit(&key, &value, written) {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, rows: Vec<Row>, synced: bool) -> BoxFuture<'static, Result<(), LedgerError>> {
        if let Some(table) = rows.iter().map(Row::table).find(|table| *table >= DERIVED) {
            let error = LedgerError(format!("table {table} is derived: its rows are not committed"));
            return Box::pin(async move { Err(error) });
        }
        let writes = rows.into_iter().map(|row| Write::of(row, 0)).collect();
        let committing = self.log.commit(writes, if synced { Durability::Synced } else { Durability::Written });
        Box::pin(async move { committing.await.map_err(failed) })
    }

    fn derive(&self, rows: Vec<Row>) -> Result<(), LedgerError> {
        if let Some(table) = rows.iter().map(Row::table).find(|table| *table < DERIVED) {
            return Err(LedgerError(format!("table {table} is in the log: its rows are not derived")));
        }
        let rows = rows.into_iter().map(|row| match row {
            Row::Put { table, key, value, .. } => (table, key.fill(0), Some(value.fill(0))),
            Row::Delete { table, key, .. } => (table, key, None),
        });
        self.log.index().write_derived(rows).map_err(failed)
    }

    fn batches(&self, partition: PartitionId, from: i64, max_bytes: usize) -> Result<Vec<StoredBatch>, LedgerError> {
        let partition = self.opened(partition)?;
        let up_to = partition.durable_end();
        self.log.stored(&partition, from, up_to, max_bytes).map_err(failed)
    }

    fn locate(&self, partition: PartitionId, offsets: &[i64]) -> Result<Vec<Option<FileSlice>>, LedgerError> {
        let partition = self.opened(partition)?;
        self.log.locate(&partition, offsets).map_err(failed)
    }

    fn fate(&self, partition: PartitionId, offset: i64) -> Result<Fate, LedgerError> {
        let partition = self.opened(partition)?;
        self.log.fate(&partition, offset).map_err(failed)
    }

    fn watch(&self, partitions: &[PartitionId]) -> Box<dyn Watching> {
        let partitions = partitions.iter().filter_map(|id| self.log.partition(*id).ok()).collect();
        Box::new(Watcher(Watch::new(partitions, 1)))
    }

    fn work(&self) -> &Notify {
        self.log.work()
    }
}

struct Watcher(Watch);

impl Watching for Watcher {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.0.ready().await;
            self.0.rearm(1);
        })
    }
}

#[cfg(test)]
mod tests;
