//! The receiver's program on its own, in hostile surroundings.

use std::process::{Command, Stdio};

use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};

/// When ssh is gone, so is standard error. The receiver once reported a failed log line there,
/// which panicked and aborted a publication that should have gone on.
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
    // The connection ended, as it does with a log.
    assert_eq!(status.code(), Some(5));
}

/// Mercurial and others executed a client's requested command, or a part of it (CVE-2014-6271 and
/// its kind).
#[test]
fn what_a_client_asked_for_is_logged_escaped_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::init(&dir.path().join("repo"), Mode::Archive).unwrap();
    let mark = dir.path().join("mark");
    let touch = format!("touch {}", mark.display());
    for command in [
        format!("() {{ :; }}; {touch}"),
        format!("bst-artifact-receive --no-sandbox $({touch}) /"),
        "bst-artifact-receive --identity root --config /dev/stdin /etc".to_owned(),
        "--help\n\u{1b}[2J\u{202e}".to_owned(),
    ] {
        let receive = |command: &str| {
            let output = Command::new(programs::receiver().unwrap())
                .arg("--debug")
                .arg(repo.path())
                .env("SSH_ORIGINAL_COMMAND", command)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(5), "{output:?}");
            (output.stdout, String::from_utf8(output.stderr).unwrap())
        };
        let (stdout, said) = receive(&command);
        assert_eq!(stdout, receive("x").0, "{command}");
        assert!(said.contains("the client asked for: "), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said}");
        assert!(said.contains("the client is anyone"), "{said}");
        assert!(!mark.exists(), "{command}");
    }
}
