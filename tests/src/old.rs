//! Clients of the two old protocols: recorded sessions of the original programs, and new messages
//! like theirs.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use artifact_protocol::dialect::{Change, Dialect, Info, Message};

use crate::exec::Failure;
use crate::programs;

/// The commit that the recorded clients push.
pub const COMMIT: &str = "359413d06dd6518cc656aeefbf19cd65b2f7f684e4ed29cd5889b880ed7ac114";

/// The refs that they set: the one of version 0, and both of version 1.
pub const REFS: [&str; 2] = [
    "demo/hello/1111111111111111111111111111111111111111111111111111111111111111",
    "demo/hello/2222222222222222222222222222222222222222222222222222222222222222",
];

/// The pull URL of their servers.
pub const PULL_URL: &str = "http://127.0.0.1/none";

/// The offset of the tar stream in the bytes of a recorded client of version 1.
pub const TAR_AT: usize = 493;

/// Returns the recording of a session in one direction: `c2s` or `s2c`.
pub fn recorded(session: &str, direction: &str) -> Result<Vec<u8>, Failure> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/testdata/legacy");
    let path = dir.join(session).join(format!("{direction}.bin"));
    std::fs::read(&path).map_err(Failure::doing(format!("read {}", path.display())))
}

/// Returns the bytes of a message.
pub fn message(dialect: Dialect, message: &Message) -> Vec<u8> {
    message
        .encode(dialect)
        .map(|b| b.to_vec())
        .unwrap_or_default()
}

/// Returns the messages of a client of version 1 before its objects: it knows of no ref.
pub fn greeting<'a>(refs: impl IntoIterator<Item = &'a str>, commit: &str) -> Vec<u8> {
    let change = |name: &str| Change {
        name: name.to_owned(),
        old: "0".repeat(64),
        new: commit.to_owned(),
    };
    let info = Message::Info(Info {
        mode: Info::ARCHIVE,
        ..Info::default()
    });
    let update = Message::Update(refs.into_iter().map(change).collect());
    [info, update, Message::PutObjects]
        .iter()
        .flat_map(|said| message(Dialect::V1, said))
        .collect()
}

/// A receiver, started as for an old client.
#[derive(Debug)]
pub struct OldServer {
    child: Child,
}

/// How a receiver ended.
#[derive(Debug)]
pub struct Ended {
    /// Its messages to the client.
    pub said: Vec<u8>,
    /// Its standard error.
    pub log: String,
    /// The exit code.
    pub code: Option<i32>,
}

impl OldServer {
    /// Starts a receiver with these arguments.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, Failure> {
        Self::run(Command::new(programs::receiver()?).args(arguments))
    }

    /// Starts a command that is a receiver.
    pub fn run(command: &mut Command) -> Result<Self, Failure> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failure::doing("start a receiver"))?;
        Ok(Self { child })
    }

    /// Starts a receiver for clients of a version.
    pub fn of(dialect: Dialect, repo: &Path) -> Result<Self, Failure> {
        match dialect {
            Dialect::V0 => Self::start([format!("--repo={}", repo.display())]),
            Dialect::V1 => Self::start([
                "--pull-url",
                PULL_URL,
                "--verbose",
                &repo.display().to_string(),
            ]),
        }
    }

    /// Writes bytes; a receiver that has ended does not accept them.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.child.stdin {
            let _ = stdin.write_all(bytes);
        }
    }

    /// Reads `len` bytes of its answers.
    pub fn read(&mut self, len: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; len];
        let stdout = self.child.stdout.as_mut();
        let stdout = stdout.ok_or_else(|| Failure::new("its output is read already"))?;
        stdout
            .read_exact(&mut bytes)
            .map_err(Failure::doing("read an answer"))?;
        Ok(bytes)
    }

    /// Waits for its end, without hanging up.
    pub fn wait(mut self) -> Result<Ended, Failure> {
        // `wait_with_output` would close it.
        let stdin = self.child.stdin.take();
        let output = self.child.wait_with_output();
        drop(stdin);
        let output = output.map_err(Failure::doing("wait for a receiver"))?;
        Ok(Ended {
            said: output.stdout,
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }

    /// Sends all bytes, hangs up, and waits for the end.
    pub fn converse(mut self, bytes: &[u8]) -> Result<Ended, Failure> {
        // The answers are few, and fit the pipe.
        self.write(bytes);
        drop(self.child.stdin.take());
        self.wait()
    }
}
