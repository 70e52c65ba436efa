//! A part of a file, read as the client takes it.
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
use tokio::task::JoinHandle;

use crate::reply::read::{read, read_now};

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    readers: Reader,
}

impl Part {
    pub(crate) fn new(file: Arc<File>, at: u64, len: u64, readers: &Readers) -> Self {
        Self {
            file,
            at,
            left: len,
            reading: None,
            readers: readers.enter(),
        }
    }

    /// Returns the number of bytes left to read.
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
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
