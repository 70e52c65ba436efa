//! The bodies of answers: none, bytes in memory, a part of a file, or a stream of unknown length.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::reply::part::{Part, Readers};
use crate::report::Entry;

/// The body of an answer, with the log entry to write at its end.
#[derive(Debug)]
pub(crate) struct Body {
    content: Content,
    entry: Option<Entry>,
}

#[derive(Debug)]
enum Content {
    Nothing,
    Bytes(Bytes),
    File(Part),
    Stream(mpsc::Receiver<Bytes>),
}

impl Body {
    pub(crate) const fn empty() -> Self {
        Self {
            content: Content::Nothing,
            entry: None,
        }
    }

    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            content: Content::Bytes(bytes.into()),
            entry: None,
        }
    }

    /// A part of a file: `len` existing bytes from `at`.
    pub(crate) fn file(file: Arc<File>, at: u64, len: u64, readers: &Readers) -> Self {
        Self {
            content: Content::File(Part::new(file, at, len, readers)),
            entry: None,
        }
    }

    /// Everything that comes, until its sender is dropped.
    pub(crate) const fn stream(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self {
            content: Content::Stream(receiver),
            entry: None,
        }
    }

    /// Has an entry written when this body ends or is dropped.
    #[must_use]
    pub(crate) fn with(mut self, entry: Entry) -> Self {
        self.entry = Some(entry);
        self
    }

    /// Returns the answer to HEAD: the same without content.
    #[must_use]
    pub(crate) fn into_head(self) -> Self {
        Self {
            content: Content::Nothing,
            entry: self.entry,
        }
    }

    /// Returns the length in bytes; that of a stream is not known before its end.
    pub(crate) fn len(&self) -> u64 {
        match &self.content {
            Content::Nothing | Content::Stream(_) => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(part) => part.left(),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let read = match &mut self.content {
            Content::Nothing => return Poll::Ready(None),
            Content::Bytes(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Bytes(bytes) => Ok(std::mem::take(bytes)),
            Content::File(part) if part.left() == 0 => return Poll::Ready(None),
            Content::File(part) => ready!(part.poll_read(cx)),
            Content::Stream(stream) => match ready!(stream.poll_recv(cx)) {
                Some(bytes) => Ok(bytes),
                None => {
                    if let Some(entry) = &mut self.entry {
                        entry.complete();
                    }
                    return Poll::Ready(None);
                }
            },
        };
        let bytes = read.inspect_err(|error| {
            tracing::warn!(%error, "a file could not be read to its end");
        })?;
        if let Some(entry) = &mut self.entry {
            entry.count(bytes.len());
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.len() == 0 && !matches!(self.content, Content::Stream(_))
    }

    fn size_hint(&self) -> SizeHint {
        match self.content {
            Content::Stream(_) => SizeHint::default(),
            Content::Nothing | Content::Bytes(_) | Content::File(_) => {
                SizeHint::with_exact(self.len())
            }
        }
    }
}
