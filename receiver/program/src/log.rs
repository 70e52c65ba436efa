//! The log: lines on standard error, each with the session it belongs to.

use std::{fmt, io};

use artifact_protocol::escape;
use artifact_protocol::frame::RefOutcome;
use artifact_protocol::session::ReceiverEvent;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::registry::LookupSpan;

/// Starts to write what is of this level or worse.
///
/// Where standard error is the journal, or a file that several sessions share, the session's id
/// tells whose line is whose.
pub(crate) fn start(level: Level, session: &str) {
    let format = Format::default().with_ansi(false).with_target(false);
    // What goes into a file is read later; the client and the journal know what time it is.
    let into_file = rustix::fs::fstat(rustix::stdio::stderr()).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
    });
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        // It would be told to standard error, which is gone then: that panics.
        .log_internal_errors(false);
    let session = session.to_owned();
    if into_file {
        let inner = format;
        log.event_format(Prefixed { session, inner }).init();
    } else {
        let inner = format.without_time();
        log.event_format(Prefixed { session, inner }).init();
    }
}

/// A line's format, after the session's id. A span would be of one thread only.
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

/// Writes down what happened in a session.
pub(crate) fn event(event: &ReceiverEvent) {
    match event {
        ReceiverEvent::Greeted(hello) => {
            tracing::info!(agent = hello.agent.escaped(), "client");
        }
        ReceiverEvent::Opened(announcement, opened) => {
            for (update, state) in announcement.refs.iter().zip(&opened.refs) {
                let current = state
                    .current
                    .map_or_else(|| "none".to_owned(), |c| c.to_hex());
                let verdict = escape(&format!("{:?}", state.verdict));
                tracing::info!(%current, new = %update.commit, verdict, "announced {}", update.name);
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
