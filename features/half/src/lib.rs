//! Half messages: sent, hidden, and visible once their producer says COMMIT; a producer that says nothing is asked.
//! See README.md.

mod check;
mod http;
mod layer;
mod members;

pub use check::Checks;
pub use http::routes;
pub use layer::HalfMessages;
