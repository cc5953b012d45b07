//! A share of all requests, taken evenly.

use std::sync::atomic::{AtomicU64, Ordering};

/// 2^64 divided by the golden ratio: multiples of it, modulo 2^64, lie evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Which share. It can be changed while requests are served.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// A request is taken when its place is below; 0 takes none.
    below: AtomicU64,
    place: AtomicU64,
}

impl Sample {
    /// From now on this share of all, from 0 to 1.
    pub(super) fn set(&self, share: f64) {
        // Saturates: 1 takes all but one place in 2^64.
        self.below.store((share * 2f64.powi(64)) as u64, Ordering::Relaxed);
    }

    /// True where some are taken.
    pub(super) fn is_on(&self) -> bool {
        self.below.load(Ordering::Relaxed) > 0
    }

    /// True where the next one is.
    pub(super) fn takes(&self) -> bool {
        let below = self.below.load(Ordering::Relaxed);
        below > 0 && self.place.fetch_add(GOLDEN, Ordering::Relaxed) < below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_taken_evenly() {
        let sample = Sample::default();
        assert!(!sample.is_on() && !sample.takes());
        for (share, least, most) in [(0.01, 99, 101), (0.5, 4999, 5001), (1.0, 10_000, 10_000), (0.0, 0, 0)] {
            sample.set(share);
            let taken = (0..10_000).filter(|_| sample.takes()).count();
            assert_eq!(sample.is_on(), share > 0.0);
            assert!((least..=most).contains(&taken), "{taken} of 10000 at {share}");
        }
    }
}
