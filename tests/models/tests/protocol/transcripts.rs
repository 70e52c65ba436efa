//! Six pushes, told frame by frame. `TRANSCRIPTS=write` writes `tests/transcripts/*.txt` again;
//! review the difference.

use std::path::Path;

use artifact_models::model::{Repository, Source, Store};
use artifact_models::pair::{Pair, Weather, announce_all};
use artifact_protocol::frame::PushOptions;
use bytes::Bytes;

fn local() -> Repository {
    let mut repository = Repository::default();
    let small = repository.add_file(b"small");
    let large = repository.add_file(&[b'x'; 300]);
    repository.add_commit("project/element/key", &[small, large]);
    repository
}

/// Runs a push and compares its trace with the one on record.
fn tell(name: &str, story: &str, source: Repository, store: Store) -> Store {
    tell_in(Weather::default(), name, story, source, store)
}

fn tell_in(weather: Weather, name: &str, story: &str, source: Repository, store: Store) -> Store {
    let announcement = announce_all(&source, PushOptions(0));
    let mut pair = Pair::new(announcement, Source::new(source), store, weather).traced();
    pair.drive().unwrap();
    let lines = pair.trace.unwrap_or_default();
    let lines: String = lines.iter().map(|line| shorten(line) + "\n").collect();
    let told = format!("{story}\n\n{lines}");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let path = directory.join(name).with_extension("txt");
    if std::env::var_os("TRANSCRIPTS").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(&path).unwrap(), "{name}");
    let mut store = pair.store;
    store.reopen();
    store
}

/// Shortens checksums to 8 digits, leaves out object bytes, and writes the name of a frame once.
fn shorten(line: &str) -> String {
    let mut short = String::new();
    let mut rest = line;
    if let Some((end, frame)) = line.split_once(": ")
        && let Some((name, inner)) = frame.split_once('(')
        && inner.trim_start_matches(name).starts_with([' ', ')'])
    {
        short = format!("{end}: ");
        rest = inner.strip_suffix(')').unwrap();
    }
    while let Some(letter) = rest.chars().next() {
        let word = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_alphanumeric())
                .len();
        let taken = if rest.starts_with("b\"") {
            short.push_str("bytes");
            bytes_len(rest)
        } else {
            let taken = word.max(letter.len_utf8());
            short.push_str(&rest[..if word == 64 { 8 } else { taken }]);
            taken
        };
        rest = &rest[taken..];
    }
    short
}

/// Returns the length of the byte string that `text` begins with.
fn bytes_len(text: &str) -> usize {
    let mut escaped = false;
    let end = text[2..].find(|letter| {
        let ends = letter == '"' && !escaped;
        escaped = letter == '\\' && !escaped;
        ends
    });
    2 + end.unwrap() + 1
}

#[test]
fn a_first_push_and_then_nothing_to_do() {
    let story = "A first push: everything is offered, wanted, sent and published.";
    let store = tell("first-push", story, local(), Store::default());
    let story = "The same push again: the ref is up to date, and the client takes its leave.";
    tell("nothing-to-do", story, local(), store);
}

#[test]
fn one_ref_is_refused() {
    let story = "One of two refs is refused: what only it reaches is not offered.";
    let mut local = local();
    let own = local.add_file(b"its own");
    local.add_commit("forbidden/ref", &[own]);
    tell("one-ref-refused", story, local, Store::default());
}

#[test]
fn all_is_offered_along_with_the_announcement() {
    let story = "All is offered along with the announcement. One of two refs is refused: what only \
                 it reaches is wanted, and not sent.";
    let mut local = local();
    let own = local.add_file(b"its own");
    local.add_commit("forbidden/ref", &[own]);
    let weather = Weather {
        early: true,
        ..Weather::default()
    };
    tell_in(weather, "offered-early", story, local, Store::default());
}

#[test]
fn a_missing_object_is_asked_for_again() {
    let story = "A staged object vanishes before publication: it is asked for and sent again.";
    let local = local();
    let mut store = Store::default();
    let first = *local.objects.keys().next().unwrap();
    store.vanish.push_back(vec![first]);
    tell("missing-asked-again", story, local, store);
}

#[test]
fn a_hostile_object_is_refused() {
    let story = "An object is not what its checksum says: the push ends, and no ref is set.";
    let mut local = local();
    let first = *local.objects.keys().next().unwrap();
    local.objects.insert(first, Bytes::from_static(b"forged"));
    let store = tell("hostile-object", story, local, Store::default());
    assert_eq!(store.repository, Repository::default());
}
