//! `artifact-cache`: see the library of this crate, which is the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    artifact_cache::main()
}
