//! The configuration: a TOML file, then `KROCKET__SECTION__KEY` variables, then flags.
//!
//! - [`schema`] is every key with its meaning and default; unknown keys are errors.
//! - [`load()`] puts the layers over each other.
//! - [`error`] says what is wrong, where, and what was probably meant.

pub mod error;
pub mod load;
pub mod rules;
pub mod schema;
pub mod units;

pub use error::ConfigError;
pub use load::{Loaded, Override, load};
pub use schema::Config;
