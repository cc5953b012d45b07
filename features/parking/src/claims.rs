//! Who is changing which parked record right now.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::rows::Locator;

#[derive(Debug, Default)]
pub(crate) struct Claims {
    taken: Mutex<HashSet<Locator>>,
    /// Claims of others than the worker that were let go: what was read before may have changed.
    released: AtomicU64,
}

impl Claims {
    pub(crate) fn take(self: &Arc<Self>, at: Locator) -> Option<Claim> {
        self.taken.lock().insert(at).then(|| Claim { claims: self.clone(), at, delivering: false })
    }

    pub(crate) fn released(&self) -> u64 {
        self.released.load(Ordering::Acquire)
    }

    /// Takes all that are free for delivery, keeps those in `wanted`, and gives the claims.
    pub(crate) fn take_free<T>(self: &Arc<Self>, wanted: &mut Vec<T>, at: impl Fn(&T) -> Locator) -> Vec<Claim> {
        let mut taken = self.taken.lock();
        wanted.retain(|one| taken.insert(at(one)));
        wanted.iter().map(|one| Claim { claims: self.clone(), at: at(one), delivering: true }).collect()
    }

    pub(crate) fn is_taken(&self, at: Locator) -> bool {
        self.taken.lock().contains(&at)
    }
}

/// Nobody else changes this record until the claim is dropped.
#[derive(Debug)]
pub struct Claim {
    claims: Arc<Claims>,
    at: Locator,
    delivering: bool,
}

impl Claim {
    /// Of what.
    pub fn at(&self) -> Locator {
        self.at
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.delivering {
            self.claims.released.fetch_add(1, Ordering::AcqRel);
        }
        self.claims.taken.lock().remove(&self.at);
    }
}
