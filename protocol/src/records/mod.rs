//! Record batches, magic 2, as bytes: looked into without copying, rebuilt only when records have to go.

pub mod batch;
pub mod builder;
pub mod compression;
mod input;
pub mod names;
pub mod record;
pub mod validate;
pub mod varint;
mod walk;
mod walked;

pub use batch::{BatchError, BatchHeader};
pub use builder::{BatchBuilder, LastOffset};
pub use compression::Codec;
pub use names::{Mentioned, Names};
pub use record::{Header, Record, RecordFault, Records, RecordsError};
pub use validate::{MAX_DECOMPRESSED, Rejection, Rules, Timestamps, Validated, validate, validate_walked};
pub use walked::Walked;
