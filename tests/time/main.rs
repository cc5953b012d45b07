//! Time that does not go as it should: the wall clock is set an hour forward and back while everything that waits is
//! pending, and the process stands still for a while. Nothing comes early, groups and transactions go on, nothing spins.

#![allow(clippy::print_stdout)]

mod jumps;
mod pause;
mod waiting;
