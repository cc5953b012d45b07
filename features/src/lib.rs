//! What features have in common. Each feature is a crate in a folder of its own; none knows another, nor a backend.

pub mod admin;
pub mod delay;
pub mod escape;
pub mod headers;
pub mod http;
pub mod identity;
pub mod message_id;
pub mod produce;
pub mod reserved;

pub use identity::Identity;
pub use message_id::MessageId;
pub use reserved::Reserved;
