//! What the clients did beside their promises, when all is at rest.

use std::fmt;

use super::groups::Worked;
use super::retention::Gone;
use super::shares::Done;

/// How a life ended, or several: what was seen, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended([(&'static str, u64); 9]);

impl Ended {
    pub(crate) fn new(worked: Worked, shared: Done, compacted: u64, gone: Gone) -> Self {
        Ended([
            ("messages processed by groups", worked.consumed as u64),
            ("retries of groups", worked.retried as u64),
            ("dead letters of groups", worked.dead as u64),
            ("share deliveries", shared.deliveries),
            ("share records accepted", shared.accepted),
            ("share records dead", shared.dead),
            ("records compacted away", compacted),
            ("deleted by DeleteRecords", gone.deleted),
            ("expired beyond those", gone.expired),
        ])
    }

    /// Adds what was seen in another life.
    pub fn add(&mut self, other: &Ended) {
        for (own, (what, count)) in self.0.iter_mut().zip(other.0) {
            *own = (what, own.1 + count);
        }
    }

    /// What was never seen, if anything: a test that saw nothing of it has shown nothing of it.
    pub fn unseen(&self) -> Option<&'static str> {
        self.0.iter().find(|(_, count)| *count == 0).map(|(what, _)| *what)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (what, count)) in self.0.iter().enumerate() {
            write!(out, "{}{count} {what}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
