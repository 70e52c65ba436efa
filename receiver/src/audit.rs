//! The audit: one line of JSON for each push or pull, whatever its outcome.
//!
//! The driver's caller writes it when the session is over; a process that is killed writes none.
//! Failing to write a line is a warning in the log, and does not fail the push.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use artifact_protocol::exit;
use artifact_protocol::frame::{PullState, RefAnswer, RefOutcome, RefusalCode, Staged, Verdict};
use artifact_protocol::session::{Announcement, Opened, ReceiverEvent};
use artifact_protocol::{Version, escape_json};
use serde::{Deserialize, Serialize};

use crate::driver::Pulled;

/// The audit's record of one push or pull. The file holds the text of clients escaped, and a
/// program that reads it must escape it again before it shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The end of the session, as in `2026-01-31T12:00:00Z`.
    pub time: String,
    /// Whether the client pulled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub pull: bool,
    /// The session's id, as in the log.
    pub session: String,
    /// The client's identity.
    pub identity: String,
    /// Fingerprints of the keys that the client has used, if sshd tells.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Address and port of the client, if sshd tells.
    pub client: Option<String>,
    /// The client's program and version.
    pub agent: Option<String>,
    /// The version of the protocol.
    pub protocol: Option<u16>,
    /// `done`, `refused` if the rules refused some refs, `withdrawn`, or `failed`.
    pub outcome: String,
    /// The reason of a failure.
    pub error: Option<String>,
    /// The same in a word of [`FAILURES`], to be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The announced or wanted refs: the first [`REFS_MAX`].
    pub refs: Vec<RefRecord>,
    /// How many more there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_refs: usize,
    /// Objects received, or sent in the answer to a pull.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Duration of the session.
    pub duration_ms: u64,
}

/// One ref of a push or pull.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// Its name.
    pub name: String,
    /// The commit it held before.
    pub old: Option<String>,
    /// The commit that the push set it to, or would have; of a pull, the commit that was sent, or
    /// nothing.
    pub new: String,
    /// `updated`, `unchanged`, `would-update`, `refused`, or `open` if the session ended before; of
    /// a pull, `sent`, `unchanged`, `refused`, or `open`.
    pub outcome: String,
    /// The reason of a refusal.
    pub why: Option<String>,
    /// The same in a word of [`REFUSALS`], to be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The audit of one session.
#[derive(Debug)]
pub struct Audit {
    file: Option<File>,
    begun: Instant,
    record: Record,
    left: Left,
    turned_away: bool,
}

/// The outcomes of all refs, including those that the line only counts.
#[derive(Debug, Default)]
struct Left {
    open: bool,
    refused: bool,
}

impl Audit {
    /// Starts to record. Lines go to `file`, or to the log as events of the target `audit`.
    pub fn new(file: Option<File>, record: Record) -> Self {
        Self {
            file,
            begun: Instant::now(),
            record,
            left: Left::default(),
            turned_away: false,
        }
    }

    /// Records an event of the session.
    pub fn event(&mut self, event: &ReceiverEvent) {
        match event {
            ReceiverEvent::Greeted(hello) => {
                self.record.agent = Some(cut(hello.agent.as_raw(), AGENT_CHARS_MAX));
                self.record.protocol = Some(hello.version_max.min(Version::NEWEST).0);
            }
            ReceiverEvent::Opened(announcement, opened) => {
                self.record.refs = announced(announcement, opened);
                self.record.more_refs = announcement.refs.len() - self.record.refs.len();
                let verdicts = || opened.refs.iter().map(|state| &state.verdict);
                self.left = Left {
                    open: verdicts().any(|verdict| *verdict == Verdict::Accepted),
                    refused: verdicts().any(|verdict| matches!(verdict, Verdict::Refused(_))),
                };
            }
            ReceiverEvent::Published(outcomes) => {
                self.left = Left {
                    open: false,
                    refused: outcomes.iter().any(|o| matches!(o, RefOutcome::Refused(_))),
                };
                for (record, outcome) in self.record.refs.iter_mut().zip(outcomes) {
                    let (word, refusal) = match outcome {
                        RefOutcome::Updated => ("updated", None),
                        RefOutcome::Unchanged => ("unchanged", None),
                        RefOutcome::WouldUpdate => ("would-update", None),
                        RefOutcome::Refused(refusal) => ("refused", Some(refusal)),
                    };
                    record.outcome = word.to_owned();
                    record.why = refusal.map(|refusal| shortened(refusal.text.as_raw()));
                    record.reason = refusal.map(|refusal| word_of(refusal.code).to_owned());
                }
            }
        }
    }

    /// Records what a client has pulled.
    pub fn pulled(&mut self, pulled: &Pulled) {
        let answers = &pulled.answer.refs;
        let is_sent = pulled.is_sent;
        self.record.pull = true;
        self.record.more_refs = answers.len().saturating_sub(REFS_MAX);
        let is_promised = |answer: &RefAnswer| matches!(answer.state, PullState::Promised { .. });
        self.left = Left {
            open: !is_sent && answers.iter().any(is_promised),
            refused: (answers.iter()).any(|a| matches!(a.state, PullState::Refused(_))),
        };
        let refs = answers.iter().take(REFS_MAX).map(|answer| {
            let (new, outcome, refusal) = match &answer.state {
                PullState::Promised { commit, .. } if is_sent => (commit.to_hex(), "sent", None),
                PullState::Promised { commit, .. } => (commit.to_hex(), OPEN, None),
                PullState::UpToDate => (String::new(), "unchanged", None),
                PullState::Refused(refusal) => (String::new(), "refused", Some(refusal)),
            };
            RefRecord {
                name: answer.name.to_string(),
                old: None,
                new,
                outcome: outcome.to_owned(),
                why: refusal.map(|refusal| shortened(refusal.text.as_raw())),
                reason: refusal.map(|refusal| word_of(refusal.code).to_owned()),
            }
        });
        self.record.refs = refs.collect();
    }

    /// Records that the client was turned away before it could announce anything.
    pub fn turned_away(&mut self) {
        self.turned_away = true;
    }

    /// Writes the line. A client that only asked which server this is leaves none. `failure` is the
    /// exit code and the text of an error.
    pub fn finish(mut self, received: Staged, failure: Option<(u8, String)>) {
        let record = &mut self.record;
        let (code, error) = failure.unzip();
        record.reason = code.map(|code| failure_word(code).to_owned());
        if record.refs.is_empty() && error.is_none() {
            return;
        }
        record.outcome = match &error {
            Some(_) if self.turned_away => "refused",
            Some(_) => "failed",
            None if self.left.open => "withdrawn",
            None if self.left.refused => "refused",
            None => "done",
        }
        .to_owned();
        record.error = error.as_deref().map(shortened);
        record.time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        record.duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        (record.objects, record.bytes) = (received.objects, received.bytes);
        let written = serde_json::to_string(record)
            .map(|json| escape_json(&json))
            .map_err(io::Error::other)
            .and_then(|line| match &mut self.file {
                // In one write, so that lines of several sessions do not mix.
                Some(file) => file.write_all(format!("{line}\n").as_bytes()),
                None => {
                    tracing::info!(target: "audit", "{line}");
                    Ok(())
                }
            });
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the audit line of this session");
        }
    }
}

/// Opens the audit file, and creates it if it is missing. Refuses a pipe or a terminal: its reader
/// could hold a session up.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok(file)
}

fn announced(announcement: &Announcement, opened: &Opened) -> Vec<RefRecord> {
    let refs = announcement.refs.iter().zip(&opened.refs).take(REFS_MAX);
    refs.map(|(update, state)| {
        let (outcome, refusal) = match &state.verdict {
            Verdict::UpToDate => ("unchanged", None),
            Verdict::Accepted => (OPEN, None),
            Verdict::Refused(refusal) => ("refused", Some(refusal)),
        };
        RefRecord {
            name: update.name.to_string(),
            old: state.current.map(|commit| commit.to_hex()),
            new: update.commit.to_hex(),
            outcome: outcome.to_owned(),
            why: refusal.map(|refusal| shortened(refusal.text.as_raw())),
            reason: refusal.map(|refusal| word_of(refusal.code).to_owned()),
        }
    })
    .collect()
}

/// Returns the word of [`REFUSALS`] for a code.
const fn word_of(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::NOT_PERMITTED => "not-permitted",
        RefusalCode::NOT_FAST_FORWARD => "not-fast-forward",
        RefusalCode::LOST_RACE => "lost-race",
        RefusalCode::NAME_CONFLICT => "name-conflict",
        RefusalCode::BINDING => "binding",
        RefusalCode::ABSENT => "absent",
        RefusalCode(_) => "other",
    }
}

/// Returns the word of [`FAILURES`] for an exit code.
const fn failure_word(code: u8) -> &'static str {
    match code {
        exit::REFUSED_REF => "not-permitted",
        exit::CONNECTION => "connection",
        exit::NOT_THE_PROTOCOL => "protocol",
        exit::REFUSED_OBJECT => "object",
        exit::STORAGE => "storage",
        _ => "other",
    }
}

/// Cuts a text to the length that a line of the audit allows: the client chooses the length of its
/// own texts, and of parts of the server's.
fn shortened(text: &str) -> String {
    cut(text, TEXT_CHARS_MAX)
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The reasons for which a ref may be refused.
pub const REFUSALS: [&str; 7] = [
    "not-permitted",
    "not-fast-forward",
    "lost-race",
    "name-conflict",
    "binding",
    "absent",
    "other",
];
/// The reasons for which a push may fail: a right, the connection, the protocol, what was sent, the
/// repository.
pub const FAILURES: [&str; 6] = [
    "not-permitted",
    "connection",
    "protocol",
    "object",
    "storage",
    "other",
];
/// Refs that the line of a push lists; the others are counted. A client may announce ten thousand.
pub const REFS_MAX: usize = 100;
/// Most characters of one text in a line.
const TEXT_CHARS_MAX: usize = 300;
/// Most characters of the client's agent.
const AGENT_CHARS_MAX: usize = 100;
const OPEN: &str = "open";

#[cfg(test)]
mod tests;
