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
mod tests;
