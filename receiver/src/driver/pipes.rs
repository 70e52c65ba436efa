//! The two threads that wait for the client, so that nothing else has to.
//!
//! Blocking reads and writes on the descriptors work alike for pipes, sockets and files, and
//! neither direction can hold up the other.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::{Bytes, BytesMut};

/// Bytes read at once. As large as a pipe is made.
const READ_LEN: usize = 256 * 1024;
/// Reads that may wait to be looked at.
const READS_AHEAD: usize = 4;

/// What came of waiting for the client.
#[derive(Debug)]
pub(super) enum Wire {
    /// Bytes came; none at the end.
    Read(io::Result<BytesMut>),
    /// So many bytes were taken by the client.
    Written(io::Result<usize>),
}

/// Reads, as long as there is leave to.
#[derive(Debug)]
pub(super) struct Reader {
    leave: Sender<()>,
}

impl Reader {
    pub(super) fn start(
        mut input: impl Read + Send + 'static,
        report: impl Fn(Wire) + Send + 'static,
    ) -> Self {
        let (leave, granted) = channel();
        thread::spawn(move || {
            let mut buffer = BytesMut::zeroed(READ_LEN);
            for () in granted {
                let read = read_some(&mut input, &mut buffer).map(|len| take(&mut buffer, len));
                let over = !matches!(&read, Ok(bytes) if !bytes.is_empty());
                report(Wire::Read(read));
                if over {
                    return;
                }
            }
        });
        let reader = Self { leave };
        (0..READS_AHEAD).for_each(|_| reader.allow_another());
        reader
    }

    /// Gives leave for one more read: the bytes of an earlier one are used up.
    pub(super) fn allow_another(&self) {
        // The thread is gone once the input has ended; then nothing is left to allow.
        let _ = self.leave.send(());
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Takes the first `len` bytes out of the buffer. What is handed on may wait in memory for long,
/// so that a few bytes must not keep a large buffer there with them.
fn take(buffer: &mut BytesMut, len: usize) -> BytesMut {
    if len < READ_LEN / 2 {
        return BytesMut::from(buffer.get(..len).unwrap_or_default());
    }
    let mut bytes = std::mem::replace(buffer, BytesMut::zeroed(READ_LEN));
    bytes.truncate(len);
    bytes
}

/// Starts the thread that writes; it ends when the sender is dropped.
pub(super) fn start_writer(
    mut output: impl Write + Send + 'static,
    report: impl Fn(Wire) + Send + 'static,
) -> Sender<Bytes> {
    let (sender, queue): (_, Receiver<Bytes>) = channel();
    thread::spawn(move || {
        for bytes in queue {
            let written = output.write_all(&bytes).and_then(|()| output.flush());
            let over = written.is_err();
            report(Wire::Written(written.map(|()| bytes.len())));
            if over {
                return;
            }
        }
    });
    sender
}
