//! Names of files that carry objects.

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, ObjectId, ObjectKind};

use super::error::DialectError;
use crate::limits::Limits;

/// The content of a file, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// An object.
    Object(ObjectId),
    /// The detached metadata of a commit.
    Detached(Checksum),
    /// A file that Endless's programs put beside a commit: `.sig` or `.sizes2`. Nothing vouches for
    /// it, and no program reads it any more: it is accepted, and dropped.
    Companion(Checksum),
}

impl Member {
    /// Parses a name: 64 digits, a full stop, and a known extension.
    ///
    /// # Errors
    ///
    /// Whoever sent it is at fault.
    pub fn parse(name: &str) -> Result<Self, DialectError> {
        let parsed = name.split_once('.').and_then(|(digits, extension)| {
            let checksum = digits.parse().ok()?;
            match extension {
                "commitmeta" => Some(Self::Detached(checksum)),
                "sig" | "sizes2" => Some(Self::Companion(checksum)),
                _ => {
                    let mut kinds = ObjectKind::ALL.into_iter();
                    let kind = kinds.find(|kind| kind.archive_extension() == extension)?;
                    Some(Self::Object(ObjectId::new(kind, checksum)))
                }
            }
        });
        parsed.ok_or_else(|| DialectError::Name {
            name: name.chars().take(SHOWN_LEN).collect(),
        })
    }

    /// Returns the name.
    pub fn name(&self) -> String {
        match self {
            Self::Object(id) => format!("{}.{}", id.checksum, id.kind.archive_extension()),
            Self::Detached(commit) => format!("{commit}.commitmeta"),
            Self::Companion(commit) => format!("{commit}.sig"),
        }
    }

    /// Returns the largest length of the file: LIM-9, LIM-10 or the announced limits.
    pub(super) const fn len_max(&self, limits: &Limits) -> u64 {
        match self {
            Self::Object(id) if id.kind.is_metadata() => MAX_METADATA_LEN as u64,
            Self::Object(_) => limits.object_len_max,
            Self::Detached(_) | Self::Companion(_) => MAX_DETACHED_LEN as u64,
        }
    }
}

const SHOWN_LEN: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exactly_a_checksum_and_a_kind() {
        let digits = "ab".repeat(32);
        for extension in ["filez", "dirtree", "dirmeta", "commit", "commitmeta", "sig"] {
            let name = format!("{digits}.{extension}");
            assert_eq!(Member::parse(&name).unwrap().name(), name);
        }
        assert!(Member::parse(&format!("{digits}.sizes2")).is_ok());
        for name in [
            String::new(),
            digits.clone(),
            format!("{digits}."),
            format!("{digits}.file"),
            format!("{digits}.filez\n"),
            format!("{digits}.commit.commit"),
            format!("{}.filez", digits.to_uppercase()),
            format!("../{digits}.filez"),
            format!("./{digits}.filez"),
            format!("/{digits}.filez"),
            format!("ab/{}.filez", "ab".repeat(31)),
            format!("{digits}.tombstone-commit"),
        ] {
            assert!(Member::parse(&name).is_err(), "{name}");
        }
    }
}
