use std::slice;

use artifact_formats::Checksum;
use artifact_protocol::Text;
use artifact_protocol::frame::{Expect, RefState, RefUpdate, Refusal, RefusalCode, Staged};

use super::*;

const RECEIVED: Staged = Staged {
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

/// Returns the records of a session with these events.
fn written(events: &[ReceiverEvent], error: Option<&str>) -> Vec<Record> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit");
    let mut audit = Audit::new(Some(open(&path).unwrap()), Record::default());
    events.iter().for_each(|event| audit.event(event));
    audit.finish(
        RECEIVED,
        error.map(|error| (exit::CONNECTION, error.to_owned())),
    );
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
        for r in &record.refs {
            let reason = (r.outcome == "refused").then_some("not-permitted");
            assert_eq!(r.reason.as_deref(), reason);
        }
        assert_eq!(record.reason.as_deref(), error.map(|_| "connection"));
        assert_eq!((record.objects, record.bytes), (3, 400));
        assert_eq!(record.refs[0].old, Some("01".repeat(32)));
        assert_eq!(record.refs[0].new, "02".repeat(32));
    }
    assert_eq!(written(&[], None), []);
    assert_eq!(written(&[], Some("not the protocol")).len(), 1);
}

#[test]
fn a_line_is_bounded_and_holds_no_character_that_steers_a_terminal() {
    let hostile = "\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}\u{85}".repeat(200);
    let refused = Verdict::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, &hostile));
    let hello = artifact_protocol::frame::Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        features: Default::default(),
        agent: Text::new(&hostile),
        extensions: Default::default(),
    };
    let mut verdicts = vec![Verdict::UpToDate; 10_000];
    verdicts[9_999] = refused.clone();
    let many = [ReceiverEvent::Greeted(hello), opened(&verdicts)];
    let dir = tempfile::tempdir().unwrap();
    let write = |events: &[ReceiverEvent], error: Option<(u8, String)>| {
        let path = dir.path().join("audit");
        let _ = std::fs::remove_file(&path);
        let mut audit = Audit::new(Some(open(&path).unwrap()), Record::default());
        events.iter().for_each(|event| audit.event(event));
        audit.finish(RECEIVED, error);
        std::fs::read_to_string(&path).unwrap()
    };
    let line = write(&many, None);
    let record: Record = serde_json::from_str(&line).unwrap();
    assert_eq!((record.refs.len(), record.more_refs), (REFS_MAX, 9_900));
    // Refs that are only counted matter, too.
    assert_eq!(record.outcome, "refused");
    let all_refused = opened(&vec![refused; 10_000]);
    for line in [
        line,
        write(&[all_refused], Some((exit::STORAGE, hostile.clone()))),
    ] {
        let is_hostile = |c: char| c != '\n' && hostile.contains(c) && !c.is_ascii_graphic();
        assert!(!line.contains(is_hostile), "{line}");
        assert!(line.len() < 1024 * 1024, "{}", line.len());
    }
}

#[test]
fn what_somebody_reads_is_no_file_for_the_audit() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&pipe, mode).unwrap();
    assert!(open(&pipe).is_err());
    let _reader = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    assert!(open(&pipe).is_err());
    assert!(open(Path::new("/dev/full")).is_err());
}

#[test]
fn every_reason_that_is_written_is_one_that_is_counted() {
    for code in 0..=u16::MAX {
        assert!(REFUSALS.contains(&word_of(RefusalCode(code))), "{code}");
    }
    for code in 0..=u8::MAX {
        assert!(FAILURES.contains(&failure_word(code)), "{code}");
    }
    let earlier = r#"{"time":"","session":"","identity":"","client":null,"agent":null,
            "protocol":null,"outcome":"done","error":null,"objects":0,"bytes":0,"duration_ms":0,
            "refs":[{"name":"a","old":null,"new":"b","outcome":"refused","why":"c"}]}"#;
    let record: Record = serde_json::from_str(earlier).unwrap();
    assert_eq!((record.reason, &record.refs[0].reason), (None, &None));
}

#[test]
fn a_line_that_cannot_be_written_ends_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full");
    let mut audit = Audit::new(Some(full.unwrap()), Record::default());
    audit.event(&opened(&[Verdict::UpToDate]));
    audit.finish(RECEIVED, None);
}
