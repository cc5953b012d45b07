//! Nonsense, by feature, in tables: each row says what is sent and what is answered, and whatever was refused has left
//! nothing behind: 308 rows, and some 30 requests beside them. Elsewhere there are cases of bad input for
//!
//! - delay headers: 76, `features/src/delay.rs`
//! - message ids and group names: 17, `features/src/message_id.rs` and `escape.rs`
//! - views: 46, `tests/views/bad.rs`; SQL filters: 39, `features/filter/src/sql/tests.rs`
//! - configuration files: 37, `config/src/check/tests.rs`
//! - the command line and HTTP: about 20, `tests/operators.rs`, `tests/process.rs`, `src/http/tests.rs`
//!
//! Together more than 500; what is wrong on the wire itself comes on top (`tests/wire.rs`, `tests/connection.rs`,
//! `broker/tests/hostile.rs`, `fuzz/`).

mod half;
mod lookup;
mod retry;
mod world;
