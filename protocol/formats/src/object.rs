//! Names of OSTree objects: their kind, and the SHA-256 that identifies them.
//!
//! A name is parsed once and valid ever after: no value can hold a malformed checksum or an unknown
//! kind. Other modules parse the objects' bytes.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeTuple, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 digest that names an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Checksum([u8; Self::LEN]);

impl Checksum {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes a digest as it is.
    pub const fn new(digest: [u8; Self::LEN]) -> Self {
        Self(digest)
    }

    /// Computes the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads the content of a ref: a digest in hexadecimal, and blanks (`ostree-repo-refs.c`,
    /// `resolve_refspec`); `None` if it is anything else.
    pub fn from_ref(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        text.trim_ascii_end().parse().ok()
    }

    /// Returns the digest if `bytes` is exactly 32 bytes long.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Returns 64 lower-case hexadecimal digits, the only spelling OSTree knows.
    pub fn to_hex(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::LEN * 2];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            if let [high, low] = pair {
                *high = hex_digit(byte >> 4);
                *low = hex_digit(byte & 0x0f);
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

impl FromStr for Checksum {
    type Err = NameError;

    /// Reads 64 lower-case hexadecimal digits (`ostree-core.c`, `ostree_validate_checksum_string`).
    fn from_str(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        if bytes.len() != Self::LEN * 2 {
            return Err(NameError::ChecksumLen { got: bytes.len() });
        }
        let mut digest = [0u8; Self::LEN];
        for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let [high, low] = pair else {
                return Err(NameError::ChecksumDigit);
            };
            *byte = (hex_value(*high)? << 4) | hex_value(*low)?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <[u8; Self::LEN]>::deserialize(deserializer).map(Self)
    }
}

/// The four kinds of object that a push carries, with the numbers of libostree (`ostree-core.h`,
/// `OstreeObjectType`), which are also the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ObjectKind {
    /// A regular file or symbolic link: header and content.
    File = 1,
    /// A directory: names of files and of directories below.
    Dirtree = 2,
    /// Owner, mode and extended attributes of a directory.
    Dirmeta = 3,
    /// A commit: root directory, parent, metadata.
    Commit = 4,
}

impl ObjectKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::File, Self::Dirtree, Self::Dirmeta, Self::Commit];

    /// Returns the number on the wire.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// Returns the kind with this number on the wire.
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::File),
            2 => Some(Self::Dirtree),
            3 => Some(Self::Dirmeta),
            4 => Some(Self::Commit),
            _ => None,
        }
    }

    /// Returns the file name extension in an archive repository (`ostree-core.c`,
    /// `_ostree_loose_path`).
    pub const fn archive_extension(self) -> &'static str {
        match self {
            Self::File => "filez",
            Self::Dirtree => "dirtree",
            Self::Dirmeta => "dirmeta",
            Self::Commit => "commit",
        }
    }

    /// Returns whether the object's bytes are a serialized GVariant named by its own SHA-256.
    pub const fn is_metadata(self) -> bool {
        !matches!(self, Self::File)
    }

    /// Returns whether such an object names other objects.
    pub const fn has_children(self) -> bool {
        matches!(self, Self::Commit | Self::Dirtree)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Dirtree => "dirtree",
            Self::Dirmeta => "dirmeta",
            Self::Commit => "commit",
        })
    }
}

/// One object: its kind and its checksum. 33 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Its kind.
    pub kind: ObjectKind,
    /// The SHA-256 that identifies it.
    pub checksum: Checksum,
}

impl ObjectId {
    /// Length on the wire in bytes: the kind's number, then the checksum.
    pub const WIRE_LEN: usize = 1 + Checksum::LEN;

    /// Joins a kind and a checksum.
    pub const fn new(kind: ObjectKind, checksum: Checksum) -> Self {
        Self { kind, checksum }
    }

    /// Names a commit.
    pub const fn commit(checksum: Checksum) -> Self {
        Self::new(ObjectKind::Commit, checksum)
    }

    /// Returns the 33 bytes on the wire.
    pub fn to_wire(self) -> [u8; Self::WIRE_LEN] {
        let mut wire = [self.kind.to_wire(); Self::WIRE_LEN];
        let [_, checksum @ ..] = &mut wire;
        checksum.copy_from_slice(&self.checksum.0);
        wire
    }

    /// Reads 33 bytes from the wire; `None` for an unknown kind.
    pub fn from_wire(wire: &[u8; Self::WIRE_LEN]) -> Option<Self> {
        let [kind, checksum @ ..] = wire;
        Some(Self::new(
            ObjectKind::from_wire(*kind)?,
            Checksum(*checksum),
        ))
    }

    /// Returns the path below `objects/` in an archive repository, as in `ab/cdef….filez`.
    pub fn archive_path(&self) -> String {
        self.loose_path(self.kind.archive_extension())
    }

    /// Returns the path below `objects/` with another extension: content in a bare repository ends
    /// in `file`.
    pub fn loose_path(&self, extension: &str) -> String {
        let mut path = self.checksum.to_hex();
        path.insert(2, '/');
        path.push('.');
        path.push_str(extension);
        path
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.checksum)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(Self::WIRE_LEN)?;
        for byte in self.to_wire() {
            tuple.serialize_element(&byte)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(Self::WIRE_LEN, ObjectIdVisitor)
    }
}

struct ObjectIdVisitor;

impl<'de> Visitor<'de> for ObjectIdVisitor {
    type Value = ObjectId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kind and checksum of an object, 33 bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ObjectId, A::Error> {
        let mut wire = [0u8; ObjectId::WIRE_LEN];
        for (index, byte) in wire.iter_mut().enumerate() {
            *byte = seq
                .next_element()?
                .ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        ObjectId::from_wire(&wire).ok_or_else(|| A::Error::custom("unknown kind of object"))
    }
}

/// Why a text is not the name of an object or of a ref.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A checksum does not have 64 digits.
    #[error("a checksum has 64 hexadecimal digits, not {got}")]
    ChecksumLen {
        /// Length found, in bytes.
        got: usize,
    },
    /// A checksum has a character outside of `0-9a-f`.
    #[error("a checksum consists of lower-case hexadecimal digits")]
    ChecksumDigit,
    /// A ref name breaks a rule of the grammar.
    #[error("bad ref name: {rule}")]
    RefName {
        /// The broken rule.
        rule: &'static str,
    },
    /// A pattern over ref names breaks a rule.
    #[error("bad pattern: {rule}")]
    RefPattern {
        /// The broken rule.
        rule: &'static str,
    },
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

const fn hex_value(digit: u8) -> Result<u8, NameError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NameError::ChecksumDigit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn checksum_text_round_trips() {
        assert_eq!(TEXT.parse::<Checksum>().unwrap().to_string(), TEXT);
    }

    #[test]
    fn checksum_refuses_upper_case_short_and_foreign_digits() {
        assert_eq!(
            TEXT.to_uppercase().parse::<Checksum>().unwrap_err(),
            NameError::ChecksumDigit
        );
        assert!(TEXT[1..].parse::<Checksum>().is_err());
        assert!(TEXT.replace('0', "é").parse::<Checksum>().is_err());
    }

    #[test]
    fn object_id_wire_round_trips_for_every_kind_and_refuses_others() {
        for number in 0..=u8::MAX {
            let mut wire = [7u8; ObjectId::WIRE_LEN];
            wire[0] = number;
            match ObjectId::from_wire(&wire) {
                Some(id) => assert_eq!(id.to_wire(), wire),
                None => assert!(!(1..=4).contains(&number)),
            }
        }
    }

    #[test]
    fn all_but_files_are_metadata() {
        let metadata = ObjectKind::ALL.map(ObjectKind::is_metadata);
        assert_eq!(
            metadata,
            ObjectKind::ALL.map(|kind| kind != ObjectKind::File)
        );
    }

    #[test]
    fn archive_path_splits_after_two_digits() {
        let id = ObjectId::new(ObjectKind::File, TEXT.parse().unwrap());
        assert_eq!(id.archive_path(), format!("01/{}.filez", &TEXT[2..]));
    }
}
