//! The address of a cache: a receiver, which writes it, or a web server, which only serves it.

use std::fmt;
use std::str::FromStr;

use artifact_puller::WebUrl;
use artifact_sender::Remote;

/// The address of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A receiver, which writes the cache and says where to read it.
    Receiver(Remote),
    /// A web server: read-only.
    Web(WebUrl),
}

impl Address {
    /// Returns whether the client can push to this address.
    pub(crate) const fn can_push(&self) -> bool {
        matches!(self, Self::Receiver(_))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if WebUrl::SCHEMES
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            return text.parse().map(Self::Web);
        }
        let remote = text.parse::<Remote>();
        remote
            .map(Self::Receiver)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Receiver(remote) => remote.fmt(f),
            Self::Web(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_addresses_are_told_from_places_to_push_to() {
        let parse = |text: &str| text.parse::<Address>();
        let web = parse("https://example.com/artifacts/").unwrap();
        assert_eq!(web.to_string(), "https://example.com/artifacts");
        assert!(!web.can_push());
        assert!(!parse("http://[::1]:8080/").unwrap().can_push());
        for text in ["ssh://a@b/c", "a@b:c", "/srv/cache", "file:///srv/cache"] {
            assert!(parse(text).unwrap().can_push(), "{text}");
        }
        for text in [
            "https://",
            "https:///path",
            "http://a b/",
            "http://a/\u{e9}",
            "https://a/b?c",
            "ftp://a",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
