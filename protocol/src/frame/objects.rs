//! `Basis`, `Offer`, `Want` and the frames that carry objects (SPEC "Negotiation", "Object
//! streams").

use artifact_formats::{Checksum, ObjectId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The complete commits that the client's offers are a difference to: it offers nothing beneath
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Commits that the server called complete.
    pub commits: Vec<Checksum>,
}

/// Objects that the client can send. It offers each once, parents before children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// At most [`MAX_OFFER_IDS`](crate::limits::MAX_OFFER_IDS).
    pub ids: Vec<ObjectId>,
}

/// The answer to the oldest unanswered `Offer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// For each id of the offer: `true` asks for the object; `false` means *have*, and on a dirtree
    /// or commit it also means that the server has everything below.
    pub wanted: Vec<bool>,
}

/// Detached metadata of a commit: the bytes of a `.commitmeta`, which replace existing ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The commit it belongs to.
    pub commit: Checksum,
    /// A serialized `a{sv}`, at most
    /// [`MAX_DETACHED_LEN`](artifact_formats::limits::MAX_DETACHED_LEN) bytes.
    pub metadata: Bytes,
}

/// Whole objects, many small ones to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pack {
    /// Each object and its stored bytes.
    pub objects: Vec<(ObjectId, Bytes)>,
}

impl Pack {
    /// Bytes before the stored bytes of each object: its id and their length.
    pub const ENTRY_HEAD_LEN: usize = ObjectId::WIRE_LEN + 4;
}

/// The start of an object that the client sends in pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectBegin {
    /// A number below [`MAX_OPEN_STREAMS`](crate::limits::MAX_OPEN_STREAMS) that is not in use.
    pub stream: u8,
    /// The object.
    pub id: ObjectId,
}

/// The next stored bytes of an open stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChunk {
    /// The stream.
    pub stream: u8,
    /// At least one byte.
    pub bytes: Bytes,
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEnd {
    /// The stream.
    pub stream: u8,
}

/// The server's progress: objects verified, **not** durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Objects verified in this session.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
}
