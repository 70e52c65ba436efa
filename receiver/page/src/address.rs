//! The address in the lines to copy for a pull: the operator's, or the host in the client's
//! request.
//!
//! Users copy it into a shell. So it contains no character with a meaning there.

use std::str::FromStr;

/// The address of a cache, `https://host[:port][/path]` or the same with `http`, without a trailing
/// slash. It needs no quotes in a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullUrl(String);

/// Why a text is not the address of a cache. The operator has to correct it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text has another scheme.
    #[error(
        "{url:?} does not begin with https:// or http://, as in https://cache.example.com/artifacts"
    )]
    Scheme {
        /// The rejected text.
        url: String,
    },
    /// The text has no host, or contains characters that no address needs.
    #[error("{url:?} is not a host, perhaps a port, and a path of letters, digits and -._~/")]
    Malformed {
        /// The rejected text.
        url: String,
    },
}

impl PullUrl {
    /// Returns the address under which a client reached the server, if `host` may be a host; `at`
    /// is the repository's path on the server, such as `/artifacts`.
    pub(crate) fn of_host(plain_http: bool, host: &str, at: &str) -> Option<Self> {
        let host = host.to_ascii_lowercase();
        if !is_authority(&host) {
            return None;
        }
        // Without TLS, a server is behind a proxy that has it, unless this machine asks itself.
        let own = ["localhost", "127.0.0.1", "[::1]"];
        let is_own = own.iter().any(|own| {
            host.strip_prefix(own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        });
        let scheme = if plain_http && is_own {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{host}{at}").parse().ok()
    }

    /// Returns the address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the host, without port or brackets.
    pub fn host(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.strip_prefix('[') {
            Some(inner) => inner.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        }
    }
}

impl FromStr for PullUrl {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url = || text.to_owned();
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !matches!(scheme, "https" | "http") {
            return Err(AddressError::Scheme { url: url() });
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, path.trim_end_matches('/')),
            None => (rest, ""),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if text.len() > MAX_LEN || !is_authority(authority) || !path.chars().all(plain) {
            return Err(AddressError::Malformed { url: url() });
        }
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(Self(format!("{scheme}://{authority}{slash}{path}")))
    }
}

fn is_authority(text: &str) -> bool {
    let (host_is_good, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').unwrap_or_default();
            (address.parse::<std::net::Ipv6Addr>().is_ok(), port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            let begins = host.starts_with(|c: char| c.is_ascii_alphanumeric());
            (begins && host.chars().all(plain), port)
        }
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    host_is_good && port_is_good
}

/// Quotes a word for a shell where it needs quotes.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:@%+=,".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The longest address, in bytes.
const MAX_LEN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_only_if_a_shell_can_make_nothing_of_it() {
        for (text, shown) in [
            (
                "https://cache.example.com/artifacts/",
                "https://cache.example.com/artifacts",
            ),
            ("https://cache.example.com", "https://cache.example.com"),
            ("http://127.0.0.1:8080/a/b", "http://127.0.0.1:8080/a/b"),
            ("https://[2001:db8::1]:443/a", "https://[2001:db8::1]:443/a"),
        ] {
            assert_eq!(text.parse::<PullUrl>().unwrap().as_str(), shown);
        }
        for text in [
            "",
            "cache.example.com",
            "ssh://cache.example.com/a",
            "javascript://x/a",
            "https://",
            "https:///a",
            "https://-o/a",
            "https://a b/c",
            "https://a/$(reboot)",
            "https://a/`id`",
            "https://a;b/c",
            "https://u@a/c",
            "https://a/'\"<>",
            "https://a:99999/c",
            "https://a:+1/c",
            "https://a:/c\n",
            "https://[::1/c",
            "https://[x]/c",
            "https://a?b",
            "https://\u{e9}/",
        ] {
            assert!(text.parse::<PullUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_host_that_a_client_makes_up_is_no_address() {
        let of = |host| PullUrl::of_host(false, host, "/artifacts");
        assert_eq!(
            of("Cache.Example:8443").unwrap().as_str(),
            "https://cache.example:8443/artifacts"
        );
        assert_eq!(of("[::1]:1").unwrap().host(), "::1");
        let plain = |host| {
            PullUrl::of_host(true, host, "")
                .unwrap()
                .as_str()
                .to_owned()
        };
        assert_eq!(plain("localhost:80"), "http://localhost:80");
        assert_eq!(plain("localhost.example"), "https://localhost.example");
        assert_eq!(of("a.example:1").unwrap().host(), "a.example");
        for host in [
            "",
            "a/b",
            "<script>",
            "a\"b",
            "a b",
            "-a",
            "a#b",
            "a@b",
            &"a".repeat(600),
        ] {
            assert_eq!(of(host), None, "{host:?}");
        }
    }

    #[test]
    fn a_quoted_word_is_one_word() {
        assert_eq!(quoted("a/b-1.2_x"), "a/b-1.2_x");
        assert_eq!(quoted("-rf"), "'-rf'");
        assert_eq!(quoted("a b'c$(d)"), "'a b'\\''c$(d)'");
        assert_eq!(quoted(""), "''");
    }
}
