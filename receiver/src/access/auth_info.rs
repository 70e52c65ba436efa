//! The keys with which sshd has authenticated a client, from the file that `$SSH_USER_AUTH` names.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use crate::access::key::{Fingerprint, KeyError, PublicKey};

/// The keys that a client has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthInfo {
    /// Fingerprints; for a certificate, that of the certified key.
    pub keys: Vec<Fingerprint>,
}

/// The reason why the file is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthInfoError {
    /// The file cannot be read.
    #[error("cannot read the file in which sshd lists the client's keys")]
    Read(#[source] io::Error),
    /// The file is not as sshd makes it: a plain file that only its owner may read.
    #[error("SSH_USER_AUTH names a file that sshd did not make")]
    Foreign,
    /// A line is not one of sshd's.
    #[error("cannot parse line {line} of the file in which sshd lists the client's keys")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The reason, if the line is that of a key.
        source: Option<KeyError>,
    },
}

impl AuthInfo {
    /// Reads the file.
    ///
    /// sshd sets the variable itself. If it does not (`ExposeAuthInfo no`), a careless `AcceptEnv`
    /// may let a client set it. So we trust the file only if it is as sshd makes it, in its mode
    /// and to its last byte: no client can have put such a file on a server.
    pub fn read(path: &Path) -> Result<Self, AuthInfoError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(AuthInfoError::Read)?;
        let text = read(&file).map_err(AuthInfoError::Read)?;
        Self::parse(&text.ok_or(AuthInfoError::Foreign)?)
    }

    /// Parses lines of `METHOD` or `publickey TYPE BASE64` (`auth.c`, `auth2_update_session_info`).
    pub fn parse(text: &str) -> Result<Self, AuthInfoError> {
        let mut info = Self::default();
        for (line, content) in (1..).zip(text.lines()) {
            let refuse = |source| AuthInfoError::Line { line, source };
            let words: Vec<_> = content.split(' ').collect();
            match words[..] {
                ["publickey", kind, encoding] => {
                    let key = PublicKey::parse_parts(kind, encoding);
                    let key = key.map_err(|error| refuse(Some(error)))?;
                    info.keys.push(key.fingerprint());
                }
                // A second factor, with or without its kind.
                [method] | [method, ..] if OTHERS.contains(&method_name(method)) => {}
                _ => return Err(refuse(None)),
            }
        }
        Ok(info)
    }
}

/// Reads a file that sshd may have made; returns `None` for any other.
fn read(file: &File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw() || metadata.uid() == 0;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 || !ours || metadata.len() > MAX_LEN {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.take(MAX_LEN).read_to_end(&mut text)?;
    Ok(String::from_utf8(text).ok())
}

/// `keyboard-interactive/pam` is a kind of `keyboard-interactive`.
fn method_name(method: &str) -> &str {
    method.split_once('/').map_or(method, |(name, _)| name)
}

const OTHERS: [&str; 5] = [
    "password",
    "keyboard-interactive",
    "hostbased",
    "gssapi-with-mic",
    "none",
];
/// Bounds a file with some keys, in bytes.
const MAX_LEN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const KEYS: &str = include_str!("testdata/keys.txt");

    fn line(number: usize) -> String {
        let line = KEYS.lines().nth(number).unwrap();
        let words: Vec<_> = line.split(' ').take(2).collect();
        format!("publickey {}\n", words.join(" "))
    }

    #[test]
    fn keys_and_certified_keys_are_read_and_other_methods_passed_over() {
        let text = format!("{}password\n{}keyboard-interactive/pam\n", line(0), line(5));
        let wanted = [2, 6].map(|line| KEYS.lines().nth(line).unwrap().parse().unwrap());
        assert_eq!(AuthInfo::parse(&text).unwrap().keys, wanted);
        assert_eq!(AuthInfo::parse("").unwrap(), AuthInfo::default());
    }

    #[test]
    fn a_file_that_is_not_sshds_to_its_last_byte_is_not_believed() {
        for text in [
            format!("junk\n{}", line(0)),
            format!("{}\0", line(0)),
            format!("{}\n", line(0)),
            format!(" {}", line(0)),
            line(0).replace("publickey ", "publickey  "),
            line(0).replace("AAAA", "BAAA"),
        ] {
            assert!(AuthInfo::parse(&text).is_err(), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, line(0)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let set_mode = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&file, permissions).unwrap();
        };
        set_mode(0o600);
        assert_eq!(AuthInfo::read(&file).unwrap().keys.len(), 1);
        assert!(AuthInfo::read(&link).is_err());
        assert!(AuthInfo::read(dir.path()).is_err());
        set_mode(0o644);
        assert!(matches!(AuthInfo::read(&file), Err(AuthInfoError::Foreign)));
    }
}
