//! The key that signs a summary, in libostree's format.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey};

/// An ed25519 key that signs summaries.
///
/// libostree stores it as base64 of 64 bytes, the secret seed and the public key
/// (`ostree-sign-ed25519.c`); `openssl` can generate both, as the manual shows.
#[derive(Clone)]
pub struct SummaryKey(SigningKey);

/// The reason why a text is not a signing key. It does not show the text, which may be most of a
/// secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not base64 of 64 bytes on one line.
    #[error("not a secret ed25519 key: base64 of 64 bytes on one line")]
    Malformed,
    /// The public key is not that of the seed.
    #[error("the two halves of the secret key do not belong together")]
    Mismatch,
}

impl SummaryKey {
    /// Parses the content of a key file.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD
            .decode(text.trim_ascii())
            .map_err(|_| KeyError::Malformed)?;
        let pair = <[u8; 64]>::try_from(bytes).map_err(|_| KeyError::Malformed)?;
        SigningKey::from_keypair_bytes(&pair)
            .map(Self)
            .map_err(|_| KeyError::Mismatch)
    }

    /// Returns the public key in base64, as `ostree remote add --set=verification-ed25519-key=`
    /// expects it.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.verifying_key().as_bytes())
    }

    /// Signs the content of a summary.
    pub fn sign(&self, content: &[u8]) -> [u8; 64] {
        self.0.sign(content).to_bytes()
    }

    /// Returns whether `signature` is one of the content by this key.
    pub fn has_signed(&self, content: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.0.verify(content, &signature).is_ok())
    }
}

impl fmt::Debug for SummaryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SummaryKey({})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn encode(parts: &[&str]) -> String {
        STANDARD.encode(hex::decode(parts.concat()).unwrap())
    }

    #[test]
    fn a_key_as_libostree_keeps_it_signs() {
        let key = SummaryKey::parse(&format!("{}\n", encode(&[SEED, PUBLIC]))).unwrap();
        assert_eq!(key.public(), encode(&[PUBLIC]));
        let signature = key.sign(&[0x72]);
        assert_eq!(hex::encode(signature), SIGNATURE);
        assert!(key.has_signed(&[0x72], &signature));
        assert!(!key.has_signed(&[0x73], &signature));
        assert!(!key.has_signed(&[0x72], &signature[1..]));
        assert!(!format!("{key:?}").contains(&encode(&[SEED])[..20]));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let other = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let parse = |text: &str| SummaryKey::parse(text).unwrap_err();
        assert_eq!(parse(&encode(&[SEED, other])), KeyError::Mismatch);
        for text in ["", "!", &encode(&[SEED]), &encode(&[SEED, PUBLIC, "00"])] {
            assert_eq!(parse(text), KeyError::Malformed);
        }
    }
}
