//! A rate over sliding windows: Kafka's SampledStat and Rate.

use std::collections::VecDeque;
use std::time::Duration;

use krocket_stack::security::Windows;

/// What somebody used lately. Times are since some beginning.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    start: Duration,
    sum: f64,
}

impl Rate {
    /// Forgets what is too long ago.
    pub(super) fn expire(&mut self, now: Duration, windows: Windows) {
        while self.samples.front().is_some_and(|oldest| now.saturating_sub(oldest.start) >= windows.span()) {
            self.samples.pop_front();
        }
    }

    /// True for one that is as good as new.
    pub(super) fn is_idle(&self) -> bool {
        self.samples.is_empty()
    }

    /// Adds what is used now; call [`Rate::expire`] first.
    pub(super) fn record(&mut self, amount: f64, now: Duration, windows: Windows) {
        match self.samples.back_mut() {
            Some(last) if now.saturating_sub(last.start) < windows.size => last.sum += amount,
            _ => self.samples.push_back(Sample { start: now, sum: amount }),
        }
    }

    /// Takes back what was recorded last.
    pub(super) fn unrecord(&mut self, amount: f64) {
        if let Some(last) = self.samples.back_mut() {
            last.sum -= amount;
            // A sample of nothing would keep the rate from being idle.
            if last.sum <= 0.0 {
                self.samples.pop_back();
            }
        }
    }

    /// What may still be used now; negative when it was too much.
    pub(super) fn room(&self, limit: f64, now: Duration, windows: Windows) -> f64 {
        let used: f64 = self.samples.iter().map(|sample| sample.sum).sum();
        limit * self.measured(now, windows).as_secs_f64() - used
    }

    /// How long to wait until the rate is within the limit, where it is not.
    pub(super) fn excess(&self, limit: f64, now: Duration, windows: Windows) -> Option<Duration> {
        let room = self.room(limit, now, windows);
        // Clients are told milliseconds in 31 bits.
        (room < 0.0).then(|| Duration::from_secs_f64((-room / limit).min(f64::from(i32::MAX) / 1000.0)))
    }

    /// The time that was measured: at least all windows but the one that runs, so that somebody who just came may use what
    /// was not used before.
    fn measured(&self, now: Duration, windows: Windows) -> Duration {
        let elapsed = self.samples.front().map_or(Duration::ZERO, |oldest| now.saturating_sub(oldest.start));
        let whole = (elapsed.as_nanos() / windows.size.as_nanos().max(1)).min(u128::from(u32::MAX)) as u32;
        let missing = windows.count.saturating_sub(1).saturating_sub(whole);
        (elapsed + windows.size.saturating_mul(missing)).max(windows.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: f64 = 1_048_576.0;

    fn windows(count: u32) -> Windows {
        Windows { count, size: Duration::from_secs(1) }
    }

    /// What a client gets through that uses as much as it can, in pieces, and waits as it is told.
    fn greedy(rate: &mut Rate, windows: Windows, limit: f64, piece: f64, seconds: u64) -> f64 {
        let mut now = Duration::from_secs(100);
        let end = now + Duration::from_secs(seconds);
        let mut used = 0.0;
        while now < end {
            rate.expire(now, windows);
            rate.record(piece, now, windows);
            used += piece;
            now += Duration::from_micros(500) + rate.excess(limit, now, windows).unwrap_or_default();
        }
        used / seconds as f64
    }

    #[test]
    fn who_uses_all_it_can_gets_what_the_quota_says() {
        // Long, as the last round may have just begun.
        for (windows, seconds) in [(windows(11), 330), (windows(2), 60), (windows(1), 60)] {
            for piece in [1000.0, 65_536.0, 500_000.0] {
                let got = greedy(&mut Rate::default(), windows, MEBIBYTE, piece, seconds) / MEBIBYTE;
                // With one window everything is forgotten at once, the piece that was too much with it.
                let too_much = if windows.count == 1 { piece / MEBIBYTE } else { 0.0 };
                assert!((0.95..1.05 + too_much).contains(&got), "{windows:?} {piece}: {got}");
            }
        }
    }

    #[test]
    fn the_wait_is_kafkas() {
        let (mut rate, windows) = (Rate::default(), windows(11));
        let at = Duration::from_millis;
        // ClientQuotaManagerTest: 10 windows of one second are behind, so ten times the quota of 500 may be used.
        rate.record(5000.0, at(0), windows);
        assert_eq!(rate.excess(500.0, at(0), windows), None);
        rate.record(2300.0, at(500), windows);
        // (7300 / 10.5 - 500) / 500 * 10.5
        assert_eq!(rate.excess(500.0, at(500), windows), Some(at(4100)));
        rate.unrecord(2300.0);
        assert_eq!(rate.excess(500.0, at(500), windows), None);
        assert_eq!(rate.room(500.0, at(500), windows), 250.0);
    }

    #[test]
    fn what_is_long_ago_is_forgotten_and_an_idle_rate_is_as_new() {
        let (mut rate, windows) = (Rate::default(), windows(3));
        rate.record(9.0, Duration::from_secs(1), windows);
        rate.record(9.0, Duration::from_secs(3), windows);
        rate.expire(Duration::from_millis(3999), windows);
        assert_eq!(rate.samples.len(), 2);
        rate.expire(Duration::from_secs(4), windows);
        assert_eq!((rate.samples.len(), rate.is_idle()), (1, false));
        rate.expire(Duration::from_secs(6), windows);
        assert!(rate.is_idle());
        assert_eq!(rate.room(1.0, Duration::from_secs(6), windows), 2.0);
    }
}
