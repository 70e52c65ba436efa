//! The signatures of a summary, in a file beside it, and of a commit, in its detached metadata.

use crate::error::FormatError;
use crate::gvariant::{Layout, array, entry, for_each_entry, split_array};

/// Serializes the content of `summary.sig` with one ed25519 signature of the summary's bytes, as
/// libostree does (`ostree-sign.c`, `_sign_detached_metadata_append`).
pub fn serialize_signature(ed25519: &[u8; 64]) -> Vec<u8> {
    let signatures = array(Layout::BYTES, [ed25519]);
    array(Layout::ALIGNED, [entry(ED25519, "aay", &signatures)])
}

/// Returns the ed25519 signatures in a `summary.sig` or in detached metadata, of any length.
pub fn ed25519_signatures(data: &[u8]) -> Result<Vec<&[u8]>, FormatError> {
    signatures(data, ED25519)
}

/// Returns the OpenPGP signatures in a `summary.sig` or in detached metadata, in binary form.
pub fn gpg_signatures(data: &[u8]) -> Result<Vec<&[u8]>, FormatError> {
    signatures(data, GPG)
}

fn signatures<'a>(data: &'a [u8], wanted: &str) -> Result<Vec<&'a [u8]>, FormatError> {
    let mut found = Vec::new();
    for_each_entry(data, |key, kind, value| {
        if (key, kind) == (wanted, b"aay") {
            found.extend(split_array(Layout::BYTES, value)?.iter());
        }
        Ok(())
    })
    .map_err(FormatError::part("signatures"))?;
    Ok(found)
}

const ED25519: &str = "ostree.sign.ed25519";
const GPG: &str = "ostree.gpgsigs";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_found_again() {
        let signature = [7; 64];
        let data = serialize_signature(&signature);
        assert_eq!(ed25519_signatures(&data).unwrap(), [&signature[..]]);
        assert_eq!(ed25519_signatures(&[]).unwrap(), [&[][..]; 0]);
        assert_eq!(gpg_signatures(&data).unwrap(), [&[][..]; 0]);
        let gpg = array(
            Layout::ALIGNED,
            [entry(GPG, "aay", &array(Layout::BYTES, [b"x"]))],
        );
        assert_eq!(gpg_signatures(&gpg).unwrap(), [&b"x"[..]]);
        assert!(ed25519_signatures(&data[1..]).is_err());
    }
}
