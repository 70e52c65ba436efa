//! `artifact-cache`: see the library of this crate, which is the program.

use std::process::ExitCode;

/// One heap for all threads: glibc's allocator has one for each of them, and keeps in each what a
/// pull has freed there, up to 8 MiB in all.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    artifact_cache::main()
}
