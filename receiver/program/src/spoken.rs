//! Which version a client speaks, and what that changes beside the wire: how the program was
//! started, what is said on standard error, and the exit code.

use std::ffi::OsStr;
use std::path::Path;

use artifact_protocol::dialect::Dialect;
use artifact_protocol::frame::{RefOutcome, Verdict};
use artifact_protocol::session::{Announcement, ReceiverEvent};
use artifact_protocol::{Text, exit};

/// What is known of a session in an old version.
#[derive(Debug, Default)]
pub(crate) struct Spoken {
    dialect: Option<Dialect>,
    /// Some refs were refused, which is all that such a client may hear of it.
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

    /// Takes note of what happened, and says what an old client cannot be told otherwise.
    pub(crate) fn event(&mut self, event: &ReceiverEvent) {
        match event {
            ReceiverEvent::Greeted(hello) => {
                self.dialect = Dialect::of_version(hello.version_max);
                if self.dialect == Some(Dialect::V1) && !self.has_pull_url {
                    tracing::warn!(
                        "BuildStream 1.x does without a cache that has no pull URL: add --pull-url"
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

    /// Returns the exit code: of an old version, 1 for whatever went wrong, like the originals.
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
