//! krocket put together: configuration to settings, the stack, the listeners.

#[cfg(test)]
mod acl_tests;
pub mod backup;
mod catalog;
pub mod cli;
pub mod exit;
pub mod http;
pub mod logging;
pub mod reload;
pub mod server;
pub mod settings;
mod share_rules;
pub mod stack;
mod time;
pub mod traces;
