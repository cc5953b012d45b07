//! Delayed and scheduled delivery.
