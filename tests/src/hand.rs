//! A client by hand: sends any frame at any time to a real receiver, over pipes.
//!
//! Also artifacts by hand, which can be wrong in one place and right everywhere else.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, FileHeader, ObjectId, ObjectKind, Xattrs,
};
use artifact_protocol::frame::{
    Announce, Expect, Frame, Hello, Offer, PREAMBLE, Pack, PushOptions, RefUpdate,
};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::exec::Failure;
use crate::programs;

/// A receiver, and a client that follows no rule.
#[derive(Debug)]
pub struct Hand {
    child: Child,
    to: Option<ChildStdin>,
    from: ChildStdout,
    heard: BytesMut,
    greeted: bool,
}

/// How a receiver ended.
#[derive(Debug)]
pub struct End {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub said: String,
}

impl Hand {
    /// Starts a receiver for a repository.
    pub fn start(repository: &Path) -> Result<Self, Failure> {
        Self::start_in(repository, &[])
    }

    /// Starts a receiver for a repository, with these variables in its environment.
    pub fn start_in(repository: &Path, environment: &[(&str, &str)]) -> Result<Self, Failure> {
        let mut receiver = Command::new(programs::receiver()?);
        receiver.arg(repository).envs(environment.iter().copied());
        Self::start_by(receiver)
    }

    /// Starts a receiver with the caller's command.
    pub fn start_by(mut command: Command) -> Result<Self, Failure> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failure::doing("start the receiver"))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("a receiver without pipes"));
        };
        Ok(Self {
            child,
            to: Some(to),
            from,
            heard: BytesMut::new(),
            greeted: false,
        })
    }

    /// Starts a receiver, greets it and announces one ref; returns when the receiver has answered.
    pub fn announced(repository: &Path, name: &str, commit: Checksum) -> Result<Self, Failure> {
        let mut hand = Self::start(repository)?;
        hand.announce(name, commit)?;
        Ok(hand)
    }

    /// Greets the receiver and announces one ref; returns when it has answered.
    pub fn announce(&mut self, name: &str, commit: Checksum) -> Result<(), Failure> {
        self.write(&PREAMBLE);
        self.say(&hello(Version::OLDEST, Version::NEWEST));
        self.say(&announce(name, commit, None));
        while let Some(frame) = self.hear()? {
            if matches!(frame, Frame::RefStatus(_)) {
                return Ok(());
            }
        }
        Err(Failure::new("the receiver did not answer the announcement"))
    }

    /// Reads one byte; returns `None` at the end, and otherwise the frame that the byte completes,
    /// if any.
    pub fn hear_byte(&mut self) -> Result<Option<Option<Frame>>, Failure> {
        let mut byte = [0];
        let read = self.from.read(&mut byte);
        if read.map_err(Failure::doing("read what the receiver says"))? == 0 {
            return Ok(None);
        }
        self.heard.extend_from_slice(&byte);
        if !self.greeted {
            self.greeted = self.heard.len() == PREAMBLE.len();
            if self.greeted {
                self.heard.clear();
            }
            return Ok(Some(None));
        }
        let frame = Frame::decode(&mut self.heard, MAX_FRAME_LEN_MAX);
        let frame = frame.map_err(|error| Failure::new(format!("bad: {error:?}")))?;
        Ok(Some(frame))
    }

    /// Breaks the connection in both directions, and waits for the receiver to end.
    pub fn cut(self) -> Result<End, Failure> {
        let Self {
            mut child,
            to,
            from,
            ..
        } = self;
        drop((to, from));
        let output = child.wait().and_then(|status| {
            let mut said = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                stderr.read_to_string(&mut said)?;
            }
            Ok(End {
                code: status.code(),
                said,
            })
        });
        output.map_err(Failure::doing("wait for the receiver"))
    }

    /// Writes bytes. If nobody reads them any more, the test will find out.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(to) = &mut self.to {
            let _ = to.write_all(bytes);
        }
    }

    /// Sends a frame.
    pub fn say(&mut self, frame: &Frame) {
        self.write(&frame.encode());
    }

    /// Offers objects, waits for the answer, and returns it.
    pub fn offer(&mut self, ids: Vec<ObjectId>) -> Result<Vec<bool>, Failure> {
        self.say(&Frame::Offer(Offer { ids }));
        while let Some(frame) = self.hear()? {
            if let Frame::Want(want) = frame {
                return Ok(want.wanted);
            }
        }
        Err(Failure::new("the receiver did not answer the offer"))
    }

    /// Offers objects, and sends those that are wanted.
    pub fn send(&mut self, objects: &[(ObjectId, Bytes)]) -> Result<(), Failure> {
        let wanted = self.offer(objects.iter().map(|(id, _)| *id).collect())?;
        let objects = objects.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        let objects = objects.map(|(object, _)| object.clone()).collect();
        self.say(&Frame::Pack(Pack { objects }));
        Ok(())
    }

    /// Returns the next frame; `None` at the end.
    pub fn hear(&mut self) -> Result<Option<Frame>, Failure> {
        loop {
            if !self.greeted && self.heard.len() >= PREAMBLE.len() {
                if self.heard.split_to(PREAMBLE.len())[..] != PREAMBLE {
                    return Err(Failure::new(
                        "the receiver does not begin with the preamble",
                    ));
                }
                self.greeted = true;
            }
            if self.greeted {
                let frame = Frame::decode(&mut self.heard, MAX_FRAME_LEN_MAX);
                let frame = frame.map_err(|error| Failure::new(format!("bad: {error:?}")))?;
                if frame.is_some() {
                    return Ok(frame);
                }
            }
            let mut bytes = [0; 4096];
            let read = self.from.read(&mut bytes);
            match read.map_err(Failure::doing("read what the receiver says"))? {
                0 => return Ok(None),
                len => self.heard.extend_from_slice(&bytes[..len]),
            }
        }
    }

    /// Sends nothing more, and lets the receiver know.
    pub fn hang_up(&mut self) {
        self.to = None;
    }

    /// Returns all frames up to the end.
    pub fn hear_out(&mut self) -> Result<Vec<Frame>, Failure> {
        let mut frames = Vec::new();
        while let Some(frame) = self.hear()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Hangs up, and waits for the receiver to end.
    pub fn end(mut self) -> Result<End, Failure> {
        self.to = None;
        let output = self.child.wait_with_output();
        let output = output.map_err(Failure::doing("wait for the receiver"))?;
        Ok(End {
            code: output.status.code(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// A greeting.
pub fn hello(version_min: Version, version_max: Version) -> Frame {
    Frame::Hello(Hello {
        version_min,
        version_max,
        features: Features::default(),
        agent: Text::new("a client by hand"),
        extensions: Default::default(),
    })
}

/// An announcement of one ref.
pub fn announce(name: &str, commit: Checksum, detached: Option<Checksum>) -> Frame {
    Frame::Announce(Announce {
        options: PushOptions::default(),
        refs: vec![RefUpdate {
            name: name.parse().expect("a test's ref name"),
            commit,
            detached,
            expect: Expect::Any,
        }],
        bases: Vec::new(),
        more: false,
        extensions: Default::default(),
    })
}

/// The objects of an artifact.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The commit.
    pub commit: Checksum,
    /// Every object and its stored bytes; the commit is the last.
    pub objects: Vec<(ObjectId, Bytes)>,
}

impl Artifact {
    /// Makes an artifact of files, given the name, checksum and stored bytes of each.
    pub fn of(files: &[(&str, Checksum, Vec<u8>)]) -> Self {
        let names = files.iter().map(|(name, checksum, _)| (*name, *checksum));
        let mut artifact = Self::of_dirtree(Dirtree::serialize(names, []));
        for (_, checksum, stored) in files {
            let id = ObjectId::new(ObjectKind::File, *checksum);
            artifact.objects.insert(0, (id, stored.clone().into()));
        }
        artifact
    }

    /// Makes an artifact whose root directory is stored as these bytes.
    pub fn of_dirtree(dirtree: Vec<u8>) -> Self {
        let attributes = Attributes {
            uid: 0,
            gid: 0,
            mode: 0o040_755,
            xattrs: Xattrs::default(),
        };
        let meta = Dirmeta::new(attributes)
            .expect("attributes of a directory")
            .serialize();
        let commit = Commit {
            timestamp: 1_700_000_000,
            ..Commit::new(Checksum::of(&dirtree), Checksum::of(&meta))
        };
        let stored = commit.serialize();
        let metadata = |kind, bytes: Vec<u8>| {
            (
                ObjectId::new(kind, Checksum::of(&bytes)),
                Bytes::from(bytes),
            )
        };
        Self {
            commit: Checksum::of(&stored),
            objects: vec![
                metadata(ObjectKind::Dirtree, dirtree),
                metadata(ObjectKind::Dirmeta, meta),
                metadata(ObjectKind::Commit, stored),
            ],
        }
    }
}

/// Returns the checksum and stored bytes of a regular file.
pub fn file(content: &[u8]) -> (Checksum, Vec<u8>) {
    file_that_says(content, content.len() as u64)
}

/// Returns the checksum and stored bytes of a regular file whose header states `len`.
pub fn file_that_says(content: &[u8], len: u64) -> (Checksum, Vec<u8>) {
    let attributes = Attributes {
        uid: 0,
        gid: 0,
        mode: 0o100_644,
        xattrs: Xattrs::default(),
    };
    let header = FileHeader::new(attributes, None).expect("attributes of a file");
    let checksum = Checksum::of(&[&header.to_hashed(), content].concat());
    let mut deflate = DeflateEncoder::new(header.to_archive(len), Compression::default());
    deflate.write_all(content).expect("a Vec takes every byte");
    (checksum, deflate.finish().expect("a Vec takes every byte"))
}
