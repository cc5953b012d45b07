//! Delayed and scheduled delivery: a record with a `TIMER_*` or `DELAY` header is parked where it was produced and
//! delivered when it is due, exact to the millisecond; `TIMER_DEL_UNIQKEY` cancels. See README.md.

mod http;
mod layer;

pub use http::routes;
pub use layer::Schedule;
