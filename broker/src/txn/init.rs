//! InitProducerId of a transactional producer.

use std::sync::Arc;

use krocket_protocol::ErrorCode;
use parking_lot::Mutex;

use super::end::Ending;
use super::state::{Ended, Producer, Txn};
use super::{Transactions, rows, unavailable};
use crate::log::Durability;

impl Transactions {
    /// Makes `asks` (or a new producer) the one that has the id; whoever had it before is fenced, and its open
    /// transaction aborted. `asks` is a producer that wants its next epoch after an error (KIP-360).
    pub(crate) async fn init(
        self: &Arc<Self>,
        id: &str,
        timeout_ms: i32,
        asks: Option<Producer>,
    ) -> Result<Producer, ErrorCode> {
        let entry = self.by_id.get(id).map(|entry| entry.clone());
        let entry = match entry {
            Some(entry) => entry,
            None if asks.is_some() => return Err(ErrorCode::InvalidProducerIdMapping),
            None => {
                let producer = Producer { id: self.new_producer_id(id).await?, epoch: 0 };
                let txn = Txn { busy: true, ..Txn::new(producer, timeout_ms, self.now_ms()) };
                let row = rows::put(id, &txn);
                let entry = Arc::new(Mutex::new(txn));
                let found = self.by_id.entry(id.to_owned()).or_insert_with(|| entry.clone()).clone();
                if !Arc::ptr_eq(&found, &entry) {
                    return Err(ErrorCode::ConcurrentTransactions);
                }
                let written = self.write(vec![row], Durability::Synced).await;
                entry.lock().busy = false;
                if let Err(error) = written {
                    self.by_id.remove_if(id, |_, found| Arc::ptr_eq(found, &entry));
                    return Err(unavailable(id, &error));
                }
                return Ok(producer);
            }
        };
        // Reserved before the lock: it is rare, and an id that is not used is no harm.
        let exhausted = entry.lock().producer.next().is_none();
        let fresh = if exhausted { Some(Producer { id: self.new_producer_id(id).await?, epoch: 0 }) } else { None };
        let ending = {
            let mut txn = entry.lock();
            if txn.busy {
                return Err(ErrorCode::ConcurrentTransactions);
            }
            match asks {
                Some(asks) if asks == txn.producer => {}
                // It asks again: the answer was lost.
                Some(asks) if txn.previous == Some(asks) && txn.open.is_none() => return Ok(txn.producer),
                Some(asks) if asks.id == txn.producer.id || txn.previous.is_some_and(|p| p.id == asks.id) => {
                    return Err(ErrorCode::ProducerFenced);
                }
                Some(_) => return Err(ErrorCode::InvalidProducerIdMapping),
                None => {}
            }
            let Some(next) = txn.producer.next().or(fresh) else { return Err(ErrorCode::ConcurrentTransactions) };
            txn.timeout_ms = timeout_ms;
            txn.used_ms = self.now_ms();
            // What is open is aborted; Kafka calls the state Empty after either.
            let ended = Ended::Never;
            let marker_epoch = txn.producer.epoch.saturating_add(1);
            let previous = asks.map(|_| txn.producer);
            self.start_end(id, &entry, &mut txn, Ending { marker_epoch, next, previous, ended })
        };
        ending.await
    }

    pub(super) async fn new_producer_id(&self, id: &str) -> Result<i64, ErrorCode> {
        self.producer_ids.next(&self.log).await.map_err(|error| unavailable(id, &error))
    }
}
