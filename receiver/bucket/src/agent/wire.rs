//! The messages between an agent and its client: a head in JSON, and the content beside it.
//!
//! ```text
//! length of head: u32   length of content: u32   head   content        (little-endian)
//! ```
//!
//! Both ends are the same program, so messages have no version.

use std::io::{self, Read, Write};

use artifact_store::bucket::{Answer, BucketError, Request};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A request with its number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) request: Request,
}

/// The answer to the request of this number.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) number: u64,
    pub(super) answer: Result<Answer, BucketError>,
}

/// The agent's answer to its settings.
pub(super) type Ready = Result<(), String>;

/// Returns the content of a request, if it has any.
pub(super) const fn content_of(request: &mut Request) -> Option<&mut Bytes> {
    match request {
        Request::Put { content, .. } | Request::PutPart { content, .. } => Some(content),
        Request::Get { .. }
        | Request::GetRange { .. }
        | Request::BeginUpload { .. }
        | Request::CompleteUpload { .. }
        | Request::AbortUpload { .. }
        | Request::List { .. }
        | Request::Delete { .. } => None,
    }
}

/// Returns the content of an answer, if it has any.
pub(super) const fn content_of_answer(
    answer: &mut Result<Answer, BucketError>,
) -> Option<&mut Bytes> {
    match answer {
        Ok(Answer::Found(found)) => Some(&mut found.content),
        Ok(
            Answer::Unchanged
            | Answer::Absent
            | Answer::Stored(_)
            | Answer::NotMet
            | Answer::Upload(_)
            | Answer::Part(_)
            | Answer::Listed(_)
            | Answer::Deleted,
        )
        | Err(_) => None,
    }
}

/// Writes one message.
pub(super) fn write(mut to: impl Write, head: &impl Serialize, content: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let len = |len: usize, max: usize| {
        let short = u32::try_from(len).ok().filter(|_| len <= max);
        short.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let lens = [len(head.len(), HEAD_MAX)?, len(content.len(), CONTENT_MAX)?];
    let mut begin = Vec::with_capacity(8 + head.len());
    begin.extend(lens.iter().flat_map(|len| len.to_le_bytes()));
    begin.extend_from_slice(&head);
    to.write_all(&begin)?;
    to.write_all(content)
}

/// Reads one message; `None` at the end.
pub(super) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<(T, Bytes)>> {
    let mut lens = [[0; 4]; 2];
    match from.read(&mut lens[0][..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut lens[0][1..])?,
    }
    from.read_exact(&mut lens[1])?;
    let len = |at: usize, max: usize| {
        let len = u32::from_le_bytes(lens[at])
            .try_into()
            .unwrap_or(usize::MAX);
        if len > max {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        Ok(len)
    };
    let mut head = vec![0; len(0, HEAD_MAX)?];
    from.read_exact(&mut head)?;
    let mut content = vec![0; len(1, CONTENT_MAX)?];
    from.read_exact(&mut content)?;
    Ok(Some((serde_json::from_slice(&head)?, content.into())))
}

/// The longest head in bytes: it has room for a thousand of the longest keys or list entries.
const HEAD_MAX: usize = 4 * 1024 * 1024;
/// The longest content in bytes: the store reads and writes no larger piece at once.
pub(super) const CONTENT_MAX: usize = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use artifact_store::bucket::{Class, Condition, Key, Tag};

    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written_and_a_cut_one_is_not() {
        let mut asked = Asked {
            number: 7,
            request: Request::Put {
                key: Key::new("refs/heads/a").unwrap(),
                content: Bytes::from_static(b"\0content\xff"),
                condition: Condition::Is(Tag::new("t")),
                class: Class::Current,
            },
        };
        let whole = asked.request.clone();
        let content = std::mem::take(content_of(&mut asked.request).unwrap());
        let mut bytes = Vec::new();
        write(&mut bytes, &asked, &content).unwrap();
        let (mut read_back, content) = read::<Asked>(bytes.as_slice()).unwrap().unwrap();
        *content_of(&mut read_back.request).unwrap() = content;
        assert_eq!((read_back.number, read_back.request), (7, whole));
        assert!(read::<Asked>(&[][..]).unwrap().is_none());
        for len in 1..bytes.len() {
            assert!(read::<Asked>(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn a_key_that_is_none_and_a_length_beyond_the_limit_are_refused() {
        let bad = br#"{"number":1,"request":{"Get":{"key":"../x","unless":null}}}"#;
        let mut bytes = [(bad.len() as u32).to_le_bytes(), [0; 4]].concat();
        bytes.extend_from_slice(bad);
        assert!(read::<Asked>(bytes.as_slice()).is_err());
        let long = [(HEAD_MAX as u32 + 1).to_le_bytes(), [0; 4]].concat();
        let error = read::<Asked>(long.as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
