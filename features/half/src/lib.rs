//! Half messages with check-back.
