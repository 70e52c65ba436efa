//! The places that a push can go to, as users write them.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

/// A place to push to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A host reached through the user's own `ssh`.
    Ssh(SshRemote),
    /// A repository on this machine; the receiver runs as a child.
    Local(PathBuf),
}

/// A host, and the repository on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshRemote {
    /// The account there; if `None`, `ssh` decides.
    pub user: Option<String>,
    /// Name or address, as `ssh` takes it.
    pub host: String,
    /// If `None`, `ssh` decides.
    pub port: Option<u16>,
    /// The repository there. A server with a `ForceCommand` has its own and ignores this.
    pub path: String,
}

/// A text that is not a remote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a place to push to: {reason}")]
pub struct RemoteError {
    /// The text.
    pub text: String,
    /// What is wrong with it, and how to write it.
    pub reason: &'static str,
}

impl FromStr for Remote {
    type Err = RemoteError;

    /// Parses `ssh://[user@]host[:port]/path`, `[user@]host:path`, `/path`, `./path` or
    /// `file:///path`, as git, ssh and ostree do.
    fn from_str(text: &str) -> Result<Self, RemoteError> {
        parse(text).map_err(|reason| RemoteError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Remote, &'static str> {
    if text.starts_with('-') {
        return Err("it begins with '-', like an option; a path may be written ./-path");
    }
    if let Some((scheme, rest)) = split_scheme(text) {
        return match scheme.to_ascii_lowercase().as_str() {
            "ssh" | "git+ssh" | "ssh+git" => parse_ssh_url(rest),
            "file" => parse_file_url(rest),
            "http" | "https" => Err("https is for pulling; push to ssh://[user@]host[:port]/path"),
            _ => Err("the scheme is unknown; use ssh://[user@]host[:port]/path"),
        };
    }
    // As scp does: a colon before the first slash makes it a host. Nothing in it is
    // percent-encoded.
    if let Some((user, inside, path)) = split_brackets(text) {
        // Git's way to write a port here: [user@host:port]:path.
        let (inner_user, host_port) = split_user(inside);
        let (host, port) = split_port(host_port)?;
        return ssh(user.or(inner_user), host, port, path);
    }
    match text.split_once(':') {
        Some((authority, path)) if !authority.contains('/') => {
            let (user, host) = split_user(authority);
            ssh(user, host, None, path)
        }
        _ if text.is_empty() => Err("it is empty"),
        _ if text.contains('\0') => Err("it contains a control character"),
        _ => Ok(Remote::Local(text.into())),
    }
}

/// Parses the rest of an `ssh://` URL, where `%XX` stands for a byte.
fn parse_ssh_url(rest: &str) -> Result<Remote, &'static str> {
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (user, host_port) = split_user(authority);
    let (host, port) = split_port(host_port)?;
    let user = user.map(decode_text).transpose()?;
    // In an IPv6 address, only the percent sign before its zone is encoded (RFC 6874).
    let host = match host.contains(':') {
        true => host.replacen("%25", "%", 1),
        false => decode_text(host)?,
    };
    // As git does: after the slash there may be a user's home.
    let path = path
        .strip_prefix('/')
        .filter(|path| path.starts_with('~'))
        .unwrap_or(path);
    ssh(user.as_deref(), &host, port, &decode_text(path)?)
}

/// Parses the rest of a `file://` URL, where `%XX` stands for a byte.
fn parse_file_url(rest: &str) -> Result<Remote, &'static str> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file:// URL must have an absolute path, as in file:///srv/cache");
    }
    let bytes = decode(path);
    if bytes.contains(&0) {
        return Err("it contains a control character");
    }
    Ok(Remote::Local(OsString::from_vec(bytes).into()))
}

/// Splits off the text before `://`, if it can be a scheme.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_letter))
        .then_some((scheme, rest))
}

/// Splits `[inside]:path` and `user@[inside]:path`.
fn split_brackets(text: &str) -> Option<(Option<&str>, &str, &str)> {
    let (before, rest) = text.split_once('[')?;
    // Inside, an address with a port has brackets of its own.
    let nested = rest
        .starts_with('[')
        .then(|| rest.find(']'))
        .flatten()
        .map_or(0, |end| end + 1);
    let (address, rest) = rest.split_at(nested);
    let (inside, path) = rest.split_once("]:")?;
    let inside = &text[before.len() + 1..before.len() + 1 + address.len() + inside.len()];
    if before.contains(['/', ':']) || inside.contains('/') {
        return None;
    }
    match before {
        "" => Some((None, inside, path)),
        before => Some((Some(before.strip_suffix('@')?), inside, path)),
    }
}

/// Decodes `%XX` to bytes. Like git, keeps a percent sign that two hexadecimal digits do not
/// follow.
fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let byte = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = after
            .get(if byte.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    bytes
}

fn decode_text(text: &str) -> Result<String, &'static str> {
    String::from_utf8(decode(text)).map_err(|_| "its %XX do not stand for UTF-8")
}

/// The inverse of [`decode`].
fn encode(text: &str, plain: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || plain.contains(c) => encoded.push(c),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn ssh(
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
    path: &str,
) -> Result<Remote, &'static str> {
    if host.is_empty() {
        return Err("it names no host");
    }
    if host.contains(['[', ']']) {
        return Err("write an address in brackets as [address]:path or ssh://[address]/path");
    }
    // ssh would take a leading dash for an option.
    if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return Err("a host or user that begins with '-' would be an option to ssh");
    }
    if user.is_some_and(str::is_empty) {
        return Err("the user before '@' is empty");
    }
    if path.starts_with('-') {
        return Err(
            "a path that begins with '-' would be an option to the receiver; write ./-path",
        );
    }
    if [user.unwrap_or_default(), host, path]
        .iter()
        .any(|part| part.contains(char::is_control))
    {
        return Err("it contains a control character");
    }
    Ok(Remote::Ssh(SshRemote {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
        path: path.to_owned(),
    }))
}

fn split_user(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port`, and `v6` if it is unambiguous. An empty port
/// counts as none.
fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("an address lacks its ']'")?;
            match after.strip_prefix(':') {
                Some(port) => (host, port),
                None if after.is_empty() => (host, ""),
                None => return Err("only ':port' may follow ']'"),
            }
        }
        None if is_ipv6(text) => (text, ""),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    match port {
        "" => Ok((host, None)),
        port => match port.parse() {
            Ok(0) | Err(_) => Err("the port is not a number from 1 to 65535"),
            Ok(port) => Ok((host, Some(port))),
        },
    }
}

/// Returns whether a text is an IPv6 address, perhaps with its zone.
fn is_ipv6(text: &str) -> bool {
    let address = text.split('%').next().unwrap_or_default();
    address.parse::<Ipv6Addr>().is_ok()
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Ssh(remote) => remote.fmt(f),
        }
    }
}

impl SshRemote {
    /// Returns whether the path is relative to the user's home, for which URLs with a scheme have
    /// no form.
    fn is_relative(&self) -> bool {
        !self.path.is_empty() && !self.path.starts_with(['/', '~'])
    }
}

impl fmt::Display for SshRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            host,
            port,
            path,
        } = self;
        if self.is_relative() {
            let user = user
                .as_ref()
                .map_or(String::new(), |user| format!("{user}@"));
            return match port {
                Some(port) if host.contains(':') => write!(f, "{user}[[{host}]:{port}]:{path}"),
                Some(port) => write!(f, "{user}[{host}:{port}]:{path}"),
                None if host.contains(':') => write!(f, "{user}[{host}]:{path}"),
                None => write!(f, "{user}{host}:{path}"),
            };
        }
        f.write_str("ssh://")?;
        if let Some(user) = user {
            write!(f, "{}@", encode(user, "-._~!$&'()*+,;=@"))?;
        }
        match host.contains(':') {
            true => write!(f, "[{}]", host.replacen('%', "%25", 1)),
            false => f.write_str(&encode(host, "-._~")),
        }?;
        if let Some(port) = port {
            write!(f, ":{port}")?;
        }
        let encoded = encode(path, "/-._~!$&'()*+,;=:@");
        // After the first slash, a tilde would mean a home.
        match path.strip_prefix("/~") {
            Some(_) => f.write_str(&encoded.replacen('~', "%7E", 1)),
            None if path.starts_with('~') => write!(f, "/{encoded}"),
            None => f.write_str(&encoded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(user: Option<&str>, host: &str, port: Option<u16>, path: &str) -> Remote {
        ssh(user, host, port, path).unwrap()
    }

    #[test]
    fn addresses_are_read_as_git_ssh_and_ostree_read_them() {
        let u = Some("u");
        for (text, user, host, port, path) in [
            ("ssh://u@h:10000/c", u, "h", Some(10000), "/c"),
            ("ssh://h/srv/cache", None, "h", None, "/srv/cache"),
            ("ssh://h", None, "h", None, ""),
            ("ssh://h/", None, "h", None, "/"),
            ("ssh://h/c/", None, "h", None, "/c/"),
            ("ssh://h//c", None, "h", None, "//c"),
            ("SSH://h/c", None, "h", None, "/c"),
            ("git+ssh://h/c", None, "h", None, "/c"),
            ("ssh+git://h/c", None, "h", None, "/c"),
            ("ssh://h:/c", None, "h", None, "/c"),
            ("ssh://u@h:/", u, "h", None, "/"),
            ("ssh://h:22", None, "h", Some(22), ""),
            ("ssh://h/a%20b", None, "h", None, "/a b"),
            ("ssh://h/a b", None, "h", None, "/a b"),
            ("ssh://h/%C3%a9", None, "h", None, "/\u{e9}"),
            ("ssh://h/100%", None, "h", None, "/100%"),
            ("ssh://h/a%zz%4", None, "h", None, "/a%zz%4"),
            ("ssh://h/a%2520b", None, "h", None, "/a%20b"),
            ("ssh://h/c?x#y", None, "h", None, "/c?x#y"),
            ("ssh://h/~/c", None, "h", None, "~/c"),
            ("ssh://h/~ci/c", None, "h", None, "~ci/c"),
            ("ssh://h/%7E/c", None, "h", None, "/~/c"),
            ("ssh://h/c/~", None, "h", None, "/c/~"),
            ("ssh://a@b@h/c", Some("a@b"), "h", None, "/c"),
            ("ssh://a%40b@h/c", Some("a@b"), "h", None, "/c"),
            ("ssh://D%5Cu@h/c", Some("D\\u"), "h", None, "/c"),
            ("ssh://u@[::1]:22/c", u, "::1", Some(22), "/c"),
            ("ssh://[::1]:/c", None, "::1", None, "/c"),
            ("ssh://[::1]", None, "::1", None, ""),
            ("ssh://::1/c", None, "::1", None, "/c"),
            ("ssh://u@2001:db8::1/c", u, "2001:db8::1", None, "/c"),
            (
                "ssh://[::ffff:1.2.3.4]/c",
                None,
                "::ffff:1.2.3.4",
                None,
                "/c",
            ),
            ("ssh://[fe80::1%eth0]/c", None, "fe80::1%eth0", None, "/c"),
            (
                "ssh://[fe80::1%25eth0]:2/c",
                None,
                "fe80::1%eth0",
                Some(2),
                "/c",
            ),
            ("ssh://fe80::1%eth0/c", None, "fe80::1%eth0", None, "/c"),
            ("ssh://[h]/c", None, "h", None, "/c"),
            ("u@h:c", u, "h", None, "c"),
            ("h:/c", None, "h", None, "/c"),
            ("h:", None, "h", None, ""),
            ("h:a%20b", None, "h", None, "a%20b"),
            ("h:a b", None, "h", None, "a b"),
            ("h:~/c", None, "h", None, "~/c"),
            ("h:a@b", None, "h", None, "a@b"),
            ("h:a:b", None, "h", None, "a:b"),
            ("a@b@h:c", Some("a@b"), "h", None, "c"),
            ("[::1]:c", None, "::1", None, "c"),
            ("u@[::1]:c", u, "::1", None, "c"),
            ("u@[fe80::1%eth0]:c", u, "fe80::1%eth0", None, "c"),
            ("[u@::1]:c", u, "::1", None, "c"),
            ("[h:2222]:c", None, "h", Some(2222), "c"),
            ("[u@h:2222]:c", u, "h", Some(2222), "c"),
            ("[h]:[c]:d", None, "h", None, "[c]:d"),
        ] {
            let expected = remote(user, host, port, path);
            assert_eq!(text.parse::<Remote>(), Ok(expected.clone()), "{text}");
            let shown = expected.to_string();
            assert_eq!(
                shown.parse::<Remote>(),
                Ok(expected),
                "{text} shown as {shown}"
            );
        }
    }

    #[test]
    fn paths_are_read_as_ostree_reads_them() {
        for (text, path) in [
            ("/srv/cache", "/srv/cache"),
            ("/srv/cache/", "/srv/cache/"),
            ("./cache:1", "./cache:1"),
            ("./x://y", "./x://y"),
            ("cache", "cache"),
            ("~/cache", "~/cache"), // a shell's affair
            ("a%20b", "a%20b"),
            ("a b", "a b"),
            ("file:///srv/cache", "/srv/cache"),
            ("file:///srv/cache/", "/srv/cache/"),
            ("FILE:///srv/cache", "/srv/cache"),
            ("file://localhost/srv/cache", "/srv/cache"),
            ("file:///a%20b/c", "/a b/c"),
            ("file:///a b", "/a b"),
            ("file:///100%/%2e", "/100%/."),
            ("file:///a%3Fb%23c", "/a?b#c"),
            ("file:///~/c", "/~/c"),
        ] {
            assert_eq!(text.parse(), Ok(Remote::Local(path.into())), "{text}");
        }
        let bytes = OsString::from_vec(b"/\xff".to_vec());
        assert_eq!("file:///%ff".parse(), Ok(Remote::Local(bytes.into())));
    }

    #[test]
    fn options_to_ssh_and_nonsense_are_refused() {
        for text in [
            "",
            "ssh://",
            "ssh:///path",
            "ssh://-oProxyCommand=x/path",
            "-oProxyCommand=x:path",
            "ssh://-l@host/path",
            "-l@host:path",
            "host:-path",
            "ssh://@host/",
            "ssh://host:0/",
            "ssh://host:x/",
            "ssh://host:99999/",
            "ssh://[::1/",
            "ssh://[::1]x/",
            "https://example.com/",
            "ftp://a/b",
            "file://relative",
            "file://host/srv/cache",
            "file:///a%00b",
            "ssh://%2DoProxyCommand=x/path",
            "ssh://%2dl@host/path",
            "ssh://host/%0a",
            "ssh://host/%ff",
            "ssh://:22/c",
            "ssh://u@/c",
            "ssh://::1:x/c",
            "[::1:c",
            "[-oX]:c",
            "-u@[::1]:c",
            "ssh://ho\nst/path",
        ] {
            assert!(text.parse::<Remote>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in [
            "ssh://a@b:1/c",
            "ssh://[::1]/c",
            "a@b:c/d",
            "a@[::1]:c",
            "/srv/cache",
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
    }
}
