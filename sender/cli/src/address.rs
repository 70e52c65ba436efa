//! The address of a cache: a receiver, which writes it, or a web server, which only serves it.

use std::fmt;
use std::str::FromStr;

use artifact_sender::Remote;

/// The address of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A receiver, which writes the cache and says where to read it.
    Receiver(Remote),
    /// A web server: read-only.
    Web(WebUrl),
}

/// An `https://` or `http://` URL of a repository, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebUrl(Box<str>);

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

impl WebUrl {
    const SCHEMES: [&str; 2] = ["https://", "http://"];
}

impl FromStr for WebUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |reason| Err(format!("{text:?} is not a web address: {reason}"));
        let mut rests = Self::SCHEMES
            .iter()
            .filter_map(|scheme| text.strip_prefix(scheme));
        let Some(rest) = rests.next() else {
            return refuse("it begins neither with https:// nor with http://");
        };
        if rest.split('/').next() == Some("") {
            return refuse("it names no host");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("it may contain only printable ASCII; write anything else as %XX");
        }
        if text.contains(['?', '#']) {
            return refuse("it must not contain '?' or '#', since file names are appended to it");
        }
        Ok(Self(text.trim_end_matches('/').into()))
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

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
