//! The server's log on standard error; logging never waits for its reader.

use std::io;
use std::sync::Arc;

use artifact_protocol::escape_line;
use artifact_serve::Lines;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Starts to collect lines; [`write`] starts the thread that writes them.
pub(crate) fn start(level: Level) -> Arc<Lines> {
    let lines = Lines::new();
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        // systemd and other readers add the time themselves.
        .without_time()
        .with_ansi(false)
        .with_writer(Writer(Arc::clone(&lines)))
        .init();
    lines
}

/// Starts the thread that writes.
pub(crate) fn write(lines: &Arc<Lines>) -> io::Result<()> {
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
    lines.write_to(stderr.into())
}

#[derive(Debug)]
struct Writer(Arc<Lines>);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// One event, complete in one write.
struct Line<'a>(&'a Lines);

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.push(&escape_line(text.trim_end_matches('\n')));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
