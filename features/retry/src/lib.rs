//! Retry with back-off and dead letters for consumer groups: `retry.<group>` and `dlq.<group>`. See README.md.

mod attempts;
mod http;
mod layer;
mod nack;
mod named;
mod original;
mod policy;
mod redrive;
mod share;
mod topics;
mod waiting;

pub use attempts::sweep;
pub use http::routes;
pub use layer::Retry;
pub use named::named_topics;
pub use redrive::DeadLetters;
pub use share::ShareRetry;
pub use topics::Topics;
pub use waiting::routes as waiting;
