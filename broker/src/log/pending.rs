//! A group's commands between their preparation and their answers: what they do to the index, how they are undone.

use std::sync::Arc;

use krocket_protocol::records::BatchHeader;
use krocket_store::{self as store, BatchRow, Index, IndexError, Location, REPLACEMENT, Rows};

use super::LEADER_EPOCH;
use super::append::{Answer, Append, Appended, Durability, Write};
use super::error::{AppendError, StorageError};
use super::marks::Marked;
use super::partition::Partition;
use super::producers::Producer;
use super::trim::Sweep;
use super::txn::Open;
use super::{DELETED, replay};

/// Most rows that the deletion of a partition takes with it while everybody waits.
const DELETED_ROWS: usize = 4096;

/// What compaction does to a batch.
pub(super) struct Change {
    /// The batch's row as compaction read it.
    pub(super) row: BatchRow,
    /// The same batch with fewer records; `None` when none is left.
    pub(super) batch: Option<bytes::Bytes>,
}

/// A prepared command. All but a duplicate have a frame of their own in the group, in the same order.
#[allow(clippy::large_enum_variant, reason = "nearly all are appends")]
pub(super) enum Pending {
    Append {
        append: Append,
        seed: Seed,
        undo: Undo,
        answer: Answer<Appended, AppendError>,
    },
    Duplicate {
        durability: Durability,
        appended: Appended,
        answer: Answer<Appended, AppendError>,
    },
    Commit {
        writes: Vec<Write>,
        durability: Durability,
        answer: Answer<(), StorageError>,
    },
    Trim {
        partition: Arc<Partition>,
        to: i64,
        writes: Vec<Write>,
        durability: Durability,
        answer: Answer<(), StorageError>,
    },
    Sweep {
        partition: Arc<Partition>,
        sweep: Sweep,
        writes: Vec<Write>,
        answer: Answer<(), StorageError>,
    },
    Compact {
        partition: Arc<Partition>,
        changes: Vec<Change>,
        writes: Vec<Write>,
        answer: Answer<(), StorageError>,
    },
    Snapshot {
        partition: Arc<Partition>,
        write: Write,
    },
    EndTxn {
        markers: Vec<Placed>,
        writes: Vec<Write>,
        durability: Durability,
        answer: Answer<(), StorageError>,
    },
}

/// A transaction's marker in one partition.
pub(super) struct Placed {
    pub(super) partition: Arc<Partition>,
    pub(super) batch: bytes::Bytes,
    pub(super) header: BatchHeader,
    pub(super) seed: Seed,
    pub(super) undo: Undo,
}

/// What an append's index row needs beside its header.
pub(super) struct Seed {
    pub(super) base_offset: i64,
    pub(super) running_max_timestamp: i64,
    pub(super) cumulative_bytes: u64,
    pub(super) marked: Marked,
    /// First offset that a transaction has yet to decide about.
    pub(super) unstable: i64,
    /// The notes' rows, with the offsets that they were waiting for.
    pub(super) writes: Vec<Write>,
}

impl Seed {
    fn row(&self, header: &BatchHeader, location: Location) -> BatchRow {
        let header = BatchHeader { base_offset: self.base_offset, leader_epoch: LEADER_EPOCH, ..*header };
        let Marked { flags, ref marks, .. } = self.marked;
        BatchRow::new(&header, location, self.running_max_timestamp, self.cumulative_bytes, flags, marks)
    }
}

/// A partition's state before an append.
pub(super) struct Undo {
    pub(super) running_max_timestamp: i64,
    pub(super) cumulative_bytes: u64,
    pub(super) visible_end: i64,
    pub(super) producer: Option<(i64, Option<Producer>)>,
    /// The producer's transaction, where that began or ended.
    pub(super) open: Option<(i64, Option<Open>)>,
}

/// Turns what was appended into index rows; the rows of new batches are returned in order.
pub(super) fn apply(
    index: &Index,
    rows: &mut Rows,
    pending: &[Pending],
    appended: &[store::Appended],
) -> Result<Vec<BatchRow>, IndexError> {
    let mut appended = appended.iter();
    let mut batch_rows = Vec::with_capacity(pending.len());
    for pending in pending {
        if matches!(pending, Pending::Duplicate { .. }) {
            continue;
        }
        let frame = appended.next().expect("a frame for each");
        match pending {
            Pending::Append { append, seed, .. } => {
                let row = seed.row(&append.header, frame.batches[0]);
                rows.put_batch(append.partition.id, &row)?;
                replay::note_work(rows, frame.position, append.partition.id, &row);
                apply_writes(rows, frame.position, &seed.writes)?;
                batch_rows.push(row);
            }
            Pending::EndTxn { markers, writes, .. } => {
                for (placed, location) in markers.iter().zip(&frame.batches) {
                    let row = placed.seed.row(&placed.header, *location);
                    rows.put_batch(placed.partition.id, &row)?;
                    batch_rows.push(row);
                }
                apply_writes(rows, frame.position, writes)?;
            }
            Pending::Commit { writes, .. } => apply_writes(rows, frame.position, writes)?,
            Pending::Snapshot { write, .. } => apply_writes(rows, frame.position, std::slice::from_ref(write))?,
            Pending::Trim { partition, to, writes, .. } => {
                apply_writes(rows, frame.position, writes)?;
                if *to == DELETED {
                    delete_some(rows, index, partition.id)?;
                }
            }
            Pending::Sweep { partition, sweep, writes, .. } => {
                apply_writes(rows, frame.position, writes)?;
                for (first, last) in sweep.gaps() {
                    rows.drop_batches(partition.id, *first, *last)?;
                }
            }
            Pending::Compact { partition, changes, writes, .. } => {
                let mut locations = frame.batches.iter();
                for Change { row, batch } in changes {
                    let Some(batch) = batch else {
                        rows.drop_batches(partition.id, row.base_offset, row.last_offset)?;
                        continue;
                    };
                    let location = *locations.next().expect("a location for each batch");
                    let header = BatchHeader::read(batch).expect("checked when the frame was built");
                    let header = BatchHeader { leader_epoch: LEADER_EPOCH, ..header };
                    let (running_max, cumulative) = (row.running_max_timestamp, row.cumulative_bytes);
                    let flags = row.flags | REPLACEMENT;
                    let row = BatchRow::new(&header, location, running_max, cumulative, flags, &row.marks);
                    rows.put_batch(partition.id, &row)?;
                }
                apply_writes(rows, frame.position, writes)?;
            }
            Pending::Duplicate { .. } => {}
        }
    }
    Ok(batch_rows)
}

/// Deletes rows of a partition, the oldest first, so many at most; the rest are left to the house-keeping.
fn delete_some(rows: &mut Rows, index: &Index, partition: u32) -> Result<(), IndexError> {
    let end = index.batches(partition, 0).nth(DELETED_ROWS).transpose()?.map_or(DELETED, |row| row.base_offset);
    rows.delete_batches(partition, end)
}

fn apply_writes(rows: &mut Rows, position: store::Position, writes: &[Write]) -> Result<(), IndexError> {
    for write in writes {
        match write {
            Write::Put { table, key, value } => rows.put(position, *table, key, value)?,
            Write::PutNew { table, key, value } => rows.put_new(position, *table, key, value),
            Write::Delete { table, key } => rows.delete(*table, key)?,
            Write::DeleteKnown { table, key, was } => rows.delete_known(*table, key, was.position, was.len as usize),
        }
    }
    Ok(())
}

/// Takes back what the preparation of a group changed, newest first, and answers with the error.
pub(super) fn undo(pending: Vec<Pending>, error: &StorageError) {
    for pending in pending.iter().rev() {
        match pending {
            Pending::Append { append, seed, undo, .. } => undo.take_back(&append.partition, seed),
            Pending::EndTxn { markers, .. } => {
                markers.iter().rev().for_each(|placed| placed.undo.take_back(&placed.partition, &placed.seed));
            }
            _ => {}
        }
    }
    fail(pending, error);
}

impl Undo {
    pub(super) fn take_back(&self, partition: &Partition, seed: &Seed) {
        let mut state = partition.state.lock();
        state.running_max_timestamp = self.running_max_timestamp;
        state.cumulative_bytes = self.cumulative_bytes;
        state.visible_end = self.visible_end;
        if let (Some((producer_id, old)), Some(tracked)) = (&self.producer, &mut state.producers) {
            tracked.producers.restore(*producer_id, old.clone());
        }
        match self.open {
            Some((producer_id, Some(open))) => drop(state.open.insert(producer_id, open)),
            Some((producer_id, None)) => drop(state.open.remove(&producer_id)),
            None => {}
        }
        partition.set_log_end(seed.base_offset);
    }
}

/// Batches that are in the log but not in memory would leave a gap there that readers don't see.
pub(super) fn forget_recent(pending: &[Pending]) {
    for pending in pending {
        match pending {
            Pending::Append { append, .. } => append.partition.recent.lock().clear(),
            Pending::EndTxn { markers, .. } => markers.iter().for_each(|placed| placed.partition.recent.lock().clear()),
            _ => {}
        }
    }
}

pub(super) fn fail(pending: Vec<Pending>, error: &StorageError) {
    for pending in pending {
        match pending {
            Pending::Append { answer, .. } | Pending::Duplicate { answer, .. } => {
                drop(answer.send(Err(error.clone().into())));
            }
            Pending::Commit { answer, .. }
            | Pending::Trim { answer, .. }
            | Pending::Sweep { answer, .. }
            | Pending::Compact { answer, .. }
            | Pending::EndTxn { answer, .. } => {
                drop(answer.send(Err(error.clone())));
            }
            Pending::Snapshot { .. } => {}
        }
    }
}
