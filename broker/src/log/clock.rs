//! Wall-clock time, replaceable in tests.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
            Clock::System => since_epoch().as_millis() as i64,
            Clock::Manual(now) => now.load(Ordering::Acquire),
            Clock::Shifted(by) => Clock::System.now_ms() + by.load(Ordering::Acquire),
        }
    }

    /// Epoch ms for measuring how long something lasts: locks, time-outs, waits. Goes on evenly when the system's clock is
    /// set, and says the same as it when the process starts. A manual clock has no other time.
    pub fn steady_ms(&self) -> i64 {
        static START: LazyLock<(Duration, Instant)> = LazyLock::new(|| (since_epoch(), Instant::now()));
        match self {
            Clock::System | Clock::Shifted(_) => {
                let (at, since) = *START;
                whole_ms(at, since.elapsed())
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

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Rounds once: a process that lags by another part of a ms than the one before would end that one's locks early.
fn whole_ms(start: Duration, elapsed: Duration) -> i64 {
    i64::try_from(start.saturating_add(elapsed).as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_lags_by_less_than_a_millisecond() {
        let part = Duration::from_micros(900);
        assert_eq!(whole_ms(Duration::from_millis(5) + part, part), 6);
        assert_eq!(whole_ms(Duration::from_millis(5), Duration::from_millis(7)), 12);
    }
}
