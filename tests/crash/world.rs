//! Where the server is, for clients that outlive it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use krocket_testkit::history::Partition;
use tokio::sync::watch;

/// Every partition that is written and read.
pub(crate) const PARTITIONS: [Partition; 6] =
    [("plain", 0), ("plain", 1), ("plain", 2), ("stamped", 0), ("stamped", 1), ("narrow", 0)];

#[derive(Clone, Copy)]
pub(crate) enum State {
    Down,
    Up(SocketAddr),
    Ended,
}

/// A client's view of it.
#[derive(Clone)]
pub(crate) struct World(pub(crate) watch::Receiver<State>);

impl World {
    /// Waits for the server; `None` when the test ends.
    pub(crate) async fn server(&mut self) -> Option<SocketAddr> {
        let state = *self.0.wait_for(|state| !matches!(state, State::Down)).await.ok()?;
        match state {
            State::Up(address) => Some(address),
            _ => None,
        }
    }

    /// Waits until the server is no longer at this address.
    pub(crate) async fn server_gone(&mut self, address: SocketAddr) {
        let _ = self.0.wait_for(|state| !matches!(state, State::Up(there) if *there == address)).await;
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(*self.0.borrow(), State::Ended)
    }
}

/// Partitions and what belongs to each, as requests want them: topic by topic.
pub(crate) fn by_topic<T: Copy>(entries: &[(Partition, T)]) -> BTreeMap<&'static str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((topic, index), entry) in entries {
        topics.entry(*topic).or_default().push((*index, *entry));
    }
    topics
}
