//! The seam between the store and the engine that talks to a server: requests, answers, and errors.
//!
//! Serde can write requests and answers, for an engine in another process; their content is left
//! out, and travels beside them. Every request names keys relative to the store's prefix. An engine
//! sends each request once. The caller decides whether to repeat it, because only the caller knows
//! whether that is safe ([`BucketError`]). Start with [`Bucket`].

use std::borrow::Borrow;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::bucket::BucketError;

/// Object storage that executes requests, with any number in flight.
pub trait Bucket: fmt::Debug + Send + Sync + 'static {
    /// Begins a request, and calls `then` once with its answer, on any thread and perhaps before
    /// this returns: a caller must not hold a lock that `then` takes. Never blocks for long.
    ///
    /// An engine that is being dropped may drop `then` instead of calling it.
    fn start(&self, request: Request, then: Then);
}

/// Takes the answer to a request. It runs on a thread of the engine, and must not block.
pub type Then = Box<dyn FnOnce(Result<Answer, BucketError>) + Send>;

/// The name of an object in a bucket, relative to the store's prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text that cannot be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no key: its components are not empty, `.` or `..`, and it has at most {} bytes of \
     printable ASCII",
    Key::LEN_MAX
)]
pub struct BadKey {
    text: String,
}

impl Key {
    /// The longest key in bytes. Servers accept 1,024, and the prefix has the rest.
    pub const LEN_MAX: usize = 900;

    /// Checks a key.
    pub fn new(text: impl Into<String>) -> Result<Self, BadKey> {
        let text = text.into();
        let is_good = text.len() <= Self::LEN_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if is_good {
            Ok(Self(text))
        } else {
            Err(BadKey { text })
        }
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The entity tag of an object as the server gave it, without quotes.
///
/// On most servers the tag is a hash of the content, so equal contents have equal tags. A
/// compare-and-swap that must notice every write needs content that differs each time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(String);

impl Tag {
    /// Takes a tag with or without its quotes.
    pub fn new(text: &str) -> Self {
        Self(text.trim_matches('"').to_owned())
    }

    /// Returns the tag without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The condition of a put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Always holds, whatever the key holds.
    Always,
    /// The key holds nothing (`If-None-Match: *`).
    New,
    /// The key holds the content of this tag (`If-Match`).
    Is(Tag),
}

/// How long readers may keep a copy of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Forever: the key always holds the same content.
    Object,
    /// Only while the server confirms it.
    Current,
    /// Not at all: it is not for readers.
    Private,
}

/// An upload in pieces, which a server keeps until it is completed or aborted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upload {
    /// The key that the completed object will have.
    pub key: Key,
    /// The server's name for the upload.
    pub id: String,
}

/// One request to a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Asks for an object, unless it still has this tag. Answered by [`Answer::Found`],
    /// [`Answer::Unchanged`] or [`Answer::Absent`].
    Get {
        /// The object.
        key: Key,
        /// The tag of the copy at hand.
        unless: Option<Tag>,
    },
    /// Asks for a piece of an object. Answered by [`Answer::Found`], with no content behind the
    /// object's end, or [`Answer::Absent`].
    GetRange {
        /// The object.
        key: Key,
        /// Where the piece begins, in bytes.
        from: u64,
        /// Its greatest length in bytes.
        most: u64,
    },
    /// Stores an object. Answered by [`Answer::Stored`] or [`Answer::NotMet`].
    Put {
        /// The object.
        key: Key,
        /// Its content.
        #[serde(skip)]
        content: Bytes,
        /// When to store it.
        condition: Condition,
        /// How long readers may keep it.
        class: Class,
    },
    /// Begins an upload in pieces. Answered by [`Answer::Upload`].
    BeginUpload {
        /// The object.
        key: Key,
        /// How long readers may keep it.
        class: Class,
    },
    /// Stores one part of an upload. Every part but the last has at least 5 MiB. Answered by
    /// [`Answer::Part`] or, for an upload that is over, [`Answer::Absent`].
    PutPart {
        /// The upload.
        upload: Upload,
        /// The part's number, from 1.
        number: u32,
        /// Its content.
        #[serde(skip)]
        content: Bytes,
    },
    /// Makes an object of an upload, whatever its key holds: servers ignore conditions here.
    /// Answered by [`Answer::Stored`], with an empty tag if the server sends none, or, for an
    /// upload that is over, [`Answer::Absent`].
    CompleteUpload {
        /// The upload.
        upload: Upload,
        /// The tags of its parts, from number 1.
        parts: Vec<Tag>,
    },
    /// Discards an upload. Answered by [`Answer::Deleted`], even if the upload is over.
    AbortUpload {
        /// The upload.
        upload: Upload,
    },
    /// Lists objects in the order of their keys. Answered by [`Answer::Listed`].
    List {
        /// The prefix of the keys: any text, even one that ends within a component.
        prefix: String,
        /// The key after which the list begins.
        after: Option<Key>,
        /// The most entries, up to [`LIST_MAX`]. A server may return fewer.
        most: u32,
    },
    /// Deletes objects, at most [`DELETE_MAX`]. Answered by [`Answer::Deleted`], even if none of
    /// them existed.
    Delete {
        /// The objects.
        keys: Vec<Key>,
    },
}

/// The most entries in one answer to [`Request::List`].
pub const LIST_MAX: u32 = 1000;
/// The most keys of one [`Request::Delete`].
pub const DELETE_MAX: usize = 1000;

impl Request {
    /// Returns whether a second execution changes nothing, so that a request without a clear answer
    /// may be sent again.
    pub const fn is_repeatable(&self) -> bool {
        match self {
            Self::Put { condition, .. } => matches!(condition, Condition::Always),
            Self::Get { .. }
            | Self::GetRange { .. }
            | Self::PutPart { .. }
            | Self::List { .. }
            | Self::AbortUpload { .. }
            | Self::Delete { .. } => true,
            // The first would leave a forgotten upload, and a completed upload is over.
            Self::BeginUpload { .. } | Self::CompleteUpload { .. } => false,
        }
    }

    /// Returns the bytes of content that the request carries.
    pub const fn content_len(&self) -> usize {
        match self {
            Self::Put { content, .. } | Self::PutPart { content, .. } => content.len(),
            Self::Get { .. }
            | Self::GetRange { .. }
            | Self::BeginUpload { .. }
            | Self::CompleteUpload { .. }
            | Self::AbortUpload { .. }
            | Self::List { .. }
            | Self::Delete { .. } => 0,
        }
    }

    /// Returns the request's action and the object of that action, for errors: "storing
    /// refs/heads/main".
    pub fn describe(&self) -> String {
        match self {
            Self::Get { key, .. } | Self::GetRange { key, .. } => format!("reading {key}"),
            Self::Put { key, .. } => format!("storing {key}"),
            Self::BeginUpload { key, .. } => format!("beginning the upload of {key}"),
            Self::PutPart { upload, number, .. } => {
                format!("storing part {number} of {}", upload.key)
            }
            Self::CompleteUpload { upload, .. } => {
                format!("completing the upload of {}", upload.key)
            }
            Self::AbortUpload { upload } => format!("aborting the upload of {}", upload.key),
            Self::List { prefix, .. } => format!("listing {prefix}*"),
            Self::Delete { keys } => format!("deleting {} objects", keys.len()),
        }
    }
}

/// The answer to a request that the server executed, or was right not to execute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The object.
    Found(Found),
    /// The object still has the tag of the copy at hand.
    Unchanged,
    /// The object or the upload does not exist.
    Absent,
    /// The object is stored, durably, with this tag.
    Stored(Tag),
    /// The put did not take place: its condition did not hold (412), or another put was in progress
    /// (409). The answer does not tell which of the two, so only a read of the key shows its
    /// content.
    NotMet,
    /// The upload has begun.
    Upload(Upload),
    /// The part is stored.
    Part(Tag),
    /// A piece of the list.
    Listed(Listed),
    /// Nothing is left of the objects, or of the upload.
    Deleted,
}

/// An object as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The content asked for.
    #[serde(skip)]
    pub content: Bytes,
    /// The tag of the whole object.
    pub tag: Tag,
    /// When it was stored, in seconds since 1970 by the server's clock.
    pub modified: u64,
}

/// A piece of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The entries in the order of their keys.
    pub entries: Vec<Entry>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its length in bytes.
    pub len: u64,
    /// Its tag.
    pub tag: Tag,
    /// When it was stored, in seconds since 1970 by the server's clock.
    pub modified: u64,
}

impl BucketError {
    /// Returns the error of an answer that does not belong to its request.
    pub fn misfit(request: &str, answer: &Answer) -> Self {
        let kind = match answer {
            Answer::Found(_) => "an object",
            Answer::Unchanged => "that nothing changed",
            Answer::Absent => "that there is nothing",
            Answer::Stored(_) => "that it is stored",
            Answer::NotMet => "that a condition is not met",
            Answer::Upload(_) => "an upload",
            Answer::Part(_) => "a part",
            Answer::Listed(_) => "a list",
            Answer::Deleted => "a deletion",
        };
        Self::Broken(format!("{request} was answered with {kind}"))
    }
}

#[cfg(test)]
mod tests;
