//! Who used how much lately; those who use nothing are forgotten.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use krocket_stack::security::Windows;
use parking_lot::Mutex;

use super::rate::Rate;

pub(super) struct Known<K> {
    windows: Windows,
    rates: Mutex<Rates<K>>,
}

struct Rates<K> {
    all: HashMap<K, Rate>,
    /// When the idle ones were last forgotten.
    swept: Duration,
}

impl<K: Hash + Eq> Known<K> {
    pub(super) fn new(windows: Windows) -> Self {
        Known { windows, rates: Mutex::new(Rates { all: HashMap::new(), swept: Duration::ZERO }) }
    }

    /// Uses an amount, and says how long to wait if it was too much.
    pub(super) fn charge(&self, who: K, limit: f64, amount: f64, now: Duration) -> Option<Duration> {
        self.with(who, now, |rate| {
            rate.record(amount, now, self.windows);
            rate.excess(limit, now, self.windows)
        })
    }

    /// Uses an amount unless it is too much; then, how long to wait until it is not. Who used nothing lately gets even
    /// what is too much, or one large piece would never come through.
    pub(super) fn admit(&self, who: K, limit: f64, amount: f64, now: Duration) -> Admitted {
        self.with(who, now, |rate| {
            let fresh = rate.is_idle();
            rate.record(amount, now, self.windows);
            match rate.excess(limit, now, self.windows) {
                None => Admitted::Yes(None),
                Some(delay) if fresh => Admitted::Yes(Some(delay)),
                Some(delay) => {
                    rate.unrecord(amount);
                    Admitted::No(delay)
                }
            }
        })
    }

    /// How much may be used now.
    pub(super) fn room(&self, who: K, limit: f64, now: Duration) -> f64 {
        self.with(who, now, |rate| rate.room(limit, now, self.windows))
    }

    fn with<T>(&self, who: K, now: Duration, act: impl FnOnce(&mut Rate) -> T) -> T {
        let mut rates = self.rates.lock();
        if now.saturating_sub(rates.swept) >= self.windows.span() {
            rates.swept = now;
            rates.all.retain(|_, rate| {
                rate.expire(now, self.windows);
                !rate.is_idle()
            });
        }
        let rate = rates.all.entry(who).or_default();
        rate.expire(now, self.windows);
        act(rate)
    }
}

/// Whether something may go through, and how long to wait afterwards.
#[derive(Debug, PartialEq)]
pub(super) enum Admitted {
    Yes(Option<Duration>),
    No(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 3, size: Duration::from_secs(1) };

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn everybody_is_counted_alone_and_forgotten_when_idle() {
        let known = Known::new(WINDOWS);
        assert_eq!(known.charge("a", 1.0, 4.0, at(5000)), Some(at(2000)));
        assert_eq!(known.charge("b", 1.0, 1.0, at(5000)), None);
        assert_eq!(known.rates.lock().all.len(), 2);
        assert_eq!(known.charge("c", 1.0, 1.0, at(8000)), None);
        assert_eq!(known.rates.lock().all.len(), 1, "a and b went idle");
    }

    #[test]
    fn another_limit_holds_at_once() {
        let known = Known::new(WINDOWS);
        assert_eq!(known.charge("a", 1.0, 4.0, at(0)), Some(at(2000)));
        assert_eq!(known.charge("a", 100.0, 4.0, at(0)), None);
        assert_eq!(known.charge("a", 1.0, 0.0, at(0)), Some(at(6000)));
    }

    #[test]
    fn what_is_too_much_is_not_counted_and_a_large_piece_comes_through_at_last() {
        let known = Known::new(WINDOWS);
        assert_eq!(known.admit("a", 1.0, 2.0, at(0)), Admitted::Yes(None));
        assert_eq!(known.admit("a", 1.0, 1.0, at(0)), Admitted::No(at(1000)));
        assert_eq!(known.admit("a", 1.0, 1.0, at(0)), Admitted::No(at(1000)));
        assert_eq!(known.room("a", 1.0, at(500)), 0.5);
        assert_eq!(known.admit("a", 1.0, 10.0, at(2500)), Admitted::No(at(9500)));
        assert_eq!(known.admit("a", 1.0, 10.0, at(3000)), Admitted::Yes(Some(at(8000))));
    }
}
