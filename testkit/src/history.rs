//! What clients saw, for [`crate::checker`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A partition of a topic.
pub type Partition = (&'static str, i32);

/// Names one record for ever: who sent it, and the how-manieth it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The producer, unique in a history.
    pub producer: u32,
    /// Counts the producer's records.
    pub number: u64,
}

/// Something that began and ended. Ticks order events: what ended at a lower tick than another began came before it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Tick at which the request was sent.
    pub invoked: u64,
    /// Tick at which the answer was there.
    pub completed: u64,
    /// What it was.
    pub what: What,
}

/// What a client did and learnt.
#[derive(Clone, Debug)]
pub enum What {
    /// A batch was acknowledged.
    Acked {
        /// Where it is.
        partition: Partition,
        /// Its first offset; `None` where a retry only learnt that it was there already.
        base_offset: Option<i64>,
        /// Its first record; the others have the numbers that follow.
        first: RecordId,
        /// Number of records.
        count: u32,
        /// What the request asked for: -1 also promises that readers see the batch from now on.
        acks: i16,
    },
    /// The answer to a produce request that no correct server gives.
    Refused {
        /// The partition.
        partition: Partition,
        /// Its first record.
        first: RecordId,
        /// Kafka's error code.
        code: i16,
    },
    /// Records were fetched, some of a partition.
    Read {
        /// The partition.
        partition: Partition,
        /// Offset and identity; `None` where the bytes are no record that was ever sent.
        records: Vec<(i64, Option<RecordId>)>,
        /// Where the response says the partition ends.
        high_watermark: i64,
        /// Where it says that it starts.
        log_start: i64,
    },
    /// All of a partition was fetched, from its start to its high watermark.
    Scan {
        /// The partition.
        partition: Partition,
        /// As in `Read`.
        records: Vec<(i64, Option<RecordId>)>,
        /// The batches' producer fields, in the order of the log.
        sequences: Vec<Sequences>,
        /// Where the partition ends.
        high_watermark: i64,
        /// Where it starts.
        log_start: i64,
    },
    /// Records were deleted up to an offset.
    Trimmed {
        /// The partition.
        partition: Partition,
        /// Where it starts since.
        log_start: i64,
    },
    /// A group member was given partitions.
    Owns {
        /// The group's generation.
        generation: i32,
        /// The member.
        member: String,
        /// All of its partitions.
        partitions: Vec<Partition>,
    },
    /// A commit of the group was sent; `completed` is `u64::MAX` where no answer came.
    Commit {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: i64,
    },
    /// The group's committed offset was read, -1 for none.
    Committed {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: i64,
    },
}

/// The producer fields of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Sequences {
    /// Producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// Number of records.
    pub count: i32,
}

/// Collects events of many clients.
#[derive(Debug, Default)]
pub struct History {
    tick: AtomicU64,
    events: Mutex<Vec<Event>>,
}

impl History {
    /// Call before sending a request.
    pub fn invoke(&self) -> u64 {
        self.tick.fetch_add(1, Ordering::SeqCst)
    }

    /// Call when its answer is there.
    pub fn complete(&self, invoked: u64, what: What) {
        let completed = self.tick.fetch_add(1, Ordering::SeqCst);
        self.push(Event { invoked, completed, what });
    }

    /// Call when no answer will come, for what may have happened all the same.
    pub fn unanswered(&self, invoked: u64, what: What) {
        self.push(Event { invoked, completed: u64::MAX, what });
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no panic while it was held").clone()
    }

    fn push(&self, event: Event) {
        self.events.lock().expect("no panic while it was held").push(event);
    }
}
