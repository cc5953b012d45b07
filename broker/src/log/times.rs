//! Offsets by time.

use krocket_store::BatchRow;

use super::error::StorageError;
use super::marks::{HIDDEN_ALL, Visible};
use super::partition::Partition;
use super::read::{Attempt, unreadable};
use super::{Log, Shared};

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// The record's offset.
    pub offset: i64,
    /// Its timestamp, ms.
    pub timestamp: i64,
}

impl Log {
    /// The first visible record with this timestamp or a later one. Blocks on the disk.
    pub fn offset_for_timestamp(
        &self,
        partition: &Partition,
        timestamp: i64,
    ) -> Result<Option<TimedOffset>, StorageError> {
        let (start, end) = (partition.log_start(), partition.high_watermark());
        self.0.retry(|shared| {
            let (mut low, mut high) = (start, end);
            while low < high {
                let middle = low + (high - low) / 2;
                match shared.index.batch(partition.id, middle)? {
                    Some(row) if row.running_max_timestamp >= timestamp => high = row.base_offset.clamp(low, middle),
                    Some(row) => low = row.last_offset + 1,
                    None => high = middle,
                }
            }
            // Compaction may have taken the very record that the row's maximum is of, hence more than one row.
            for row in shared.index.batches(partition.id, low) {
                let row = row?;
                if row.base_offset >= end {
                    break;
                }
                if row.max_timestamp < timestamp || row.flags & HIDDEN_ALL != 0 {
                    continue;
                }
                if let Some(found) =
                    shared.find_record(&row, |record| record.offset >= start && record.timestamp >= timestamp)?
                {
                    return Ok(Some(found).filter(|found| found.offset < end));
                }
            }
            Ok(None)
        })
    }

    /// The visible record with the highest timestamp, the first of several (KIP-734). Blocks on the disk.
    pub fn max_timestamp(&self, partition: &Partition) -> Result<Option<TimedOffset>, StorageError> {
        let end = partition.high_watermark();
        let last = if end > partition.log_start() { self.0.index.batch(partition.id, end - 1)? } else { None };
        let Some(last) = last else { return Ok(None) };
        self.offset_for_timestamp(partition, last.running_max_timestamp).and_then(|found| match found {
            Some(found) => Ok(Some(found)),
            // The record that had it is gone: look at what is left.
            None => self.max_timestamp_by_scan(partition, end),
        })
    }

    fn max_timestamp_by_scan(&self, partition: &Partition, end: i64) -> Result<Option<TimedOffset>, StorageError> {
        let mut max = None;
        for row in self.0.index.batches(partition.id, partition.log_start()) {
            let row = row?;
            if row.base_offset >= end {
                break;
            }
            let highest = match Visible::of(&row) {
                Visible::All => Some(row.max_timestamp),
                Visible::None => None,
                visible => self.0.retry(|shared| {
                    let mut highest = None;
                    for record in &shared.records(&row)? {
                        let record = record.map_err(|error| unreadable(&error))?;
                        if !visible.hides(record.offset - row.base_offset) {
                            highest = highest.max(Some(record.timestamp));
                        }
                    }
                    Ok(highest)
                })?,
            };
            max = max.max(highest);
        }
        max.map_or(Ok(None), |max| self.offset_for_timestamp(partition, max))
    }
}

impl Shared {
    fn find_record(
        &self,
        row: &BatchRow,
        wanted: impl Fn(&TimedOffset) -> bool,
    ) -> Result<Option<TimedOffset>, Attempt> {
        let records = self.records(row)?;
        let visible = Visible::of(row);
        for record in &records {
            let record = record.map_err(|error| unreadable(&error))?;
            if visible.hides(record.offset - row.base_offset) {
                continue;
            }
            let timed = TimedOffset { offset: record.offset, timestamp: record.timestamp };
            if wanted(&timed) {
                return Ok(Some(timed));
            }
        }
        Ok(None)
    }
}
