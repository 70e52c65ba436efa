//! Lines of a log on their way to a file whose reader may stop reading: standard error, which a
//! client drains, or an access log.
//!
//! They wait in a bounded buffer for the one thread that writes them. Lines that do not fit are
//! dropped and counted: whoever logs may hold a lock, or run a session's loop, and must not wait.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use artifact_protocol::escape_line;
use parking_lot::{Condvar, Mutex};

/// Lines waiting to be written.
#[derive(Debug)]
pub struct Lines {
    state: Mutex<State>,
    gather: Duration,
    /// The buffer has lines.
    filled: Condvar,
    /// The buffer is empty, and no line is being written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    /// Until the writing thread takes it.
    file: Option<File>,
    /// Lines dropped since the last one that fitted.
    untold: u64,
    dropped: u64,
    writing: bool,
    /// Lines have nowhere to go.
    closed: bool,
}

impl Lines {
    /// Makes a buffer. Lines that come within `gather` after an idle time are written together.
    pub fn new(gather: Duration) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            gather,
            filled: Condvar::new(),
            drained: Condvar::new(),
        })
    }

    /// Names the file, to which [`start`](Self::start) begins to write; without a file, all lines
    /// are discarded.
    pub fn aim(&self, file: Option<File>) {
        let mut state = self.state.lock();
        state.closed = file.is_none();
        state.file = file;
    }

    /// Starts the thread that writes. Lines wait until then: a program that confines itself must
    /// have no thread yet. A second call does nothing.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        if let Some(file) = self.state.lock().file.take() {
            let lines = Arc::clone(self);
            let write = move || lines.write_all(file);
            thread::Builder::new().name("log".to_owned()).spawn(write)?;
        }
        Ok(())
    }

    /// Takes a line without its end, or drops it. Never waits for the reader.
    pub fn push(&self, line: &str) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if state.buffer.len() + line.len() > MAX_WAITING_LEN {
            state.untold += 1;
            state.dropped += 1;
            return;
        }
        let idle = state.buffer.is_empty();
        state.tell_dropped();
        state.buffer.extend_from_slice(line.as_bytes());
        state.buffer.push(b'\n');
        if idle {
            self.filled.notify_one();
        }
    }

    /// Returns a maker of writers, as a subscriber of a log wants it: each write becomes one line,
    /// escaped.
    pub fn writers(self: &Arc<Self>) -> impl Fn() -> Escaped + Send + Sync + 'static {
        let lines = Arc::clone(self);
        move || Escaped(Arc::clone(&lines))
    }

    /// Returns the number of lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Waits until all lines are written, but no longer than a live reader would need. Starts to
    /// write if need be.
    pub fn flush(self: &Arc<Self>) {
        // Without a thread, there is nothing to wait for.
        let started = self.start();
        let mut state = self.state.lock();
        state.closed |= started.is_err();
        state.tell_dropped();
        self.filled.notify_one();
        let busy = |state: &mut State| !state.closed && (state.writing || !state.buffer.is_empty());
        self.drained.wait_while_for(&mut state, busy, FLUSH);
    }

    fn write_all(&self, mut file: File) {
        let mut state = self.state.lock();
        loop {
            while state.buffer.is_empty() {
                self.drained.notify_all();
                self.filled.wait(&mut state);
            }
            let bytes = std::mem::take(&mut state.buffer);
            state.writing = true;
            drop(state);
            let written = write(&mut file, &bytes);
            state = self.state.lock();
            state.writing = false;
            if written.is_err() {
                state.closed = true;
                state.buffer = Vec::new();
                self.drained.notify_all();
                return;
            }
            if state.buffer.is_empty() && !self.gather.is_zero() {
                self.drained.notify_all();
                self.filled.wait(&mut state);
                drop(state);
                thread::sleep(self.gather);
                state = self.state.lock();
            }
        }
    }
}

impl State {
    fn tell_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.untold);
        if dropped > 0 && !self.closed {
            let lines = if dropped == 1 { "line" } else { "lines" };
            let text =
                format!("{dropped} {lines} of the log dropped here: nobody read them in time\n");
            self.buffer.extend_from_slice(text.as_bytes());
        }
    }
}

/// Writes into the buffer: each write is one line, escaped.
#[derive(Debug)]
pub struct Escaped(Arc<Lines>);

impl Write for Escaped {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.push(&escape_line(text.trim_end_matches('\n')));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(file: &mut File, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The parent process made the descriptor non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes of waiting lines. The longest line, an audit of a hundred refs, fits.
const MAX_WAITING_LEN: usize = 1024 * 1024;
/// How long a process that ends waits for its last lines to be read.
const FLUSH: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    fn piped() -> (Arc<Lines>, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let lines = Lines::new(Duration::ZERO);
        lines.aim(Some(File::from(writer)));
        (lines, reader.into())
    }

    fn read_until(reader: &mut File, end: &str) -> String {
        let mut text = String::new();
        let mut bytes = vec![0; 64 * 1024];
        while !text.ends_with(end) {
            let len = reader.read(&mut bytes).unwrap();
            text += std::str::from_utf8(&bytes[..len]).unwrap();
        }
        text
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_nobody_waits() {
        let (lines, mut reader) = piped();
        lines.start().unwrap();
        let line = "x".repeat(999);
        let begun = Instant::now();
        for _ in 0..3000 {
            lines.push(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(lines.dropped() > 0);
        let begun = Instant::now();
        lines.flush();
        let waited = begun.elapsed();
        assert!(waited >= FLUSH && waited < 5 * FLUSH, "{waited:?}");
        let reading = thread::spawn(move || read_until(&mut reader, "the end\n"));
        lines.flush();
        lines.push("the end");
        lines.flush();
        let text = reading.join().unwrap();
        let whole = text.lines().filter(|read| *read == line).count();
        let told = format!("{} lines of the log dropped here", 3000 - whole);
        assert!(text.contains(&told), "{whole}");
    }

    #[test]
    fn dropped_lines_are_told_in_their_place_and_every_event_is_one_line() {
        let (lines, mut reader) = piped();
        let mut event = lines.writers()();
        event.write_all("first\nsecond\u{9b}\n".as_bytes()).unwrap();
        let long = "x".repeat(MAX_WAITING_LEN / 2);
        (0..3).for_each(|_| lines.push(&long));
        let reading = thread::spawn(move || read_until(&mut reader, "last\n"));
        lines.flush();
        lines.push("last");
        lines.flush();
        let text = reading.join().unwrap();
        let read: Vec<_> = text.lines().collect();
        assert_eq!(read[0], "first\\nsecond\\u{9b}");
        assert!(
            read[2].starts_with("2 lines of the log dropped"),
            "{}",
            read[2]
        );
        assert_eq!(read[3], "last");
    }

    #[test]
    fn a_reader_that_is_gone_holds_nobody_up() {
        let (lines, reader) = piped();
        drop(reader);
        let begun = Instant::now();
        (0..10).for_each(|_| lines.push("x"));
        lines.flush();
        lines.push("y");
        lines.flush();
        assert!(begun.elapsed() < FLUSH);
        assert!(lines.state.lock().buffer.is_empty());
    }
}
