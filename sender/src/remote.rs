//! Where a push goes, as users write it.

use std::fmt;
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

/// A host, and what to ask of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshRemote {
    /// The account there; `ssh` decides where it is not said.
    pub user: Option<String>,
    /// Name or address, as `ssh` takes it.
    pub host: String,
    /// `ssh` decides where it is not said.
    pub port: Option<u16>,
    /// The repository there. A server with a `ForceCommand` has its own and ignores this.
    pub path: String,
}

/// A text that is no remote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a place to push to: {reason}")]
pub struct RemoteError {
    /// The text.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub reason: &'static str,
}

impl FromStr for Remote {
    type Err = RemoteError;

    /// Reads `ssh://[user@]host[:port]/path`, `[user@]host:path`, `/path`, `./path` or
    /// `file:///path`.
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
    if let Some(rest) = text.strip_prefix("ssh://") {
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (user, host_port) = split_user(authority);
        let (host, port) = split_port(host_port)?;
        return ssh(user, host, port, path);
    }
    if let Some(path) = text.strip_prefix("file://") {
        return match path.starts_with('/') {
            true => Ok(Remote::Local(path.into())),
            false => Err("a file:// URL names an absolute path, as in file:///srv/cache"),
        };
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err("https is for pulling; push to ssh://[user@]host[:port]/path");
    }
    if text.contains("://") {
        return Err("the scheme is not known; use ssh://[user@]host[:port]/path");
    }
    // As scp reads it: a colon before the first slash makes it a host.
    let (user, rest) = split_user(text);
    if let Some((host, path)) = rest
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"))
        && !user.is_some_and(|user| user.contains(['/', ':']))
    {
        return ssh(user, host, None, path);
    }
    match text.split_once(':') {
        Some((authority, path)) if !authority.contains('/') => {
            let (user, host) = split_user(authority);
            ssh(user, host, None, path)
        }
        _ if text.is_empty() => Err("it is empty"),
        _ => Ok(Remote::Local(text.into())),
    }
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
    // What begins with a dash would be an option to ssh.
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
        return Err("it holds a control character");
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

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("an address lacks its ']'")?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("after ']' comes ':port' or nothing"),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    match port {
        None => Ok((host, None)),
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => Err("the port is not a number from 1 to 65535"),
            Ok(port) => Ok((host, Some(port))),
        },
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Ssh(SshRemote {
                user,
                host,
                port,
                path,
            }) => {
                // A path from the user's home has no form with a scheme.
                let relative = port.is_none() && !path.is_empty() && !path.starts_with('/');
                if !relative {
                    f.write_str("ssh://")?;
                }
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                if host.contains(':') {
                    write!(f, "[{host}]")
                } else {
                    f.write_str(host)
                }?;
                if let Some(port) = port {
                    write!(f, ":{port}")?;
                }
                if relative {
                    f.write_str(":")?;
                } else if !path.starts_with('/') {
                    f.write_str("/")?;
                }
                f.write_str(path)
            }
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
    fn every_form_of_the_manual_is_read() {
        for (text, expected) in [
            (
                "ssh://artifacts@example.com:10000/artifacts",
                remote(Some("artifacts"), "example.com", Some(10000), "/artifacts"),
            ),
            (
                "ssh://example.com/srv/cache",
                remote(None, "example.com", None, "/srv/cache"),
            ),
            ("ssh://example.com", remote(None, "example.com", None, "")),
            (
                "ssh://u@[::1]:22/c",
                remote(Some("u"), "::1", Some(22), "/c"),
            ),
            (
                "ssh://[fe80::1%eth0]/c",
                remote(None, "fe80::1%eth0", None, "/c"),
            ),
            (
                "artifacts@example.com:artifacts",
                remote(Some("artifacts"), "example.com", None, "artifacts"),
            ),
            (
                "u@[::1]:artifacts",
                remote(Some("u"), "::1", None, "artifacts"),
            ),
            ("host:/srv/cache", remote(None, "host", None, "/srv/cache")),
            ("/srv/cache", Remote::Local("/srv/cache".into())),
            ("./cache:1", Remote::Local("./cache:1".into())),
            ("cache", Remote::Local("cache".into())),
            ("file:///srv/cache", Remote::Local("/srv/cache".into())),
        ] {
            assert_eq!(text.parse::<Remote>().unwrap(), expected, "{text}");
        }
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
