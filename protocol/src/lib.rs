//! Bytes and what they mean: frames, the API table, record batches.
//!
//! No I/O beyond reading a slice of an open file, no runtime. Message structs come from the `kafka-protocol` crate;
//! what a broker's hot path needs (batch headers, records, the Fetch response) and what the crate lacks is written here.

pub mod api;
mod api_key;
pub mod chunk;
mod compact;
pub mod describe_share_group_offsets;
pub mod fetch;
pub mod frame;
pub mod guard;
pub mod list_offsets;
pub mod offset_commit;
pub mod offset_fetch;
pub mod records;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod streams_group_describe;
pub mod streams_group_heartbeat;
mod structure;

pub use api_key::ApiKey;
pub use kafka_protocol::ResponseError as ErrorCode;
pub use kafka_protocol::protocol::StrBytes;
