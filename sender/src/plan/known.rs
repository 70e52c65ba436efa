//! The names of the objects that a plan has seen, in little memory.

use artifact_formats::ObjectId;

/// The names of objects, shortened to their first 16 bytes: the kind, and 120 bits of the checksum.
///
/// Full names would take 70 bytes an object in a large push. If two ever agree in 120 bits, the
/// second is not offered, and at the end the server asks for it as for any missing object.
///
/// Consists of sorted arrays, each of which grows by itself and by little: a hash set of a million
/// names takes 36 bytes for each, and half as much again while it grows.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<Vec<[u8; 16]>>);

impl Known {
    /// Returns whether the name is new.
    pub(crate) fn insert(&mut self, id: ObjectId) -> bool {
        if self.0.is_empty() {
            self.0.resize_with(ARRAYS, Vec::new);
        }
        let mut short = [0; 16];
        short.copy_from_slice(id.to_wire().split_at(16).0);
        let [.., high, low] = short;
        let array = &mut self.0[usize::from(u16::from_be_bytes([high, low])) % ARRAYS];
        let Err(place) = array.binary_search(&short) else {
            return false;
        };
        if array.len() == array.capacity() {
            array.reserve_exact(array.len() / 16 + 4);
        }
        array.insert(place, short);
        true
    }
}

/// At a million names an array has about 250, so that an insertion moves 2 KiB.
const ARRAYS: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use artifact_formats::{Checksum, ObjectKind};

    use super::*;

    #[test]
    fn a_million_names_take_less_than_20_bytes_each() {
        let mut known = Known::default();
        let id = |number: u32| {
            let mut digest = [0; 32];
            // As evenly distributed as the bytes of a checksum.
            let spread = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            digest[7..15].copy_from_slice(&spread.to_be_bytes());
            ObjectId::new(ObjectKind::File, Checksum::new(digest))
        };
        for number in 0..1_000_000 {
            assert!(known.insert(id(number)));
        }
        assert!((0..1_000_000).step_by(1000).all(|n| !known.insert(id(n))));
        let room: usize = known.0.iter().map(|array| array.capacity() * 16 + 24).sum();
        assert!(room < 20_000_000, "{room}");
    }
}
