//! What is known of a parked record.

use krocket_stack::ledger::{PartitionId, tables};
use krocket_stack::{LedgerError, Written};

use crate::Parking;
use crate::rows::{Ended, Entry, Locator, Outcome, due_key, locator, parse_due_key, parse_locator, uniq_prefix};

/// What became of a record that was produced to be parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits.
    Pending {
        /// Until this epoch ms.
        due: i64,
        /// What is to be done then.
        entry: Entry,
    },
    /// It is being delivered, cancelled or changed right now.
    Busy,
    /// It ended otherwise than by delivery.
    Ended(Ended),
    /// It was delivered.
    Delivered,
    /// It never was parked, or is gone.
    Unknown,
}

/// A parked record in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub at: Locator,
    /// Until when it waits, epoch ms.
    pub due: i64,
    /// What is to be done then.
    pub entry: Entry,
    /// Where the log has its row.
    pub was: Written,
}

impl Parking {
    /// What became of a record.
    pub fn status(&self, at: Locator) -> Result<Status, LedgerError> {
        if self.claims.is_taken(at) {
            return Ok(Status::Busy);
        }
        self.stored_status(at)
    }

    /// The same for whoever holds the claim.
    pub fn stored_status(&self, at: Locator) -> Result<Status, LedgerError> {
        let ledger = &*self.ledger;
        if let Some(due) = ledger.get(tables::PARKED, &locator(at))? {
            let due = due.first_chunk().map_or(i64::MAX, |due| i64::from_be_bytes(*due));
            let entry = ledger.get(tables::DUE, &due_key(at, due))?.and_then(|bytes| Entry::decode(&bytes));
            return Ok(Status::Pending { due, entry: entry.unwrap_or_default() });
        }
        if let Some(ended) = self.ended(at)?.filter(|ended| ended.outcome != Outcome::Committed) {
            return Ok(Status::Ended(ended));
        }
        let hidden =
            ledger.batches(at.0, at.1, 1)?.first().is_some_and(|stored| stored.hidden.binary_search(&at.1).is_ok());
        Ok(if hidden { Status::Delivered } else { Status::Unknown })
    }

    /// How a record ended, or was told to: a committed half message may still have to be delivered.
    pub fn ended(&self, at: Locator) -> Result<Option<Ended>, LedgerError> {
        let bytes = self.ledger.get(tables::ENDED, &locator(at))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Records that were parked in these partitions under a UNIQ_KEY, pending or not.
    pub fn by_uniq(&self, partitions: &[PartitionId], uniq: &str) -> Result<Vec<Locator>, LedgerError> {
        let mut found = Vec::new();
        for partition in partitions {
            let prefix = uniq_prefix(*partition, uniq);
            self.ledger.scan(tables::UNIQ, &prefix, &mut |key, _| {
                let Some(offset) = key.strip_prefix(&prefix[..]).and_then(|rest| rest.try_into().ok()) else {
                    return false;
                };
                found.push((*partition, i64::from_be_bytes(offset)));
                true
            })?;
        }
        Ok(found)
    }

    /// Parked records of a partition that are due from `from` on (epoch ms), after `after`, the soonest first.
    pub fn pending(
        &self,
        partition: PartitionId,
        from: i64,
        after: Option<(i64, i64)>,
        visit: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<(), LedgerError> {
        let start = match after {
            Some((due, offset)) => due_key((partition, offset + 1), due),
            None => due_key((partition, 0), from.max(0)),
        };
        self.ledger.scan_written(tables::DUE, &start, &mut |key, value, was| {
            let Some((of, due, offset)) = parse_due_key(key).filter(|(of, ..)| *of == partition) else { return false };
            visit(Listed { at: (of, offset), due, entry: Entry::decode(value).unwrap_or_default(), was })
        })
    }

    /// Partitions that have something parked, and when the first of it is due. One seek for each.
    pub(crate) fn first_dues(&self) -> Result<Vec<(PartitionId, i64)>, LedgerError> {
        let mut firsts = Vec::new();
        let mut from = Vec::new();
        loop {
            let mut found = None;
            self.ledger.scan(tables::DUE, &from, &mut |key, _| {
                found = parse_due_key(key);
                false
            })?;
            let Some((partition, due, _)) = found else { return Ok(firsts) };
            firsts.push((partition, due));
            let Some(next) = partition.checked_add(1) else { return Ok(firsts) };
            from = next.to_be_bytes().to_vec();
        }
    }

    /// Forgets UNIQ and ENDED rows whose records the log has let go; how many.
    pub(crate) fn sweep(&self) -> Result<Vec<krocket_stack::Row>, LedgerError> {
        let mut rows = Vec::new();
        for table in [tables::UNIQ, tables::ENDED] {
            let mut start = (None, 0);
            self.ledger.scan(table, &[], &mut |key, _| {
                let Some((partition, at_front)) = parse_locator(key) else { return true };
                let offset = if table == tables::ENDED {
                    at_front
                } else {
                    key.last_chunk().map_or(i64::MAX, |offset| i64::from_be_bytes(*offset))
                };
                if start.0 != Some(partition) {
                    start = (Some(partition), self.ledger.partition(partition).map_or(i64::MAX, |info| info.log_start));
                }
                if offset < start.1
                    && matches!(self.ledger.get(tables::PARKED, &locator((partition, offset))), Ok(None))
                {
                    rows.push(krocket_stack::Row::delete(table, key));
                }
                rows.len() < 10_000
            })?;
        }
        Ok(rows)
    }
}
