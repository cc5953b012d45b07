//! Retry with back-off and dead letters for consumer groups.
