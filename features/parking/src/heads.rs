//! When each partition has something due next: all that is in memory of what is parked.

use std::collections::{BTreeSet, HashMap};

use krocket_stack::ledger::PartitionId;
use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    order: BTreeSet<(i64, PartitionId)>,
    due: HashMap<PartitionId, i64>,
    /// Rows due before this are gone: where the next look begins, past what RocksDB has yet to clear away.
    cursors: HashMap<PartitionId, i64>,
}

impl State {
    fn set(&mut self, partition: PartitionId, due: Option<i64>) {
        if let Some(old) = self.due.remove(&partition) {
            self.order.remove(&(old, partition));
        }
        if let Some(due) = due {
            self.due.insert(partition, due);
            self.order.insert((due, partition));
        }
    }
}

impl Heads {
    /// Something is due at this time, if not something else before.
    pub(crate) fn lower(&self, partition: PartitionId, due: i64) {
        let mut state = self.0.lock();
        if let Some(cursor) = state.cursors.get_mut(&partition) {
            *cursor = (*cursor).min(due);
        }
        if state.due.get(&partition).is_none_or(|head| due < *head) {
            state.set(partition, Some(due));
        }
    }

    /// Takes a partition that has something due, and gives the due time from which to look.
    pub(crate) fn take(&self, partition: PartitionId) -> i64 {
        let mut state = self.0.lock();
        state.set(partition, None);
        // What comes from now on lowers it again.
        state.cursors.insert(partition, i64::MAX).unwrap_or(0)
    }

    /// After a look: everything due before `cursor` is gone, and `next` is due next.
    pub(crate) fn looked(&self, partition: PartitionId, cursor: i64, next: Option<i64>) {
        let mut state = self.0.lock();
        let entry = state.cursors.entry(partition).or_insert(i64::MAX);
        *entry = (*entry).min(cursor);
        if let Some(next) = next
            && state.due.get(&partition).is_none_or(|head| next < *head)
        {
            state.set(partition, Some(next));
        }
    }

    /// Partitions with something due by now, the longest due first, and when the next one after them is.
    pub(crate) fn ready(&self, now_ms: i64) -> (Vec<PartitionId>, Option<i64>) {
        let state = self.0.lock();
        let ready: Vec<_> = state.order.iter().take_while(|(due, _)| *due <= now_ms).map(|(_, id)| *id).collect();
        let next = state.order.iter().nth(ready.len()).map(|(due, _)| *due);
        (ready, next)
    }

    pub(crate) fn forget(&self, partition: PartitionId) {
        let mut state = self.0.lock();
        state.set(partition, None);
        state.cursors.remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_each_partition_counts() {
        let heads = Heads::default();
        heads.lower(1, 50);
        heads.lower(2, 30);
        heads.lower(1, 20);
        heads.lower(1, 40);
        assert_eq!(heads.ready(10), (vec![], Some(20)));
        assert_eq!(heads.ready(25), (vec![1], Some(30)));
        assert_eq!(heads.take(1), 0);
        assert_eq!(heads.ready(60), (vec![2], None));
        heads.looked(1, 21, Some(40));
        assert_eq!(heads.ready(60), (vec![2, 1], None));
        assert_eq!(heads.take(1), 21, "rows before it are gone");
        heads.lower(1, 5);
        heads.looked(1, 41, None);
        assert_eq!(heads.ready(10), (vec![1], Some(30)), "what came meanwhile is not forgotten");
        assert_eq!(heads.take(1), 5);
    }
}
