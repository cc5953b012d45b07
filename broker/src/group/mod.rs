//! Groups: classic and KIP-848 consumer groups with their committed offsets, share groups, and streams groups.
//!
//! [`Coordinator`] finds the group and takes one step of it; a step holds the group's lock and never waits. `state`
//! is the group itself: a `classic`, a `consumer`, a `share` or a `streams` group, and its `offsets`. A step changes memory, starts and stops
//! timers, and leaves writes and answers behind; `handle` passes the writes to the log in the order of the steps and
//! lets the answers go when the log has them on disk. So what a client was told is never taken back by a crash, and
//! epochs and generations only grow.

mod classic;
mod commit;
mod consumer;
mod context;
mod coordinator;
mod describe;
mod embedded;
mod error;
mod handle;
mod journal;
mod metrics;
mod migrate;
mod offsets;
mod open;
mod persist;
mod settings;
mod share;
mod state;
mod streams;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod topics;

pub use commit::{Commit, CommitPartition};
pub use context::Client;
pub use coordinator::{CommittedOffsets, Coordinator};
pub use error::Refusal;
pub use journal::{Journal, JournalError, Rows, Write};
pub use offsets::Offset;
pub(crate) use offsets::OffsetChange;
pub use open::open;
pub(crate) use persist::{offset_key, prefix as group_prefix, split_key, split_offset_key};
pub use settings::{GroupSettings, MigrationPolicy};
pub use share::{ShareOffset, ShareState};
pub use streams::MissingTopics;
pub use topics::TopicImage;
