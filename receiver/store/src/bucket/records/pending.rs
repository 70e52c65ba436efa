//! The note of a push: the refs that it is about to set. If the push dies before it updates the
//! summary, another push names these refs there.
//!
//! ```text
//! artifact-cache pending 1
//! NAME COMMIT [LENGTH TIMESTAMP [VERSION]]     for each ref; the version in hexadecimal digits
//! ```
//!
//! A note may name refs that were never set, so its reader reads the refs as well.

use std::collections::BTreeMap;

use artifact_formats::{Checksum, RefName};
use bytes::Bytes;

use crate::summary::facts::Facts;

/// The note of a push: refs with their commits, and the facts that the summary gives about these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) refs: BTreeMap<RefName, (Checksum, Option<Facts>)>,
}

impl Pending {
    /// Notes refs, each with its commit and, if it is at hand, the content of that commit.
    pub(crate) fn of<'a>(
        refs: impl Iterator<Item = (&'a RefName, Checksum, Option<Bytes>)>,
    ) -> Self {
        let refs = refs.map(|(name, commit, content)| {
            let facts = content.and_then(|content| Facts::of(&content));
            (name.clone(), (commit, facts))
        });
        Self {
            refs: refs.collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.refs.is_empty()
    }

    /// Returns the note as bytes: a heading, and a line for each ref.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut text = format!("{HEAD}\n");
        for (name, (commit, facts)) in &self.refs {
            text += &format!("{name} {commit}");
            if let Some(facts) = facts {
                text += &format!(" {} {}", facts.len, facts.timestamp);
                if let Some(version) = &facts.version {
                    text += &format!(" {}", hex::encode(version.as_bytes()));
                }
            }
            text.push('\n');
        }
        text.into()
    }

    /// Reads a note; `None` if the content is not a note.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(content).ok()?.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let refs = lines.map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?.parse().ok()?;
            let commit = words.next()?.parse().ok()?;
            let Some(len) = words.next() else {
                return Some((name, (commit, None)));
            };
            let (len, timestamp) = (len.parse().ok()?, words.next()?.parse().ok()?);
            let version = match words.next() {
                Some(version) => {
                    let text = String::from_utf8(hex::decode(version).ok()?).ok()?;
                    Some(text.into_boxed_str())
                }
                None => None,
            };
            let facts = Facts {
                len,
                timestamp,
                version,
                size: None,
            };
            Some((name, (commit, Some(facts))))
        });
        refs.collect::<Option<_>>().map(|refs| Self { refs })
    }
}

const HEAD: &str = "artifact-cache pending 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_whatever_the_version_says() {
        let facts = |version: Option<&str>| Facts {
            len: 7,
            timestamp: u64::MAX,
            version: version.map(Box::from),
            size: None,
        };
        let commit = Checksum::new([1; 32]);
        let refs = [
            ("a/b", None),
            ("x", Some(facts(None))),
            ("y", Some(facts(Some("1 2\nx \u{e4}")))),
        ];
        let refs = refs.map(|(name, facts)| (name.parse().unwrap(), (commit, facts)));
        let note = Pending {
            refs: refs.into_iter().collect(),
        };
        assert_eq!(Pending::parse(&note.to_bytes()), Some(note.clone()));
        let content = note.to_bytes();
        assert_eq!(Pending::parse(&content[..content.len() - 8]), None);
        assert_eq!(Pending::parse(b"artifact-cache pending 2\n"), None);
    }
}
