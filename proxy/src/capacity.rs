//! What all listeners share: the limits, and what is left of them.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::Limits;
use crate::budget::Budget;

/// Connections and memory for all clients of all listeners together.
#[derive(Clone)]
pub struct Capacity {
    pub(crate) limits: Arc<Limits>,
    pub(crate) open: Arc<Semaphore>,
    /// Connections whose clients have not proved who they are yet.
    pub(crate) strangers: Arc<Semaphore>,
    pub(crate) budget: Arc<Budget>,
}

impl From<Limits> for Capacity {
    fn from(limits: Limits) -> Self {
        Capacity {
            open: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(limits.strangers())),
            budget: Arc::new(Budget::new(limits.queued_request_bytes, limits.request_bytes)),
            limits: Arc::new(limits),
        }
    }
}
