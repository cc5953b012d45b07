//! Transactions as the log knows them: which are open in a partition, and which were aborted.
//!
//! One frame of the log ends a transaction: the markers of all its partitions, the offsets that it committed and the
//! coordinator's own row are in it. So there is no state between "open" and "ended" that a crash could leave behind.

use std::collections::BTreeMap;

use bytes::Bytes;
use krocket_protocol::records::batch::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL};
use krocket_protocol::records::{BatchBuilder, LastOffset};
use krocket_stack::ledger::Fate;
use krocket_stack::ledger::tables::{DUE, PARKED};
use krocket_store::IndexError;

use super::append::Write;
use super::marks::HIDDEN;
use super::partition::{Partition, PartitionId};
use super::{Shared, tables};

/// One coordinator, for ever: this process.
pub const COORDINATOR_EPOCH: i32 = 0;
/// No transaction is open.
pub(super) const STABLE: i64 = i64::MAX;

/// How a transaction ends in its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The producer.
    pub producer_id: i64,
    /// Its epoch from now on: batches of older ones are refused (KIP-890).
    pub epoch: i16,
    /// Committed, or aborted.
    pub commit: bool,
}

impl Marker {
    /// The control batch (Kafka's `EndTransactionMarker`).
    pub(super) fn batch(&self, now_ms: i64) -> Bytes {
        let mut builder = BatchBuilder::new(0, now_ms)
            .producer(self.producer_id, self.epoch, -1)
            .attribute(ATTRIBUTE_TRANSACTIONAL, true)
            .attribute(ATTRIBUTE_CONTROL, true);
        let mut key = [0; 4];
        key[2..].copy_from_slice(&i16::from(self.commit).to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&COORDINATOR_EPOCH.to_be_bytes());
        builder.push(0, now_ms, Some(&key), Some(&value), &[]);
        builder.finish(LastOffset::Keep).ok().flatten().unwrap_or_default()
    }
}

/// A transaction that is open in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The producer's epoch in it.
    pub epoch: i16,
    /// Offset of its first record.
    pub first_offset: i64,
    /// When that was appended, epoch ms.
    pub since_ms: i64,
}

impl Open {
    fn encode(&self) -> Vec<u8> {
        [&self.first_offset.to_be_bytes()[..], &self.epoch.to_be_bytes(), &self.since_ms.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first_offset, rest) = bytes.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        Some(Open {
            first_offset: i64::from_be_bytes(*first_offset),
            epoch: i16::from_be_bytes(*epoch),
            since_ms: i64::from_be_bytes(*rest.first_chunk()?),
        })
    }

    pub(super) fn put(&self, partition: PartitionId, producer_id: i64) -> Write {
        Write::PutNew { table: tables::TXN_OPEN, key: key(partition, producer_id), value: self.encode() }
    }

    pub(super) fn delete(partition: PartitionId, producer_id: i64) -> Write {
        Write::Delete { table: tables::TXN_OPEN, key: key(partition, producer_id) }
    }
}

/// Open transactions of a partition, by producer id.
pub(super) type OpenTxns = BTreeMap<i64, Open>;

/// The first offset that is not decided yet.
pub(super) fn first_unstable(open: &OpenTxns) -> i64 {
    open.values().map(|open| open.first_offset).min().unwrap_or(STABLE)
}

/// A transaction that was aborted in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// The producer.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
}

impl Aborted {
    /// `stable` is the first undecided offset after it: transactions that end later begin there or after.
    pub(super) fn put(&self, partition: PartitionId, stable: i64) -> Write {
        let value = [self.producer_id, self.first_offset, stable].map(i64::to_be_bytes).concat();
        Write::PutNew { table: tables::TXN_ABORTED, key: key(partition, self.last_offset), value }
    }

    fn read(row_key: &[u8], value: &[u8]) -> Option<(Self, i64)> {
        let last_offset = i64::from_be_bytes(*row_key.last_chunk()?);
        let mut numbers = value.chunks_exact(8).map(|n| i64::from_be_bytes(n.try_into().unwrap_or_default()));
        let (producer_id, first_offset) = (numbers.next()?, numbers.next()?);
        Some((Aborted { producer_id, first_offset, last_offset }, numbers.next()?))
    }
}

fn key(partition: PartitionId, number: i64) -> Vec<u8> {
    [&partition.to_be_bytes()[..], &number.to_be_bytes()].concat()
}

impl Aborted {
    /// Nobody needs to be told any more.
    pub(super) fn delete(partition: PartitionId, marker: i64) -> Write {
        Write::Delete { table: tables::TXN_ABORTED, key: key(partition, marker) }
    }
}

impl Shared {
    /// What is open in a partition.
    pub(super) fn load_open(&self, id: PartitionId) -> Result<OpenTxns, IndexError> {
        let mut open = OpenTxns::new();
        for row in self.index.scan(tables::TXN_OPEN, &id.to_be_bytes()) {
            let (key, value) = row?;
            if let (Some(producer_id), Some(one)) = (key.last_chunk(), Open::decode(&value)) {
                open.insert(i64::from_be_bytes(*producer_id), one);
            }
        }
        Ok(open)
    }

    /// Offset of the last marker of an aborted transaction, -1 for none. Reads all of the partition's.
    pub(super) fn last_abort(&self, id: PartitionId) -> Result<i64, IndexError> {
        let last = self.index.scan(tables::TXN_ABORTED, &id.to_be_bytes()).last().transpose()?;
        Ok(last.and_then(|(key, _)| key.last_chunk().map(|last| i64::from_be_bytes(*last))).unwrap_or(-1))
    }

    /// True while fetches are told that the transaction that ended here was aborted.
    pub(super) fn is_told(&self, id: PartitionId, marker: i64) -> Result<bool, IndexError> {
        Ok(self.index.get(tables::TXN_ABORTED, &key(id, marker))?.is_some())
    }

    /// Every open transaction of every partition: partition, producer and what is known of it.
    pub(super) fn all_open(&self) -> Result<Vec<(PartitionId, i64, Open)>, IndexError> {
        let mut all = Vec::new();
        for row in self.index.scan(tables::TXN_OPEN, &[]) {
            let (key, value) = row?;
            if let (Some(id), Some(producer_id), Some(open)) =
                (key.first_chunk(), key.last_chunk(), Open::decode(&value))
            {
                all.push((u32::from_be_bytes(*id), i64::from_be_bytes(*producer_id), open));
            }
        }
        Ok(all)
    }

    /// Aborted transactions with records at `from..up_to`, by the offsets of their markers.
    pub(super) fn aborted(&self, partition: &Partition, from: i64, up_to: i64) -> Result<Vec<Aborted>, IndexError> {
        let mut found = Vec::new();
        for row in self.index.scan_from(tables::TXN_ABORTED, &key(partition.id, from)) {
            let (row_key, value) = row?;
            if !row_key.starts_with(&partition.id.to_be_bytes()) {
                break;
            }
            let Some((aborted, stable)) = Aborted::read(&row_key, &value) else { continue };
            if aborted.first_offset < up_to {
                found.push(aborted);
            }
            if stable >= up_to {
                break;
            }
        }
        Ok(found)
    }

    /// What a batch's transaction makes of it. The index knows of the end at once: it is open, or it is told how it ended.
    pub(super) fn fate(&self, partition: &Partition, offset: i64) -> Result<Fate, IndexError> {
        let Some(row) = self.index.batch(partition.id, offset)? else { return Ok(Fate::Committed) };
        if row.base_offset > offset || row.attributes & ATTRIBUTE_TRANSACTIONAL == 0 {
            return Ok(Fate::Committed);
        }
        let open = self.index.get(tables::TXN_OPEN, &key(partition.id, row.producer_id))?;
        if open.and_then(|open| Open::decode(&open)).is_some_and(|open| open.first_offset <= row.base_offset) {
            return Ok(Fate::Open);
        }
        let aborted = self.aborted(partition, row.last_offset, row.last_offset + 1)?;
        let ours = |one: &Aborted| one.producer_id == row.producer_id && one.first_offset <= row.base_offset;
        Ok(if aborted.iter().any(ours) { Fate::Aborted } else { Fate::Committed })
    }

    /// Deletions of what a transaction has parked: an abort takes that back.
    pub(super) fn unpark(&self, id: PartitionId, producer_id: i64, open: &Open) -> Result<Vec<Write>, IndexError> {
        let mut writes = Vec::new();
        for row in self.index.batches(id, open.first_offset) {
            let row = row?;
            if row.producer_id != producer_id || row.flags & HIDDEN == 0 {
                continue;
            }
            for parked in self.index.scan_from(PARKED, &key(id, row.base_offset)) {
                let (parked, due) = parked?;
                if parked > key(id, row.last_offset) {
                    break;
                }
                let [partition, offset] = [&parked[..4], &parked[4..]];
                writes.push(Write::Delete { table: DUE, key: [partition, &due, offset].concat() });
                writes.push(Write::Delete { table: PARKED, key: parked });
            }
        }
        Ok(writes)
    }

    /// Deletions of what is known of transactions that were aborted below `log_start`, so many at most.
    pub(super) fn outdated_aborts(
        &self,
        id: PartitionId,
        log_start: i64,
        most: usize,
    ) -> Result<Vec<Write>, IndexError> {
        let mut writes = Vec::new();
        for row in self.index.scan(tables::TXN_ABORTED, &id.to_be_bytes()).take(most) {
            let (key, _) = row?;
            if key.last_chunk().is_none_or(|last| i64::from_be_bytes(*last) >= log_start) {
                break;
            }
            writes.push(Write::Delete { table: tables::TXN_ABORTED, key });
        }
        Ok(writes)
    }
}

#[cfg(test)]
mod tests {
    use krocket_protocol::records::{BatchHeader, Records};

    use super::*;

    #[test]
    fn a_marker_is_a_control_batch_of_one_record() {
        for (commit, kind) in [(false, 0), (true, 1)] {
            let batch = Marker { producer_id: 7, epoch: 3, commit }.batch(1_000);
            let header = BatchHeader::read(&batch).expect("a batch");
            header.check_crc(&batch).expect("its own");
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence, header.count), (7, 3, -1, 1));
            let records = Records::open(&batch, &header, 1 << 20).expect("records");
            let record = records.iter().next().expect("one").expect("reads");
            assert_eq!(record.key, Some(&[0, 0, 0, kind][..]));
            assert_eq!(record.value, Some(&[0; 6][..]));
        }
    }

    #[test]
    fn rows_come_back() {
        let open = Open { epoch: 4, first_offset: 17, since_ms: 99 };
        assert_eq!(Open::decode(&open.encode()), Some(open));
        let aborted = Aborted { producer_id: 5, first_offset: 10, last_offset: 20 };
        let Write::PutNew { key, value, .. } = aborted.put(3, 12) else { panic!("a put") };
        assert_eq!(Aborted::read(&key, &value), Some((aborted, 12)));
    }
}
