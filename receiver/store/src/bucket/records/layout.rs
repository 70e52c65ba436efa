//! Every name in a bucket.
//!
//! Pullers find the files that libostree asks a web server for: `config`, `summary`, `refs/heads/`,
//! `objects/`. All other names are this project's own, and not for readers:
//!
//! ```text
//! extensions/artifact-cache/
//!     closures/COMMIT          the objects beneath a commit (closures.rs)
//!     sessions/ID              the lease of a push (lease.rs)
//!     journal/IDENTITY/ID/N    objects that a push has put, for a retry by the same identity
//!                              (journal.rs)
//!     guard/NAME=              whether NAME is a ref or leads to refs; never changed by pushes
//!     pending/ID               refs of a push that the summary may lack (summary.rs)
//!     accounts/IDENTITY        the refs and objects of an identity with quotas (accounts.rs)
//!     gc                       the state of collection
//!     condemned/EPOCH-JUDGE    objects that collection is about to delete (collect/lists.rs)
//!     spared/EPOCH/ID-N        condemned objects that a push needs
//!     collectors/ID            written by a collector to learn the server's time
//! ```

use std::fmt;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};
use artifact_protocol::limits::MAX_BUCKET_REF_LEN;

use crate::bucket::requests::seam::Key;

/// The prefix of all refs that pushes set.
pub(crate) const HEADS: &str = "refs/heads/";
/// The prefix of all objects and detached metadata.
pub(crate) const OBJECTS: &str = "objects/";
/// The prefix of everything that is not for readers.
pub(crate) const OWN: &str = "extensions/artifact-cache/";
/// The prefix of all closure lists.
pub(crate) const CLOSURES: &str = "extensions/artifact-cache/closures/";
/// The prefix of all leases.
pub(crate) const SESSIONS: &str = "extensions/artifact-cache/sessions/";
/// The prefix of all journals.
pub(crate) const JOURNALS: &str = "extensions/artifact-cache/journal/";
/// The prefix of all guards.
pub(crate) const GUARDS: &str = "extensions/artifact-cache/guard/";
/// The prefix of all notes of refs for the summary.
pub(crate) const PENDING: &str = "extensions/artifact-cache/pending/";
/// The prefix of all accounts.
pub(crate) const ACCOUNTS: &str = "extensions/artifact-cache/accounts/";
/// The prefix of all lists of condemned objects.
pub(crate) const CONDEMNED: &str = "extensions/artifact-cache/condemned/";
/// The prefix of all lists of spared objects.
pub(crate) const SPARED: &str = "extensions/artifact-cache/spared/";
/// The prefix of the objects that collectors write to learn the server's time.
pub(crate) const COLLECTORS: &str = "extensions/artifact-cache/collectors/";

/// The longest ref name that a bucket has room for, in bytes: its guard has the longest key.
pub(crate) const REF_LEN_MAX: usize = MAX_BUCKET_REF_LEN;
const _: () = assert!(GUARDS.len() + REF_LEN_MAX + GUARD.len() == Key::LEN_MAX);

/// The unique name of a push: random, and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionId(u64);

impl SessionId {
    /// Takes a random number.
    pub(crate) const fn new(random: u64) -> Self {
        Self(random)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The repository's `config`.
pub(crate) fn config() -> Key {
    known("config".to_owned())
}

/// The summary.
pub(crate) fn summary() -> Key {
    known("summary".to_owned())
}

/// The signatures of the summary.
pub(crate) fn summary_signature() -> Key {
    known("summary.sig".to_owned())
}

/// An object.
pub(crate) fn object(id: &ObjectId) -> Key {
    known(format!("{OBJECTS}{}", id.archive_path()))
}

/// Returns the object with this key.
pub(crate) fn object_of(key: &Key) -> Option<ObjectId> {
    let (checksum, extension) = loose(key)?;
    let mut kinds = ObjectKind::ALL.into_iter();
    let kind = kinds.find(|kind| kind.archive_extension() == extension)?;
    Some(ObjectId::new(kind, checksum))
}

/// The detached metadata of a commit.
pub(crate) fn detached(commit: Checksum) -> Key {
    let id = ObjectId::commit(commit);
    known(format!("{OBJECTS}{}", id.loose_path(DETACHED)))
}

/// Returns the commit whose detached metadata has this key.
pub(crate) fn detached_of(key: &Key) -> Option<Checksum> {
    let (checksum, extension) = loose(key)?;
    (extension == DETACHED).then_some(checksum)
}

/// A ref; `None` if its name takes more than [`REF_LEN_MAX`] bytes.
pub(crate) fn head(name: &RefName) -> Option<Key> {
    let fits = name.as_str().len() <= REF_LEN_MAX;
    fits.then(|| known(format!("{HEADS}{name}")))
}

/// The key that a ref with the name of a directory of refs would have.
pub(crate) fn head_above(dir: &str) -> Key {
    known(format!("{HEADS}{dir}"))
}

/// Returns the ref with this key, even one that only another program could have set.
pub(crate) fn head_of(key: &Key) -> Option<RefName> {
    RefName::parse_stored(key.as_str().strip_prefix(HEADS)?).ok()
}

/// The prefix of all refs in a directory and in the directories below it.
pub(crate) fn heads_below(parent: &str) -> String {
    format!("{HEADS}{parent}/")
}

/// The guard of a ref's name or of a part of one; `None` if it takes more than [`REF_LEN_MAX`]
/// bytes.
pub(crate) fn guard(name: &str) -> Option<Key> {
    (name.len() <= REF_LEN_MAX).then(|| known(format!("{GUARDS}{name}{GUARD}")))
}

/// Returns the name that this key guards.
pub(crate) fn guarded_by(key: &Key) -> Option<&str> {
    key.as_str().strip_prefix(GUARDS)?.strip_suffix(GUARD)
}

/// The list of everything beneath a commit.
pub(crate) fn closure(commit: Checksum) -> Key {
    known(format!("{CLOSURES}{commit}"))
}

/// Returns the commit whose closure list has this key.
pub(crate) fn closure_of(key: &Key) -> Option<Checksum> {
    key.as_str().strip_prefix(CLOSURES)?.parse().ok()
}

/// The lease of a push.
pub(crate) fn session(id: SessionId) -> Key {
    known(format!("{SESSIONS}{id}"))
}

/// The prefix of all journals of an identity.
pub(crate) fn journals_of(identity: &str) -> String {
    format!("{JOURNALS}{}/", Checksum::of(identity.as_bytes()))
}

/// A part of the journal of a push.
pub(crate) fn journal(identity: &str, id: SessionId, number: u32) -> Key {
    known(format!("{}{id}/{number}", journals_of(identity)))
}

/// The account of an identity.
pub(crate) fn account(identity: &str) -> Key {
    known(format!("{ACCOUNTS}{}", Checksum::of(identity.as_bytes())))
}

/// The note of the refs that a push is about to set.
pub(crate) fn pending(id: SessionId) -> Key {
    known(format!("{PENDING}{id}"))
}

/// Returns the lease of the push whose note has this key.
pub(crate) fn session_of_note(key: &Key) -> Option<Key> {
    let id = key.as_str().strip_prefix(PENDING)?;
    Some(known(format!("{SESSIONS}{id}")))
}

/// The state of collection.
pub(crate) fn gc() -> Key {
    known(format!("{OWN}gc"))
}

/// The object that a collector writes to learn the server's time.
pub(crate) fn collector(random: u64) -> Key {
    known(format!("{COLLECTORS}{random:016x}"))
}

/// Splits the key of an object or of detached metadata.
fn loose(key: &Key) -> Option<(Checksum, &str)> {
    let (fan_out, rest) = key.as_str().strip_prefix(OBJECTS)?.split_once('/')?;
    let (name, extension) = rest.split_once('.')?;
    if fan_out.len() != FAN_OUT_LEN {
        return None;
    }
    let checksum = format!("{fan_out}{name}").parse().ok()?;
    Some((checksum, extension))
}

/// Makes a key of checksums, numbers, and ref names that are not too long: these are plain ASCII.
fn known(text: String) -> Key {
    Key::new(text).expect("names here have no component that a key may not have")
}

/// The end of a guard's name, which no ref name contains: a copy of the bucket in a file system can
/// thus hold the guards of both `a` and `a/b`.
const GUARD: &str = "=";
const DETACHED: &str = "commitmeta";
/// The number of digits of a checksum that name its directory.
const FAN_OUT_LEN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pullers_ask_for_has_the_names_of_an_archive_repository() {
        let checksum = Checksum::new([0xab; 32]);
        let rest = "ab".repeat(31);
        for (kind, extension) in [
            (ObjectKind::File, "filez"),
            (ObjectKind::Dirtree, "dirtree"),
            (ObjectKind::Dirmeta, "dirmeta"),
            (ObjectKind::Commit, "commit"),
        ] {
            let id = ObjectId::new(kind, checksum);
            let key = object(&id);
            assert_eq!(key.as_str(), format!("objects/ab/{rest}.{extension}"));
            assert_eq!(object_of(&key), Some(id));
            assert_eq!(detached_of(&key), None);
        }
        let key = detached(checksum);
        assert_eq!(key.as_str(), format!("objects/ab/{rest}.commitmeta"));
        assert_eq!(detached_of(&key), Some(checksum));
        assert_eq!(object_of(&key), None);
        let name: RefName = "a/b.c".parse().unwrap();
        let key = head(&name).unwrap();
        assert_eq!(key.as_str(), "refs/heads/a/b.c");
        assert_eq!(head_of(&key), Some(name));
        for (key, name) in [(config(), "config"), (summary(), "summary")] {
            assert_eq!(key.as_str(), name);
        }
    }

    #[test]
    fn our_own_names_lead_back_to_what_they_name() {
        let (commit, id) = (Checksum::new([7; 32]), SessionId::new(0xa0));
        assert_eq!(closure_of(&closure(commit)), Some(commit));
        let key = session(id);
        assert_eq!(
            key.as_str(),
            "extensions/artifact-cache/sessions/00000000000000a0"
        );
        assert_eq!((closure_of(&key), object_of(&key)), (None, None));
        let journal = journal("mia", id, 2);
        assert!(journal.as_str().starts_with(&journals_of("mia")));
        assert!(!journal.as_str().starts_with(&journals_of("mi")));
    }

    #[test]
    fn a_ref_name_that_no_key_has_room_for_has_no_key() {
        let name = |len: usize| -> RefName {
            let name = "n/".repeat(10);
            let rest = len - name.len();
            let parts: Vec<_> = (0..rest)
                .map(|at| if at % 180 == 179 { '/' } else { 'x' })
                .collect();
            (name + &parts.into_iter().collect::<String>())
                .parse()
                .unwrap()
        };
        let fits = name(REF_LEN_MAX);
        assert!(head(&fits).is_some() && guard(fits.as_str()).is_some());
        let beyond = name(REF_LEN_MAX + 1);
        assert!(head(&beyond).is_none() && guard(beyond.as_str()).is_none());
    }
}
