//! Transactions as administrators see them.

use krocket_protocol::ErrorCode;

use super::Transactions;
use super::state::{Ended, Producer, Txn};

/// One transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The id.
    pub(crate) id: String,
    /// Who has it.
    pub(crate) producer: Producer,
    /// Kafka's name of the state.
    pub(crate) state: &'static str,
    /// transaction.timeout.ms.
    pub(crate) timeout_ms: i32,
    /// Since when the transaction is open, epoch ms.
    pub(crate) since_ms: Option<i64>,
    /// Its partitions, by topic.
    pub(crate) partitions: Vec<(String, i32)>,
}

fn view(id: &str, txn: &Txn) -> View {
    let state = match (&txn.open, txn.ended) {
        (Some(_), _) => "Ongoing",
        (None, Ended::Never) => "Empty",
        (None, Ended::Committed) => "CompleteCommit",
        (None, Ended::Aborted) => "CompleteAbort",
    };
    let mut partitions: Vec<_> =
        txn.open.iter().flat_map(|open| open.places()).map(|place| (place.topic.clone(), place.index)).collect();
    partitions.sort();
    View {
        id: id.to_owned(),
        producer: txn.producer,
        state,
        timeout_ms: txn.timeout_ms,
        since_ms: txn.open.as_ref().map(|open| open.since_ms),
        partitions,
    }
}

impl Transactions {
    /// One id.
    pub(crate) fn describe(&self, id: &str) -> Result<View, ErrorCode> {
        let entry = self.find(id).map_err(|code| match code {
            ErrorCode::InvalidProducerIdMapping => ErrorCode::TransactionalIdNotFound,
            code => code,
        })?;
        let txn = entry.lock();
        Ok(view(id, &txn))
    }

    /// All ids, by name.
    pub(crate) fn list(&self) -> Vec<View> {
        let mut all: Vec<_> = self.by_id.iter().map(|entry| view(entry.key(), &entry.value().lock())).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }
}
