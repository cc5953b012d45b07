//! Wall-clock time, replaceable in tests.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Tells the time in epoch ms.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// A clock that stands still until it is set.
    Manual(Arc<AtomicI64>),
    /// The system's clock, wrong by so many ms.
    Shifted(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `now_ms`.
    pub fn manual(now_ms: i64) -> Self {
        Clock::Manual(Arc::new(AtomicI64::new(now_ms)))
    }

    /// A clock that goes as the system's, until it is moved.
    pub fn shifted() -> Self {
        Clock::Shifted(Arc::default())
    }

    /// Epoch ms. A system clock before 1970 reads 0.
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::System => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
            }
            Clock::Manual(now) => now.load(Ordering::Acquire),
            Clock::Shifted(by) => Clock::System.now_ms() + by.load(Ordering::Acquire),
        }
    }

    /// Epoch ms for measuring how long something lasts: locks, time-outs, waits. Goes on evenly when the system's clock is
    /// set, and says the same as it when the process starts. A manual clock has no other time.
    pub fn steady_ms(&self) -> i64 {
        static START: LazyLock<(i64, Instant)> = LazyLock::new(|| (Clock::System.now_ms(), Instant::now()));
        match self {
            Clock::System | Clock::Shifted(_) => {
                let (at, since) = *START;
                at.saturating_add(i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX))
            }
            Clock::Manual(_) => self.now_ms(),
        }
    }

    /// Moves a clock that can be; the system's is left alone.
    pub fn advance(&self, ms: i64) {
        if let Clock::Manual(moved) | Clock::Shifted(moved) = self {
            moved.fetch_add(ms, Ordering::AcqRel);
        }
    }
}
