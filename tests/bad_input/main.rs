//! Nonsense, by feature, in tables: each row says what is sent and what is answered, and whatever was refused has left
//! nothing behind. Beside the some 300 rows here there are tables of bad input for
//!
//! - delay headers: `features/src/delay.rs` (74)
//! - message ids and group names: `features/src/message_id.rs`, `escape.rs` (17)
//! - views: `tests/views/bad.rs` (50), filters: `features/filter/src` (unit tests of the parsers)
//! - configuration files: `config/src/check/tests.rs` (37)
//! - the command line and HTTP: `tests/operators.rs`, `tests/process.rs`, `src/http/tests.rs`
//! - the wire: `tests/wire.rs`, `tests/connection.rs`, `broker/tests/hostile.rs` and what `fuzz/` runs.

mod half;
mod lookup;
mod retry;
mod world;
