//! The `krocket` program. Everything it does is in the library, for tests to use.

use std::process::ExitCode;

/// Request buffers come and go by the hundred thousand a second: 10 to 15 % less CPU per small produce than glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    krocket::cli::main()
}
