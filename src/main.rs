//! The `krocket` program. Everything it does is in the library, for tests to use.

use std::process::ExitCode;

fn main() -> ExitCode {
    krocket::cli::main()
}
