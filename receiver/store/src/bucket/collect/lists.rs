//! Lists of condemned objects, and of objects that sessions spare.
//!
//! ```text
//! condemned/EPOCH-JUDGE          EPOCH in decimal, JUDGE in 16 hexadecimal digits, as in `gc`
//! spared/EPOCH/SESSION-NUMBER    NUMBER counts the session's lists
//!
//! magic    8 bytes   "ACobject"
//! objects  33 each   sorted: kind and checksum, as on the wire
//! digest   32        SHA-256 of everything before
//! ```
//!
//! A name has one content forever: its put may be repeated, and may take effect late.

use std::fmt::Display;
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use bytes::Bytes;

use super::collector::{Doomed, Rank};
use super::record::{ListName, Nonce};
use crate::bucket::records::layout::{CONDEMNED, SPARED};
use crate::bucket::records::sealed::{seal, unseal};
use crate::bucket::requests::seam::Key;

impl Doomed for ObjectId {
    fn rank(&self) -> Rank {
        match self.kind {
            ObjectKind::Commit => Rank::Commit,
            ObjectKind::Dirtree | ObjectKind::Dirmeta => Rank::Directory,
            ObjectKind::File => Rank::File,
        }
    }
}

/// Returns the key of a list of condemned objects.
pub(crate) fn condemned_key(name: ListName) -> Key {
    let ListName {
        epoch,
        judge: Nonce(judge),
    } = name;
    known(format!("{CONDEMNED}{epoch}-{judge:016x}"))
}

/// Returns the epoch of the list of condemned objects with this key.
pub(crate) fn condemned_epoch(key: &Key) -> Option<u64> {
    let (epoch, _) = key.as_str().strip_prefix(CONDEMNED)?.split_once('-')?;
    epoch.parse().ok()
}

/// Returns the key of a list of objects that a session spares; `part` is the list's number.
pub(crate) fn spared_key(epoch: u64, session: impl Display, part: u32) -> Key {
    known(format!("{}{session}-{part}", spared_in(epoch)))
}

/// Returns the prefix of all lists of objects that sessions spare in an epoch.
pub(crate) fn spared_in(epoch: u64) -> String {
    format!("{SPARED}{epoch}/")
}

/// Returns the epoch of the list of spared objects with this key.
pub(crate) fn spared_epoch(key: &Key) -> Option<u64> {
    let (epoch, _) = key.as_str().strip_prefix(SPARED)?.split_once('/')?;
    epoch.parse().ok()
}

/// Writes a list. The objects may come in any order.
pub(crate) fn encode_ids(ids: &[ObjectId]) -> Bytes {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut list =
        Vec::with_capacity(MAGIC.len() + sorted.len() * ObjectId::WIRE_LEN + Checksum::LEN);
    list.extend(MAGIC);
    for id in sorted {
        list.extend(id.to_wire());
    }
    seal(list)
}

/// Reads a sorted list; `None` if it is damaged.
pub(crate) fn decode_ids(content: &[u8]) -> Option<Arc<[ObjectId]>> {
    let ids = unseal(content)?.strip_prefix(MAGIC)?;
    let (ids, []) = ids.as_chunks::<{ ObjectId::WIRE_LEN }>() else {
        return None;
    };
    let ids: Option<Arc<[ObjectId]>> = ids.iter().map(ObjectId::from_wire).collect();
    ids.filter(|ids| ids.is_sorted())
}

/// Makes a key of numbers and the names of sessions, which are plain ASCII.
fn known(text: String) -> Key {
    Key::new(text).expect("no component is empty, or consists of points")
}

const MAGIC: &[u8; 8] = b"ACobject";

#[cfg(test)]
mod tests {
    use super::*;

    fn id(kind: ObjectKind, byte: u8) -> ObjectId {
        ObjectId::new(kind, Checksum::new([byte; 32]))
    }

    #[test]
    fn a_list_reads_sorted_and_not_at_all_with_any_byte_changed_or_missing() {
        let mut ids = vec![
            id(ObjectKind::Commit, 1),
            id(ObjectKind::File, 9),
            id(ObjectKind::Dirtree, 3),
            id(ObjectKind::File, 2),
        ];
        let bytes = encode_ids(&ids);
        ids.sort();
        assert_eq!(decode_ids(&bytes).as_deref(), Some(&ids[..]));
        assert_eq!(decode_ids(&encode_ids(&[])).as_deref(), Some(&[][..]));
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_eq!(decode_ids(&changed), None, "byte {at}");
            assert_eq!(decode_ids(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn keys_tell_their_epoch_and_no_two_lists_share_one() {
        let name = |epoch, judge| ListName {
            epoch,
            judge: Nonce(judge),
        };
        let key = condemned_key(name(12, 1));
        assert_eq!(condemned_epoch(&key), Some(12));
        assert_ne!(key, condemned_key(name(12, 2)));
        let spared = spared_key(12, "00aa", 0);
        assert!(spared.as_str().starts_with(&spared_in(12)));
        assert_eq!(spared_epoch(&spared), Some(12));
        assert_ne!(spared, spared_key(12, "00aa", 1));
        assert_eq!(condemned_epoch(&spared), None);
    }
}
