//! Log lines that strangers can cause: a few, then a count.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines in one period.
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(10);

/// Lets a few lines of one kind through in every period.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<Option<Period>>);

#[derive(Debug)]
struct Period {
    begin: Instant,
    said: u32,
    unsaid: u64,
}

impl Quiet {
    /// How many lines were left out before this one; nothing when this one is to be left out too.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        let period = state.get_or_insert(Period { begin: now, said: 0, unsaid: 0 });
        let mut unsaid = 0;
        if now.duration_since(period.begin) >= PERIOD {
            unsaid = period.unsaid;
            *period = Period { begin: now, said: 0, unsaid: 0 };
        }
        if period.said == LINES {
            period.unsaid += 1;
            return None;
        }
        period.said += 1;
        Some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_a_period_and_a_count_of_the_others() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        let said = (0..15).filter(|_| quiet.admit_at(start) == Some(0)).count();
        assert_eq!(said, LINES as usize);
        assert_eq!(quiet.admit_at(start + PERIOD), Some(5));
        assert_eq!(quiet.admit_at(start + PERIOD), Some(0));
    }
}
