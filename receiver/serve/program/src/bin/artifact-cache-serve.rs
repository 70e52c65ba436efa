//! `artifact-cache-serve`: see the library of this crate, which is the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    artifact_cache_serve::main()
}
