//! The log: lines on standard error, each with its session's id.
//!
//! The client may drain standard error slowly, or nobody may drain it, while locks are held and
//! timers run. So only one thread ever waits for it.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use artifact_lines::Lines;
use artifact_protocol::frame::RefOutcome;
use artifact_protocol::session::ReceiverEvent;
use rustix::fs::{Mode, OFlags};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

/// The log of this process. Dropping it waits for the last lines to be written, but not for long.
pub(crate) struct Log {
    lines: Arc<Lines>,
}

impl Log {
    /// Starts to collect lines of this level or a more severe one, and panics.
    ///
    /// If standard error is the journal, or a file that several sessions share, the session's id
    /// tells the lines apart.
    pub(crate) fn start(level: Level, session: &str) -> Self {
        let format = Format::default().with_ansi(false).with_target(false);
        // A file is read later, so its lines need the time; the client and the journal know it.
        let into_file = rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
        });
        // A client that sees its error wants the line at once: nothing is gathered.
        let lines = Lines::new(Duration::ZERO);
        lines.aim(claim_stderr());
        let log = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(lines.writers())
            // It would print them to standard error, and could block there.
            .log_internal_errors(false);
        let session = session.to_owned();
        if into_file {
            let inner = format;
            log.event_format(Prefixed { session, inner }).init();
        } else {
            let inner = format.without_time();
            log.event_format(Prefixed { session, inner }).init();
        }
        let of_panics = Arc::clone(&lines);
        std::panic::set_hook(Box::new(move |panic| {
            tracing::error!("{panic}");
            // The process may end right after this.
            of_panics.flush();
        }));
        Self { lines }
    }

    /// Starts to write. Lines wait until then: a thread that started earlier would escape the
    /// sandbox. Without a thread, only they are lost.
    pub(crate) fn write(&self) {
        let _ = self.lines.start();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.flush();
    }
}

/// Takes over standard error. Anything else that writes there, such as a run-time library at its
/// end, no longer blocks; if there is no room for its bytes, they are lost.
fn claim_stderr() -> Option<File> {
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).ok()?;
    if let Ok(patient) = never_blocking() {
        let _ = rustix::stdio::dup2_stderr(patient);
    }
    Some(stderr.into())
}

/// Opens standard error again so that a write fails where it would block. If that is impossible, as
/// with a socket, what is written is discarded.
fn never_blocking() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY;
    rustix::fs::open("/proc/self/fd/2", flags, Mode::empty())
        .or_else(|_| rustix::fs::open("/dev/null", OFlags::WRONLY, Mode::empty()))
}

/// A line's format, with the session's id in front. A span would cover one thread only.
struct Prefixed<F> {
    session: String,
    inner: F,
}

impl<S, F> FormatEvent<S, DefaultFields> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: FormatEvent<S, DefaultFields>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "{} ", self.session)?;
        self.inner.format_event(context, writer, event)
    }
}

/// Logs an event of a session.
pub(crate) fn event(event: &ReceiverEvent) {
    match event {
        ReceiverEvent::Greeted(hello) => {
            tracing::info!(agent = hello.agent.escaped(), "client");
        }
        ReceiverEvent::Opened(announcement, opened) => {
            let announced = announcement.refs.iter().zip(&opened.refs);
            for (update, state) in announced.take(REFS_MAX) {
                let current = state
                    .current
                    .map_or_else(|| "none".to_owned(), |c| c.to_hex());
                let verdict = format!("{:?}", state.verdict);
                tracing::info!(
                    %current, new = %update.commit, verdict,
                    "announced {}", update.name
                );
            }
            let more = announcement.refs.len().saturating_sub(REFS_MAX);
            if more > 0 {
                tracing::info!("announced {more} more");
            }
        }
        ReceiverEvent::Published(outcomes) => {
            let updated = outcomes
                .iter()
                .filter(|o| **o == RefOutcome::Updated)
                .count();
            tracing::info!(updated, of = outcomes.len(), "published");
        }
    }
}

/// How many announced refs get a line each: a client may announce ten thousand.
const REFS_MAX: usize = 100;
