//! Dirmeta objects: owner, mode and extended attributes of a directory.

use crate::attributes::{Attributes, S_IFDIR};
use crate::error::FormatError;

/// A dirmeta object, `(uuua(ayay))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirmeta(Attributes);

impl Dirmeta {
    /// Takes attributes, whose mode must be a directory's.
    pub fn new(attributes: Attributes) -> Result<Self, FormatError> {
        if attributes.has_type(S_IFDIR) {
            Ok(Self(attributes))
        } else {
            let rule = "the mode is not a directory's, or has bits outside of 07777";
            Err(FormatError::new("dirmeta", rule))
        }
    }

    /// Parses a dirmeta object.
    pub fn parse(data: &[u8]) -> Result<Self, FormatError> {
        Attributes::parse_rule(data)
            .map_err(FormatError::part("dirmeta"))
            .and_then(Self::new)
    }

    /// Returns owner, mode and extended attributes.
    pub const fn attributes(&self) -> &Attributes {
        &self.0
    }

    /// Returns the object's bytes.
    pub fn serialize(&self) -> Vec<u8> {
        self.0.serialize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_have_a_dirmeta() {
        for (mode, good) in [
            (0o040_755, true),
            (0o047_777, true),
            (0o040_000, true),
            (0o100_644, false),
            (0o060_644, false),
            (0o755, false),
            (0o240_755, false),
            (0o050_755, false),
        ] {
            let attributes = Attributes {
                uid: 1,
                gid: 2,
                mode,
                xattrs: Default::default(),
            };
            let parsed = Dirmeta::parse(&attributes.serialize());
            assert_eq!(parsed.is_ok(), good, "{mode:o}");
            assert!(parsed.is_err() || parsed.unwrap().attributes() == &attributes);
        }
    }
}
