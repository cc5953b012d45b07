//! What a restart finds.

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::Mutex;

use super::state::Txn;
use super::{Named, Transactions, rows};
use crate::group;
use crate::log::{Log, PartitionId, StorageError, tables};
use crate::producer_ids::ProducerIds;
use crate::topics::Topics;

impl Transactions {
    /// Loads all ids, and what is open under them: what clients announced, where they wrote, which offsets they sent.
    /// Must be called on a Tokio runtime: overdue transactions are aborted from there.
    pub(crate) fn open(
        log: &Log,
        topics: &Topics,
        groups: Arc<group::Coordinator>,
        producer_ids: Arc<ProducerIds>,
    ) -> Result<Arc<Self>, StorageError> {
        let transactions =
            Transactions { log: log.clone(), groups, producer_ids, by_id: DashMap::new(), unstable: DashMap::new() };
        let name = |id: PartitionId| {
            let (topic, index) = topics.owner(id)?;
            Some(Named { topic: topic.name.clone(), index, partition: log.partition(id).ok()? })
        };
        // What was written down before the clock was set back does not last longer for it.
        let now_ms = log.clock().steady_ms();
        let mut by_producer: HashMap<i64, (String, Txn)> = HashMap::new();
        for row in log.scan(tables::TXNS, &[]) {
            let (key, value) = row?;
            let (Some(id), Some((mut txn, announced))) = (rows::read_id(&key), rows::Row::read(&value)) else {
                tracing::error!("unreadable transactional id: left out");
                continue;
            };
            if let Some(announced) = announced {
                let open = txn.open(announced.since_ms.min(now_ms));
                announced.partitions.iter().filter_map(|id| name(*id)).for_each(|named| open.add(named));
                open.groups.extend(announced.groups);
            }
            by_producer.insert(txn.producer.id, (id, txn));
        }
        for (partition, producer_id, open) in log.open_txns()? {
            match (by_producer.get_mut(&producer_id), name(partition)) {
                (Some((_, txn)), Some(named)) => txn.open(open.since_ms.min(now_ms)).add(named),
                (None, Some(named)) => {
                    tracing::warn!(
                        producer_id,
                        topic = named.topic,
                        partition = named.index,
                        "a hanging transaction: nobody's"
                    );
                }
                (_, None) => {}
            }
        }
        for row in log.scan(tables::TXN_OFFSETS, &[]) {
            let (key, value) = row?;
            let Some((producer_id, group, change)) = rows::read_offset(&key, &value) else {
                tracing::error!("unreadable offset of a transaction: left out");
                continue;
            };
            if let Some((_, txn)) = by_producer.get_mut(&producer_id) {
                let open = txn.open(now_ms);
                open.groups.insert(group.clone());
                open.offsets.entry(group).or_default().put(change);
            }
        }
        for (id, txn) in by_producer.into_values() {
            transactions.unsettle(&txn);
            transactions.by_id.insert(id, Arc::new(Mutex::new(txn)));
        }
        tracing::info!(ids = transactions.by_id.len(), "transactional ids loaded");
        let transactions = Arc::new(transactions);
        tokio::spawn(Transactions::watch(Arc::downgrade(&transactions)));
        Ok(transactions)
    }
}
