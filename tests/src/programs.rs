//! The workspace's own programs, as Cargo builds them.
//! The workspace's own programs, as Cargo builds them.
//!
//! They belong to other packages, so Cargo does not build them for these tests.
//! `ARTIFACT_TESTS_PROGRAMS`, which `make test` sets, is their directory; without it they are built
//! here, once in each process, in the profile of the tests.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::exec::{Failure, run};

/// Returns the server's end of the wire.
pub fn receiver() -> Result<PathBuf, Failure> {
    program("bst-artifact-receive")
}

/// Returns the user's program.
pub fn client() -> Result<PathBuf, Failure> {
    program("artifact-cache")
}

/// Returns the server administrator's program.
pub fn admin() -> Result<PathBuf, Failure> {
    program("artifact-cache-admin")
}

/// Returns the server of those who pull.
pub fn serve() -> Result<PathBuf, Failure> {
    program("artifact-cache-serve")
}

/// Returns the writer of the manual pages, which is part of no release.
pub fn man() -> Result<PathBuf, Failure> {
    program("artifact-man")
}

/// Returns the program that pulls through the store alone.
pub fn puller() -> Result<PathBuf, Failure> {
    program("chaos-puller")
}

fn program(name: &str) -> Result<PathBuf, Failure> {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let directory = DIRECTORY
        .get_or_init(|| directory().map_err(|failure| format!("{failure:?}")))
        .as_ref()
        .map_err(Failure::new)?;
    let path = directory.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!("there is no program {path:?}")))
    }
}

fn directory() -> Result<PathBuf, Failure> {
    if let Some(directory) = std::env::var_os("ARTIFACT_TESTS_PROGRAMS") {
        return Ok(directory.into());
    }
    // A test is TARGET/PROFILE/deps/NAME, and the programs are TARGET/PROFILE/NAME.
    let test = std::env::current_exe().map_err(Failure::doing("find the running test"))?;
    let directory = test
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .ok_or_else(|| Failure::new(format!("{test:?} is not in Cargo's target directory")))?;
    let mut build = Command::new(env!("CARGO"));
    build
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bins",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    if directory.ends_with("release") {
        build.arg("--release");
    }
    if let Some(target) = directory.parent() {
        build.arg("--target-dir").arg(target);
    }
    run(&mut build)?.success()?;
    Ok(directory.to_owned())
}
