//! Lines on their way to a file whose reader may stop reading.
//!
//! They wait in a bounded buffer for the one thread that writes them. Lines that do not fit are
//! dropped and counted: a serving thread goes on at once.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Lines waiting to be written.
#[derive(Debug)]
pub struct Lines {
    state: Mutex<State>,
    /// The buffer has lines.
    filled: Condvar,
    /// The buffer is empty, and no line is being written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    /// Lines dropped since the last one that fitted.
    untold: u64,
    dropped: u64,
    /// A thread is writing.
    started: bool,
    writing: bool,
    /// The reader is gone.
    closed: bool,
}

impl Lines {
    /// Makes a buffer whose lines wait until [`Self::write_to`].
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
        })
    }

    /// Starts the thread that writes. A second call does nothing.
    pub fn write_to(self: &Arc<Self>, file: File) -> io::Result<()> {
        if std::mem::replace(&mut self.state.lock().started, true) {
            return Ok(());
        }
        let lines = Arc::clone(self);
        let write = move || lines.write_all(file);
        thread::Builder::new().name("log".to_owned()).spawn(write)?;
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

    /// Returns the number of lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Waits until all lines are written, but no longer than a live reader would need.
    pub fn flush(&self) {
        let mut state = self.state.lock();
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
            if state.buffer.is_empty() {
                self.drained.notify_all();
                // Lines of a burst go out together.
                self.filled.wait(&mut state);
                drop(state);
                thread::sleep(GATHER);
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
            let text = format!("{dropped} {lines} dropped here: nobody read them in time\n");
            self.buffer.extend_from_slice(text.as_bytes());
        }
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

/// Bytes of waiting lines.
const MAX_WAITING_LEN: usize = 1024 * 1024;
/// How long a process that ends waits for its last lines to be read.
const FLUSH: Duration = Duration::from_secs(1);
const GATHER: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    fn piped() -> (Arc<Lines>, File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let lines = Lines::new();
        lines.write_to(writer.into()).unwrap();
        (lines, reader.into())
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_nobody_waits() {
        let (lines, mut reader) = piped();
        let line = "x".repeat(999);
        let begun = Instant::now();
        for _ in 0..3000 {
            lines.push(&line);
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(lines.dropped() > 0);
        let reading = thread::spawn(move || {
            let mut text = String::new();
            while !text.ends_with("the end\n") {
                let mut bytes = vec![0; 64 * 1024];
                let len = reader.read(&mut bytes).unwrap();
                text += std::str::from_utf8(&bytes[..len]).unwrap();
            }
            text
        });
        lines.flush();
        lines.push("the end");
        lines.flush();
        let text = reading.join().unwrap();
        let whole = text.lines().filter(|read| *read == line).count();
        let told = format!("{} lines dropped here", 3000 - whole);
        assert!(text.contains(&told), "{whole}");
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
    }
}
