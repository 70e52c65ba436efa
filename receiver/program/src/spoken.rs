//! The version that a client speaks, and its effects outside the wire: how the program was started,
//! its messages on standard error, and its exit code.

use std::ffi::OsStr;
use std::path::Path;

use artifact_protocol::dialect::Dialect;
use artifact_protocol::frame::{RefOutcome, Verdict};
use artifact_protocol::session::{Announcement, ReceiverEvent};
use artifact_protocol::{Text, exit};

/// The state of a session in an old version.
#[derive(Debug, Default)]
pub(crate) struct Spoken {
    dialect: Option<Dialect>,
    /// Whether some refs were refused: the exit code is the only other way to tell such a client.
    refused: bool,
    announced: Announcement,
    has_pull_url: bool,
}

impl Spoken {
    pub(crate) fn new(pull_url: Option<&Text>) -> Self {
        Self {
            has_pull_url: pull_url.is_some(),
            ..Self::default()
        }
    }

    /// Records an event, and logs what the old protocol has no message for.
    pub(crate) fn event(&mut self, event: &ReceiverEvent) {
        match event {
            ReceiverEvent::Greeted(hello) => {
                self.dialect = Dialect::of_version(hello.version_max);
                if self.dialect == Some(Dialect::V1) && !self.has_pull_url {
                    tracing::warn!(
                        "BuildStream 1.x ignores a cache without a pull URL: add --pull-url"
                    );
                }
            }
            ReceiverEvent::Opened(announcement, opened) if self.dialect.is_some() => {
                self.announced = announcement.clone();
                let verdicts = opened.refs.iter().map(|state| match &state.verdict {
                    Verdict::Refused(refusal) => Some(&refusal.text),
                    Verdict::UpToDate | Verdict::Accepted => None,
                });
                self.refuse(verdicts);
            }
            ReceiverEvent::Published(outcomes) if self.dialect.is_some() => {
                let refused = outcomes.iter().map(|outcome| match outcome {
                    RefOutcome::Refused(refusal) => Some(&refusal.text),
                    RefOutcome::Updated | RefOutcome::Unchanged | RefOutcome::WouldUpdate => None,
                });
                self.refuse(refused);
            }
            ReceiverEvent::Opened(..) | ReceiverEvent::Published(_) => {}
        }
    }

    /// Returns the exit code: in an old version, 1 for any failure, as the originals did.
    pub(crate) const fn exit_code(&self, code: u8) -> u8 {
        match self.dialect {
            Some(_) if code != exit::DONE || self.refused => exit::OTHER,
            Some(_) | None => code,
        }
    }

    fn refuse<'a>(&mut self, refused: impl Iterator<Item = Option<&'a Text>>) {
        for (update, why) in self.announced.refs.iter().zip(refused) {
            if let Some(why) = why {
                self.refused = true;
                tracing::error!("{} was refused: {}", update.name, why.escaped());
            }
        }
    }
}

/// Returns whether the program was started under a name of ostree-push's receiver, whose clients
/// wait for the server to speak first.
pub(crate) fn is_ostree_receive(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| name == "ostree-receive" || name == "ostree-receive-0")
}
