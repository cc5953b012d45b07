//! What a partition remembers of its idempotent producers (KIP-98), by the rules of Kafka's `ProducerStateManager`.

use std::collections::HashMap;

use krocket_protocol::records::BatchHeader;
use krocket_protocol::records::batch::add_sequence;
use smallvec::SmallVec;
use thiserror::Error;

/// Batches remembered per producer: as many as a client may have in flight.
const BATCHES: usize = 5;
const SNAPSHOT_VERSION: u8 = 1;

/// Why a numbered batch is not appended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    /// The batch is neither the next one nor one of the last five.
    #[error("out of order sequence number {found} of producer {producer_id}: {expected} is next")]
    OutOfOrder {
        /// The producer.
        producer_id: i64,
        /// The batch's first sequence.
        found: i32,
        /// The sequence that would have been accepted.
        expected: i32,
    },
    /// A newer incarnation of the producer has written.
    #[error("epoch {found} of producer {producer_id} is older than the last seen, {current}")]
    Epoch {
        /// The producer.
        producer_id: i64,
        /// The batch's epoch.
        found: i16,
        /// The newest epoch seen.
        current: i16,
    },
}

/// What a numbered batch turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sequence {
    /// The next one.
    New,
    /// Already in the log, from this offset on.
    Duplicate {
        /// Offset of its first record.
        base_offset: i64,
        /// Its highest timestamp, ms.
        timestamp: i64,
    },
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl Batch {
    fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        if first < 0 { (first + (1 << 31)) as i32 } else { first as i32 }
    }
}

/// A numbered batch, as far as its producer's state is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    /// The producer.
    pub(super) producer_id: i64,
    /// Its epoch.
    pub(super) epoch: i16,
    /// Sequence of the first record.
    pub(super) base_sequence: i32,
    /// Offset of the last record less the first's.
    pub(super) offset_delta: i32,
    /// Highest timestamp, ms.
    pub(super) timestamp: i64,
}

impl Numbered {
    /// The producer's part of a header; `None` for a batch that nobody numbered.
    pub(super) fn of(header: &BatchHeader) -> Option<Self> {
        header.has_producer().then_some(Numbered {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            offset_delta: header.last_offset_delta,
            timestamp: header.max_timestamp,
        })
    }

    fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.offset_delta)
    }
}

/// What is remembered of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    epoch: i16,
    touched_ms: i64,
    batches: SmallVec<[Batch; BATCHES]>,
}

/// A producer's state as DescribeProducers shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerView {
    /// The producer.
    pub producer_id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Sequence of its last record, -1 for none.
    pub last_sequence: i32,
    /// Timestamp of its last batch, -1 for none.
    pub last_timestamp: i64,
    /// Of the coordinator that ended its last transaction, -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins, -1 for none.
    pub txn_start: i64,
}

/// All producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    /// Decides what a batch is, without remembering it. A producer never seen (or forgotten) may start anywhere, as in
    /// Kafka since KIP-360; one that comes with a new epoch starts at 0.
    pub(super) fn check(&self, batch: &Numbered) -> Result<Sequence, SequenceError> {
        let Some(known) = self.by_id.get(&batch.producer_id) else { return Ok(Sequence::New) };
        let producer_id = batch.producer_id;
        if batch.epoch < known.epoch {
            return Err(SequenceError::Epoch { producer_id, found: batch.epoch, current: known.epoch });
        }
        let expected = if batch.epoch > known.epoch {
            0
        } else {
            let last_sequence = batch.last_sequence();
            let same = |old: &&Batch| old.last_sequence == last_sequence && old.first_sequence() == batch.base_sequence;
            if let Some(old) = known.batches.iter().find(same) {
                let base_offset = old.last_offset - i64::from(old.offset_delta);
                return Ok(Sequence::Duplicate { base_offset, timestamp: old.timestamp });
            }
            match known.batches.last() {
                Some(last) => add_sequence(last.last_sequence, 1),
                None => return Ok(Sequence::New),
            }
        };
        if batch.base_sequence == expected {
            Ok(Sequence::New)
        } else {
            Err(SequenceError::OutOfOrder { producer_id, found: batch.base_sequence, expected })
        }
    }

    /// Remembers an appended batch; returns what was known before, for [`Producers::restore`].
    pub(super) fn record(&mut self, batch: &Numbered, base_offset: i64, now_ms: i64) -> Option<Producer> {
        let old = self.by_id.get(&batch.producer_id).cloned();
        let known = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            touched_ms: now_ms,
            batches: SmallVec::new(),
        });
        if known.epoch != batch.epoch {
            known.epoch = batch.epoch;
            known.batches.clear();
        }
        known.touched_ms = now_ms;
        if known.batches.len() == BATCHES {
            known.batches.remove(0);
        }
        known.batches.push(Batch {
            last_sequence: batch.last_sequence(),
            last_offset: base_offset + i64::from(batch.offset_delta),
            offset_delta: batch.offset_delta,
            timestamp: batch.timestamp,
        });
        old
    }

    /// A transaction ended: from now on this is the producer's epoch. Returns what was known before.
    pub(super) fn end_txn(&mut self, producer_id: i64, epoch: i16, now_ms: i64) -> Option<Producer> {
        let old = self.by_id.get(&producer_id).cloned();
        let fresh = || Producer { epoch, touched_ms: now_ms, batches: SmallVec::new() };
        let known = self.by_id.entry(producer_id).or_insert_with(fresh);
        if known.epoch != epoch {
            known.epoch = epoch;
            known.batches.clear();
        }
        known.touched_ms = now_ms;
        old
    }

    /// Undoes the latest [`Producers::record`] or [`Producers::end_txn`] of this producer.
    pub(super) fn restore(&mut self, producer_id: i64, old: Option<Producer>) {
        match old {
            Some(old) => self.by_id.insert(producer_id, old),
            None => self.by_id.remove(&producer_id),
        };
    }

    /// Forgets producers that have been silent since `before_ms` (producer.id.expiration.ms), but those to `keep`.
    pub(super) fn expire(&mut self, before_ms: i64, keep: impl Fn(i64) -> bool) -> usize {
        let count = self.by_id.len();
        self.by_id.retain(|id, producer| producer.touched_ms > before_ms || keep(*id));
        count - self.by_id.len()
    }

    /// True when nobody is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Everybody, by id.
    pub(super) fn views(&self) -> Vec<ProducerView> {
        let mut views: Vec<_> = self
            .by_id
            .iter()
            .map(|(&producer_id, producer)| ProducerView {
                producer_id,
                epoch: producer.epoch,
                last_sequence: producer.batches.last().map_or(-1, |batch| batch.last_sequence),
                last_timestamp: producer.batches.last().map_or(-1, |batch| batch.timestamp),
                coordinator_epoch: -1,
                txn_start: -1,
            })
            .collect();
        views.sort_unstable_by_key(|view| view.producer_id);
        views
    }

    /// The state as bytes, valid up to `end_offset`: batches from there on are replayed on top of it.
    pub(super) fn snapshot(&self, end_offset: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(13 + self.by_id.len() * 64);
        out.push(SNAPSHOT_VERSION);
        out.extend_from_slice(&end_offset.to_be_bytes());
        out.extend_from_slice(&(self.by_id.len() as u32).to_be_bytes());
        for (producer_id, producer) in &self.by_id {
            out.extend_from_slice(&producer_id.to_be_bytes());
            out.extend_from_slice(&producer.epoch.to_be_bytes());
            out.extend_from_slice(&producer.touched_ms.to_be_bytes());
            out.push(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.to_be_bytes());
                out.extend_from_slice(&batch.offset_delta.to_be_bytes());
                out.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
        out
    }

    /// Reads a snapshot and the offset that it is valid up to; `None` for bytes that are none.
    pub(super) fn from_snapshot(bytes: &[u8]) -> Option<(Self, i64)> {
        let mut input = Reader(bytes);
        if input.take::<1>()? != [SNAPSHOT_VERSION] {
            return None;
        }
        let end_offset = i64::from_be_bytes(input.take()?);
        let count = u32::from_be_bytes(input.take()?);
        let mut by_id = HashMap::new();
        for _ in 0..count {
            let producer_id = i64::from_be_bytes(input.take()?);
            let epoch = i16::from_be_bytes(input.take()?);
            let touched_ms = i64::from_be_bytes(input.take()?);
            let [length] = input.take()?;
            let mut batches = SmallVec::new();
            for _ in 0..length {
                batches.push(Batch {
                    last_sequence: i32::from_be_bytes(input.take()?),
                    last_offset: i64::from_be_bytes(input.take()?),
                    offset_delta: i32::from_be_bytes(input.take()?),
                    timestamp: i64::from_be_bytes(input.take()?),
                });
            }
            by_id.insert(producer_id, Producer { epoch, touched_ms, batches });
        }
        Some((Producers { by_id }, end_offset))
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, count: i32) -> Numbered {
        Numbered { producer_id: 7, epoch, base_sequence, offset_delta: count - 1, timestamp: 1000 }
    }

    fn accept(producers: &mut Producers, batch: Numbered, offset: i64) {
        assert_eq!(producers.check(&batch), Ok(Sequence::New));
        producers.record(&batch, offset, 0);
    }

    #[test]
    fn the_last_five_batches_are_answered_with_their_offsets() {
        let mut producers = Producers::default();
        for n in 0..7 {
            accept(&mut producers, batch(0, n * 10, 10), i64::from(n) * 100);
        }
        for n in 2..7 {
            let expected = Sequence::Duplicate { base_offset: i64::from(n) * 100, timestamp: 1000 };
            assert_eq!(producers.check(&batch(0, n * 10, 10)), Ok(expected));
        }
        let error = SequenceError::OutOfOrder { producer_id: 7, found: 10, expected: 70 };
        assert_eq!(producers.check(&batch(0, 10, 10)), Err(error));
    }

    #[test]
    fn a_duplicate_has_the_same_first_and_last_sequence() {
        let mut producers = Producers::default();
        accept(&mut producers, batch(0, 0, 10), 0);
        assert!(producers.check(&batch(0, 0, 9)).is_err());
        assert!(producers.check(&batch(0, 5, 5)).is_err());
    }

    #[test]
    fn gaps_are_refused() {
        let mut producers = Producers::default();
        accept(&mut producers, batch(0, 0, 10), 0);
        let error = SequenceError::OutOfOrder { producer_id: 7, found: 11, expected: 10 };
        assert_eq!(producers.check(&batch(0, 11, 1)), Err(error));
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        let mut producers = Producers::default();
        accept(&mut producers, batch(3, 4711, 2), 0);
        accept(&mut producers, batch(3, 4713, 1), 2);
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        accept(&mut producers, batch(0, 0, 10), 0);
        let error = SequenceError::OutOfOrder { producer_id: 7, found: 10, expected: 0 };
        assert_eq!(producers.check(&batch(1, 10, 1)), Err(error));
        accept(&mut producers, batch(1, 0, 1), 10);
        let error = SequenceError::Epoch { producer_id: 7, found: 0, current: 1 };
        assert_eq!(producers.check(&batch(0, 10, 1)), Err(error));
        // A batch of the old epoch is no duplicate of anything: only the epoch counts.
        assert!(producers.check(&batch(0, 0, 10)).is_err());
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        accept(&mut producers, batch(0, i32::MAX - 4, 10), 0); // MAX-4 ..= MAX, 0 ..= 4
        assert_eq!(
            producers.check(&batch(0, i32::MAX - 4, 10)),
            Ok(Sequence::Duplicate { base_offset: 0, timestamp: 1000 })
        );
        accept(&mut producers, batch(0, 5, 1), 10);
        let mut producers = Producers::default();
        accept(&mut producers, batch(0, i32::MAX, 1), 0);
        accept(&mut producers, batch(0, 0, 1), 1);
    }

    #[test]
    fn an_undone_batch_was_never_there() {
        let mut producers = Producers::default();
        let old = producers.record(&batch(0, 0, 10), 0, 0);
        producers.restore(7, old);
        assert!(producers.is_empty());
        accept(&mut producers, batch(0, 0, 10), 0);
        let old = producers.record(&batch(0, 10, 10), 10, 0);
        producers.restore(7, old);
        accept(&mut producers, batch(0, 10, 10), 10);
    }

    #[test]
    fn silent_producers_are_forgotten() {
        let mut producers = Producers::default();
        producers.record(&batch(0, 0, 1), 0, 100);
        assert_eq!(producers.expire(99, |_| false), 0);
        assert_eq!(producers.expire(100, |id| id == 7), 0);
        assert_eq!(producers.expire(100, |_| false), 1);
        assert!(producers.is_empty());
    }

    #[test]
    fn a_snapshot_brings_everything_back() {
        let mut producers = Producers::default();
        for n in 0..7 {
            producers.record(&Numbered { producer_id: i64::from(n % 3), ..batch(2, n, 1) }, i64::from(n), 55);
        }
        let bytes = producers.snapshot(7);
        let (read, end) = Producers::from_snapshot(&bytes).expect("a snapshot");
        assert_eq!(end, 7);
        assert_eq!(read.by_id, producers.by_id);
        for cut in 0..bytes.len() {
            assert!(Producers::from_snapshot(&bytes[..cut]).is_none());
        }
    }
}
