//! Why bytes are not a message, or no stream of objects, of an old protocol.

use artifact_formats::FormatError;

use crate::limits::MAX_MESSAGE_LEN;

/// Bytes that no message of the dialect looks like: whoever sent them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialectError {
    /// Messages begin with their byte order.
    #[error("a message begins with the byte {got:#04x}, which is no byte order")]
    ByteOrder {
        /// The byte.
        got: u8,
    },
    /// A message of another version.
    #[error("a message of protocol version {got}, where {spoken} is spoken")]
    Version {
        /// Its version.
        got: u8,
        /// The version of the session.
        spoken: u8,
    },
    /// A command that the version does not have.
    #[error("an unknown command, {got}")]
    Command {
        /// Its number.
        got: u8,
    },
    /// A command's arguments break the rules of their format.
    #[error("the arguments of {command} cannot be read")]
    Arguments {
        /// The command.
        command: &'static str,
        /// What is wrong.
        source: FormatError,
    },
    /// A command lacks an argument.
    #[error("{command} without its {key}")]
    Lacks {
        /// The command.
        command: &'static str,
        /// What it lacks.
        key: &'static str,
    },
    /// The stream of objects is no tar stream of plain files.
    #[error("bad tar stream: {0}")]
    Tar(&'static str),
    /// A file's name is none of an object.
    #[error("{name:?} is not the name of an object")]
    Name {
        /// The name, cut.
        name: String,
    },
}

/// A message longer than its header can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a message of {len} bytes, where a version without the preamble has {MAX_MESSAGE_LEN} at most"
)]
pub struct MessageTooLong {
    /// Its arguments' length in bytes.
    pub len: usize,
}
