//! The one thread that writes: it assigns offsets, checks sequences and appends, a group of commands at a time.
//!
//! A group is prepared in memory, written with one append, applied to the index with one commit, and only then
//! published and answered. When the append fails, everything that the preparation changed is taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use krocket_store::{self as store, Appender, BatchRow, Frame, FrameBuilder, NewBatch, REPLACEMENT};
use tracing::error;

use super::LEADER_EPOCH;
use super::append::{Answer, Append, Appended, Durability, Write};
use super::end_txn::EndTxn;
use super::error::{AppendError, StorageError};
use super::marks::{HIDDEN_ALL, INDEXED, Marked};
use super::metrics::METRICS;
use super::partition::{Ends, Partition, State, Tracked};
use super::pending::{self, Change, Pending, Placed, Seed, Undo};
use super::producers::{Numbered, Sequence};
use super::recent::{Cached, Ring};
use super::sync::{Round, Waiting};
use super::trim::Sweep;
use super::txn::first_unstable;
use super::{DELETED, Shared, tables};

/// A group is written when it is this large.
const GROUP_BYTES: usize = 8 << 20;
const GROUP_FRAMES: usize = 4096;

/// What the writer is asked to do.
pub(super) enum Command {
    Append(Append, Answer<Appended, AppendError>),
    Commit {
        writes: Vec<Write>,
        durability: Durability,
        answer: Answer<(), StorageError>,
    },
    /// Moves the log start; to [`DELETED`] it takes the partition away.
    Trim {
        partition: Arc<Partition>,
        to: i64,
        durability: Durability,
        answer: Answer<(), StorageError>,
    },
    /// Deletes batches below the log start.
    Sweep {
        partition: Arc<Partition>,
        sweep: Sweep,
        answer: Answer<(), StorageError>,
    },
    Compact {
        partition: Arc<Partition>,
        changes: Vec<Change>,
        answer: Answer<(), StorageError>,
    },
    EndTxn(EndTxn, Answer<(), StorageError>),
}

/// The writer thread's state.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    appender: Appender,
    ring: Ring,
    pub(super) snapshots_due: Vec<Arc<Partition>>,
    /// Log and index disagree: only a restart helps.
    pub(super) failed: Option<StorageError>,
}

/// Commands that are written together.
#[derive(Default)]
pub(super) struct Group {
    frames: Vec<Frame>,
    bytes: usize,
    pub(super) pending: Vec<Pending>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, appender: Appender, ring: Ring) -> Self {
        Writer { shared, appender, ring, snapshots_due: Vec::new(), failed: None }
    }

    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let mut commands = Vec::new();
        let mut group = Group::default();
        while shared.commands.take(&mut commands) {
            for command in commands.drain(..) {
                // These read the index, which has to be complete, and nothing may refer to what they remove.
                let alone = match &command {
                    Command::Trim { .. } | Command::Sweep { .. } | Command::Compact { .. } => true,
                    Command::EndTxn(end, _) => !end.marker.commit,
                    _ => false,
                };
                if alone || group.bytes >= GROUP_BYTES || group.frames.len() >= GROUP_FRAMES {
                    self.write(&mut group);
                }
                self.prepare(command, &mut group);
                if alone {
                    self.write(&mut group);
                }
            }
            self.prepare_snapshots(&mut group);
            self.write(&mut group);
        }
        shared.rounds.close();
        if let Err(error) = self.appender.seal() {
            tracing::warn!(%error, "the log ends without a word that all of it is durable");
        }
    }

    fn prepare(&mut self, command: Command, group: &mut Group) {
        match command {
            Command::Append(append, answer) => self.prepare_append(append, answer, group),
            Command::Commit { writes, durability, answer } => match self.frame(None, &writes, group) {
                Ok(_) => group.pending.push(Pending::Commit { writes, durability, answer }),
                Err(error) => drop(answer.send(Err(error))),
            },
            // A start would bring a deleted partition back.
            Command::Trim { partition, to, answer, .. } if to != DELETED && partition.is_deleted() => {
                drop(answer.send(Ok(())));
            }
            Command::Trim { partition, to, durability, answer } => {
                // Starts only move forward, also when trims overtake one another.
                let to = if to == DELETED { to } else { to.clamp(partition.log_start(), partition.log_end()) };
                match self.prepare_trim(&partition, to, group) {
                    Ok(writes) => group.pending.push(Pending::Trim { partition, to, writes, durability, answer }),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Command::Sweep { partition, sweep, answer } => self.prepare_sweep(partition, sweep, answer, group),
            Command::Compact { partition, mut changes, answer } => {
                match self.prepare_compact(&partition, &mut changes, group) {
                    Ok(writes) => group.pending.push(Pending::Compact { partition, changes, writes, answer }),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Command::EndTxn(end, answer) => self.prepare_end_txn(end, answer, group),
        }
    }

    fn prepare_append(&mut self, mut append: Append, answer: Answer<Appended, AppendError>, group: &mut Group) {
        match self.try_append(&mut append, group) {
            Ok(Prepared::New { seed, undo }) => {
                group.pending.push(Pending::Append { append, seed, undo, answer });
            }
            Ok(Prepared::Duplicate(appended)) => {
                let durability = append.durability;
                group.pending.push(Pending::Duplicate { durability, appended, answer });
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn try_append(&mut self, append: &mut Append, group: &mut Group) -> Result<Prepared, AppendError> {
        let notes = std::mem::take(&mut append.notes);
        let partition = &append.partition;
        if partition.is_deleted() {
            return Err(AppendError::Deleted);
        }
        let mut state = partition.state.lock();
        let numbered = Numbered::of(&append.header);
        if let Some(numbered) = &numbered
            && let Sequence::Duplicate { base_offset, timestamp } =
                self.tracked(partition, &mut state)?.producers.check(numbered)?
        {
            let log_start_offset = partition.log_start();
            return Ok(Prepared::Duplicate(Appended { base_offset, timestamp, log_start_offset, duplicate: true }));
        }
        let base_offset = partition.log_end();
        let opened = state.begins_txn(&append.header, base_offset, || self.shared.clock.steady_ms())?;
        let marked = Marked::new(&notes, &append.header, base_offset, state.visible_end);
        // Times lead to visible records.
        let running_max_timestamp = match marked.flags & HIDDEN_ALL {
            0 => state.running_max_timestamp.max(append.header.max_timestamp),
            _ => state.running_max_timestamp,
        };
        let cumulative_bytes = state.cumulative_bytes + append.batch.len() as u64;
        let mut writes: Vec<Write> = notes.rows.into_iter().map(|row| Write::of(row, base_offset)).collect();
        writes.extend(opened.map(|(producer_id, open)| open.put(partition.id, producer_id)));
        let batch = NewBatch {
            partition: partition.id,
            base_offset,
            leader_epoch: LEADER_EPOCH,
            flags: marked.flags,
            running_max_timestamp,
            cumulative_bytes,
            marks: &marked.marks,
            batch: append.batch.clone(),
        };
        self.frame(batch.into(), &writes, group)?;
        let producer = numbered.map(|numbered| {
            let tracked = state.producers.get_or_insert_default();
            if tracked.counts_one() {
                self.snapshots_due.push(partition.clone());
            }
            let old = tracked.producers.record(&numbered, base_offset, self.shared.clock.now_ms());
            (numbered.producer_id, old)
        });
        let undo = Undo {
            running_max_timestamp: std::mem::replace(&mut state.running_max_timestamp, running_max_timestamp),
            cumulative_bytes: std::mem::replace(&mut state.cumulative_bytes, cumulative_bytes),
            visible_end: std::mem::replace(&mut state.visible_end, marked.visible_end),
            producer,
            open: opened.map(|(producer_id, open)| {
                state.open.insert(producer_id, open);
                (producer_id, None)
            }),
        };
        partition.set_log_end(base_offset + i64::from(append.header.last_offset_delta) + 1);
        let unstable = first_unstable(&state.open);
        let seed = Seed { base_offset, running_max_timestamp, cumulative_bytes, marked, unstable, writes };
        Ok(Prepared::New { seed, undo })
    }

    /// Adds a frame to the group.
    fn frame(&self, batch: Option<NewBatch<'_>>, writes: &[Write], group: &mut Group) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut builder = FrameBuilder::new();
        if let Some(batch) = batch {
            builder.batch(batch);
        }
        add_writes(&mut builder, writes);
        self.add_frame(builder, group)
    }

    pub(super) fn add_frame(&self, mut builder: FrameBuilder, group: &mut Group) -> Result<(), StorageError> {
        let frame = builder.build()?;
        group.bytes += frame.disk_len();
        group.frames.push(frame);
        Ok(())
    }

    fn prepare_compact(
        &mut self,
        partition: &Arc<Partition>,
        changes: &mut Vec<Change>,
        group: &mut Group,
    ) -> Result<Vec<Write>, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut builder = FrameBuilder::new();
        changes.retain(|change| {
            // Trimmed or deleted while it was compacted: it must not come back.
            let now = self.shared.index.batch(partition.id, change.row.base_offset).ok().flatten();
            now.is_some_and(|now| {
                now.base_offset == change.row.base_offset && now.last_offset == change.row.last_offset
            })
        });
        for Change { row, batch } in changes.iter() {
            match batch {
                Some(batch) => builder.batch(NewBatch {
                    partition: partition.id,
                    base_offset: row.base_offset,
                    leader_epoch: LEADER_EPOCH,
                    flags: row.flags | REPLACEMENT,
                    running_max_timestamp: row.running_max_timestamp,
                    cumulative_bytes: row.cumulative_bytes,
                    marks: &row.marks,
                    batch: batch.clone(),
                }),
                None => builder.drop_batches(partition.id, row.base_offset, row.last_offset),
            };
        }
        let writes: Vec<Write> = self.snapshot(partition)?.into_iter().collect();
        add_writes(&mut builder, &writes);
        self.add_frame(builder, group)?;
        Ok(writes)
    }

    fn prepare_snapshots(&mut self, group: &mut Group) {
        for partition in std::mem::take(&mut self.snapshots_due) {
            if partition.is_deleted() {
                continue;
            }
            // Left out on an error: more batches are replayed at the next start, that is all.
            let Ok(Some(write)) = self.snapshot(&partition) else { continue };
            if self.frame(None, std::slice::from_ref(&write), group).is_ok() {
                group.pending.push(Pending::Snapshot { partition, write });
            }
        }
    }

    /// A partition's producers as of its log end; `None` when there are none.
    pub(super) fn snapshot(&self, partition: &Partition) -> Result<Option<Write>, StorageError> {
        let mut state = partition.state.lock();
        let tracked = self.tracked(partition, &mut state)?;
        if tracked.producers.is_empty() {
            return Ok(None);
        }
        let value = tracked.producers.snapshot(partition.log_end());
        Ok(Some(Write::Put { table: tables::PRODUCERS, key: partition.id.to_be_bytes().to_vec(), value }))
    }

    pub(super) fn tracked<'a>(
        &self,
        partition: &Partition,
        state: &'a mut State,
    ) -> Result<&'a mut Tracked, StorageError> {
        match &mut state.producers {
            Some(_) => {}
            empty => *empty = Some(Box::new(self.shared.load_producers(partition.id)?)),
        }
        Ok(state.producers.as_mut().expect("just loaded"))
    }

    /// Writes, applies, publishes and answers the group, and leaves it empty.
    fn write(&mut self, group: &mut Group) {
        let Group { mut frames, pending, .. } = std::mem::take(group);
        if pending.is_empty() {
            return;
        }
        let started = Instant::now();
        let appended = match self.append(&mut frames) {
            Ok(appended) => appended,
            Err(error) => {
                METRICS.append_errors.inc();
                error!(%error, commands = pending.len(), "the log cannot be written");
                return pending::undo(pending, &error);
            }
        };
        let end = self.appender.end();
        let mut rows = self.shared.index.rows();
        let batch_rows = match pending::apply(&self.shared.index, &mut rows, &pending, &appended) {
            Ok(batch_rows) => batch_rows,
            Err(error) => {
                // What is in the log is there; only a restart can bring the index up to it.
                let error = StorageError::from(error);
                error!(%error, "the index cannot be read: the log stops until it is restarted");
                self.failed = Some(error.clone());
                let _ = self.shared.failed.set(error.clone());
                return pending::fail(pending, &error);
            }
        };
        if let Err(error) = rows.commit(end) {
            // The index keeps the rows and takes them with the next commit; what was appended stays.
            let error = StorageError::from(error);
            error!(%error, "the index cannot be written");
            pending::forget_recent(&pending);
            return pending::fail(pending, &error);
        }
        METRICS.append_seconds.observe(started.elapsed().as_secs_f64());
        METRICS.group_batches.observe(frames.len() as f64);
        self.finish(pending, batch_rows, end);
    }

    fn append(&mut self, frames: &mut [Frame]) -> Result<Vec<store::Appended>, StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        self.appender.append(frames).map_err(StorageError::from)
    }

    /// Makes the group visible and answers it, or leaves both to the sync thread.
    fn finish(&mut self, pending: Vec<Pending>, batch_rows: Vec<BatchRow>, end: store::Position) {
        let (publish, answers, now) = (Vec::new(), Vec::new(), Vec::with_capacity(pending.len()));
        let mut round = Round { end, publish, answers, now, work: false };
        let published = self.shared.published.load(Ordering::Acquire);
        let mut batch_rows = batch_rows.into_iter();
        let (mut bytes, mut records) = (0, 0);
        for pending in pending {
            match pending {
                Pending::Append { append, seed, answer, .. } => {
                    let Append { partition, batch, header, durability, .. } = append;
                    let row = batch_rows.next().expect("a row for each append");
                    round.work |= row.flags & INDEXED != 0;
                    bytes += batch.len() as u64;
                    records += header.count as u64;
                    let log_start_offset = partition.log_start();
                    self.show(partition, &batch, &row, &seed, durability, published, &mut round);
                    let (base_offset, timestamp) = (seed.base_offset, header.max_timestamp);
                    let appended = Appended { base_offset, timestamp, log_start_offset, duplicate: false };
                    round.settle(durability, Waiting::Append(answer, appended));
                }
                Pending::EndTxn { markers, durability, answer, .. } => {
                    for Placed { partition, batch, seed, .. } in markers {
                        let row = batch_rows.next().expect("a row for each marker");
                        bytes += batch.len() as u64;
                        self.show(partition, &batch, &row, &seed, durability, published, &mut round);
                    }
                    round.settle(durability, Waiting::Commit(answer));
                }
                Pending::Duplicate { durability, appended, answer } => {
                    round.settle(durability, Waiting::Append(answer, appended));
                }
                Pending::Commit { durability, answer, .. } => round.settle(durability, Waiting::Commit(answer)),
                Pending::Trim { partition, to, durability, answer, .. } => {
                    if to == DELETED {
                        partition.mark_deleted();
                        partition.recent.lock().clear();
                        self.shared.partitions.remove(&partition.id);
                        self.shared.remains.lock().push(partition);
                    } else {
                        partition.move_log_start(to);
                        partition.recent.lock().trim(to);
                    }
                    round.settle(durability, Waiting::Commit(answer));
                }
                Pending::Sweep { answer, .. } => round.settle(Durability::Written, Waiting::Commit(answer)),
                Pending::Compact { partition, answer, .. } => {
                    partition.recent.lock().clear();
                    round.settle(Durability::Written, Waiting::Commit(answer));
                }
                Pending::Snapshot { partition, .. } => {
                    if let Some(tracked) = &mut partition.state.lock().producers {
                        tracked.since_snapshot = 0;
                    }
                }
            }
        }
        round.answer_now();
        METRICS.appended_bytes.inc_by(bytes);
        METRICS.appended_records.inc_by(records);
        if round.work && round.publish.is_empty() {
            self.shared.work.notify_one();
        }
        if !round.publish.is_empty() || !round.answers.is_empty() {
            // The sync thread outlives this one.
            let _ = self.shared.rounds.push(round);
        }
    }

    /// Makes an appended batch visible, or leaves that to the sync thread where it has to wait or others before it do.
    #[allow(clippy::too_many_arguments, reason = "what one batch and its group know")]
    fn show(
        &mut self,
        partition: Arc<Partition>,
        batch: &Bytes,
        row: &BatchRow,
        seed: &Seed,
        durability: Durability,
        published: store::Position,
        round: &mut Round,
    ) {
        let ends = Ends { visible: seed.marked.visible_end, durable: row.last_offset + 1, unstable: seed.unstable };
        self.ring.push(&partition, Cached::new(row, batch));
        let mut state = partition.state.lock();
        if durability == Durability::Synced || state.unsynced > published {
            state.unsynced = round.end;
            drop(state);
            round.publish.push((partition, ends, batch.len() as i64));
        } else {
            drop(state);
            partition.publish(ends, batch.len() as i64);
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "nearly all are new")]
enum Prepared {
    New { seed: Seed, undo: Undo },
    Duplicate(Appended),
}

pub(super) fn add_writes(builder: &mut FrameBuilder, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put { table, key, value } | Write::PutNew { table, key, value } => builder.put(*table, key, value),
            Write::Delete { table, key } | Write::DeleteKnown { table, key, .. } => builder.delete(*table, key),
        };
    }
}
