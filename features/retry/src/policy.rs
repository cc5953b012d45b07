//! How long a retry waits.

use std::time::Duration;

use krocket_config::rules::{Backoff, RetryPolicy};
use rand::Rng;

/// The wait before the retry of this number, from 1, ms.
pub(crate) fn wait_ms(policy: &RetryPolicy, retry: u32) -> i64 {
    let wait = match &policy.backoff {
        // The last one repeats (CustomizedRetryPolicy).
        Backoff::Steps(steps) => {
            let index = (retry.max(1) as usize - 1).min(steps.len().saturating_sub(1));
            steps.get(index).copied().unwrap_or_default()
        }
        Backoff::Exponential { initial, multiplier, max, jitter } => {
            let exponent = i32::try_from(retry.max(1) - 1).unwrap_or(i32::MAX);
            let grown = (initial.as_secs_f64() * multiplier.powi(exponent)).min(max.as_secs_f64());
            let spread = if *jitter > 0.0 { rand::rng().random_range(-*jitter..=*jitter) } else { 0.0 };
            Duration::from_secs_f64((grown * (1.0 + spread)).clamp(0.0, max.as_secs_f64()))
        }
    };
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_rocketmqs_table() {
        let policy = RetryPolicy::default();
        let seconds = [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        for (retry, wanted) in (1..).zip(seconds) {
            assert_eq!(wait_ms(&policy, retry), wanted * 1000);
        }
        assert_eq!(wait_ms(&policy, 99), 7_200_000);
    }

    #[test]
    fn exponential_grows_to_its_limit_and_jitter_stays_within() {
        let seconds = Duration::from_secs;
        let backoff = |jitter| Backoff::Exponential { initial: seconds(1), multiplier: 2.0, max: seconds(60), jitter };
        let policy = RetryPolicy { backoff: backoff(0.0), ..RetryPolicy::default() };
        assert_eq!(
            [1, 2, 3, 7, 8, 4_000_000_000].map(|retry| wait_ms(&policy, retry)),
            [1000, 2000, 4000, 60_000, 60_000, 60_000]
        );
        let policy = RetryPolicy { backoff: backoff(0.2), ..policy };
        for _ in 0..1000 {
            assert!((3200..=4800).contains(&wait_ms(&policy, 3)));
        }
    }
}
