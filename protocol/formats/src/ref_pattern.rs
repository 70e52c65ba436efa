//! Patterns over ref names, as users and operators write them.
//!
//! A pattern matches whole components: `team` matches neither `team2` nor `team/x`. So a right
//! granted by pattern is never wider than it looks.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::MAX_REF_LEN;
use crate::object::NameError;

/// A pattern over ref names, such as `project/*/main` or `team/**`.
///
/// `*` matches any characters within one component, possibly none. `**` as a component matches any
/// number of components, possibly none; at the end of a pattern it matches at least one, so that
/// `team/**` matches everything below `team` but not `team` itself. Everything else matches itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefPattern(Box<str>);

impl RefPattern {
    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern matches the whole of `name`. It may also match a name that other
    /// programs have made and that is not a valid [`RefName`](crate::ref_name::RefName).
    pub fn matches(&self, name: &str) -> bool {
        let mut pattern: Vec<&str> = self.0.split('/').collect();
        if pattern.last() == Some(&ANY_COMPONENTS) {
            pattern.insert(pattern.len() - 1, "*");
        }
        let name: Vec<&str> = name.split('/').collect();
        let component =
            |pattern: &&str, name: &&str| wild(pattern.as_bytes(), name.as_bytes(), &b'*', u8::eq);
        wild(&pattern, &name, &ANY_COMPONENTS, component)
    }
}

/// Returns whether `pattern` matches all of `text`, where `star` stands for any number of items.
///
/// Only the last star passed is ever tried again: the later star can take over any items that an
/// earlier one could take. So the work is at most the product of the lengths.
fn wild<T: PartialEq>(
    mut pattern: &[T],
    mut text: &[T],
    star: &T,
    same: impl Fn(&T, &T) -> bool,
) -> bool {
    let mut last_star: Option<(&[T], &[T])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((first, rest)), _) if first == star => {
                last_star = Some((rest, text));
                pattern = rest;
            }
            (Some((first, rest)), Some((item, items))) if same(first, item) => {
                (pattern, text) = (rest, items);
            }
            (None, None) => return true,
            _ => {
                // The star takes one more item.
                let Some((rest, [_, items @ ..])) = last_star else {
                    return false;
                };
                last_star = Some((rest, items));
                (pattern, text) = (rest, items);
            }
        }
    }
}

impl FromStr for RefPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |rule| Err(NameError::RefPattern { rule });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_REF_LEN {
            return refuse("it is longer than 1024 bytes");
        }
        for component in text.split('/') {
            let bytes = component.as_bytes();
            let Some(first) = bytes.first() else {
                return refuse("a component between slashes is empty");
            };
            if component != ANY_COMPONENTS && component.contains(ANY_COMPONENTS) {
                return refuse("'**' must be a whole component between slashes");
            }
            if !(first.is_ascii_alphanumeric() || b"_*".contains(first)) {
                return refuse("no ref has a component that begins like this");
            }
            if !bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-._*".contains(b))
            {
                return refuse("only '*', '**' and the characters of ref names may be used");
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefPattern({self})")
    }
}

impl Serialize for RefPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RefPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The parsers of configuration files do not lend text.
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

const ANY_COMPONENTS: &str = "**";

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<RefPattern>().unwrap().matches(name)
    }

    #[test]
    fn a_pattern_binds_whole_components() {
        for (pattern, yes, no) in [
            (
                "team",
                &["team"][..],
                &["team2", "team/x", "x/team", "tea"][..],
            ),
            ("team/*", &["team/x"], &["team", "team/x/y", "team2/x"]),
            (
                "team/**",
                &["team/x", "team/x/y"],
                &["team", "team2/x", "a/team/x"],
            ),
            ("**", &["a", "a/b", "a/b/c"], &[]),
            (
                "**/main",
                &["main", "a/main", "a/b/main"],
                &["main/a", "a/xmain"],
            ),
            (
                "a/**/z",
                &["a/z", "a/b/z", "a/b/c/z"],
                &["a/z/b", "az", "a/bz"],
            ),
            (
                "a/**/b/**",
                &["a/b/c", "a/b/b", "a/x/b/y/z"],
                &["a/b", "a/x/b"],
            ),
            ("**/**", &["a", "a/b"], &[]),
            ("*", &["a"], &["a/b"]),
            ("*/x", &["a/x"], &["x", "a/b/x"]),
            (
                "app/org.*",
                &["app/org.x", "app/org."],
                &["app/org", "app/com.x", "app/org.x/y"],
            ),
            ("*-x86*", &["a-x86", "-x86_64"], &["a-x8", "x86"]),
            ("a*b*c", &["abc", "aXbXbXc"], &["abcd", "ac", "aXcXb"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_pattern_is_kept_and_shown_as_it_was_written() {
        let pattern: RefPattern = "a/*/b.*".parse().unwrap();
        assert_eq!(
            (pattern.as_str(), &*pattern.to_string()),
            ("a/*/b.*", "a/*/b.*")
        );
    }

    #[test]
    fn what_would_mean_nothing_or_something_else_than_it_looks_is_refused() {
        for text in [
            "", "/", "a/", "/a", "a//b", "a**", "**a", "a/***", "a?", "[ab]", "{a,b}", "!a", "-a",
            ".", "..", ".a", "a b", "a\n", "\u{e9}", "a\\*",
        ] {
            assert!(text.parse::<RefPattern>().is_err(), "{text:?}");
        }
        assert!("a".repeat(MAX_REF_LEN).parse::<RefPattern>().is_ok());
        assert!("a".repeat(MAX_REF_LEN + 1).parse::<RefPattern>().is_err());
    }

    #[test]
    fn the_worst_pattern_is_done_soon() {
        let pattern = "**/*a*a*b/".repeat(90);
        let name = "aaaaaaaaaa/".repeat(90);
        assert!(!matches(
            pattern.trim_end_matches('/'),
            name.trim_end_matches('/')
        ));
    }
}
