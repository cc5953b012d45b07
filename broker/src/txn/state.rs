//! One transactional id.

use std::collections::{BTreeMap, BTreeSet};

use krocket_protocol::ErrorCode;

use super::Named;
use super::staged::Staged;
use crate::log::PartitionId;

/// The last epoch that a producer gets: the marker that ends its last transaction has one more.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// A producer id and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    /// The id.
    pub(crate) id: i64,
    /// The epoch.
    pub(crate) epoch: i16,
}

impl Producer {
    /// The next one; `None` when the epochs are used up and another id is needed.
    pub(super) fn next(self) -> Option<Self> {
        (self.epoch < LAST_EPOCH).then(|| Producer { epoch: self.epoch + 1, ..self })
    }
}

/// A partition of an open transaction.
pub(super) type Place = Named;

/// What is open.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Since when, epoch ms.
    pub(super) since_ms: i64,
    partitions: BTreeMap<PartitionId, Place>,
    /// Groups whose offsets may come.
    pub(super) groups: BTreeSet<String>,
    /// Offsets to commit, by group.
    pub(super) offsets: BTreeMap<String, Staged>,
}

impl Open {
    pub(super) fn add(&mut self, named: Named) {
        self.partitions.entry(named.partition.id).or_insert(named);
    }

    pub(super) fn added(&self) -> Vec<PartitionId> {
        self.partitions.keys().copied().collect()
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.partitions.values()
    }
}

/// How the last transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Never,
    Committed,
    Aborted,
}

impl Ended {
    pub(super) fn of(commit: bool) -> Self {
        if commit { Ended::Committed } else { Ended::Aborted }
    }
}

/// What is known of a transactional id.
#[derive(Debug)]
pub(super) struct Txn {
    pub(super) producer: Producer,
    /// Whom the last end or initialisation replaced: it may not have heard of that, and asks again.
    pub(super) previous: Option<Producer>,
    pub(super) timeout_ms: i32,
    pub(super) ended: Ended,
    /// When the id was last used, epoch ms.
    pub(super) used_ms: i64,
    pub(super) open: Option<Open>,
    /// A change of the producer or the end of the transaction is on its way to the disk.
    pub(super) busy: bool,
}

impl Txn {
    pub(super) fn new(producer: Producer, timeout_ms: i32, now_ms: i64) -> Self {
        Txn { producer, previous: None, timeout_ms, ended: Ended::Never, used_ms: now_ms, open: None, busy: false }
    }

    /// Whether this is the producer, in Kafka's order of checks.
    pub(super) fn check(&self, producer: Producer) -> Result<(), ErrorCode> {
        if producer.id != self.producer.id {
            // After the last epoch the next producer has another id, and the end may be asked for again.
            let known = self.previous.is_some_and(|previous| previous.id == producer.id);
            return Err(if known { ErrorCode::ProducerFenced } else { ErrorCode::InvalidProducerIdMapping });
        }
        if producer.epoch != self.producer.epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        if self.busy { Err(ErrorCode::ConcurrentTransactions) } else { Ok(()) }
    }

    /// The open transaction, which begins if it has to.
    pub(super) fn open(&mut self, now_ms: i64) -> &mut Open {
        self.open.get_or_insert_with(|| Open { since_ms: now_ms, ..Open::default() })
    }

    pub(super) fn has_added(&self, partition: PartitionId) -> bool {
        self.open.as_ref().is_some_and(|open| open.partitions.contains_key(&partition))
    }

    /// True when nothing is open and nobody has used the id since then.
    pub(super) fn is_unused_since(&self, before_ms: i64) -> bool {
        !self.busy && self.open.is_none() && self.used_ms < before_ms
    }

    pub(super) fn is_overdue(&self, now_ms: i64) -> bool {
        let due = |open: &Open| open.since_ms.saturating_add(self.timeout_ms.into());
        !self.busy && self.open.as_ref().is_some_and(|open| due(open) <= now_ms)
    }
}
