//! Event-driven long poll: one waiter watches many partitions and is woken when enough bytes became visible.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

use super::partition::Partition;

/// Waits for partitions to move. Registered from its creation to its drop, so a state that is read after the creation
/// and found wanting cannot change unnoticed.
#[derive(Debug)]
pub struct Watch {
    waiter: Arc<Waiter>,
    partitions: Vec<Arc<Partition>>,
}

/// The part of a [`Watch`] that partitions hold.
#[derive(Debug)]
pub(super) struct Waiter {
    missing: AtomicI64,
    waker: AtomicWaker,
}

impl Waiter {
    /// Counts bytes that became visible, and wakes the task once there are enough.
    pub(super) fn add(&self, bytes: i64) {
        if self.missing.fetch_sub(bytes, Ordering::AcqRel) <= bytes {
            self.waker.wake();
        }
    }

    /// Wakes the task whatever there is: something else than data changed.
    pub(super) fn interrupt(&self) {
        self.missing.store(0, Ordering::Release);
        self.waker.wake();
    }
}

impl Watch {
    /// Watches the partitions for `missing` bytes in all (at least 1).
    pub fn new(partitions: Vec<Arc<Partition>>, missing: i64) -> Self {
        let waiter = Arc::new(Waiter { missing: AtomicI64::new(missing.max(1)), waker: AtomicWaker::new() });
        for partition in &partitions {
            partition.register(&waiter);
        }
        Watch { waiter, partitions }
    }

    /// Starts counting again.
    pub fn rearm(&self, missing: i64) {
        self.waiter.missing.store(missing.max(1), Ordering::Release);
    }

    /// Counts bytes that are there already.
    pub fn found(&self, bytes: i64) {
        self.waiter.missing.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Resolves when the bytes have come, or when a partition's start moved or it was deleted.
    pub async fn ready(&self) {
        poll_fn(|context| {
            self.waiter.waker.register(context.waker());
            if self.waiter.missing.load(Ordering::Acquire) <= 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.deregister(&self.waiter);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn partitions() -> Vec<Arc<Partition>> {
        (0..3).map(|id| Arc::new(Partition::new(id))).collect()
    }

    #[test]
    fn wakes_when_enough_bytes_are_visible_in_all() {
        let partitions = partitions();
        let watch = Watch::new(partitions.clone(), 100);
        assert!(watch.ready().now_or_never().is_none());
        partitions[0].publish(1.into(), 60);
        assert!(watch.ready().now_or_never().is_none());
        partitions[2].publish(1.into(), 40);
        assert!(watch.ready().now_or_never().is_some());
        watch.rearm(1);
        assert!(watch.ready().now_or_never().is_none());
        partitions[1].publish(5.into(), 1);
        assert!(watch.ready().now_or_never().is_some());
    }

    #[test]
    fn wakes_when_the_log_start_moves() {
        let partitions = partitions();
        let watch = Watch::new(partitions.clone(), 100);
        partitions[0].move_log_start(10);
        assert!(watch.ready().now_or_never().is_some());
    }

    #[test]
    fn leaves_nothing_behind() {
        let partitions = partitions();
        let watch = Watch::new(partitions.clone(), 100);
        let other = Watch::new(vec![partitions[0].clone()], 1);
        drop(watch);
        assert_eq!(partitions[0].waiter_count(), 1);
        drop(other);
        assert!(partitions.iter().all(|partition| partition.waiter_count() == 0));
    }

    #[tokio::test]
    async fn a_waiting_task_is_woken() {
        let partitions = partitions();
        let watch = Watch::new(partitions.clone(), 10);
        let task = tokio::spawn(async move { watch.ready().await });
        tokio::task::yield_now().await;
        partitions[1].publish(3.into(), 10);
        task.await.expect("no panic");
    }
}
