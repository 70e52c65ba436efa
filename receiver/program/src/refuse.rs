//! A session that refuses: it tells the client why, in whatever version the client speaks.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use artifact_protocol::dialect::{AnyReceiver, Openness};
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{ReceiverConfig, ReceiverEvent, ReceiverOutput};
use bytes::BytesMut;

/// Tells the client the reason, and waits for it as long as for an announcement.
pub(crate) fn tell(
    session: ReceiverConfig,
    openness: Openness,
    (mut input, mut output): (File, File),
    mut event: impl FnMut(ReceiverEvent),
) -> anyhow::Result<()> {
    let mut session = AnyReceiver::new(session, openness);
    let (report, reads) = channel();
    // The thread ends with the process.
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len) = input.read(&mut buffer) {
            let bytes = buffer.get(..len).unwrap_or_default().to_vec();
            if report.send(bytes).is_err() || len == 0 {
                return;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut unread = BytesMut::new();
    loop {
        while let Some(sent) = session.poll_output() {
            match sent {
                ReceiverOutput::Transmit(bytes) => output.write_all(&bytes)?,
                ReceiverOutput::Event(happened) => event(happened),
                // A session that refuses makes no store requests.
                ReceiverOutput::Store(_) => {}
            }
        }
        if session.is_finished() {
            return Ok(());
        }
        // Ignore how the session ends: we know the reason already, and the client is told.
        let _ = match reads.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) if !bytes.is_empty() => {
                unread.extend_from_slice(&bytes);
                session.handle_bytes(&mut unread)
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => session.handle_eof(),
            Err(RecvTimeoutError::Timeout) => {
                Err(session.abort(CloseCode::TIMEOUT, "the client was silent for too long"))
            }
        };
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
