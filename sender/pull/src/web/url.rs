//! The address of a repository on the web.

use std::fmt;
use std::str::FromStr;

/// An `https://` or `http://` URL of a repository, without a slash at its end.
///
/// A name and a password in it are sent to the server, and never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebUrl {
    raw: Box<str>,
    // The range of a name and a password, with the `@`.
    secret: (usize, usize),
}

impl WebUrl {
    /// The beginnings of such URLs.
    pub const SCHEMES: [&str; 2] = ["https://", "http://"];

    /// Returns the URL of a file below this one.
    pub(crate) fn file(&self, file: &str) -> String {
        format!("{}/{file}", self.raw)
    }

    /// Returns the URL with whatever secret it contains, to compare it with others.
    pub(crate) fn as_raw(&self) -> &str {
        &self.raw
    }

    /// Returns whether nobody on the way can read or change what is sent.
    pub(crate) fn is_https(&self) -> bool {
        self.raw.starts_with("https://")
    }
}

impl FromStr for WebUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |reason| Err(format!("{text:?} is not a web address: {reason}"));
        let mut schemes = Self::SCHEMES.iter();
        let Some(scheme) = schemes.find(|scheme| text.starts_with(**scheme)) else {
            return refuse("it begins neither with https:// nor with http://");
        };
        let rest = text.get(scheme.len()..).unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default();
        let secret_len = authority.rfind('@').map_or(0, |at| at + 1);
        if authority.len() == secret_len {
            return refuse("it names no host");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("it may contain only printable ASCII; write anything else as %XX");
        }
        if text.contains(['?', '#']) {
            return refuse("it must not contain '?' or '#', since file names are appended to it");
        }
        if reqwest::Url::parse(text).is_err() {
            return refuse("its host or port is malformed");
        }
        Ok(Self {
            raw: text.trim_end_matches('/').into(),
            secret: (scheme.len(), scheme.len() + secret_len),
        })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.secret;
        f.write_str(self.raw.get(..from).unwrap_or_default())?;
        f.write_str(self.raw.get(to..).unwrap_or_default())
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_address_has_a_host_and_no_query() {
        let parse = |text: &str| text.parse::<WebUrl>();
        let url = parse("https://example.com/artifacts/").unwrap();
        assert_eq!(url.to_string(), "https://example.com/artifacts");
        assert_eq!(url.file("config"), "https://example.com/artifacts/config");
        for text in ["http://[::1]:8080/", "http://localhost", "https://a:b@h/c"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for text in [
            "https://",
            "https:///path",
            "https://a@/path",
            "http://a b/",
            "http://a/\u{e9}",
            "https://a/b?c",
            "https://a:99999/b",
            "ftp://a",
            "",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let url: WebUrl = "https://me:secret@example.com/cache".parse().unwrap();
        assert_eq!(url.file("x"), "https://me:secret@example.com/cache/x");
        for shown in [url.to_string(), format!("{url:?}")] {
            assert!(
                !shown.contains("secret") && !shown.contains("me"),
                "{shown}"
            );
        }
    }
}
