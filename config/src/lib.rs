//! The configuration: a TOML file, then `KROCKET__SECTION__KEY` variables, then flags.
//!
//! - [`schema`] is every key with its meaning and default; unknown keys are errors.
//! - [`load()`] puts the layers over each other.
//! - [`rules`] are the features' rules; [`check`] says which of them make no sense.
//! - [`watch`] finds changes of files while krocket runs.
//! - [`error`] says what is wrong, where, and what was probably meant.

pub mod check;
pub mod error;
pub mod load;
pub mod rules;
pub mod schema;
pub mod security;
pub mod switch;
pub mod units;
pub mod watch;

pub use check::Fault;
pub use error::ConfigError;
pub use load::{Loaded, Override, load};
pub use schema::Config;
