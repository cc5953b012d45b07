//! Bytes that were read from the log and wait to be sent: so many at most, however many clients are slow to take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Counts what waits.
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: AtomicUsize,
    most: usize,
}

/// A part of it, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    unsent: Arc<Unsent>,
    len: usize,
}

impl Unsent {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Unsent { bytes: AtomicUsize::new(0), most })
    }

    /// `None` when there is no room.
    pub(super) fn reserve(self: &Arc<Self>, len: usize) -> Option<Reserved> {
        let add = |bytes: usize| bytes.checked_add(len).filter(|bytes| *bytes <= self.most);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Reserved { unsent: self.clone(), len })
    }

    /// True when clients are slow to take what they asked for: no time to read more than that.
    pub(super) fn is_half_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.most / 2
    }
}

impl Reserved {
    /// The bytes, which are counted until the last copy is gone.
    pub(super) fn with(self: Arc<Self>, bytes: Bytes) -> Bytes {
        struct Counted(Bytes, #[allow(dead_code, reason = "held for its end")] Arc<Reserved>);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(Counted(bytes, self))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.unsent.bytes.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_the_last_copy_is_gone() {
        let unsent = Unsent::new(100);
        assert!(unsent.reserve(101).is_none());
        let held = Arc::new(unsent.reserve(60).expect("room")).with(Bytes::from_static(b"60 bytes"));
        let part = held.slice(1..2);
        drop(held);
        assert!(unsent.reserve(41).is_none());
        assert_eq!(&part[..], b"0");
        drop(part);
        assert!(unsent.reserve(100).is_some());
    }
}
