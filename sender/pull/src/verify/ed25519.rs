//! ed25519 signatures, which libostree calls `sign-verify`.

use std::fs;
use std::path::{Path, PathBuf};

use artifact_formats::ed25519_signatures;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use super::reason::Reason;
use super::system::SystemKeys;

/// Trusted ed25519 keys. A signature by any of them is good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ed25519Keys(Vec<VerifyingKey>);

impl Ed25519Keys {
    /// Trusts a key in base64.
    ///
    /// # Errors
    ///
    /// It is not one.
    pub fn add(&mut self, base64: &str) -> Result<(), &'static str> {
        let bytes = STANDARD.decode(base64.trim());
        let bytes = bytes.map_err(|_| "it is not base64")?;
        let bytes = bytes.as_slice().try_into();
        let bytes = bytes.map_err(|_| "a key has 32 bytes")?;
        let key = VerifyingKey::from_bytes(bytes);
        self.0.push(key.map_err(|_| "it is no key of ed25519")?);
        Ok(())
    }

    /// Trusts the keys in a file, one a line in base64. Like libostree, leaves out lines that
    /// contain no key.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has no key.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Reason> {
        let bad = |why: String| Reason::BadKeys {
            path: path.to_owned(),
            why,
        };
        let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let before = self.0.len();
        let mut why = "it is empty";
        for line in text.lines() {
            if let Err(reason) = self.add(line) {
                why = reason;
            }
        }
        match self.0.len() > before {
            true => Ok(()),
            false => Err(bad(why.to_owned())),
        }
    }

    /// Trusts the keys that this machine trusts for every remote.
    pub(super) fn add_system(&mut self, system: &SystemKeys) {
        for path in files(system, "trusted.ed25519") {
            if let Err(error) = self.add_file(&path) {
                tracing::warn!(%error, "left out keys of this machine");
            }
        }
    }

    /// No longer trusts the keys that this machine has revoked.
    pub(super) fn revoke(&mut self, system: &SystemKeys) {
        let mut revoked = Self::default();
        for path in files(system, "revoked.ed25519") {
            // Unreadable lines revoke nothing, in libostree as well.
            let _ = revoked.add_file(&path);
        }
        self.0.retain(|key| !revoked.0.contains(key));
    }

    /// Checks that one of the signatures is good.
    pub(super) fn check(&self, content: &[u8], signatures: &[u8]) -> Result<(), Reason> {
        if self.0.is_empty() {
            return Err(Reason::NoKeys {
                kind: KIND,
                advice: "set verification-ed25519-key or verification-ed25519-file of the remote, \
                         or write keys into /etc/ostree/trusted.ed25519",
            });
        }
        let signatures = ed25519_signatures(signatures).map_err(|_| Reason::Malformed)?;
        if signatures.is_empty() {
            return Err(Reason::Unsigned { kind: KIND });
        }
        for signature in signatures.iter().take(SIGNATURES_MAX) {
            let Ok(signature) = Signature::from_slice(signature) else {
                continue;
            };
            let mut keys = self.0.iter();
            if keys.any(|key| key.verify_strict(content, &signature).is_ok()) {
                return Ok(());
            }
        }
        Err(Reason::NoneGood {
            kind: KIND,
            details: "no trusted key made any of them".to_owned(),
        })
    }
}

/// Returns the files of one name, and those in the directory of that name, if they exist.
fn files(system: &SystemKeys, name: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for dir in &system.ed25519 {
        let alone = dir.join(name);
        files.extend(alone.is_file().then_some(alone));
        let entries = fs::read_dir(dir.join(format!("{name}.d")));
        let entries = entries.into_iter().flatten().flatten();
        let mut found: Vec<_> = entries.map(|entry| entry.path()).collect();
        found.retain(|path| path.is_file());
        found.sort();
        files.append(&mut found);
    }
    files
}

const KIND: &str = "ed25519";
/// Each is compared with every key.
const SIGNATURES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use artifact_formats::serialize_signature;
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;

    fn key(seed: u8) -> (SigningKey, String) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = STANDARD.encode(key.verifying_key().as_bytes());
        (key, public)
    }

    #[test]
    fn one_good_signature_by_a_trusted_key_is_enough_and_nothing_less_is() {
        let ((alice, alices), (mallory, mallorys)) = (key(1), key(2));
        let sign = |key: &SigningKey| serialize_signature(&key.sign(b"content").to_bytes());
        let mut keys = Ed25519Keys::default();
        assert!(matches!(
            keys.check(b"content", &sign(&alice)),
            Err(Reason::NoKeys { .. })
        ));
        keys.add(&alices).unwrap();
        keys.check(b"content", &sign(&alice)).unwrap();
        assert!(matches!(
            keys.check(b"contenu", &sign(&alice)),
            Err(Reason::NoneGood { .. })
        ));
        assert!(matches!(
            keys.check(b"content", &sign(&mallory)),
            Err(Reason::NoneGood { .. })
        ));
        assert!(matches!(
            keys.check(b"content", &[]),
            Err(Reason::Unsigned { .. })
        ));
        assert!(matches!(
            keys.check(b"content", &[7]),
            Err(Reason::Malformed)
        ));
        keys.add(&mallorys).unwrap();
        keys.check(b"content", &sign(&mallory)).unwrap();
    }

    #[test]
    fn keys_of_the_machine_count_unless_they_are_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let system = SystemKeys {
            gpg: dir.path().into(),
            ed25519: vec![dir.path().into()],
        };
        let (_, one) = key(1);
        let (_, two) = key(2);
        fs::write(
            dir.path().join("trusted.ed25519"),
            format!("# no key\n{one}\n"),
        )
        .unwrap();
        fs::create_dir(dir.path().join("trusted.ed25519.d")).unwrap();
        fs::write(
            dir.path().join("trusted.ed25519.d/more"),
            format!("{two}\n"),
        )
        .unwrap();
        let mut keys = Ed25519Keys::default();
        keys.add_system(&system);
        assert_eq!(keys.0.len(), 2);
        fs::create_dir(dir.path().join("revoked.ed25519.d")).unwrap();
        fs::write(dir.path().join("revoked.ed25519.d/gone"), one).unwrap();
        keys.revoke(&system);
        let mut expected = Ed25519Keys::default();
        expected.add(&two).unwrap();
        assert_eq!(keys, expected);
        for bad in ["", "AAAA", "no base64!"] {
            assert!(keys.add(bad).is_err(), "{bad}");
        }
        assert!(keys.add_file(&dir.path().join("none")).is_err());
    }
}
