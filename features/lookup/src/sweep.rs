//! Rows of messages that retention took, and of topics that were deleted, go a few at a time.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use krocket_stack::ledger::{PartitionId, tables};
use krocket_stack::{LedgerError, Row};
use tokio_util::sync::CancellationToken;

use crate::index::{FIRST_ROW, Lookup, locator, parse};

/// Rows looked at in a tick.
const LOOKED_AT: usize = 10_000;
/// Between ticks, and between rounds through all rows.
const TICK: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_secs(60);

impl Lookup {
    /// Takes rows away until stopped. A round is made only when a log start has moved since the last.
    pub(crate) async fn sweep_until(self: &Arc<Self>, stop: &CancellationToken) {
        let (mut from, mut seen) = (None::<Vec<u8>>, None);
        loop {
            tokio::select! {
                () = tokio::time::sleep(if from.is_some() { TICK } else { ROUND }) => {}
                () = stop.cancelled() => return,
            }
            let (lookup, start, before) = (self.clone(), from.take(), seen);
            let swept = tokio::task::spawn_blocking(move || {
                let starts = if start.is_some() { before } else { Some(lookup.log_starts()) };
                if start.is_none() && starts == before {
                    return Ok((None, starts));
                }
                lookup.sweep(start.as_deref().unwrap_or(FIRST_ROW), LOOKED_AT).map(|next| (next, starts))
            });
            match swept.await {
                Ok(Ok(found)) => (from, seen) = found,
                Ok(Err(error)) => tracing::warn!(%error, "the look-up index could not be swept"),
                Err(error) => tracing::error!(%error, "sweeping the look-up index failed"),
            }
        }
    }

    /// Changes when a log start does, or a topic comes or goes.
    fn log_starts(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for id in self.ledger.topics().into_iter().flat_map(|topic| topic.partitions) {
            (id, self.ledger.partition(id).map(|info| info.log_start)).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Looks at so many rows from a key on and deletes those whose message is past its retention and not parked; the key
    /// to go on from, unless that was the last.
    pub(crate) fn sweep(&self, from: &[u8], limit: usize) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut starts: HashMap<PartitionId, Option<i64>> = HashMap::new();
        let (mut looked_at, mut gone, mut next) = (0, Vec::new(), None);
        self.ledger.scan(tables::LOOKUP, from, &mut |key, _| {
            if looked_at == limit {
                next = Some(key.to_vec());
                return false;
            }
            looked_at += 1;
            let Some((_, partition, offset)) = parse(key) else { return true };
            let start = *starts.entry(partition).or_insert_with(|| Some(self.ledger.partition(partition)?.log_start));
            if start.is_none_or(|start| offset < start) {
                gone.push((key.to_vec(), start.is_some(), (partition, offset)));
            }
            true
        })?;
        let mut rows = Vec::new();
        for (key, may_be_parked, at) in gone {
            if !may_be_parked || self.ledger.get(tables::PARKED, &locator(at))?.is_none() {
                rows.push(Row::delete(tables::LOOKUP, key));
            }
        }
        if !rows.is_empty() {
            self.ledger.derive(rows)?;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::By;
    use crate::testing::{Memory, lookup, record};

    #[test]
    fn rows_of_what_is_gone_go_and_those_of_parked_messages_stay() {
        let memory = Memory::new(&["orders", "orders"]);
        for (partition, offset) in [(0, 0), (0, 1), (0, 2), (1, 0)] {
            memory.append(partition, offset, &record(&[("UNIQ_KEY", "u")]));
        }
        let lookup = lookup(&memory, &["*"]);
        assert_eq!(lookup.rebuild_now(b"1", || false), Ok(true));
        let left = || -> Vec<(u32, i64)> {
            let rows = memory.keys(tables::LOOKUP);
            let places = rows.iter().map(|key| parse(key).map(|(_, partition, offset)| (partition, offset)));
            let mut places: Vec<_> = places.map(|place| place.expect("a row")).collect();
            places.sort_unstable();
            places
        };
        assert_eq!(lookup.sweep(FIRST_ROW, 100), Ok(None));
        assert_eq!(left(), [(0, 0), (0, 1), (0, 2), (1, 0)], "nothing is gone yet");

        let before = lookup.log_starts();
        memory.put(tables::PARKED, &locator((0, 0)), &i64::MAX.to_be_bytes());
        memory.set_log_start(0, 2);
        memory.delete(1);
        assert_ne!(lookup.log_starts(), before);
        let mut from = Some(FIRST_ROW.to_vec());
        let mut ticks = 0;
        while let Some(start) = from {
            from = lookup.sweep(&start, 1).expect("sweeps");
            ticks += 1;
        }
        assert_eq!((left(), ticks), (vec![(0, 0), (0, 2)], 4), "one row a tick");
        let wanted = crate::query::Wanted { by: By::Uniq, text: b"u", topic: None, from: 0, to: i64::MAX };
        let (found, _) = lookup.find(&wanted, None, 10).expect("finds");
        assert_eq!(found.iter().map(|message| message.at.1).collect::<Vec<_>>(), [2]);
    }
}
