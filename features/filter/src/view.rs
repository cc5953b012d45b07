//! A view: a topic without a log of its own, and how far its index is.

use std::sync::Arc;

use krocket_protocol::StrBytes;
use krocket_protocol::records::Record;
use krocket_stack::ledger::PartitionId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::expression::{Expression, Fields, FilterError};
use crate::row::Progress;

pub use krocket_features::headers::VIEW_SOURCE as SOURCE;
/// Topic config: what a view shows.
pub const FILTER: &str = "krocket.view.filter";
/// Topic config: the view came with a subscription.
pub const AUTO: &str = "krocket.view.auto";

/// A view as its topic's configs and its source make it. Another one takes its place when any of that changes.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: StrBytes,
    pub(crate) id: Uuid,
    pub(crate) source: StrBytes,
    /// `None` while there is no such topic.
    pub(crate) source_id: Option<Uuid>,
    pub(crate) text: String,
    /// An error only where somebody stored it past this layer: such a view shows nothing.
    pub(crate) filter: Result<Expression, FilterError>,
    /// Left out of all-topics metadata.
    pub(crate) auto: bool,
    /// By index; those whose source partition is there.
    pub(crate) partitions: Vec<Arc<Part>>,
    /// Cancelled when another view, or none, takes its place.
    pub(crate) replaced: CancellationToken,
}

impl View {
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Part>> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// True when the index of one serves the other.
    pub(crate) fn same(&self, other: &View) -> bool {
        let ids = |view: &View| -> Vec<_> { view.partitions.iter().map(|part| (part.id, part.source)).collect() };
        self.name == other.name
            && self.id == other.id
            && self.source_id == other.source_id
            && self.source == other.source
            && self.text == other.text
            && self.auto == other.auto
            && ids(self) == ids(other)
    }
}

/// One partition of a view.
#[derive(Debug)]
pub(crate) struct Part {
    /// The view's own.
    pub(crate) id: PartitionId,
    /// The source's.
    pub(crate) source: PartitionId,
    /// What is indexed. Changes with every batch that was read.
    pub(crate) state: watch::Sender<State>,
    /// Offset of the last match plus one. Changes with matches only: what a long poll waits for.
    pub(crate) end: watch::Sender<i64>,
}

/// How far a partition's index is.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// False until rows of another filter are gone: nothing may be read.
    pub(crate) ready: bool,
    /// True once it has been at the end of its source: from then on it follows.
    pub(crate) caught_up: bool,
    pub(crate) progress: Progress,
}

impl Part {
    pub(crate) fn new(id: PartitionId, stored: Option<Progress>, source: PartitionId) -> Self {
        let ready = stored.is_some();
        let progress = stored.unwrap_or_else(|| Progress::start(source));
        let end = progress.end;
        let state = State { ready, caught_up: false, progress };
        Part { id, source, state: watch::Sender::new(state), end: watch::Sender::new(end) }
    }

    /// Whether it may be read, and whether it has been at the end of its source.
    pub(crate) fn readiness(&self) -> (bool, bool) {
        // One look: a second one beside it would wait for a publisher who waits for the first.
        let state = self.state.borrow();
        (state.ready, state.caught_up)
    }

    /// What was derived can be read from now on.
    pub(crate) fn publish(&self, state: State) {
        let end = state.progress.end;
        self.state.send_replace(state);
        self.end.send_if_modified(|old| std::mem::replace(old, end) != end);
    }
}

/// A record as a filter sees it.
pub(crate) struct Seen<'a>(pub(crate) &'a Record<'a>);

impl Fields for Seen<'_> {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.0.header(name.as_bytes()).flatten()
    }

    fn key(&self) -> Option<&[u8]> {
        self.0.key
    }

    fn timestamp(&self) -> i64 {
        self.0.timestamp
    }

    fn size(&self) -> usize {
        let headers = self.0.headers().map_while(Result::ok);
        let headers: usize = headers.map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum();
        self.0.key.map_or(0, <[u8]>::len) + self.0.value.map_or(0, <[u8]>::len) + headers
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_looks_and_who_publishes_do_not_wait_for_each_other() {
        const TURNS: u32 = 300_000;
        let part = Arc::new(Part::new(1, None, 2));
        let (ended, both) = mpsc::channel();
        let looks = (part.clone(), ended.clone());
        std::thread::spawn(move || {
            for _ in 0..TURNS {
                assert_eq!(looks.0.readiness(), (false, false));
            }
            looks.1.send(()).expect("awaited");
        });
        std::thread::spawn(move || {
            for _ in 0..TURNS {
                part.publish(State { ready: false, caught_up: false, progress: Progress::start(2) });
            }
            ended.send(()).expect("awaited");
        });
        for _ in 0..2 {
            both.recv_timeout(Duration::from_secs(30)).expect("neither of them stands still");
        }
    }
}
