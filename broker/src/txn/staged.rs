//! Offsets that a transaction commits when it does (TxnOffsetCommit).

use std::collections::{BTreeMap, HashMap};

use krocket_protocol::ErrorCode;

use super::state::Txn;
use super::{IMPLICIT_OFFSETS, Producer, Transactions, rows, unavailable};
use crate::group::{Commit, OffsetChange};
use crate::log::{Durability, Write};

/// Offsets of one group, the last word for each partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged(BTreeMap<(String, i32), OffsetChange>);

impl Staged {
    pub(super) fn put(&mut self, change: OffsetChange) {
        self.0.insert((change.topic.clone(), change.partition), change);
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = &OffsetChange> {
        self.0.values()
    }

    pub(super) fn into_changes(self) -> Vec<OffsetChange> {
        self.0.into_values().collect()
    }
}

/// How many open transactions have an offset for a partition of the group.
pub(super) type Unstable = HashMap<(String, i32), u32>;

impl Transactions {
    /// TxnOffsetCommit: one result per partition, in order.
    pub(crate) async fn commit_offsets(
        &self,
        id: &str,
        producer: Producer,
        version: i16,
        group: &str,
        commit: Commit,
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        let (results, changes) = self.groups.stage_offsets(group, commit).await?;
        let written = {
            let entry = self.find(id)?;
            let mut txn = entry.lock();
            // It speaks of the epoch where the coordinator's other APIs speak of fencing.
            txn.check(producer).map_err(|code| match code {
                ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
                code => code,
            })?;
            let is_added = txn.open.as_ref().is_some_and(|open| open.groups.contains(group));
            if version < IMPLICIT_OFFSETS && !is_added {
                return Err(ErrorCode::InvalidTxnState);
            }
            let writes: Vec<Write> =
                changes.iter().map(|change| rows::put_offset(producer.id, group, change)).collect();
            let staged = txn.open(self.now_ms()).offsets.entry(group.to_owned()).or_default();
            let mut unstable = self.unstable.entry(group.to_owned()).or_default();
            for change in changes {
                let key = (change.topic.clone(), change.partition);
                if !staged.0.contains_key(&key) {
                    *unstable.entry(key).or_default() += 1;
                }
                staged.put(change);
            }
            drop(unstable);
            self.write(writes, Durability::Written)
        };
        written.await.map_err(|error| unavailable(id, &error))?;
        Ok(results)
    }

    /// True while an open transaction may change the committed offset.
    pub(crate) fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        let key = (topic.to_owned(), partition);
        self.unstable.get(group).is_some_and(|offsets| offsets.contains_key(&key))
    }

    /// Counts the offsets of a transaction as decided no more, or again.
    pub(super) fn settle(&self, group: &str, staged: &Staged) {
        if let Some(mut offsets) = self.unstable.get_mut(group) {
            for change in staged.changes() {
                let key = (change.topic.clone(), change.partition);
                if let Some(count) = offsets.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        offsets.remove(&key);
                    }
                }
            }
        }
        self.unstable.remove_if(group, |_, offsets| offsets.is_empty());
    }

    /// Counts what a restart found.
    pub(super) fn unsettle(&self, txn: &Txn) {
        for (group, staged) in txn.open.iter().flat_map(|open| &open.offsets) {
            let mut unstable = self.unstable.entry(group.clone()).or_default();
            for change in staged.changes() {
                *unstable.entry((change.topic.clone(), change.partition)).or_default() += 1;
            }
        }
    }
}
