//! The memory that requests may hold, over all connections.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics;

/// What a frame may allocate before its bytes have arrived. Larger frames get the rest once this much was received, so
/// that a hostile length prefix costs its sender a mebibyte before it costs us more.
pub const FIRST_BYTES: usize = 1 << 20;

/// Two pools: one for the first [`FIRST_BYTES`] of any frame, one for the rest of large frames. A frame waits for the
/// second pool while it holds some of the first, never the other way round, so frames cannot wait for each other in a
/// circle.
#[derive(Debug)]
pub struct Budget {
    first: Arc<Semaphore>,
    rest: Arc<Semaphore>,
}

/// Bytes reserved for one frame, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    first: OwnedSemaphorePermit,
    rest: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of `bytes`, at least what one frame of `largest` bytes needs.
    pub fn new(bytes: usize, largest: usize) -> Self {
        let first = (bytes / 2).max(FIRST_BYTES);
        let rest = bytes.saturating_sub(first).max(largest);
        Budget { first: Arc::new(Semaphore::new(first)), rest: Arc::new(Semaphore::new(rest)) }
    }

    /// Reserves what a frame of this length may allocate at once; waits while others hold too much.
    pub async fn begin(&self, length: usize) -> Reservation {
        Reservation { first: take(&self.first, length.min(FIRST_BYTES)).await, rest: None }
    }

    /// Reserves the remainder of a frame longer than [`FIRST_BYTES`].
    pub async fn extend(&self, reservation: &mut Reservation, length: usize) {
        if reservation.rest.is_none() && length > FIRST_BYTES {
            reservation.rest = Some(take(&self.rest, length - FIRST_BYTES).await);
        }
    }
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.first.num_permits() + self.rest.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        metrics::get().request_bytes_in_flight.sub(self.bytes() as i64);
    }
}

async fn take(pool: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let permits = u32::try_from(bytes).expect("frames are shorter than 2 GiB");
    let permit = match pool.clone().try_acquire_many_owned(permits) {
        Ok(permit) => permit,
        Err(_) => {
            metrics::get().request_bytes_waits.inc();
            pool.clone().acquire_many_owned(permits).await.expect("the pool is never closed")
        }
    };
    metrics::get().request_bytes_in_flight.add(i64::from(permits));
    permit
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_frame_waits_for_the_pool_and_gets_what_was_given_back() {
        let budget = Budget::new(2 * FIRST_BYTES, 3 * FIRST_BYTES);
        let mut large = budget.begin(3 * FIRST_BYTES).await;
        assert_eq!(large.bytes(), FIRST_BYTES);
        assert!(budget.begin(1).now_or_never().is_none(), "the first pool is taken");
        budget.extend(&mut large, 3 * FIRST_BYTES).await;
        assert_eq!(large.bytes(), 3 * FIRST_BYTES);

        drop(large);

        assert_eq!(budget.begin(1).await.bytes(), 1);
    }
}
