//! Disks that lose their power, fail, fill up, or give other bytes than were written.
//!
//! `make test` runs the quick forms from fixed seeds, `make torture` the long ones.

#![allow(clippy::print_stdout)]

mod damage;
mod faults;
mod full;
mod index;
mod log;
mod machine;
mod power_loss;
