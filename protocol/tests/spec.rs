//! The SPEC is consistent: its requirements are numbered, kept and tested, its lines parse, and the
//! crate reproduces its example.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};
use artifact_protocol::Text;
use artifact_protocol::frame::{
    Expect, Extent, Frame, PREAMBLE, PullState, RefAnswer, RefOutcome, RefState, RefUpdate,
    SummaryDone, Verdict,
};
use artifact_protocol::session::pull::{
    AnswerOp, AnswerOutcome, PullAnswer, PullClient, PullClientConfig, PullClientOutput,
    PullServer, PullServerOutput, WantedRef,
};
use artifact_protocol::session::{
    Announcement, Fetched, Opened, Published, ReceiverConfig, ReceiverOutput, ReceiverSession,
    SenderConfig, SenderOutput, SenderSession, SourceOp, SourceOutcome, StoreOp, StoreOutcome,
};
use bytes::{Bytes, BytesMut};

const SPEC: &str = include_str!("../SPEC.md");

/// Returns the numbers behind `REQ-` in a text.
fn cited(text: &str) -> BTreeSet<u32> {
    let numbers = text.split("REQ-").skip(1);
    let digits = numbers.map(|rest| rest.chars().take_while(char::is_ascii_digit));
    let parsed = digits.filter_map(|digits| digits.collect::<String>().parse().ok());
    parsed.collect()
}

/// Returns the text of all files below a directory of the repository whose path `is_read`.
fn said(dir: &str, is_read: impl Fn(&str) -> bool) -> String {
    let mut said = String::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if is_read(path.to_str().unwrap()) {
                said.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    said
}

#[test]
fn every_must_has_a_number_and_every_number_is_there_once() {
    let mut numbers = Vec::new();
    for paragraph in paragraphs() {
        let defined = paragraph.match_indices("REQ-");
        let defined = defined.filter_map(|(at, _)| {
            let rest = &paragraph[at + 4..];
            let (number, _) = rest.split_once(':').filter(|_| is_defined(rest))?;
            Some((at, number.parse().ok()?))
        });
        let defined: Vec<(usize, u32)> = defined.collect();
        let is_definition_of_words =
            paragraph.contains("RFC 2119") || paragraph.contains("Each MUST");
        if !is_definition_of_words {
            let (unnumbered, requirements) = match defined.first() {
                Some(&(first, _)) => paragraph.split_at(first),
                None => (paragraph.as_str(), ""),
            };
            assert!(
                !unnumbered.contains("MUST"),
                "a MUST without a number: {paragraph}"
            );
            for requirement in requirements.split("REQ-").filter(|r| is_defined(r)) {
                let number = requirement.split(':').next().unwrap();
                assert!(requirement.contains("MUST"), "REQ-{number} demands nothing");
            }
        }
        numbers.extend(defined.into_iter().map(|(_, number)| number));
    }
    let expected: Vec<_> = (1..=u32::try_from(numbers.len()).unwrap()).collect();
    let mut sorted = numbers;
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
}

/// Returns whether what follows `REQ-` is a number and what it demands.
fn is_defined(rest: &str) -> bool {
    let number = rest.split_once(": ").map(|(number, _)| number);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Returns paragraphs and list items.
fn paragraphs() -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in SPEC.lines() {
        let begins = line.trim().is_empty() || line.starts_with("* ") || line.starts_with('|');
        if begins {
            paragraphs.push(String::new());
        }
        let last = paragraphs.last_mut().unwrap();
        last.push_str(line);
        last.push(' ');
    }
    paragraphs
}

#[test]
fn every_requirement_is_cited_by_the_code_that_keeps_it_and_by_a_case_or_test() {
    let required = cited(SPEC);
    let is_code = |path: &str| path.ends_with(".rs") && path.contains("/src/");
    let code = ["protocol", "receiver", "sender"]
        .map(|dir| said(dir, is_code))
        .concat();
    let is_test = |path: &str| {
        let conformance = path.contains("/conformance/kit/cases") && path.ends_with(".py");
        conformance || (path.ends_with(".rs") && path.contains("/tests/"))
    };
    let tests = ["tests", "protocol", "receiver", "sender"]
        .map(|dir| said(dir, is_test))
        .concat();
    let faults = said("tests/conformance/faults", |path| path.ends_with(".py"));
    for (what, cited) in [
        ("code", cited(&code)),
        ("case or test", cited(&tests)),
        ("seeded fault", cited(&faults)),
    ] {
        let lacking: Vec<_> = required.difference(&cited).collect();
        assert!(lacking.is_empty(), "no {what} cites REQ {lacking:?}");
        let unknown: Vec<_> = cited.difference(&required).collect();
        assert!(
            unknown.is_empty(),
            "{what} cites what the SPEC lacks: REQ {unknown:?}"
        );
    }
}

#[test]
fn lines_of_text_have_120_columns_at_most() {
    for (number, line) in SPEC.lines().enumerate() {
        let is_table = line.starts_with('|');
        let columns = line.chars().count();
        assert!(is_table || columns <= 120, "line {}: {columns}", number + 1);
    }
}

#[test]
fn every_section_that_a_case_cites_is_there() {
    let is_case = |path: &str| path.contains("/kit/cases") && path.ends_with(".py");
    let cases = said("tests/conformance", is_case);
    let after = |call| cases.split(call).skip(1);
    let calls = after("@case(\"").chain(after("@table(\""));
    let sections: BTreeSet<_> = calls
        .filter_map(|rest| Some(rest.split_once('"')?.0))
        .collect();
    let mut seen = 0;
    for section in sections {
        let chapter = SPEC.contains(&format!("\n## {section}. "));
        assert!(
            chapter || SPEC.contains(&format!("\n### {section} ")),
            "{section}"
        );
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

/// Returns the bytes that one end sends in the example under this heading.
fn example(heading: &str, end: &str) -> Vec<u8> {
    let (_, chapter) = SPEC.split_once(heading).unwrap();
    let (chapter, _) = chapter.split_once("\n##").unwrap();
    let (mut bytes, mut mine) = (Vec::new(), false);
    for line in chapter.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            continue;
        };
        if let Some(head) = line.strip_prefix("# ") {
            mine = head.starts_with(end);
        } else if mine {
            let (hex, _) = line.split_once(';').unwrap_or((line, ""));
            bytes.extend(hex::decode(hex.replace(' ', "")).unwrap());
        }
    }
    bytes
}

/// Runs the push of SPEC 14; returns the bytes that the client and the server sent.
fn do_the_push(objects: &[(ObjectId, Bytes)]) -> (Vec<u8>, Vec<u8>) {
    let agent = Text::new("example");
    let update = RefUpdate {
        name: "x".parse().unwrap(),
        commit: objects[0].0.checksum,
        detached: None,
        expect: Expect::Any,
    };
    let announcement = Announcement {
        refs: vec![update],
        ..Announcement::default()
    };
    let mut client = SenderSession::new(SenderConfig {
        agent: agent.clone(),
        announcement,
        ..SenderConfig::default()
    });
    let mut server = ReceiverSession::new(ReceiverConfig {
        agent,
        ..ReceiverConfig::default()
    });
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
    let mut ids: Vec<_> = objects.iter().map(|(id, _)| *id).collect();
    while !(client.is_finished() && server.is_finished()) {
        while let Some(output) = client.poll_output() {
            match output {
                SenderOutput::Transmit(bytes) => {
                    sent.extend_from_slice(&bytes);
                    to_server.extend_from_slice(&bytes);
                }
                SenderOutput::Event(_) => {}
                SenderOutput::Source(request) => {
                    let outcome = match request.op() {
                        SourceOp::Plan(_) => SourceOutcome::Planned {
                            basis: Vec::new(),
                            detached: Vec::new(),
                        },
                        SourceOp::Offer { .. } => SourceOutcome::Offered {
                            ids: std::mem::take(&mut ids),
                            exhausted: true,
                        },
                        SourceOp::Fetch(ids) => SourceOutcome::Fetched(
                            ids.iter()
                                .map(|id| objects.iter().find(|(found, _)| found == id).unwrap())
                                .map(|(_, stored)| Fetched::Whole(stored.clone()))
                                .collect(),
                        ),
                        op => unreachable!("{op:?}"),
                    };
                    client.handle_source(request.complete(Ok(outcome))).unwrap();
                }
            }
        }
        server.handle_bytes(&mut to_server).unwrap();
        while let Some(output) = server.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => {
                    answered.extend_from_slice(&bytes);
                    to_client.extend_from_slice(&bytes);
                }
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Store(request) => {
                    let outcome = match request.op() {
                        StoreOp::Open(_) => StoreOutcome::Opened(Opened {
                            refs: vec![RefState {
                                current: None,
                                verdict: Verdict::Accepted,
                            }],
                            complete: Vec::new(),
                        }),
                        StoreOp::Have(ids) => StoreOutcome::Have(vec![false; ids.len()]),
                        StoreOp::Stage(_) => StoreOutcome::Staged,
                        StoreOp::Publish => {
                            StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated]))
                        }
                        StoreOp::Summarize => StoreOutcome::Summarized(SummaryDone::Current),
                        op => unreachable!("{op:?}"),
                    };
                    server.handle_stored(request.complete(Ok(outcome))).unwrap();
                }
            }
        }
        client.handle_bytes(&mut to_client).unwrap();
    }
    while let Some(output) = client.poll_output() {
        if let SenderOutput::Transmit(bytes) = output {
            sent.extend_from_slice(&bytes);
        }
    }
    (sent, answered)
}

#[test]
fn the_example_is_what_the_crate_says_byte_for_byte() {
    let heading = "## 14. One push in bytes";
    let (client, server) = (example(heading, "client"), example(heading, "server"));
    assert!(client.starts_with(&PREAMBLE) && server.starts_with(&PREAMBLE));
    let objects = packed(&client);
    let kinds: Vec<_> = objects.iter().map(|(id, _)| id.kind).collect();
    let expected = [ObjectKind::Commit, ObjectKind::Dirtree, ObjectKind::Dirmeta];
    assert_eq!(kinds, expected);
    for (id, stored) in &objects {
        assert_eq!(id.checksum, Checksum::of(stored), "{id}");
    }
    let (sent, answered) = do_the_push(&objects);
    assert_eq!(hex::encode(client), hex::encode(sent));
    assert_eq!(hex::encode(server), hex::encode(answered));
}

/// Returns the objects of the only pack in an example.
fn packed(stream: &[u8]) -> Vec<(ObjectId, Bytes)> {
    let mut pack = None;
    let mut input = BytesMut::from(&stream[PREAMBLE.len()..]);
    while let Some(frame) = Frame::decode(&mut input, 1 << 20).unwrap() {
        if let Frame::Pack(found) = frame {
            pack = Some(found.objects);
        }
    }
    pack.unwrap()
}

/// Runs the pull of SPEC 14.1; returns the bytes that the client and the server sent.
fn do_the_pull(objects: &[(ObjectId, Bytes)]) -> (Vec<u8>, Vec<u8>) {
    let agent = Text::new("example");
    let name: RefName = "x".parse().unwrap();
    let mut client = PullClient::new(PullClientConfig {
        agent: agent.clone(),
        refs: vec![WantedRef {
            name: name.clone(),
            current: None,
            detached: None,
            expect: Expect::Absent,
        }],
        ..PullClientConfig::default()
    });
    let mut server = PullServer::new(ReceiverConfig {
        agent,
        ..ReceiverConfig::default()
    });
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    let (mut to_server, mut to_client) = (BytesMut::new(), BytesMut::new());
    loop {
        while let Some(output) = client.poll_output() {
            match output {
                PullClientOutput::Transmit(bytes) => {
                    sent.extend_from_slice(&bytes);
                    to_server.extend_from_slice(&bytes);
                }
                PullClientOutput::Event(_) => {}
                PullClientOutput::Read(request) => unreachable!("{request:?}"),
                PullClientOutput::Store(request) => {
                    let outcome = stored(request.op());
                    client.handle_stored(request.complete(Ok(outcome))).unwrap();
                }
            }
        }
        if client.is_finished() {
            return (sent, answered);
        }
        server.handle_bytes(&mut to_server).unwrap();
        while let Some(output) = server.poll_output() {
            match output {
                PullServerOutput::Transmit(bytes) => {
                    answered.extend_from_slice(&bytes);
                    to_client.extend_from_slice(&bytes);
                }
                PullServerOutput::Event(_) => {}
                PullServerOutput::Answer(request) => {
                    let outcome = found(request.op(), &name, objects);
                    server.handle_answer(request.complete(Ok(outcome))).unwrap();
                }
            }
        }
        client.handle_bytes(&mut to_client).unwrap();
    }
}

/// Answers for the client's store.
fn stored(op: &StoreOp) -> StoreOutcome {
    match op {
        StoreOp::Open(_) => StoreOutcome::Opened(Opened {
            refs: vec![RefState {
                current: None,
                verdict: Verdict::Accepted,
            }],
            complete: Vec::new(),
        }),
        StoreOp::Rely(_) => StoreOutcome::Relied,
        StoreOp::Stage(_) => StoreOutcome::Staged,
        StoreOp::Publish => StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated])),
        op => unreachable!("{op:?}"),
    }
}

/// Answers for the server's repository.
fn found(op: &AnswerOp, name: &RefName, objects: &[(ObjectId, Bytes)]) -> AnswerOutcome {
    let lens = objects.iter().map(|(_, stored)| stored.len() as u64);
    let all = objects.iter();
    match op {
        AnswerOp::Judge(_) => AnswerOutcome::Judged(PullAnswer {
            refs: vec![RefAnswer {
                name: name.clone(),
                state: PullState::Promised {
                    commit: objects[0].0.checksum,
                    detached: None,
                },
            }],
            basis: Vec::new(),
        }),
        AnswerOp::Measure => AnswerOutcome::Measured(Extent {
            objects: objects.len() as u64,
            bytes: lens.sum(),
        }),
        AnswerOp::List { .. } => AnswerOutcome::Listed {
            ids: all.map(|(id, _)| *id).collect(),
            exhausted: true,
        },
        AnswerOp::Fetch(_) => {
            AnswerOutcome::Fetched(all.map(|(_, o)| Fetched::Whole(o.clone())).collect())
        }
        op => unreachable!("{op:?}"),
    }
}

#[test]
fn the_example_of_a_pull_is_what_the_crate_says_byte_for_byte() {
    let heading = "### 14.1 One pull in bytes";
    let (client, server) = (example(heading, "client"), example(heading, "server"));
    let (sent, answered) = do_the_pull(&packed(&server));
    assert_eq!(hex::encode(client), hex::encode(sent));
    assert_eq!(hex::encode(server), hex::encode(answered));
}
