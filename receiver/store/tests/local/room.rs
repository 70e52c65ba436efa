//! Free space for a push, on the disk and beside other identities, checked before the push is
//! accepted.

use crate::session::Session;
use artifact_formats::{ObjectKind, Share};
use artifact_protocol::frame::{CloseCode, PushOptions, RefOutcome, RefUpdate};
use artifact_protocol::session::Announcement;
use artifact_store::{Error, HeadRoom, Places, Room, StoreConfig};

use crate::support::{Pair, done, open, ostree, update};

const MUCH: u64 = 1 << 60;

fn store(pair: &Pair, space: Option<Share>, inodes: Option<u64>) -> Session {
    let config = StoreConfig {
        head_room: HeadRoom { space, inodes },
        ..StoreConfig::default()
    };
    Session::at(&pair.target(), config).unwrap()
}

fn announce(store: &Session, refs: &[RefUpdate], options: PushOptions) -> Result<(), Error> {
    let announcement = Announcement {
        options,
        refs: refs.to_vec(),
        bases: Vec::new(),
        history: 0,
    };
    store.open(&announcement).map(drop)
}

#[test]
fn a_push_is_taken_only_where_there_is_room_and_the_client_is_told_how_much() {
    let pair = Pair::new();
    let refs = [update("x", pair.commit(None, &[("file", "text")]))];
    let plain = PushOptions::default();
    for (space, inodes) in [
        (Some(Share::Bytes(MUCH)), None),
        (None, Some(MUCH)),
        (Some(Share::Bytes(1)), Some(MUCH)),
    ] {
        let error = announce(&store(&pair, space, inodes), &refs, plain).unwrap_err();
        let fault = error.to_fault();
        assert_eq!(fault.code, CloseCode::STORAGE_FULL);
        assert!(fault.text.contains(&MUCH.to_string()), "{}", fault.text);
    }
    for (space, inodes) in [
        (Some(Share::Bytes(1)), Some(1)),
        (Some(Share::Percent(0)), None),
        (None, None),
    ] {
        announce(&store(&pair, space, inodes), &refs, plain).unwrap();
    }
    // A push that changes nothing takes no space.
    let full = || store(&pair, Some(Share::Bytes(MUCH)), None);
    announce(&full(), &refs, PushOptions::DRY_RUN).unwrap();
    assert_eq!(pair.push("x", refs[0].commit), RefOutcome::Updated);
    announce(&full(), &refs, plain).unwrap();
}

#[test]
fn what_the_repository_itself_wants_free_is_kept_free() {
    let pair = Pair::new();
    let refs = [update("x", pair.commit(None, &[("file", "text")]))];
    let plain = PushOptions::default();
    let key = "core.min-free-space-size";
    ostree(&["config", "set", key, "1000000TB"], &pair.target());
    let error = announce(&store(&pair, None, None), &refs, plain).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    ostree(&["config", "set", key, "1MB"], &pair.target());
    announce(&store(&pair, None, None), &refs, plain).unwrap();
}

/// Sessions of identities, and whether each was admitted.
struct Crowd {
    pair: Pair,
    places: Places,
    refs: Vec<RefUpdate>,
}

impl Crowd {
    fn new(of_all: Option<u32>, of_each: Option<u32>) -> Self {
        let pair = Pair::new();
        let refs = vec![update("x", pair.commit(None, &[("file", "text")]))];
        let places = Places { of_all, of_each };
        Self { pair, places, refs }
    }

    fn store(&self, identity: &str) -> Session {
        let config = StoreConfig {
            identity: identity.to_owned(),
            places: self.places,
            ..StoreConfig::default()
        };
        Session::at(&self.pair.target(), config).unwrap()
    }

    fn enter(&self, identity: &str) -> Result<Session, CloseCode> {
        let store = self.store(identity);
        let let_in = announce(&store, &self.refs, PushOptions::default());
        let_in.map_err(|error| error.to_fault().code)?;
        Ok(store)
    }
}

#[test]
fn a_session_more_than_there_may_be_is_sent_away_until_one_ends() {
    let crowd = Crowd::new(Some(4), None);
    // Half of the sessions, by default.
    let first = crowd.enter("alice").unwrap();
    let second = crowd.enter("alice").unwrap();
    assert_eq!(crowd.enter("alice").unwrap_err(), CloseCode::BUSY);
    drop(first);
    let third = crowd.enter("alice").unwrap();
    assert_eq!(crowd.enter("alice").unwrap_err(), CloseCode::BUSY);
    drop((second, third));
    crowd.enter("alice").unwrap();

    let crowd = Crowd::new(Some(4), Some(3));
    let _held: Vec<_> = (0..3).map(|_| crowd.enter("alice").unwrap()).collect();
    assert!(crowd.enter("alice").is_err());

    let crowd = Crowd::new(None, None);
    let _held: Vec<_> = (0..64).map(|_| crowd.enter("alice").unwrap()).collect();
    assert!(crowd.enter("alice").is_err());

    assert!(Crowd::new(Some(0), None).enter("alice").is_err());
}

#[test]
fn whatever_others_hold_an_identity_is_let_in() {
    let crowd = Crowd::new(Some(2), Some(2));
    let _held: Vec<_> = (0..2).map(|_| crowd.enter("mallory").unwrap()).collect();
    let alice = crowd.enter("alice").unwrap();
    let bob = crowd.enter("bob").unwrap();
    for name in ["alice", "bob", "mallory"] {
        assert_eq!(crowd.enter(name).unwrap_err(), CloseCode::BUSY, "{name}");
    }
    drop((alice, bob));
    // Beside mallory's sessions, the others may hold as many as the overall limit.
    crowd.enter("alice").unwrap();
    crowd.enter("carol").unwrap();
}

#[test]
fn who_has_announced_nothing_that_is_accepted_takes_nobodys_place() {
    let crowd = Crowd::new(Some(2), Some(1));
    let _silent: Vec<_> = (0..3).map(|_| crowd.store("alice")).collect();
    let alice = crowd.enter("alice").unwrap();
    let commit = crowd.refs[0].commit;
    crowd.pair.stage_all(&alice, commit);
    assert_eq!(done(alice.publish().unwrap()), [RefOutcome::Updated]);
    let there = crowd.enter("alice");
    // Every object exists, so that the push accepts none.
    there.unwrap();
    drop(alice);
    crowd.enter("alice").unwrap();
}

#[test]
fn the_push_that_fills_the_disk_is_over_and_small_ones_beside_it_are_not() {
    let pair = Pair::new();
    let text = |len: usize| {
        let mut state = 1u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'!' + u8::try_from((state >> 24) % 90).unwrap())
        };
        (0..len).map(|_| noise()).collect::<String>()
    };
    let large = pair.commit(None, &[("file", &text(3_000_000))]);
    let small = pair.commit(None, &[("file", "text")]);
    let config = |identity: &str| StoreConfig {
        identity: identity.to_owned(),
        head_room: HeadRoom {
            space: Some(Share::Bytes(5_000_000)),
            inodes: Some(1_000),
        },
        ..StoreConfig::default()
    };
    let room = |bytes_free, inodes_free| Room {
        bytes: 40_000_000,
        bytes_free,
        inodes_free: Some(inodes_free),
    };
    for (left, fails) in [
        (room(5_000_001, 1_000), false),
        (room(4_999_999, 1_000), true),
    ] {
        let (store, record) = pair.recorded_with(config("mallory"));
        *record.room.lock().unwrap() = Some(room(9_000_000, 5_000));
        let file = pair
            .closure(large)
            .into_iter()
            .find(|id| id.kind == ObjectKind::File);
        let file = file.unwrap();
        open(&store, PushOptions::default(), &[update("alpha/x", large)]);
        let mut stream = store.begin(file).unwrap();
        let stored = pair.stored(file);
        assert!(stored.len() > 2_000_000);
        let mut pieces = stored.chunks(50_000);
        for piece in pieces.by_ref().take(20) {
            stream.append(piece).unwrap();
        }
        // Other pushes, or this one, have filled the disk since.
        *record.room.lock().unwrap() = Some(left);
        let over = pieces.try_for_each(|piece| stream.append(piece));
        assert_eq!(over.is_err(), fails);
        if let Err(error) = over {
            assert_eq!(error.to_fault().code, CloseCode::STORAGE_FULL, "{error}");
        }
    }
    // A small push that was admitted may go on a little below the reserve, but not when the disk is
    // nearly full.
    for (left, fails) in [
        (room(4_999_999, 5_000), false),
        (room(9_000_000, 999), false),
        (room(2_000_000, 5_000), true),
        (room(9_000_000, 400), true),
    ] {
        let (store, record) = pair.recorded_with(config("bob"));
        *record.room.lock().unwrap() = Some(room(5_000_000, 1_000));
        open(&store, PushOptions::default(), &[update("beta/x", small)]);
        *record.room.lock().unwrap() = Some(left);
        let ids = pair.closure(small).into_iter();
        let staged = ids.map(|id| store.stage(id, &pair.stored(id)));
        let staged: Result<Vec<_>, _> = staged.collect();
        assert_eq!(staged.is_err(), fails, "{left:?}");
    }
}
