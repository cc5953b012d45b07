//! The server's vocabulary: a request, a response, who asked, what answers.
//!
//! Everything that answers a Kafka request is a [`Handler`] with one method. A [`Layer`] wraps the next handler and
//! says which APIs it wants; what no layer wants passes through undecoded.

pub mod body;
pub mod connection;
pub mod error;
pub mod handler;
pub mod layer;
pub mod ledger;
pub mod notes;
pub mod principal;
pub mod produce;
pub mod request;
pub mod security;
pub mod share;
pub mod trace;

pub use body::{Body, Message};
pub use connection::Connection;
pub use error::Error;
pub use handler::{BoxFuture, Handler};
pub use layer::{Layer, Stack};
pub use ledger::{Ledger, LedgerError};
pub use notes::{Notes, Row, Template, Written};
pub use principal::Principal;
pub use produce::{Produce, ProducePartition, ProduceTopic, Refusal};
pub use request::{Head, Request, Response};
