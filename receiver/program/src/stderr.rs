//! Standard error, which may stop taking bytes at any time.
//!
//! Lines wait in a bounded queue for the one thread that writes them. A line that does not fit is
//! dropped and counted: whoever logs may hold a lock, or run the session's loop, and must not wait.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use artifact_protocol::escape_line;
use rustix::fs::{Mode, OFlags};

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Signals that a line is waiting.
    filled: Condvar,
    /// Signals that no line is waiting or being written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Until the writing thread takes it.
    stderr: Option<File>,
    lines: VecDeque<String>,
    /// Sum of the lines' lengths, in bytes.
    len: usize,
    /// Lines dropped since the last one that fitted.
    dropped: u64,
    writing: bool,
    /// Standard error is closed: lines have nowhere to go.
    closed: bool,
}

impl Queue {
    /// Takes over standard error. Anything else that writes there, such as a run-time library at
    /// its end, no longer blocks; if there is no room for its bytes, they are lost.
    pub(crate) fn claim_stderr() -> Self {
        let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
        if stderr.is_ok()
            && let Ok(patient) = never_blocking()
        {
            let _ = rustix::stdio::dup2_stderr(patient);
        }
        Self::of(stderr.ok().map(File::from))
    }

    fn of(stderr: Option<File>) -> Self {
        Self {
            state: Mutex::new(State {
                closed: stderr.is_none(),
                stderr,
                ..State::default()
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
        }
    }

    /// Queues a line, or drops it. Never waits for the reader.
    pub(crate) fn push(&self, line: &str) {
        let line = escape_line(line.trim_end_matches('\n'));
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.len + line.len() > QUEUE_LEN_MAX {
            state.dropped += 1;
            return;
        }
        state.tell_dropped();
        state.push(line);
        self.filled.notify_one();
    }

    /// Starts the writing thread. Does nothing the second time.
    pub(crate) fn run(self: &Arc<Self>) {
        if let Some(stderr) = self.lock().stderr.take() {
            let queue = Arc::clone(self);
            thread::spawn(move || queue.write_all(stderr));
        }
    }

    /// Waits until all lines are written, but no longer than a live reader would need.
    pub(crate) fn flush(self: &Arc<Self>) {
        self.run();
        let mut state = self.lock();
        state.tell_dropped();
        self.filled.notify_one();
        let busy = |state: &mut State| !state.closed && (state.writing || !state.lines.is_empty());
        drop(self.drained.wait_timeout_while(state, FLUSH, busy));
    }

    fn write_all(&self, mut stderr: File) {
        let mut state = self.lock();
        loop {
            let Some(mut line) = state.lines.pop_front() else {
                self.drained.notify_all();
                state = (self.filled.wait(state)).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            line.push('\n');
            let written = write(&mut stderr, line.as_bytes());
            state = self.lock();
            state.writing = false;
            state.len -= line.len() - 1;
            if written.is_err() {
                state.closed = true;
                state.lines.clear();
                self.drained.notify_all();
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, line: String) {
        self.len += line.len();
        self.lines.push_back(line);
    }

    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 && !self.closed {
            let lines = if dropped == 1 { "line" } else { "lines" };
            self.push(format!(
                "{dropped} {lines} of the log dropped here: nobody read them in time"
            ));
        }
    }
}

/// Opens standard error again so that a write fails where it would block. If that is impossible, as
/// with a socket, what is written is discarded.
fn never_blocking() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open("/proc/self/fd/2", flags, Mode::empty())
        .or_else(|_| rustix::fs::open("/dev/null", OFlags::WRONLY, Mode::empty()))
}

fn write(stderr: &mut File, line: &[u8]) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        match stderr.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever started this process made the descriptor non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Most bytes of waiting lines. The longest line, an audit of a hundred refs, fits.
const QUEUE_LEN_MAX: usize = 1024 * 1024;
/// How long a process waits at its end for the last lines to be read.
const FLUSH: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    fn piped() -> (Arc<Queue>, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (Arc::new(Queue::of(Some(writer.into()))), reader.into())
    }

    fn read_until(reader: &mut File, end: &str) -> String {
        let mut all = String::new();
        let mut bytes = vec![0; 64 * 1024];
        while !all.ends_with(&format!("{end}\n")) {
            let len = reader.read(&mut bytes).unwrap();
            all += std::str::from_utf8(&bytes[..len]).unwrap();
        }
        all
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_nobody_waits() {
        let (queue, mut reader) = piped();
        queue.run();
        let begun = Instant::now();
        let line = "x".repeat(1000);
        for _ in 0..5000 {
            queue.push(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        let begun = Instant::now();
        queue.flush();
        let waited = begun.elapsed();
        assert!(waited >= FLUSH && waited < 5 * FLUSH, "{waited:?}");
        let reading = thread::spawn(move || read_until(&mut reader, "the end"));
        queue.flush();
        queue.push("the end");
        queue.flush();
        let text = reading.join().unwrap();
        let whole = text.lines().filter(|read| *read == line).count();
        let told = format!("{} lines of the log dropped", 5000 - whole);
        assert!(text.contains(&told), "{whole}");
    }

    #[test]
    fn what_was_dropped_is_said_in_its_place_and_every_line_is_one() {
        let (queue, mut reader) = piped();
        let line = "x".repeat(QUEUE_LEN_MAX / 2);
        for line in ["first\nsecond\u{9b}\n", &line, &line, &line] {
            queue.push(line);
        }
        let reading = thread::spawn(move || read_until(&mut reader, "last"));
        queue.flush();
        queue.push("last");
        queue.flush();
        let text = reading.join().unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "first\\nsecond\\u{9b}");
        assert!(
            lines[2].starts_with("2 lines of the log dropped"),
            "{}",
            lines[2]
        );
        assert_eq!(lines[3], "last");
    }

    #[test]
    fn a_closed_standard_error_holds_nobody_up() {
        let (queue, reader) = piped();
        drop(reader);
        let begun = Instant::now();
        (0..10).for_each(|_| queue.push("x"));
        queue.flush();
        queue.push("y");
        queue.flush();
        assert!(begun.elapsed() < FLUSH);
        assert!(queue.lock().lines.is_empty());
    }
}
