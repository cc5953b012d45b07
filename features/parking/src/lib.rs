//! Records that wait in place: what is parked, until when, and the worker that delivers it.
//!
//! Not a feature but what schedule, retry and half messages are built on. A parked record is hidden where it was
//! produced; a row says when what is to be done with it. Delivery appends it anew and takes the row away in the same
//! frame of the log, so it happens exactly once whatever ends the process.

mod census;
mod checks;
mod claims;
mod deliver;
mod heads;
mod http;
pub mod metrics;
mod query;
pub mod rows;
mod worker;

use std::sync::Arc;

use krocket_features::MessageId;
use krocket_stack::ledger::PartitionId;
use krocket_stack::{BoxFuture, Handler, Ledger, LedgerError, Written};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use claims::Claim;
pub use query::{Listed, Status};
pub use rows::{Delay, Ended, Entry, Half, Locator, More, Outcome};

use claims::Claims;
use heads::Heads;

/// What is done with a half message whose time to be asked about has come. Implemented by the half feature.
pub trait Check: Send + Sync + 'static {
    /// Asks, and says how the rows change and when there is something to do again; `None` where it could not ask.
    fn check<'a>(&'a self, due: Due) -> BoxFuture<'a, Option<(Vec<krocket_stack::Row>, Option<i64>)>>;
}

/// A parked record whose time has come.
#[derive(Clone, Debug)]
pub struct Due {
    /// Where it is.
    pub at: Locator,
    /// Since when, epoch ms.
    pub due: i64,
    /// What is to be done.
    pub entry: Entry,
    /// Where the log has its row.
    pub was: Written,
}

/// All parked records of this process. Whoever changes what is parked has to hold its claim.
pub struct Parking {
    ledger: Arc<dyn Ledger>,
    claims: Arc<Claims>,
    heads: Heads,
    wake: Notify,
    asking: checks::Asking,
    /// Let go when the worker ends: it knows this one.
    check: Mutex<Option<Arc<dyn Check>>>,
}

impl Parking {
    /// Over the backend's rows.
    pub fn new(ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Parking {
            ledger,
            claims: Arc::default(),
            heads: Heads::default(),
            wake: Notify::new(),
            asking: checks::Asking::default(),
            check: Mutex::default(),
        })
    }

    /// Says who asks about half messages; before the worker starts.
    pub fn set_check(&self, check: Arc<dyn Check>) {
        *self.check.lock() = Some(check);
    }

    /// Rows and records.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// Delivers through `next` until stopped.
    pub async fn run(self: Arc<Self>, next: Arc<dyn Handler>, stop: CancellationToken) {
        worker::run(&self, next, &stop).await;
    }

    /// Counts what waits, for the metrics, until stopped.
    pub async fn count(self: Arc<Self>, stop: CancellationToken) {
        census::run(self, stop).await;
    }

    /// Something of this partition is, or is about to be, due at this time. The guard repeats that when it goes: by then
    /// the row is there, or will be soon.
    pub fn expect(self: &Arc<Self>, partition: PartitionId, due: i64) -> Expected {
        self.heads.lower(partition, due);
        self.wake.notify_one();
        Expected { parking: self.clone(), partition, due, stored: false }
    }

    /// Of something that stays due: not before `next`, epoch ms.
    fn look_again(&self, at: Locator, due: i64, next: i64) {
        self.heads.looked(at.0, due, Some(next));
        self.wake.notify_one();
    }

    /// Takes a parked record, so that nobody else changes or delivers it; `None` while somebody has it.
    pub fn claim(&self, at: Locator) -> Option<Claim> {
        self.claims.take(at)
    }

    /// The id of a parked record; `None` when its topic is gone.
    pub fn id(&self, (partition, offset): Locator) -> Option<MessageId> {
        let info = self.ledger.partition(partition)?;
        Some(MessageId { topic: info.topic.to_string(), partition: info.index, offset })
    }

    /// Where a message is; `None` when there is no such partition.
    pub fn locate(&self, id: &MessageId) -> Option<Locator> {
        let topic = self.ledger.topic(&id.topic)?;
        Some((*topic.partitions.get(usize::try_from(id.partition).ok()?)?, id.offset))
    }

    /// Changes rows outside of a Produce request: an operator's doing.
    pub async fn commit(&self, rows: Vec<krocket_stack::Row>) -> Result<(), LedgerError> {
        self.ledger.commit(rows, true).await
    }
}

/// How long after a request was dropped its append may still come.
const STRAGGLING_MS: i64 = 2_000;

/// See [`Parking::expect`].
pub struct Expected {
    parking: Arc<Parking>,
    partition: PartitionId,
    due: i64,
    stored: bool,
}

impl Expected {
    /// The rows are there.
    pub fn stored(mut self) {
        self.stored = true;
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let due = if self.stored { self.due } else { self.due.max(self.parking.ledger.now_ms() + STRAGGLING_MS) };
        self.parking.heads.lower(self.partition, due);
        self.parking.wake.notify_one();
    }
}
