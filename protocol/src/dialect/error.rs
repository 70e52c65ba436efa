//! The reasons why bytes are not a message, or not a stream of objects, of an old protocol.

use artifact_formats::FormatError;

use crate::limits::MAX_MESSAGE_LEN;

/// Bytes that are not a message of the dialect: whoever sent them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialectError {
    /// A message does not begin with a byte order.
    #[error("a message begins with the byte {got:#04x}, which is not a byte order")]
    ByteOrder {
        /// The byte.
        got: u8,
    },
    /// A message has another version.
    #[error("a message has protocol version {got}, but the session speaks version {spoken}")]
    Version {
        /// Its version.
        got: u8,
        /// The version of the session.
        spoken: u8,
    },
    /// The version does not have this command.
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
        /// The rule that they break.
        source: FormatError,
    },
    /// A command lacks an argument.
    #[error("{command} lacks its {key}")]
    Lacks {
        /// The command.
        command: &'static str,
        /// The missing argument.
        key: &'static str,
    },
    /// The stream of objects is not a tar stream of plain files.
    #[error("bad tar stream: {0}")]
    Tar(&'static str),
    /// A file's name is not that of an object.
    #[error("{name:?} is not the name of an object")]
    Name {
        /// The name, shortened.
        name: String,
    },
}

/// A message exceeds the length that its header can state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message has {len} bytes, but at most {MAX_MESSAGE_LEN} are possible in an old version")]
pub struct MessageTooLong {
    /// Its arguments' length in bytes.
    pub len: usize,
}
