//! The test follows the manuals word for word: from a bare machine to a cache with two users, one
//! of whom may push to a part of it only, and a second machine that pulls.
//!
//! The first line of every block of commands says who types it:
//!
//! | fence | who |
//! |---|---|
//! | `sh server` | root at the server |
//! | `sh client` | Alice, at her machine |
//! | `sh second` | Bob, at his |
//!
//! `exit=N` after that is the block's exit code, 0 by default. Blocks of other kinds are not run.
//! They run in `tests/manual/machine`, with a real sshd that reads the files the manual wrote. Only
//! these things differ from a reader's:
//!
//! | thing | in the test |
//! |---|---|
//! | the three machines | accounts of one, in namespaces of their own, without a way out |
//! | `apt-get`, `cargo install`, `systemctl` | `tests/manual/stand-ins` |
//! | the certificate | that of an authority which the machine trusts |
//! | what users and the operator send each other | public keys, copied |
//! | the answer to every question | the return key |

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_receiver::config::Config;
use artifact_tests::exec::{Failure, run};
use artifact_tests::programs;

#[test]
fn following_the_manuals_word_for_word_gives_a_working_cache() {
    if !rustix::process::geteuid().is_root() {
        panic!("only root can make a machine to follow the manuals on: run the tests as root");
    }
    let blocks = manuals().unwrap();
    for who in ["server", "client", "second"] {
        let count = blocks.iter().filter(|block| block.who == who).count();
        assert!(count > 2, "{count} blocks for {who}");
    }
    assert!(blocks.iter().any(|block| block.exit == "3"), "no refusal");

    let dir = tempfile::tempdir().unwrap();
    let mut list = String::new();
    for (n, block) in blocks.iter().enumerate() {
        fs::write(dir.path().join(n.to_string()), &block.text).unwrap();
        let Block { who, exit, at, .. } = block;
        writeln!(list, "{n}\t{who}\t{exit}\t{at}").unwrap();
    }
    fs::write(dir.path().join("list"), list).unwrap();

    let accounts = fs::read("/etc/passwd").unwrap();
    let built = programs::receiver().unwrap();
    let mut machine = Command::new("unshare");
    machine
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--net", "--ipc", "--uts"])
        .arg(root().join("tests/manual/machine"))
        .arg(dir.path())
        .arg(built.parent().unwrap());
    let said = run(&mut machine).unwrap();
    assert_eq!(said.code, Some(0), "{said}");
    for block in &blocks {
        assert!(said.stdout.contains(&block.at), "{} did not run", block.at);
    }
    assert_eq!(accounts, fs::read("/etc/passwd").unwrap());
}

/// Two texts with the same commands would soon differ.
#[test]
fn the_readme_has_no_command_that_the_manuals_have_not() {
    let tested: String = manuals().unwrap().into_iter().map(|b| b.text).collect();
    let path = root().join("README.md");
    let readme = fs::read_to_string(path).unwrap();
    let mut lines = readme.lines();
    let mut count = 0;
    while lines.any(|line| line == "```sh") {
        for line in lines.by_ref().take_while(|line| *line != "```") {
            assert!(tested.lines().any(|known| known == line), "{line}");
            count += 1;
        }
    }
    assert!(count > 7, "{count} lines");
}

#[test]
fn the_pieces_of_configuration_in_the_manual_are_understood() {
    let manual = fs::read_to_string(root().join("receiver/MANUAL.md")).unwrap();
    let pieces = manual.split("```toml\n").skip(1);
    let pieces: Vec<_> = pieces.filter_map(|rest| rest.split("```").next()).collect();
    assert!(pieces.len() > 2, "{pieces:?}");
    for piece in pieces {
        Config::parse(&piece.replace("AAAA...", KEY), Path::new("/manual")).unwrap();
    }
}

/// Commands of a manual.
struct Block {
    who: String,
    exit: String,
    text: String,
    /// The file and the line.
    at: String,
}

fn manuals() -> Result<Vec<Block>, Failure> {
    let mut blocks = blocks("receiver/MANUAL.md")?;
    blocks.extend(self::blocks("sender/MANUAL.md")?);
    Ok(blocks)
}

fn blocks(file: &str) -> Result<Vec<Block>, Failure> {
    let path = root().join(file);
    let text = fs::read_to_string(&path).map_err(Failure::doing(format!("read {path:?}")))?;
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let Some(fence) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let at = format!("{file}:{}", index + 1);
        let text: String = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim() != "```")
            .flat_map(|line| [line, "\n"])
            .collect();
        match fence.split(' ').collect::<Vec<_>>().as_slice() {
            ["sh", who @ ("server" | "client" | "second"), exit @ ..] => blocks.push(Block {
                who: (*who).to_owned(),
                exit: match exit {
                    [] => "0",
                    [exit] => exit.strip_prefix("exit=").unwrap_or("?"),
                    _ => "?",
                }
                .to_owned(),
                text,
                at,
            }),
            // A command that nobody runs would soon be wrong.
            ["sh", ..] => return Err(Failure::new(format!("{at}: who types this?"))),
            _ => {}
        }
    }
    Ok(blocks)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A key to replace the one the manual abbreviates.
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBFPuRS9284WD/B06OFegF5xTZDazZ8jwwey482w78ai";
