//! The bodies of answers: none, bytes in memory, a part of a file that is read as the client takes
//! it, or a stream of unknown length.
//!
//! The read-ahead for a client depends on the number of readers, so that all of them together take
//! no more than [`MAX_READ_AHEAD`], whatever they do.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::reply::read::{read, read_now};
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

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    readers: Reader,
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
            content: Content::File(Part {
                file,
                at,
                left: len,
                reading: None,
                readers: readers.enter(),
            }),
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
            Content::File(part) => part.left,
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
            Content::File(part) if part.left == 0 => return Poll::Ready(None),
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

impl Part {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                let want = self.readers.chunk_len().min(self.left);
                let mut buffer = vec![0; usize::try_from(want).unwrap_or(usize::MAX)];
                match read_now(&self.file, &mut buffer, self.at) {
                    Ok(len) => {
                        buffer.truncate(len);
                        return Poll::Ready(self.take(buffer.into()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
                let (file, at) = (Arc::clone(&self.file), self.at);
                self.reading.insert(tokio::task::spawn_blocking(move || {
                    let len = read(&file, &mut buffer, at)?;
                    buffer.truncate(len);
                    Ok(buffer.into())
                }))
            }
        };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let read = read.unwrap_or_else(|_| Err(io::Error::other("the reading thread is gone")));
        Poll::Ready(read.and_then(|bytes| self.take(bytes)))
    }

    fn take(&mut self, bytes: Bytes) -> io::Result<Bytes> {
        if bytes.is_empty() {
            // Its length was promised: the connection has to end.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += bytes.len() as u64;
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Ok(bytes)
    }
}

/// Counts the files being read for clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers(Arc<AtomicUsize>);

#[derive(Debug)]
struct Reader(Readers);

impl Readers {
    fn enter(&self) -> Reader {
        self.0.fetch_add(1, Ordering::Relaxed);
        Reader(self.clone())
    }
}

impl Reader {
    fn chunk_len(&self) -> u64 {
        let readers = self.0.0.load(Ordering::Relaxed).max(1) as u64;
        (MAX_READ_AHEAD / readers).clamp(MIN_CHUNK_LEN, MAX_CHUNK_LEN)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The most bytes read ahead of all clients together.
const MAX_READ_AHEAD: u64 = 16 * 1024 * 1024;
const MAX_CHUNK_LEN: u64 = 128 * 1024;
const MIN_CHUNK_LEN: u64 = 4 * 1024;
