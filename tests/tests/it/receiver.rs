//! The receiver's program alone: what its surroundings can do to it.

use std::process::{Command, Stdio};

use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};

/// When ssh is gone, so is standard error. What could not be logged there was reported there, which
/// panicked: a publication that should have gone on was aborted.
#[test]
fn a_receiver_whose_log_nobody_reads_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::init(&dir.path().join("repo"), Mode::Archive).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let status = Command::new(programs::receiver().unwrap())
        .arg("--debug")
        .arg(repo.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(write)
        .status()
        .unwrap();
    // A connection that ended, as with a log.
    assert_eq!(status.code(), Some(5));
}
