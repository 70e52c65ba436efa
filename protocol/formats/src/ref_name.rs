//! Names of refs, parsed once and safe to use as a path below `refs/heads`.
//!
//! The grammar is narrower than libostree's, which accepts non-ASCII letters, a trailing newline
//! and names longer than a file name (SPEC "Ref names"). libostree accepts every name that this
//! module accepts.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{MAX_REF_COMPONENT_LEN, MAX_REF_COMPONENTS, MAX_REF_LEN};
use crate::object::NameError;

/// The name of a ref, as in `project/element/key`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(Box<str>);

impl RefName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the components between slashes, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// Parses a name from a repository, which may have more components than a push may use: earlier
    /// versions accepted such names, and the operator must be able to remove them.
    pub fn parse_stored(text: &str) -> Result<Self, NameError> {
        Self::check(text).map(|()| Self(text.into()))
    }

    /// Returns the name without its last component: `project/element` of `project/element/key`.
    /// Refs that share it are likely to share objects, so bases are searched there.
    pub fn parent(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(parent, _)| parent)
    }

    fn check(text: &str) -> Result<(), NameError> {
        let refuse = |rule| Err(NameError::RefName { rule });
        // REQ-43, LIM-15, LIM-16; `from_str` keeps LIM-24.
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_REF_LEN {
            return refuse("it is longer than 1024 bytes");
        }
        // libostree takes 1 to 64 such digits for a commit before it looks for a ref.
        if text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return refuse(
                "it consists of the digits 0-9 and a-f alone, which ostree takes for an \
                 abbreviated checksum; give it another name, with `ostree refs --create=NEW OLD`",
            );
        }
        for component in text.split('/') {
            let bytes = component.as_bytes();
            let Some(first) = bytes.first() else {
                return refuse("a component between slashes is empty");
            };
            if bytes.len() > MAX_REF_COMPONENT_LEN {
                return refuse("a component between slashes is longer than 200 bytes");
            }
            if !(first.is_ascii_alphanumeric() || *first == b'_') {
                return refuse("a component must begin with a letter, a digit or an underscore");
            }
            if !bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b))
            {
                return refuse("only ASCII letters, digits, '-', '.', '_' and '/' may be used");
            }
            if component.starts_with("tmp.") {
                return refuse("components that begin with 'tmp.' are libostree's leftovers");
            }
        }
        Ok(())
    }
}

impl FromStr for RefName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.split('/').count() > MAX_REF_COMPONENTS {
            return Err(NameError::RefName {
                rule: "it has more than 16 components between slashes",
            });
        }
        Self::parse_stored(text)
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefName({self})")
    }
}

impl Serialize for RefName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RefName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(name: &str) -> bool {
        name.parse::<RefName>().is_ok()
    }

    #[test]
    fn accepts_what_users_have() {
        for name in [
            "main",
            "os/x86_64/main",
            "app/org.example.App/x86_64/stable",
            "proj/base-alpine.bst/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "_x/a..b/c.",
        ] {
            assert!(accepts(name), "{name}");
            assert_eq!(name.parse::<RefName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn a_name_that_an_earlier_version_took_can_still_be_named() {
        let deep = vec!["a"; 500].join("/");
        assert_eq!(RefName::parse_stored(&deep).unwrap().as_str(), deep);
        for name in ["", "a//b", "../a", "a/-b", "-a"] {
            assert!(RefName::parse_stored(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn refuses_paths_tricks_and_names_libostree_would_not_take() {
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/.b",
            "-a",
            "a/-b",
            "a b",
            "a\n",
            "\u{e9}",
            "a\0",
            "a:b",
            "a@{1}",
            "a\\b",
            "tmp.ABC",
            "a/tmp.1",
            "a*",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ] {
            assert!(!accepts(name), "{name:?}");
        }
    }

    #[test]
    fn refuses_what_libostree_takes_for_a_checksum_cut_short() {
        for len in 1..=MAX_REF_COMPONENT_LEN {
            assert!(!accepts(&"0123456789abcdef".repeat(13)[..len]), "{len}");
        }
        for name in ["1", "a", "12", "2024", "deadbeef", "face"] {
            assert!(!accepts(name), "{name}");
        }
        for name in [
            "g", "A", "1.0", "1-2", "1_2", "12/34", "a/b", "v1", "DEADBEEF",
        ] {
            assert!(accepts(name), "{name}");
        }
    }

    #[test]
    fn length_limits_hold_at_n_and_fail_at_n_plus_one() {
        assert!(accepts(&"x".repeat(MAX_REF_COMPONENT_LEN)));
        assert!(!accepts(&"x".repeat(MAX_REF_COMPONENT_LEN + 1)));
        let long = format!("{}/", "a".repeat(127)).repeat(8);
        assert!(accepts(&format!("{}c", &long[..MAX_REF_LEN - 1])));
        assert!(!accepts(&format!("{}cc", &long[..MAX_REF_LEN - 1])));
        let many = vec!["a"; MAX_REF_COMPONENTS].join("/");
        assert!(accepts(&many));
        assert!(!accepts(&format!("{many}/a")));
    }

    #[test]
    fn parent_is_the_name_without_its_last_component() {
        assert_eq!("a/b/c".parse::<RefName>().unwrap().parent(), Some("a/b"));
        assert_eq!("x".parse::<RefName>().unwrap().parent(), None);
    }
}
