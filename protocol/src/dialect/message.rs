//! Messages: a header of five bytes, and a dictionary.

use artifact_formats::{FormatError, Vardict, VardictWriter};
use bytes::{Buf, Bytes, BytesMut};

use super::error::{DialectError, MessageTooLong};
use super::version::Dialect;

/// A message. Its texts are not parsed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This end's repository.
    Info(Info),
    /// Refs to set.
    Update(Vec<Change>),
    /// Objects follow, as a tar stream. Version 1.
    PutObjects,
    /// One object follows. Version 0.
    PutObject {
        /// The name of its file.
        name: String,
        /// Its stored bytes.
        len: u64,
    },
    /// The answer to a request.
    Status {
        /// Whether the server has done or will do what was asked.
        result: bool,
        /// Why not.
        text: String,
    },
    /// Nothing more to say; from a server of version 1: everything is in place.
    Done,
}

/// An end's description of its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The repository's mode, in libostree's numbers: 1 is an archive.
    pub mode: i32,
    /// Refs and their commits: from a server of version 0 all of them, otherwise those in question.
    pub refs: Vec<(String, String)>,
    /// The address to pull from.
    pub pull_url: Option<String>,
}

impl Info {
    /// The mode of an archive repository, the only one that can be pushed to.
    pub const ARCHIVE: i32 = 1;
}

/// An update of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// The commit that the ref is believed to hold, or 64 zeros.
    pub old: String,
    /// The commit that it shall hold.
    pub new: String,
}

/// The byte order of a message's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// `l`, which this crate writes.
    Little,
    /// `B`.
    Big,
}

impl ByteOrder {
    const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            b'l' => Some(Self::Little),
            b'B' => Some(Self::Big),
            _ => None,
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::Little => b'l',
            Self::Big => b'B',
        }
    }

    /// Converts between little-endian bytes and this order.
    fn arrange<const N: usize>(self, mut bytes: [u8; N]) -> [u8; N] {
        if self == Self::Big {
            bytes.reverse();
        }
        bytes
    }
}

impl Message {
    /// Takes the next complete message off `input`; `None` if it is incomplete.
    ///
    /// # Errors
    ///
    /// The bytes are not a message; nothing after them can be read.
    pub fn decode(dialect: Dialect, input: &mut BytesMut) -> Result<Option<Self>, DialectError> {
        let [order, rest @ ..] = &**input else {
            return Ok(None);
        };
        let order = ByteOrder::from_wire(*order).ok_or(DialectError::ByteOrder { got: *order })?;
        let [version, command, low, high, ..] = *rest else {
            return Ok(None);
        };
        if version != dialect.number() {
            let spoken = dialect.number();
            return Err(DialectError::Version {
                got: version,
                spoken,
            });
        }
        let command = Command::from_wire(command).ok_or(DialectError::Command { got: command })?;
        let len = usize::from(u16::from_le_bytes(order.arrange([low, high])));
        if input.len() < HEADER_LEN + len {
            return Ok(None);
        }
        input.advance(HEADER_LEN);
        let payload = input.split_to(len);
        decode_arguments(dialect, command, order, &payload).map(Some)
    }

    /// Serializes the message, little-endian.
    ///
    /// # Errors
    ///
    /// The message exceeds the length that its header can state.
    pub fn encode(&self, dialect: Dialect) -> Result<Bytes, MessageTooLong> {
        self.encode_in(dialect, ByteOrder::Little)
    }

    /// Serializes the message in the given byte order.
    ///
    /// # Errors
    ///
    /// The message exceeds the length that its header can state.
    pub fn encode_in(&self, dialect: Dialect, order: ByteOrder) -> Result<Bytes, MessageTooLong> {
        let (command, payload) = self.arguments(order);
        let len =
            u16::try_from(payload.len()).map_err(|_| MessageTooLong { len: payload.len() })?;
        let [low, high] = order.arrange(len.to_le_bytes());
        let header = [order.to_wire(), dialect.number(), command as u8, low, high];
        Ok([&header, &*payload].concat().into())
    }

    fn arguments(&self, order: ByteOrder) -> (Command, Vec<u8>) {
        let mut writer = VardictWriter::default();
        let command = match self {
            Self::Info(info) => {
                let refs = info.refs.iter();
                let mode = order.arrange(info.mode.to_le_bytes());
                writer.number("mode", "i", &mode);
                writer.string_map("refs", refs.map(|(name, commit)| (&**name, &**commit)));
                if let Some(url) = &info.pull_url {
                    writer.string("pull_url", url);
                }
                Command::Info
            }
            Self::Update(changes) => {
                for Change { name, old, new } in changes {
                    writer.string_pair(name, old, new);
                }
                Command::Update
            }
            Self::PutObjects => Command::Put,
            Self::PutObject { name, len } => {
                writer.string("object", name);
                writer.number("size", "t", &order.arrange(len.to_le_bytes()));
                Command::Put
            }
            Self::Status { result, text } => {
                writer.boolean("result", *result);
                writer.string("message", text);
                Command::Status
            }
            Self::Done => Command::Done,
        };
        (command, writer.finish())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Command {
    Info = 0,
    Update = 1,
    Put = 2,
    Status = 3,
    Done = 4,
}

impl Command {
    const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Info),
            1 => Some(Self::Update),
            2 => Some(Self::Put),
            3 => Some(Self::Status),
            4 => Some(Self::Done),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Update => "update",
            Self::Put => "putobjects",
            Self::Status => "status",
            Self::Done => "done",
        }
    }
}

fn decode_arguments(
    dialect: Dialect,
    command: Command,
    order: ByteOrder,
    payload: &[u8],
) -> Result<Message, DialectError> {
    let name = command.name();
    let unreadable = |source: FormatError| DialectError::Arguments {
        command: name,
        source,
    };
    let arguments = Vardict::parse(payload).map_err(unreadable)?;
    let argument = |key: &'static str| {
        arguments
            .get(key)
            .ok_or(DialectError::Lacks { command: name, key })
    };
    Ok(match (command, dialect) {
        (Command::Info, _) => {
            let mode = argument("mode")?.number("i").map_err(unreadable)?;
            let refs = argument("refs")?.string_map().map_err(unreadable)?;
            let url = arguments.get("pull_url").map(|url| url.string());
            let url = url.transpose().map_err(unreadable)?;
            let owned = |(name, commit): (&str, &str)| (name.to_owned(), commit.to_owned());
            Message::Info(Info {
                mode: i32::from_le_bytes(order.arrange(mode)),
                refs: refs.into_iter().map(owned).collect(),
                pull_url: url.map(str::to_owned),
            })
        }
        (Command::Update, _) => {
            let change = |(name, pair): (&str, artifact_formats::Value<'_>)| {
                let (old, new) = pair.string_pair()?;
                Ok(Change {
                    name: name.to_owned(),
                    old: old.to_owned(),
                    new: new.to_owned(),
                })
            };
            let changes: Result<_, _> = arguments.entries().map(change).collect();
            Message::Update(changes.map_err(unreadable)?)
        }
        (Command::Put, Dialect::V1) => Message::PutObjects,
        (Command::Put, Dialect::V0) => {
            let name = argument("object")?.string().map_err(unreadable)?;
            let len = argument("size")?.number("t").map_err(unreadable)?;
            Message::PutObject {
                name: name.to_owned(),
                len: u64::from_le_bytes(order.arrange(len)),
            }
        }
        (Command::Status, _) => {
            let result = argument("result")?.boolean().map_err(unreadable)?;
            let text = argument("message")?.string().map_err(unreadable)?;
            Message::Status {
                result,
                text: text.to_owned(),
            }
        }
        (Command::Done, _) => Message::Done,
    })
}

/// Length of a message's header, in bytes.
const HEADER_LEN: usize = 5;
