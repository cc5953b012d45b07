//! Look-up of messages by id, UNIQ_KEY and key, and the life of each. See README.md.

mod http;
mod index;
mod layer;
mod life;
mod query;
mod rebuild;
mod sweep;
#[cfg(test)]
mod testing;

pub use http::routes;
pub use index::Lookup;
pub use layer::Indexed;
