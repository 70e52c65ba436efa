use tokio::io::AsyncWriteExt;

use super::*;

/// Runs shell text instead of a receiver.
fn start(text: &str) -> Connection {
    let remote = "host:path".parse().unwrap();
    Connector::default()
        .ssh_command(format!("{text} #"))
        .connect(&remote)
        .unwrap()
}

#[test]
fn a_path_is_one_word_to_a_shell_but_for_a_home() {
    for (path, word) in [
        ("/srv/cache", "'/srv/cache'"),
        ("a b", "'a b'"),
        ("it's", r"'it'\''s'"),
        ("$(reboot)", "'$(reboot)'"),
        ("~/cache", "~'/cache'"),
        ("~", "~"),
        ("~ci/a b", "~ci'/a b'"),
        ("~$(reboot)/x", "'~$(reboot)/x'"),
        ("a/~/b", "'a/~/b'"),
        ("", "''"),
    ] {
        assert_eq!(quoted(path), word);
    }
}

#[test]
fn options_are_for_openssh_alone() {
    let is = |text: &str| Connector::default().ssh_command(text).is_openssh();
    for text in [
        "ssh",
        "/usr/bin/ssh -F x",
        "env A=b ssh -i k",
        "sshpass -e ssh",
    ] {
        assert!(is(text), "{text}");
    }
    for text in [
        "plink -batch",
        "./fakessh",
        "dbclient",
        "my-ssh",
        "sshpass -e dbclient",
    ] {
        assert!(!is(text), "{text}");
    }
}

#[tokio::test]
async fn of_very_many_lines_the_last_are_kept() {
    let mut connection = start("seq 100000 >&2; exit 3");
    connection.read_to_string(&mut String::new()).await.unwrap();
    let (_, lines) = connection.finish().await.unwrap();
    assert_eq!(lines.last().map(String::as_str), Some("100000"));
    assert!(lines.len() <= LINES_MAX, "{}", lines.len());
}

/// A process of the server's that outlived the receiver kept the client for ever, and filled
/// its memory.
#[tokio::test]
async fn lines_without_end_end() {
    let connection = start("yes >&2 & exit 3");
    let finished = tokio::time::timeout(5 * ALL_LINES, connection.finish());
    let (status, lines) = finished.await.unwrap().unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(lines.len() <= LINES_MAX, "{}", lines.len());
}

#[tokio::test]
async fn a_reader_of_little_at_a_time_does_not_make_the_writes_small() {
    let mut connection = start("exec dd bs=32k of=/dev/null");
    let (bytes, mut left, mut writes) = (vec![0; 1024 * 1024], 16 * 1024 * 1024, 0);
    while left > 0 {
        let len = bytes.len().min(left);
        left -= connection.write(&bytes[..len]).await.unwrap();
        writes += 1;
    }
    assert!(writes < 128, "{writes}");
    assert!(connection.finish().await.unwrap().0.success());
}

#[tokio::test]
async fn a_receiver_sees_the_end_of_what_is_written_and_can_still_answer() {
    let mut connection = start("exec wc -c");
    connection.write_all(&vec![0; 3_000_000]).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer.trim(), "3000000");
}

#[tokio::test]
async fn who_writes_to_a_receiver_that_ends_is_told() {
    let mut connection = start("head -c 10 > /dev/null; exit 7");
    while connection.write_all(&[0; 4_096]).await.is_ok() {}
    assert_eq!(connection.finish().await.unwrap().0.code(), Some(7));
}
