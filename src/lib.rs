//! krocket put together: configuration to settings, the stack, the listeners.

pub mod backup;
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
