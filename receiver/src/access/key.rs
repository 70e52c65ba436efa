//! Public keys as OpenSSH writes them, parsed strictly, and their fingerprints.
//!
//! Nothing here proves that anybody holds a key: sshd has done that. We only tell keys apart, and
//! the fingerprint suffices for that.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

/// A public key, as on a line of `authorized_keys` without options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: &'static Kind,
    blob: Vec<u8>,
}

/// The SHA-256 of a key's encoding, as `ssh-keygen -l` shows it. It identifies the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// The reason why a text is not a public key or fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key: {0}")]
pub struct KeyError(&'static str);

/// A type of key, and how many fields follow its name in the encoding.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    certificate: &'static str,
    fields: usize,
}

/// The types that sshd accepts by default.
const KINDS: &[Kind] = &[
    Kind {
        name: "ssh-ed25519",
        certificate: "ssh-ed25519-cert-v01@openssh.com",
        fields: 1,
    },
    Kind {
        name: "ssh-rsa",
        certificate: "ssh-rsa-cert-v01@openssh.com",
        fields: 2,
    },
    Kind {
        name: "ecdsa-sha2-nistp256",
        certificate: "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        fields: 2,
    },
    Kind {
        name: "ecdsa-sha2-nistp384",
        certificate: "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        fields: 2,
    },
    Kind {
        name: "ecdsa-sha2-nistp521",
        certificate: "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        fields: 2,
    },
    Kind {
        name: "sk-ssh-ed25519@openssh.com",
        certificate: "sk-ssh-ed25519-cert-v01@openssh.com",
        fields: 2,
    },
    Kind {
        name: "sk-ecdsa-sha2-nistp256@openssh.com",
        certificate: "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        fields: 3,
    },
];

impl PublicKey {
    /// Returns the fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(&self.blob).into())
    }

    /// Returns the type and the encoding, as `authorized_keys` has them.
    pub fn to_text(&self) -> String {
        format!("{} {}", self.kind.name, STANDARD.encode(&self.blob))
    }

    /// Parses the type and the encoding of a key or certificate. Of a certificate, returns the
    /// certified key.
    pub(super) fn parse_parts(kind: &str, encoding: &str) -> Result<Self, KeyError> {
        let known = KINDS
            .iter()
            .find(|known| known.name == kind || known.certificate == kind)
            .ok_or(KeyError("its type is unknown"))?;
        let blob = STANDARD
            .decode(encoding)
            .map_err(|_| KeyError("the text after the type is not base64"))?;
        let mut rest = blob.as_slice();
        if field(&mut rest)? != kind.as_bytes() {
            return Err(KeyError("its encoding has another type"));
        }
        if kind == known.certificate {
            field(&mut rest)?; // A nonce.
            return Ok(Self {
                kind: known,
                blob: known.encode(&mut rest)?,
            });
        }
        let again = known.encode(&mut rest)?;
        if !rest.is_empty() || again != blob {
            return Err(KeyError("bytes follow the end of its encoding"));
        }
        Ok(Self { kind: known, blob })
    }
}

impl Kind {
    /// Encodes the key whose fields come next.
    fn encode(&self, rest: &mut &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut blob = Vec::new();
        put(&mut blob, self.name.as_bytes());
        for _ in 0..self.fields {
            put(&mut blob, field(rest)?);
        }
        Ok(blob)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Parses `TYPE BASE64 [COMMENT]` of one line.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.contains(['\n', '\r']) {
            return Err(KeyError("it has more than one line"));
        }
        let mut words = text.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some(kind), _) if KINDS.iter().any(|known| known.certificate == kind) => Err(
                KeyError("it is a certificate: name the key that it certifies"),
            ),
            (Some(kind), Some(encoding)) => Self::parse_parts(kind, encoding),
            _ => Err(KeyError("it must consist of a type and base64")),
        }
    }
}

impl FromStr for Fingerprint {
    type Err = KeyError;

    /// Parses `SHA256:...`, or takes the fingerprint of a key.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Some(digits) = text.strip_prefix("SHA256:") else {
            return Ok(text.parse::<PublicKey>()?.fingerprint());
        };
        STANDARD_NO_PAD
            .decode(digits)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(KeyError(
                "a fingerprint consists of SHA256: and 43 digits of base64",
            ))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Takes a field off the front: a length of four bytes, big-endian, then that many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], KeyError> {
    let taken = rest.split_first_chunk().and_then(|(len, after)| {
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        after.split_at_checked(len)
    });
    let (field, after) = taken.ok_or(KeyError("its encoding is cut short"))?;
    *rest = after;
    Ok(field)
}

fn put(blob: &mut Vec<u8>, field: &[u8]) {
    let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
    blob.extend(len.to_be_bytes());
    blob.extend(field);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `ssh-keygen`, with the fingerprints it shows and the certificates it signed.
    const KEYS: &str = include_str!("testdata/keys.txt");

    fn parts(line: &str) -> (&str, &str) {
        let (kind, rest) = line.split_once(' ').unwrap();
        (kind, rest.split(' ').next().unwrap())
    }

    #[test]
    fn every_type_has_the_fingerprint_that_ssh_keygen_shows_and_so_has_its_certificate() {
        let mut seen = 0;
        for block in KEYS.split("\n\n") {
            let [key, certificate, fingerprint] = block.lines().collect::<Vec<_>>()[..] else {
                panic!("{block}");
            };
            let parsed: PublicKey = key.parse().unwrap();
            assert_eq!(parsed.fingerprint().to_string(), fingerprint, "{key}");
            assert_eq!(fingerprint.parse(), Ok(parsed.fingerprint()));
            assert_eq!(key.parse(), Ok(parsed.fingerprint()));
            assert!(key.starts_with(&parsed.to_text()));
            let (kind, encoding) = parts(certificate);
            assert_eq!(PublicKey::parse_parts(kind, encoding), Ok(parsed));
            assert!(certificate.parse::<PublicKey>().is_err());
            seen += 1;
        }
        assert_eq!(seen, 5);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let key = KEYS.lines().next().unwrap();
        let (kind, encoding) = parts(key);
        for text in [
            "".to_owned(),
            kind.to_owned(),
            format!("{kind} "),
            format!("ssh-rsa {encoding}"),
            format!("ssh-dss {encoding}"),
            format!("{kind} {}", &encoding[..encoding.len() - 4]),
            format!("{kind} {encoding}AAAA"),
            format!("{kind} {}=", encoding),
            format!("restrict {key}"),
            format!("{key}\n{key}"),
            "SHA256:abc".to_owned(),
            "MD5:00:11".to_owned(),
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
