//! The end of a transaction: asked for, forced by a new producer, or by the time.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use krocket_protocol::ErrorCode;
use parking_lot::Mutex;

use super::state::{Ended, Open, Producer, Txn};
use super::{BUMPING_END, Entry, Transactions, rows, unavailable};
use crate::log::{Durability, EndTxn, Marker, Write};

/// How often overdue transactions are looked for.
const WATCH: Duration = Duration::from_millis(500);
/// transactional.id.expiration.ms.
const EXPIRATION_MS: i64 = 7 * 24 * 3600 * 1000;

/// What is true once the frame is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) marker_epoch: i16,
    pub(super) next: Producer,
    pub(super) previous: Option<Producer>,
    pub(super) ended: Ended,
}

impl Transactions {
    /// EndTxn; the producer that goes on, which has a new epoch from version 5 on.
    pub(crate) async fn end(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        version: i16,
        commit: bool,
    ) -> Result<Producer, ErrorCode> {
        let bumps = version >= BUMPING_END;
        let ended = Ended::of(commit);
        let entry = self.find(id)?;
        let exhausted = bumps && entry.lock().producer.next().is_none();
        let fresh = if exhausted { Some(Producer { id: self.new_producer_id(id).await?, epoch: 0 }) } else { None };
        let ending = {
            let mut txn = entry.lock();
            // The answer was lost, and the producer asks again.
            if bumps && txn.previous == Some(producer) && txn.open.is_none() && txn.ended == ended && !txn.busy {
                return Ok(txn.producer);
            }
            txn.check(producer)?;
            if txn.open.is_none() {
                match (bumps, commit) {
                    // Nothing came through, and the client lets go of what it has.
                    (true, false) => {}
                    (false, _) if txn.ended == ended => return Ok(producer),
                    _ => return Err(ErrorCode::InvalidTxnState),
                }
            }
            txn.used_ms = self.now_ms();
            let ending = if bumps {
                let Some(next) = producer.next().or(fresh) else { return Err(ErrorCode::ConcurrentTransactions) };
                let marker_epoch = producer.epoch.saturating_add(1);
                Ending { marker_epoch, next, previous: Some(producer), ended }
            } else {
                Ending { marker_epoch: producer.epoch, next: producer, previous: txn.previous, ended }
            };
            self.start_end(id, &entry, &mut txn, ending)
        };
        ending.await
    }

    /// Queues the frame that ends what is open and makes `next` the producer. It is seen through even if nobody waits.
    pub(super) fn start_end(
        self: &Arc<Self>,
        id: &str,
        entry: &Arc<Mutex<Txn>>,
        txn: &mut Txn,
        ending: Ending,
    ) -> impl Future<Output = Result<Producer, ErrorCode>> + use<> {
        let commit = ending.ended == Ended::Committed;
        let mut writes = vec![rows::put_next(id, txn, ending.next, ending.previous, ending.ended)];
        for (group, staged) in txn.open.iter().flat_map(|open| &open.offsets) {
            for change in staged.changes() {
                if commit {
                    writes.push(change.write(group));
                }
                writes.push(rows::delete_offset(txn.producer.id, group, change));
            }
        }
        let partitions = txn.open.iter().flat_map(Open::places).map(|place| place.partition.clone()).collect();
        let marker = Marker { producer_id: txn.producer.id, epoch: ending.marker_epoch, commit };
        let written = self.log.end_txn(EndTxn { marker, partitions, writes, durability: Durability::Synced });
        txn.busy = true;
        let (transactions, entry, id) = (self.clone(), entry.clone(), id.to_owned());
        let seen_through = tokio::spawn(async move {
            let written = written.await;
            let open = {
                let mut txn = entry.lock();
                txn.busy = false;
                if let Err(error) = written {
                    return Err(unavailable(&id, &error));
                }
                txn.producer = ending.next;
                txn.previous = ending.previous;
                txn.ended = ending.ended;
                txn.open.take()
            };
            for (group, staged) in open.into_iter().flat_map(|open| open.offsets) {
                transactions.settle(&group, &staged);
                if commit {
                    transactions.groups.adopt_offsets(&group, staged.into_changes());
                }
            }
            Ok(ending.next)
        });
        async move { seen_through.await.unwrap_or(Err(ErrorCode::CoordinatorNotAvailable)) }
    }

    /// Aborts what outlives its transaction.timeout.ms, fencing its producer, and forgets ids that nobody uses.
    pub(super) async fn watch(transactions: Weak<Transactions>) {
        loop {
            tokio::time::sleep(WATCH).await;
            let Some(transactions) = transactions.upgrade() else { return };
            let now_ms = transactions.now_ms();
            let entries: Vec<(String, Entry)> =
                transactions.by_id.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
            for (id, entry) in entries {
                let (overdue, unused) = {
                    let txn = entry.lock();
                    (txn.is_overdue(now_ms), txn.is_unused_since(now_ms - EXPIRATION_MS))
                };
                if overdue {
                    tracing::info!(transactional_id = id, "the transaction outlived its timeout and is aborted");
                    if let Err(code) = transactions.abort_overdue(&id, &entry).await {
                        tracing::warn!(transactional_id = id, ?code, "an overdue transaction is not aborted yet");
                    }
                } else if unused {
                    transactions.forget(&id, &entry).await;
                }
            }
        }
    }

    async fn abort_overdue(self: &Arc<Self>, id: &str, entry: &Entry) -> Result<(), ErrorCode> {
        let fresh = Producer { id: self.new_producer_id_if_exhausted(id, entry).await?, epoch: 0 };
        let ending = {
            let mut txn = entry.lock();
            if !txn.is_overdue(self.now_ms()) {
                return Ok(());
            }
            let marker_epoch = txn.producer.epoch.saturating_add(1);
            let next = txn.producer.next().unwrap_or(fresh);
            self.start_end(id, entry, &mut txn, Ending { marker_epoch, next, previous: None, ended: Ended::Aborted })
        };
        ending.await.map(drop)
    }

    async fn new_producer_id_if_exhausted(&self, id: &str, entry: &Entry) -> Result<i64, ErrorCode> {
        let exhausted = entry.lock().producer.next().is_none();
        if exhausted { self.new_producer_id(id).await } else { Ok(-1) }
    }

    async fn forget(&self, id: &str, entry: &Entry) {
        let removed = self.by_id.remove_if(id, |_, found| {
            let mut txn = found.lock();
            let unused = Arc::ptr_eq(found, entry) && txn.is_unused_since(self.now_ms() - EXPIRATION_MS);
            // Who still holds it must not begin anything.
            txn.busy |= unused;
            unused
        });
        if removed.is_some()
            && let Err(error) = self.write(vec![rows::delete(id)] as Vec<Write>, Durability::Written).await
        {
            unavailable(id, &error);
        }
    }
}
