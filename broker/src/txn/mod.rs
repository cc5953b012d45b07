//! Kafka's transactions (KIP-98, KIP-890): who has which transactional id, and what is open under it.
//!
//! Partitions, offsets and this coordinator share one log, so one frame ends a transaction whole. Kafka's prepared
//! states, and the answer CONCURRENT_TRANSACTIONS that goes with them, last as long as that frame's way to the disk.

mod end;
mod init;
mod open;
mod rows;
mod staged;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use dashmap::DashMap;
use krocket_protocol::ErrorCode;
use krocket_protocol::records::BatchHeader;
use krocket_stack::Refusal;
use parking_lot::Mutex;

use crate::group;
use crate::log::{Committing, Durability, Log, Partition, StorageError, Write};
use crate::producer_ids::ProducerIds;

pub(crate) use state::Producer;
pub(crate) use view::View;

use state::Txn;

/// First Produce version of clients that have partitions added as they write to them (KIP-890).
const IMPLICIT_PRODUCE: i16 = 12;
/// First EndTxn version that answers with a new epoch.
const BUMPING_END: i16 = 5;
/// First TxnOffsetCommit version that adds its group by itself.
const IMPLICIT_OFFSETS: i16 = 5;

type Entry = Arc<Mutex<Txn>>;

/// All transactional ids.
pub(crate) struct Transactions {
    log: Log,
    groups: Arc<group::Coordinator>,
    producer_ids: Arc<ProducerIds>,
    by_id: DashMap<String, Entry>,
    /// Offsets that open transactions will commit or not: by group.
    unstable: DashMap<String, staged::Unstable>,
}

/// A client's word for a partition.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its topic's name.
    pub(crate) topic: String,
    /// Its index.
    pub(crate) index: i32,
    /// Itself.
    pub(crate) partition: Arc<Partition>,
}

impl Transactions {
    fn find(&self, id: &str) -> Result<Entry, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.by_id.get(id).map(|entry| entry.clone()).ok_or(ErrorCode::InvalidProducerIdMapping)
    }

    /// Queues a batch of a transaction, if it is one of the open transaction of its producer. From Produce 12 on the first
    /// batch opens it, and the first of a partition adds that. The batch is in the log before any end of the transaction
    /// that is asked for later.
    pub(crate) fn admit<T>(
        &self,
        id: Option<&str>,
        header: &BatchHeader,
        version: i16,
        named: impl FnOnce() -> Named,
        append: impl FnOnce() -> T,
    ) -> Result<T, Refusal> {
        let refuse = |code: ErrorCode| Refusal::new(code, sentence(code));
        let id = id.ok_or_else(|| refuse(ErrorCode::TransactionalIdAuthorizationFailed))?;
        let entry = self.find(id).map_err(refuse)?;
        let mut txn = entry.lock();
        let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
        txn.check(producer).map_err(|code| {
            refuse(match code {
                ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
                // Older clients don't know it; this is one that they try again at.
                ErrorCode::ConcurrentTransactions if version < IMPLICIT_PRODUCE => ErrorCode::NotEnoughReplicas,
                code => code,
            })
        })?;
        let named = named();
        if version >= IMPLICIT_PRODUCE {
            txn.open(self.now_ms()).add(named);
        } else if !txn.has_added(named.partition.id) {
            return Err(refuse(ErrorCode::InvalidTxnState));
        }
        Ok(append())
    }

    /// AddPartitionsToTxn of a client. Clients since Kafka 4.0 don't send it any more.
    pub(crate) async fn add_partitions(
        &self,
        id: &str,
        producer: Producer,
        added: Vec<Named>,
    ) -> Result<(), ErrorCode> {
        self.change(id, producer, |txn, now_ms| {
            let open = txn.open(now_ms);
            let before = open.added();
            added.into_iter().for_each(|named| open.add(named));
            before != open.added()
        })
        .await
    }

    /// True when the producer's open transaction has this partition (AddPartitionsToTxn that only verifies).
    pub(crate) fn verify(&self, id: &str, producer: Producer, named: &Named) -> Result<(), ErrorCode> {
        let entry = self.find(id)?;
        let txn = entry.lock();
        txn.check(producer)?;
        if txn.has_added(named.partition.id) { Ok(()) } else { Err(ErrorCode::TransactionAbortable) }
    }

    /// AddOffsetsToTxn.
    pub(crate) async fn add_offsets(&self, id: &str, producer: Producer, group: &str) -> Result<(), ErrorCode> {
        self.change(id, producer, |txn, now_ms| txn.open(now_ms).groups.insert(group.to_owned())).await
    }

    /// Changes an open transaction and writes that down, where `change` says that there is something new.
    async fn change(
        &self,
        id: &str,
        producer: Producer,
        change: impl FnOnce(&mut Txn, i64) -> bool,
    ) -> Result<(), ErrorCode> {
        let written = {
            let entry = self.find(id)?;
            let mut txn = entry.lock();
            txn.check(producer)?;
            if !change(&mut txn, self.now_ms()) {
                return Ok(());
            }
            self.write(vec![rows::put(id, &txn)], Durability::Written)
        };
        written.await.map_err(|error| unavailable(id, &error))
    }

    fn write(&self, writes: Vec<Write>, durability: Durability) -> Committing {
        self.log.commit(writes, durability)
    }

    fn now_ms(&self) -> i64 {
        self.log.clock().steady_ms()
    }
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transactions").field("ids", &self.by_id.len()).finish_non_exhaustive()
    }
}

/// The disk failed: clients ask again.
fn unavailable(id: &str, error: &StorageError) -> ErrorCode {
    tracing::error!(%error, transactional_id = id, "a transaction's state cannot be written");
    ErrorCode::CoordinatorNotAvailable
}

fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TransactionalIdAuthorizationFailed => {
            "a transactional batch in a request without a transactional id"
        }
        ErrorCode::InvalidProducerIdMapping => "the transactional id is not this producer's: it has to be initialised",
        ErrorCode::ProducerFenced => "a newer producer has this transactional id",
        ErrorCode::ConcurrentTransactions => "the last transaction is about to end",
        ErrorCode::InvalidTxnState => "the partition is not in an open transaction of the producer",
        _ => "not now",
    }
}
