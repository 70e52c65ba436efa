//! `Hello` and `Welcome`: agents, version, limits (SPEC "Hello", "Welcome").

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::{Limits, MAX_EXTENSIONS_LEN};
use crate::text::Text;
use crate::version::{Features, Version};

/// The client's first frame. Its layout never changes: later versions may only add extensions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest version the client speaks.
    pub version_min: Version,
    /// Newest version the client speaks.
    pub version_max: Version,
    /// Optional features the client can use.
    pub features: Features,
    /// Program and version, for logs.
    pub agent: Text,
    /// Additions of later versions.
    pub extensions: Extensions,
}

/// The server's answer to `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both ends speak from here on.
    pub version: Version,
    /// Optional features that both ends may use in this session.
    pub features: Features,
    /// The limits that the client must keep.
    pub limits: Limits,
    /// Program and version, for logs.
    pub agent: Text,
    /// The address to pull from.
    pub pull_url: Option<Text>,
    /// The identity that the server has assigned to the client.
    pub identity: Option<Text>,
    /// Additions of later versions.
    pub extensions: Extensions,
}

impl Welcome {
    /// The extension with the client's rights here: a line of text for each.
    pub const RIGHTS: u16 = 1;

    /// Returns the client's rights, each as [`Self::RIGHTS`] has it; `None` if the server does not
    /// tell.
    pub fn rights(&self) -> Option<Vec<Text>> {
        let lines = str::from_utf8(self.extensions.get(Self::RIGHTS)?).ok()?;
        Some(lines.lines().map(Text::new).collect())
    }
}

/// Tagged values at the end of a message. Unknown ones are kept. bincode's structs cannot grow, so
/// messages grow here. Tags ascend, so that each message has one encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extensions(Vec<(u16, Vec<u8>)>);

impl Extensions {
    /// Returns the value of a tag.
    pub fn get(&self, tag: u16) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(found, _)| *found == tag)
            .map(|(_, value)| value.as_slice())
    }

    /// Sets the value of a tag. All values, and 10 bytes for each, must stay within
    /// [`MAX_EXTENSIONS_LEN`], or the peer refuses the message.
    pub fn set(&mut self, tag: u16, value: Vec<u8>) {
        match self.0.binary_search_by_key(&tag, |(found, _)| *found) {
            Ok(place) => {
                if let Some(entry) = self.0.get_mut(place) {
                    entry.1 = value;
                }
            }
            Err(place) => self.0.insert(place, (tag, value)),
        }
    }
}

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = <Vec<(u16, &[u8])>>::deserialize(deserializer)?;
        let total: usize = entries.iter().map(|(_, value)| value.len() + 10).sum();
        if total > MAX_EXTENSIONS_LEN {
            return Err(D::Error::custom("extensions are larger than 8 KiB"));
        }
        // REQ-6. The check above keeps LIM-18.
        if !entries.is_sorted_by(|(before, _), (tag, _)| before < tag) {
            return Err(D::Error::custom("tags ascend, and none comes twice"));
        }
        Ok(Self(
            entries
                .into_iter()
                .map(|(tag, value)| (tag, value.to_vec()))
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Fields};

    #[test]
    fn rights_are_lines_none_or_not_said() {
        let rights = |value: Option<&[u8]>| {
            let mut extensions = Extensions::default();
            extensions.set(7, b"of a later version".to_vec());
            if let Some(value) = value {
                extensions.set(Welcome::RIGHTS, value.to_vec());
            }
            let welcome = Welcome {
                version: Version(2),
                features: Features(0),
                limits: Limits::default(),
                agent: Text::default(),
                pull_url: None,
                identity: None,
                extensions,
            };
            let lines = welcome.rights()?;
            Some(lines.iter().map(Text::escaped).collect::<Vec<_>>())
        };
        assert_eq!(rights(None), None);
        assert_eq!(rights(Some(b"\xff")), None);
        assert_eq!(rights(Some(b"")), Some(vec![]));
        let two = rights(Some(b"create a/**\nreplace a/main"));
        assert_eq!(
            two,
            Some(vec!["create a/**".into(), "replace a/main".into()])
        );
    }

    #[test]
    fn extensions_hold_at_n_bytes_and_fail_at_n_plus_one() {
        for (len, fits) in [
            (MAX_EXTENSIONS_LEN - 20, true),
            (MAX_EXTENSIONS_LEN - 19, false),
        ] {
            let mut extensions = Extensions::default();
            extensions.set(1, Vec::new());
            extensions.set(2, vec![0; len]);
            let mut bytes = Vec::new();
            wire::encode(&extensions, &mut bytes);
            assert_eq!(
                wire::decode::<Extensions>(&bytes, Fields::Leaf).is_ok(),
                fits
            );
        }
    }
}
