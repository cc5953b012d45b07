//! Where a partition begins. The writer moves a log start and nothing else, however much lies below; the house-keeping
//! finds what goes, and the writer deletes it some rows at a time.

use std::sync::Arc;

use krocket_stack::ledger::tables::PARKED;
use krocket_store::{BatchRow, FrameBuilder, Index, IndexError, Scan};
use tokio::sync::oneshot;

use super::append::{Answer, Committing, Durability, Outcome, Write};
use super::error::StorageError;
use super::housekeeping::DELETED_AT_ONCE;
use super::partition::{Partition, PartitionId};
use super::pending::Pending;
use super::writer::{Command, Group, Writer, add_writes};
use super::{DELETED, Shared, tables};

/// The row of a partition in [`tables::LOG_STARTS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogStart {
    /// First offset that can be read; [`DELETED`] when the partition was taken away.
    pub(super) start: i64,
    /// No batch ends below this. Parked ones may lie between the two, and others until they are swept.
    pub(super) floor: i64,
}

impl LogStart {
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (start, rest) = value.split_first_chunk()?;
        let start = i64::from_be_bytes(*start);
        Some(LogStart { start, floor: rest.first_chunk().map_or(start, |floor| i64::from_be_bytes(*floor)) })
    }

    fn put(self, id: PartitionId) -> Write {
        let mut value = self.start.to_be_bytes().to_vec();
        if self.floor != self.start {
            value.extend_from_slice(&self.floor.to_be_bytes());
        }
        Write::Put { table: tables::LOG_STARTS, key: id.to_be_bytes().to_vec(), value }
    }
}

/// Batches below a log start that nobody needs.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Those inside these offsets, both included.
    gaps: Vec<(i64, i64)>,
    /// With them everything that ends before this is gone.
    floor: i64,
}

impl Sweep {
    pub(super) fn gaps(&self) -> &[(i64, i64)] {
        &self.gaps
    }
}

/// Which batches of a partition are parked, asked in the order of their offsets: one walk through the table for all.
struct Pins<'a> {
    scan: Scan<'a>,
    /// Of the first that was not passed yet.
    next: Option<i64>,
}

impl<'a> Pins<'a> {
    fn new(index: &'a Index, id: PartitionId) -> Self {
        Pins { scan: index.scan(PARKED, &id.to_be_bytes()), next: Some(i64::MIN) }
    }

    /// True while a record of the batch waits to be delivered.
    fn hold(&mut self, row: &BatchRow) -> Result<bool, IndexError> {
        while self.next.is_some_and(|next| next < row.base_offset) {
            let key = self.scan.next().transpose()?.map(|(key, _)| key);
            self.next = key.and_then(|key| Some(i64::from_be_bytes(*key.last_chunk()?)));
        }
        Ok(self.next.is_some_and(|next| next <= row.last_offset))
    }
}

impl Shared {
    pub(super) fn log_start(&self, id: PartitionId) -> Result<LogStart, IndexError> {
        let row = self.index.get(tables::LOG_STARTS, &id.to_be_bytes())?;
        Ok(row.and_then(|value| LogStart::decode(&value)).unwrap_or_default())
    }

    pub(super) fn trim(&self, partition: Arc<Partition>, to: i64, durability: Durability) -> Committing {
        let (answer, outcome) = oneshot::channel();
        self.send(Command::Trim { partition, to, durability, answer });
        Outcome(outcome)
    }

    /// Deletes what lies below the log start and is not parked, in one walk.
    pub(super) fn sweep(&self, partition: &Arc<Partition>) -> Result<(), StorageError> {
        let start = partition.log_start();
        if start == 0 {
            return Ok(());
        }
        let mut pins = Pins::new(&self.index, partition.id);
        let mut sweep = Sweep::default();
        let mut rows = 0;
        let mut pinned = false;
        // Not in the same gap as the row before.
        let mut apart = true;
        for row in self.index.batches(partition.id, 0) {
            let row = row?;
            if partition.is_deleted() || self.stopping.is_set() {
                return Ok(());
            }
            if row.last_offset >= start {
                break;
            }
            if pins.hold(&row)? {
                (pinned, apart) = (true, true);
                continue;
            }
            match sweep.gaps.last_mut().filter(|_| !apart) {
                Some(gap) => gap.1 = row.last_offset,
                None => sweep.gaps.push((row.base_offset, row.last_offset)),
            }
            apart = false;
            if !pinned {
                sweep.floor = row.last_offset + 1;
            }
            rows += 1;
            if rows == DELETED_AT_ONCE {
                self.delete(partition, std::mem::take(&mut sweep))?;
                (rows, apart) = (0, true);
            }
        }
        if !pinned {
            sweep.floor = start;
        }
        if rows > 0 { self.delete(partition, sweep) } else { Ok(()) }
    }

    fn delete(&self, partition: &Arc<Partition>, sweep: Sweep) -> Result<(), StorageError> {
        let (answer, outcome) = oneshot::channel();
        self.send(Command::Sweep { partition: partition.clone(), sweep, answer });
        Outcome(outcome).wait()
    }
}

impl Writer {
    pub(super) fn prepare_trim(
        &mut self,
        partition: &Arc<Partition>,
        to: i64,
        group: &mut Group,
    ) -> Result<Vec<Write>, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let id = partition.id;
        let writes = if to == DELETED {
            let key = id.to_be_bytes().to_vec();
            vec![
                LogStart { start: to, floor: to }.put(id),
                Write::Delete { table: tables::PRODUCERS, key: key.clone() },
                Write::Delete { table: tables::COMPACTIONS, key },
            ]
        } else {
            // The batches that go are what the producers' state would be rebuilt from.
            let snapshot = self.snapshot(partition)?;
            let LogStart { floor, .. } = self.shared.log_start(id)?;
            snapshot.into_iter().chain([LogStart { start: to, floor }.put(id)]).collect()
        };
        let mut builder = FrameBuilder::new();
        add_writes(&mut builder, &writes);
        self.add_frame(builder, group)?;
        Ok(writes)
    }

    /// Without a frame when the partition was deleted meanwhile.
    pub(super) fn prepare_sweep(
        &mut self,
        partition: Arc<Partition>,
        sweep: Sweep,
        answer: Answer<(), StorageError>,
        group: &mut Group,
    ) {
        let id = partition.id;
        if partition.is_deleted() {
            return drop(answer.send(Ok(())));
        }
        if let Some(error) = &self.failed {
            return drop(answer.send(Err(error.clone())));
        }
        let LogStart { start, floor } = match self.shared.log_start(id) {
            Ok(row) => row,
            Err(error) => return drop(answer.send(Err(error.into()))),
        };
        let floor = floor.max(sweep.floor);
        let mut builder = FrameBuilder::new();
        let writes = vec![LogStart { start, floor }.put(id)];
        add_writes(&mut builder, &writes);
        for (first, last) in sweep.gaps.iter().filter(|(first, _)| *first >= floor) {
            builder.drop_batches(id, *first, *last);
        }
        match self.add_frame(builder, group) {
            Ok(()) => group.pending.push(Pending::Sweep { partition, sweep, writes, answer }),
            Err(error) => drop(answer.send(Err(error))),
        }
    }
}
