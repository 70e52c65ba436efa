//! The audit: one line of JSON for each push, whatever became of it.
//!
//! Written when the session is over, by whoever runs the driver; a process that is killed writes
//! none. A line that cannot be written is a warning in the log, and no failure of the push.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Instant, SystemTime};

use artifact_protocol::frame::{RefOutcome, Verdict};
use artifact_protocol::session::{Announcement, Opened, ReceiverEvent};
use artifact_protocol::{Text, Version};
use artifact_store::Received;
use serde::{Deserialize, Serialize};

/// What is written down of one push. Text of clients stands in it as JSON escapes it, with control
/// characters, and is to be escaped again when it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When the session was over, as in `2026-01-31T12:00:00Z`.
    pub time: String,
    /// The session, as in the log.
    pub session: String,
    /// Who pushed.
    pub identity: String,
    /// Fingerprints of the keys that were used, where sshd tells.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Address and port of the client, where sshd tells.
    pub client: Option<String>,
    /// The client's program and version.
    pub agent: Option<String>,
    /// The version of the protocol.
    pub protocol: Option<u16>,
    /// `done`, `refused` where the rules did not let some refs be set, `withdrawn`, or `failed`.
    pub outcome: String,
    /// Why it failed.
    pub error: Option<String>,
    /// What was announced.
    pub refs: Vec<RefRecord>,
    /// Objects that came.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// How long the session was.
    pub duration_ms: u64,
}

/// One ref of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// Its name.
    pub name: String,
    /// The commit it held before.
    pub old: Option<String>,
    /// The commit it was to hold.
    pub new: String,
    /// `updated`, `unchanged`, `would-update`, `refused`, or `open` where the session ended before.
    pub outcome: String,
    /// Why it was refused.
    pub why: Option<String>,
}

/// The audit of one session.
#[derive(Debug)]
pub struct Audit {
    file: Option<File>,
    begun: Instant,
    record: Record,
}

impl Audit {
    /// Begins to listen. Lines go to `file`, or as events of the target `audit` to the log.
    pub fn new(file: Option<File>, record: Record) -> Self {
        Self {
            file,
            begun: Instant::now(),
            record,
        }
    }

    /// Takes note of what happened in the session.
    pub fn event(&mut self, event: &ReceiverEvent) {
        match event {
            ReceiverEvent::Greeted(hello) => {
                self.record.agent = Some(hello.agent.as_raw().to_owned());
                self.record.protocol = Some(hello.version_max.min(Version::NEWEST).0);
            }
            ReceiverEvent::Opened(announcement, opened) => {
                self.record.refs = announced(announcement, opened);
            }
            ReceiverEvent::Published(outcomes) => {
                for (record, outcome) in self.record.refs.iter_mut().zip(outcomes) {
                    let (word, why) = match outcome {
                        RefOutcome::Updated => ("updated", None),
                        RefOutcome::Unchanged => ("unchanged", None),
                        RefOutcome::WouldUpdate => ("would-update", None),
                        RefOutcome::Refused(refusal) => ("refused", Some(&refusal.text)),
                    };
                    record.outcome = word.to_owned();
                    record.why = why.map(Text::as_raw).map(str::to_owned);
                }
            }
        }
    }

    /// Writes the line; none for a client that only asked who the server is.
    pub fn finish(mut self, received: Received, error: Option<String>) {
        let record = &mut self.record;
        if record.refs.is_empty() && error.is_none() {
            return;
        }
        let any = |outcome: &str| record.refs.iter().any(|r| r.outcome == outcome);
        record.outcome = match &error {
            Some(_) => "failed",
            None if any(OPEN) => "withdrawn",
            None if any("refused") => "refused",
            None => "done",
        }
        .to_owned();
        record.error = error;
        record.time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        record.duration_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        (record.objects, record.bytes) = (received.objects, received.bytes);
        let written = serde_json::to_string(record)
            .map_err(io::Error::other)
            .and_then(|line| match &mut self.file {
                // In one piece, so that lines of several sessions do not mix.
                Some(file) => file.write_all(format!("{line}\n").as_bytes()),
                None => {
                    tracing::info!(target: "audit", "{line}");
                    Ok(())
                }
            });
        if let Err(error) = written {
            tracing::warn!(%error, "the audit of this push could not be written");
        }
    }
}

/// Opens the file of an audit, and makes it if it is not there.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

fn announced(announcement: &Announcement, opened: &Opened) -> Vec<RefRecord> {
    let refs = announcement.refs.iter().zip(&opened.refs);
    refs.map(|(update, state)| {
        let (outcome, why) = match &state.verdict {
            Verdict::UpToDate => ("unchanged", None),
            Verdict::Accepted => (OPEN, None),
            Verdict::Refused(refusal) => ("refused", Some(refusal.text.as_raw().to_owned())),
        };
        RefRecord {
            name: update.name.to_string(),
            old: state.current.map(|commit| commit.to_hex()),
            new: update.commit.to_hex(),
            outcome: outcome.to_owned(),
            why,
        }
    })
    .collect()
}

const OPEN: &str = "open";

#[cfg(test)]
mod tests {
    use std::slice;

    use artifact_formats::Checksum;
    use artifact_protocol::frame::{Expect, RefState, RefUpdate, Refusal, RefusalCode};

    use super::*;

    const RECEIVED: Received = Received {
        objects: 3,
        bytes: 400,
    };

    fn opened(verdicts: &[Verdict]) -> ReceiverEvent {
        let update = |(number, _): (usize, &Verdict)| RefUpdate {
            name: format!("a/{number}").parse().unwrap(),
            commit: Checksum::new([2; 32]),
            detached: None,
            expect: Expect::Any,
        };
        let announcement = Announcement {
            refs: verdicts.iter().enumerate().map(update).collect(),
            ..Announcement::default()
        };
        let state = |verdict: &Verdict| RefState {
            current: Some(Checksum::new([1; 32])),
            verdict: verdict.clone(),
        };
        let opened = Opened {
            refs: verdicts.iter().map(state).collect(),
            complete: Vec::new(),
        };
        ReceiverEvent::Opened(announcement, opened)
    }

    /// Returns what is written of a session with these events.
    fn written(events: &[ReceiverEvent], error: Option<&str>) -> Vec<Record> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut audit = Audit::new(Some(open(&path).unwrap()), Record::default());
        events.iter().for_each(|event| audit.event(event));
        audit.finish(RECEIVED, error.map(str::to_owned));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn every_push_is_one_line_that_says_what_became_of_it() {
        let refused = || Refusal::new(RefusalCode::NOT_PERMITTED, "no\n\u{1b}[2J");
        let two = opened(&[Verdict::Accepted, Verdict::Refused(refused())]);
        let done = |outcomes: [RefOutcome; 2]| ReceiverEvent::Published(outcomes.to_vec());
        let late = done([RefOutcome::Updated, RefOutcome::Refused(refused())]);
        for (events, error, outcome, refs) in [
            (
                &[two.clone(), late][..],
                None,
                "refused",
                ["updated", "refused"],
            ),
            (
                slice::from_ref(&two),
                None,
                "withdrawn",
                ["open", "refused"],
            ),
            (
                slice::from_ref(&two),
                Some("lost"),
                "failed",
                ["open", "refused"],
            ),
            (
                &[
                    opened(&[Verdict::Accepted, Verdict::UpToDate]),
                    done([RefOutcome::Updated, RefOutcome::Unchanged]),
                ],
                None,
                "done",
                ["updated", "unchanged"],
            ),
        ] {
            let [record] = &written(events, error)[..] else {
                panic!("{outcome}");
            };
            assert_eq!(
                (record.outcome.as_str(), record.error.as_deref()),
                (outcome, error)
            );
            let said: Vec<_> = record.refs.iter().map(|r| r.outcome.as_str()).collect();
            assert_eq!(said, refs);
            assert_eq!((record.objects, record.bytes), (3, 400));
            assert_eq!(record.refs[0].old, Some("01".repeat(32)));
            assert_eq!(record.refs[0].new, "02".repeat(32));
        }
        assert_eq!(written(&[], None), []);
        assert_eq!(written(&[], Some("not the protocol")).len(), 1);
    }

    #[test]
    fn a_line_that_cannot_be_written_ends_nothing() {
        let full = OpenOptions::new().write(true).open("/dev/full");
        let mut audit = Audit::new(Some(full.unwrap()), Record::default());
        audit.event(&opened(&[Verdict::UpToDate]));
        audit.finish(RECEIVED, None);
    }
}
