//! Record batches, magic 2, as bytes.

pub mod batch;

pub use batch::{BatchError, BatchHeader};
