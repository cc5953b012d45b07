//! For tests: a whole krocket in this process or as a program of its own, and a client that sends what it is told.

pub mod checker;
pub mod client;
pub mod history;
pub mod http;
pub mod process;
pub mod promises;
pub mod server;
pub mod session;
pub mod share;
pub mod torture;

pub use client::Client;
pub use process::Process;
pub use server::Krocket;

use std::future::Future;
use std::time::Duration;

/// How long a test waits for what must happen. Long: it only matters when the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
///
/// # Panics
/// When it does not, naming it.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}
