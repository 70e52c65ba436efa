//! Tracks the progress of connections, to end those without any.
//!
//! A reader that takes nothing, a client that requests nothing and one that sends a byte now and
//! then look the same in all versions of HTTP: they hold a place that others could have.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The activity of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Bytes written to the socket, and what counts as much.
    written: AtomicU64,
    /// Requests whose answers are unfinished.
    running: AtomicU32,
    /// Requests so far.
    requests: AtomicU64,
}

/// A request with an unfinished answer; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running(Arc<Activity>);

impl Activity {
    pub(crate) fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }

    /// Notes progress other than written bytes: bytes of a request, or work for an answer.
    pub(crate) fn progress(&self) {
        self.written.fetch_add(MIN_PROGRESS, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a connection may make no progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// Until the first request arrives.
    pub(crate) first: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// While the client does not take an answer.
    pub(crate) stall: Duration,
}

/// The verdict on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may go on.
    Fine,
    /// It has sent no request for long: it is closed in an orderly way.
    Idle,
    /// It has never sent a request.
    Silent,
    /// It does not take its answer.
    Stalled,
}

/// Checks a connection now and then.
#[derive(Debug)]
pub(crate) struct Watch {
    activity: Arc<Activity>,
    timeouts: Timeouts,
    /// When the activity last changed, and its state then.
    since: Instant,
    written: u64,
    requests: u64,
    busy: bool,
}

impl Watch {
    pub(crate) fn new(activity: Arc<Activity>, timeouts: Timeouts, now: Instant) -> Self {
        Self {
            activity,
            timeouts,
            since: now,
            written: 0,
            requests: 0,
            busy: false,
        }
    }

    /// Judges a connection by its changes since the last check.
    pub(crate) fn look(&mut self, now: Instant) -> Verdict {
        let requests = self.activity.requests.load(Ordering::Relaxed);
        let written = self.activity.written.load(Ordering::Relaxed);
        let busy = self.activity.running.load(Ordering::Relaxed) > 0;
        let moved = requests != self.requests || busy != self.busy;
        // Trickling bytes are no progress, nor are answers to pings.
        let moved = moved || (busy && written.wrapping_sub(self.written) >= MIN_PROGRESS);
        if moved {
            (self.since, self.written) = (now, written);
            (self.requests, self.busy) = (requests, busy);
        }
        let still = now.saturating_duration_since(self.since);
        match (busy, requests) {
            (true, _) if still >= self.timeouts.stall => Verdict::Stalled,
            (false, 0) if still >= self.timeouts.first => Verdict::Silent,
            (false, _) if still >= self.timeouts.idle => Verdict::Idle,
            _ => Verdict::Fine,
        }
    }
}

/// A socket that counts the bytes written to it.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    pub(crate) stream: S,
    pub(crate) activity: Arc<Activity>,
}

impl<S> Counted<S> {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(len)) = &written {
            self.activity
                .written
                .fetch_add(*len as u64, Ordering::Relaxed);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes that an answer must move within the time allowed to a stalled one.
const MIN_PROGRESS: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        first: Duration::from_secs(10),
        idle: Duration::from_secs(30),
        stall: Duration::from_secs(60),
    };

    fn watch() -> (Arc<Activity>, Watch, Instant) {
        let (activity, now) = (Arc::<Activity>::default(), Instant::now());
        let watch = Watch::new(Arc::clone(&activity), TIMEOUTS, now);
        (activity, watch, now)
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_connection_that_asks_for_nothing_has_ten_seconds_and_one_that_did_has_thirty() {
        let (_activity, mut watch, start) = watch();
        assert_eq!(watch.look(after(start, 9)), Verdict::Fine);
        assert_eq!(watch.look(after(start, 10)), Verdict::Silent);
        let (activity, mut watch, start) = self::watch();
        drop(activity.begin());
        assert_eq!(watch.look(after(start, 5)), Verdict::Fine);
        assert_eq!(watch.look(after(start, 34)), Verdict::Fine);
        assert_eq!(watch.look(after(start, 35)), Verdict::Idle);
        drop(activity.begin());
        assert_eq!(watch.look(after(start, 36)), Verdict::Fine);
    }

    #[test]
    fn a_reader_that_takes_little_or_nothing_is_given_up_and_one_that_reads_is_not() {
        for (step, verdict) in [
            (0, Verdict::Stalled),
            (100, Verdict::Stalled),
            (MIN_PROGRESS, Verdict::Fine),
        ] {
            let (activity, mut watch, start) = watch();
            let _running = activity.begin();
            let mut last = Verdict::Fine;
            for tick in 0..=24 {
                last = watch.look(after(start, tick * 5));
                if last != Verdict::Fine {
                    break;
                }
                activity.written.fetch_add(step, Ordering::Relaxed);
            }
            assert_eq!(last, verdict, "{step} bytes each 5 seconds");
        }
    }
}
