//! The address of a cache in object storage: `s3://bucket/prefix`.

use std::fmt;
use std::str::FromStr;

use artifact_store::bucket::Key;
use serde::{Deserialize, Serialize};

/// A bucket, and the prefix of the cache's keys in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    bucket: String,
    /// Empty, or without a slash at either end.
    prefix: String,
}

/// The reason why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It does not begin with `s3://`.
    #[error("the address of object storage begins with `s3://`, as in `s3://bucket/prefix`")]
    Scheme,
    /// The bucket's name is not valid.
    #[error(
        "{name:?} is not the name of a bucket: it has 3 to 63 lower-case letters, digits, dots and \
         hyphens"
    )]
    Bucket {
        /// The name.
        name: String,
    },
    /// The prefix is not valid in keys.
    #[error(
        "{prefix:?} cannot be the prefix of a cache: use at most {} letters, digits and `._-/`",
        Address::PREFIX_LEN_MAX
    )]
    Prefix {
        /// The prefix.
        prefix: String,
    },
}

impl Address {
    /// The longest prefix in bytes: with it, no key is longer than servers accept.
    pub const PREFIX_LEN_MAX: usize = 1024 - Key::LEN_MAX - 1;

    /// Returns whether a text is meant to be an address.
    pub fn is_meant_by(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Returns the bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the full name of a key or of a prefix of keys.
    pub(crate) fn full(&self, key: &str) -> String {
        match self.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    /// Returns the part of a full name after the prefix.
    pub(crate) fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        match self.prefix.as_str() {
            "" => Some(full),
            prefix => full.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let rest = text.strip_prefix(SCHEME).ok_or(BadAddress::Scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = (3..=63).contains(&bucket.len())
            && bucket
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
            && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
            && !bucket.contains("..");
        if !is_name {
            let name = bucket.to_owned();
            return Err(BadAddress::Bucket { name });
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let is_prefix = prefix.is_empty()
            || (prefix.len() <= Self::PREFIX_LEN_MAX
                && prefix.bytes().all(is_plain)
                && Key::new(prefix).is_ok());
        if !is_prefix {
            let prefix = prefix.to_owned();
            return Err(BadAddress::Prefix { prefix });
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

const SCHEME: &str = "s3://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_bucket_and_a_clean_prefix() {
        for (text, shown) in [
            ("s3://abc", "s3://abc"),
            ("s3://a.b-c/", "s3://a.b-c"),
            ("s3://abc/x/y.z/", "s3://abc/x/y.z"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        let longest = format!("s3://abc/{}", "p".repeat(Address::PREFIX_LEN_MAX));
        assert!(longest.parse::<Address>().is_ok());
        for bad in [
            "abc",
            "/srv/cache",
            "https://abc",
            "s3://",
            "s3://ab",
            "s3://Abc",
            "s3://a..b",
            "s3://-ab",
            "s3://abc//x",
            "s3://abc/x//y",
            "s3://abc/../x",
            "s3://abc/x y",
            "s3://abc/x?y",
            &format!("{longest}p"),
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_another_cache_in_the_bucket_are_not_ours() {
        let ours: Address = "s3://abc/x".parse().unwrap();
        assert_eq!(ours.full("config"), "x/config");
        assert_eq!(ours.relative("x/config"), Some("config"));
        assert_eq!(ours.relative("xy/config"), None);
        let whole: Address = "s3://abc".parse().unwrap();
        assert_eq!(whole.relative(&whole.full("config")), Some("config"));
    }
}
