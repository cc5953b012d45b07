//! How the program ends: one sentence on stderr and a code.

use std::fmt;
use std::process::ExitCode;

use krocket_config::ConfigError;

/// The configuration is wrong (EX_USAGE of sysexits.h).
pub const BAD_CONFIG: u8 = 64;

/// Why krocket does not run. `Display` is what the operator reads.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Config(ConfigError),
    /// Something in the way: a port in use, a folder that cannot be written.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Config(error) => error.fmt(out),
            Failure::Other(sentence) => out.write_str(sentence),
        }
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error)
    }
}

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> ExitCode {
        match self {
            Failure::Config(_) => ExitCode::from(BAD_CONFIG),
            Failure::Other(_) => ExitCode::FAILURE,
        }
    }
}
