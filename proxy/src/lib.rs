//! Bytes to requests and back: the listener, one task per connection, ApiVersions.
//!
//! Knows nothing of topics or groups: what a request means is the [`krocket_stack::Handler`]'s business.
//!
//! - [`listener`] accepts, counts connections, drains.
//! - [`tls`] shakes hands, follows certificates and reads who a client's certificate stands for.
//! - [`sasl`] lets a client prove who it is before it may do anything else.
//! - `connection` is one client: reads frames, keeps responses in order, notices that the client went away.
//! - `reader` turns bytes into frames within [`budget`]; `writer` sends chunks, file slices by the kernel.
//! - [`quota`] measures what clients use and holds up who uses too much.
//! - [`requests`] logs some of them.
//! - `service` turns one frame into one response; `api_versions` is the one API answered here.

pub mod acl;
pub mod budget;
pub mod capacity;
pub mod limits;
pub mod listener;
pub mod metrics;
pub mod quota;
pub mod requests;
pub mod sasl;
pub mod tls;

mod api_versions;
mod connection;
mod quiet;
mod reader;
mod service;
mod stream;
mod writer;

pub use capacity::Capacity;
pub use limits::Limits;
pub use listener::Listener;
