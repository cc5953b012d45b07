//! The thread that makes appends durable: one fdatasync for all that wait, then the next (group commit, no timer).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use krocket_store::{Position, Syncer};
use tracing::error;

use super::Shared;
use super::append::{Answer, Appended, Durability};
use super::error::{AppendError, StorageError};
use super::metrics::METRICS;
use super::partition::{Ends, Partition};

/// What one group of the writer leaves to be done once it is durable.
pub(super) struct Round {
    pub(super) end: Position,
    /// Partition, where it ends then, and the bytes that become visible.
    pub(super) publish: Vec<(Arc<Partition>, Ends, i64)>,
    /// Whether there is new work for indexers.
    pub(super) work: bool,
    pub(super) answers: Vec<Waiting>,
    /// Those who need not wait for that.
    pub(super) now: Vec<Waiting>,
}

/// Somebody who waits.
pub(super) enum Waiting {
    Append(Answer<Appended, AppendError>, Appended),
    Commit(Answer<(), StorageError>),
}

impl Round {
    /// To be answered once the group is visible, or once it is durable.
    pub(super) fn settle(&mut self, durability: Durability, waiting: Waiting) {
        if durability == Durability::Synced { self.answers.push(waiting) } else { self.now.push(waiting) }
    }

    /// Answers those who need not wait, all at once: a connection with several requests in the group sends their
    /// responses together.
    pub(super) fn answer_now(&mut self) {
        self.now.drain(..).for_each(Waiting::succeed);
    }
}

impl Waiting {
    fn succeed(self) {
        // Nobody has to be listening any more.
        match self {
            Waiting::Append(answer, appended) => drop(answer.send(Ok(appended))),
            Waiting::Commit(answer) => drop(answer.send(Ok(()))),
        }
    }

    fn fail(self, error: &StorageError) {
        match self {
            Waiting::Append(answer, _) => drop(answer.send(Err(error.clone().into()))),
            Waiting::Commit(answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}

/// Runs until the queue is closed and empty.
pub(super) fn run(shared: &Shared, syncer: &Syncer) {
    let mut rounds = Vec::new();
    while shared.rounds.take(&mut rounds) {
        let started = Instant::now();
        let synced = syncer.sync();
        METRICS.sync_seconds.observe(started.elapsed().as_secs_f64());
        match synced {
            Ok(_) => succeed(shared, &mut rounds),
            Err(error) => {
                let error = StorageError::from(error);
                error!(%error, "the log cannot be synced: it stops until it is restarted");
                rounds.drain(..).flat_map(|round| round.answers).for_each(|waiting| waiting.fail(&error));
            }
        }
    }
}

fn succeed(shared: &Shared, rounds: &mut Vec<Round>) {
    for round in rounds.iter() {
        for (partition, ends, bytes) in &round.publish {
            partition.publish(*ends, *bytes);
        }
        if round.work {
            shared.work.notify_one();
        }
        shared.published.store(round.end, Ordering::Release);
    }
    rounds.drain(..).flat_map(|round| round.answers).for_each(Waiting::succeed);
}
