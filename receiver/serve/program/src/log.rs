//! The server's log on standard error; logging never waits for its reader.

use std::sync::Arc;
use std::time::Duration;

use artifact_lines::Lines;
use tracing::Level;

/// Starts to collect lines; the caller starts the thread that writes them.
pub(crate) fn start(level: Level) -> Arc<Lines> {
    let lines = Lines::new(Duration::ZERO);
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3);
    lines.aim(stderr.ok().map(Into::into));
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        // systemd and other readers add the time themselves.
        .without_time()
        .with_ansi(false)
        .with_writer(lines.writers())
        .init();
    lines
}
