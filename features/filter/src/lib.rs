//! Which records a view shows: tag expressions and SQL92 over record headers.

pub mod expression;
pub mod sql;
pub mod tag;

pub use expression::{Expression, Fields, FilterError};
