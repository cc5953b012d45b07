//! The writer's part in transactions: where they begin, and the frame that ends one.

use std::sync::Arc;

use krocket_protocol::records::BatchHeader;
use krocket_store::{FrameBuilder, NewBatch};

use super::LEADER_EPOCH;
use super::append::{Answer, Durability, Write};
use super::error::{AppendError, StorageError};
use super::marks::Marked;
use super::partition::{Partition, State};
use super::pending::{Pending, Placed, Seed, Undo};
use super::txn::{Aborted, Marker, Open, first_unstable};
use super::writer::{Group, Writer, add_writes};

/// The end of a transaction. See [`super::Log::end_txn`].
#[derive(Debug)]
pub struct EndTxn {
    /// How it ends.
    pub marker: Marker,
    /// Where it may be open; where it is not, nothing is appended.
    pub partitions: Vec<Arc<Partition>>,
    /// What else is true then: offsets that it commits, the coordinator's row.
    pub writes: Vec<Write>,
    /// When it is answered and becomes visible.
    pub durability: Durability,
}

impl State {
    /// The transaction that a batch begins in this partition.
    pub(super) fn begins_txn(
        &self,
        header: &BatchHeader,
        base_offset: i64,
        now_ms: impl FnOnce() -> i64,
    ) -> Result<Option<(i64, Open)>, AppendError> {
        if !header.has_producer() {
            return Ok(None);
        }
        let is_open = self.open.contains_key(&header.producer_id);
        if is_open && !header.is_transactional() {
            return Err(AppendError::NotInTxn(header.producer_id));
        }
        let open = || Open { epoch: header.producer_epoch, first_offset: base_offset, since_ms: now_ms() };
        Ok((header.is_transactional() && !is_open).then(|| (header.producer_id, open())))
    }
}

impl Writer {
    pub(super) fn prepare_end_txn(&mut self, end: EndTxn, answer: Answer<(), StorageError>, group: &mut Group) {
        let EndTxn { marker, partitions, mut writes, durability } = end;
        let mut builder = FrameBuilder::new();
        let mut markers = Vec::new();
        for partition in partitions {
            match self.place(marker, partition, &mut builder, &mut writes) {
                Ok(placed) => markers.extend(placed),
                Err(error) => return take_back(&markers, answer, error),
            }
        }
        if let Some(error) = &self.failed {
            return take_back(&markers, answer, error.clone());
        }
        if markers.is_empty() && writes.is_empty() {
            drop(answer.send(Ok(())));
            return;
        }
        add_writes(&mut builder, &writes);
        match self.add_frame(builder, group) {
            Ok(()) => group.pending.push(Pending::EndTxn { markers, writes, durability, answer }),
            Err(error) => take_back(&markers, answer, error),
        }
    }

    /// Appends the marker to a partition in which the transaction is open.
    fn place(
        &mut self,
        marker: Marker,
        partition: Arc<Partition>,
        builder: &mut FrameBuilder,
        writes: &mut Vec<Write>,
    ) -> Result<Option<Placed>, StorageError> {
        let mut state = partition.state.lock();
        if partition.is_deleted() || !state.open.contains_key(&marker.producer_id) {
            return Ok(None);
        }
        self.tracked(&partition, &mut state)?;
        let now_ms = self.shared.clock.now_ms();
        let Some(open) = state.open.get(&marker.producer_id).copied() else { return Ok(None) };
        let base_offset = partition.log_end();
        let unparked =
            if marker.commit { Vec::new() } else { self.shared.unpark(partition.id, marker.producer_id, &open)? };
        state.open.remove(&marker.producer_id);
        let unstable = first_unstable(&state.open);
        writes.push(Open::delete(partition.id, marker.producer_id));
        if !marker.commit {
            let (producer_id, first_offset) = (marker.producer_id, open.first_offset);
            let aborted = Aborted { producer_id, first_offset, last_offset: base_offset };
            writes.push(aborted.put(partition.id, unstable.min(base_offset + 1)));
            partition.note_abort(base_offset);
            writes.extend(unparked);
        }
        let batch = marker.batch(now_ms);
        let header = BatchHeader::read(&batch).map_err(|error| StorageError {
            message: error.to_string(),
            passing: false,
            damaged: false,
        })?;
        // Times lead to records, and a marker is none.
        let running_max_timestamp = state.running_max_timestamp;
        let cumulative_bytes = state.cumulative_bytes + batch.len() as u64;
        let marked = Marked { visible_end: base_offset + 1, ..Marked::default() };
        builder.batch(NewBatch {
            partition: partition.id,
            base_offset,
            leader_epoch: LEADER_EPOCH,
            flags: marked.flags,
            running_max_timestamp,
            cumulative_bytes,
            marks: &marked.marks,
            batch: batch.clone(),
        });
        let tracked = state.producers.get_or_insert_default();
        let old = tracked.producers.end_txn(marker.producer_id, marker.epoch, now_ms);
        if tracked.counts_one() {
            self.snapshots_due.push(partition.clone());
        }
        let undo = Undo {
            running_max_timestamp,
            cumulative_bytes: std::mem::replace(&mut state.cumulative_bytes, cumulative_bytes),
            visible_end: std::mem::replace(&mut state.visible_end, base_offset + 1),
            producer: Some((marker.producer_id, old)),
            open: Some((marker.producer_id, Some(open))),
        };
        partition.set_log_end(base_offset + 1);
        drop(state);
        let seed = Seed { base_offset, running_max_timestamp, cumulative_bytes, marked, unstable, writes: Vec::new() };
        Ok(Some(Placed { partition, batch, header, seed, undo }))
    }
}

fn take_back(markers: &[Placed], answer: Answer<(), StorageError>, error: StorageError) {
    markers.iter().rev().for_each(|placed| placed.undo.take_back(&placed.partition, &placed.seed));
    drop(answer.send(Err(error)));
}
