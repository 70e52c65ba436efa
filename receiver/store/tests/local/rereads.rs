//! How many of its existing objects one push makes the server read.

use std::sync::Arc;

use crate::session::Session;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{PushOptions, RefOutcome};
use artifact_protocol::session::Published;
use artifact_store::StoreConfig;

use crate::support::{Op, Pair, Record, Recorder, done, open, update};

const FILES: usize = 20;
const LEN: usize = 100_000;

/// A commit all of whose files the server has, below another commit.
fn pair() -> (Pair, Checksum, Vec<ObjectId>) {
    let pair = Pair::new();
    let files: Vec<_> = (0..FILES)
        .map(|n| (format!("file{n}"), format!("{n:06} ").repeat(LEN / 7)))
        .collect();
    let files: Vec<_> = files.iter().map(|(n, c)| (&**n, &**c)).collect();
    pair.push("alpha/x", pair.commit(None, &files));
    let commit = pair.commit_with(
        None,
        &files,
        &["--no-bindings", "--subject=another", "--branch=b"],
    );
    let mut ids = pair.closure(commit);
    ids.retain(|id| id.kind == ObjectKind::File);
    assert_eq!(ids.len(), FILES);
    (pair, commit, ids)
}

fn begin(
    pair: &Pair,
    commit: Checksum,
    reread_max: Option<u64>,
) -> (Session<Recorder>, Arc<Record>) {
    let config = StoreConfig {
        reread_max,
        ..StoreConfig::default()
    };
    let (store, record) = pair.recorded_with(config);
    open(&store, PushOptions::default(), &[update("beta/x", commit)]);
    store.rely(&[]).unwrap();
    (store, record)
}

fn reads(record: &Record) -> usize {
    let ops = record.ops.lock().unwrap();
    // The staged name, to which the object is linked before it is verified.
    let read = |op: &&Op| matches!(op, Op::Open(path) if path.contains("/tmp/"));
    ops.iter().filter(read).count()
}

#[test]
fn offers_have_so_much_verified_again_and_the_rest_is_wanted() {
    let (pair, commit, ids) = pair();
    let (store, record) = begin(&pair, commit, Some(5 * 110_000));
    let had = store.have(&ids).unwrap();
    let wanted: Vec<_> = ids.iter().zip(&had).filter(|(_, had)| !**had).collect();
    assert_eq!(had.iter().filter(|had| **had).count(), 5, "{had:?}");
    // Of an object that is too long, the server reads just enough to see that.
    assert!((5..12).contains(&reads(&record)), "{}", reads(&record));
    let before = reads(&record);
    for _ in 0..10 {
        let again = wanted.iter().map(|(id, _)| **id).collect::<Vec<_>>();
        assert!(!store.have(&again).unwrap().contains(&true));
    }
    assert!(reads(&record) < before + 12, "{}", reads(&record));
    for (id, _) in wanted {
        store.stage(*id, &pair.stored(*id)).unwrap();
    }
    pair.stage_all(&store, commit);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["alpha/x", "beta/x"]);

    let (store, _) = begin(&pair, commit, None);
    assert!(!store.have(&ids).unwrap().contains(&false));
}

#[test]
fn a_commit_that_names_what_is_here_has_no_more_read_than_offers() {
    let (pair, commit, ids) = pair();
    let (store, record) = begin(&pair, commit, Some(5 * 110_000));
    for id in pair.closure(commit) {
        if id.kind != ObjectKind::File {
            store.stage(id, &pair.stored(id)).unwrap();
        }
    }
    let Published::Missing(missing) = store.publish().unwrap() else {
        panic!("published");
    };
    assert_eq!(missing.len(), FILES - 5);
    assert!(missing.iter().all(|id| ids.contains(id)));
    assert!((5..12).contains(&reads(&record)), "{}", reads(&record));
    for id in missing {
        store.stage(id, &pair.stored(id)).unwrap();
    }
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["alpha/x", "beta/x"]);
}

#[test]
fn what_a_push_sends_it_may_have_read_beside() {
    let (pair, commit, ids) = pair();
    let (store, _) = begin(&pair, commit, Some(0));
    assert!(!store.have(&ids).unwrap().contains(&true));
    let noise: Vec<u8> = (0u32..100_000)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let noise = text_of(&noise);
    let sent = pair.commit(None, &[("noise", &noise)]);
    pair.stage_all(&store, sent);
    let had = store.have(&ids).unwrap();
    let had = had.iter().filter(|had| **had).count();
    assert!((1..FILES).contains(&had), "{had}");
}

/// Text that hardly compresses.
fn text_of(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| char::from(b' ' + byte % 64))
        .collect()
}
