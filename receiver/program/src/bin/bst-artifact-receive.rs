//! `bst-artifact-receive`: see the library of this crate, which is the program.

use std::process::ExitCode;

fn main() -> ExitCode {
    bst_artifact_receive::main()
}
