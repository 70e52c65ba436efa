//! Content that ends in its own SHA-256, which reveals a changed or missing byte.

use artifact_formats::Checksum;
use bytes::Bytes;

/// Adds the SHA-256 of content to its end.
pub(crate) fn seal(mut content: Vec<u8>) -> Bytes {
    let digest = Checksum::of(&content);
    content.extend(digest.as_bytes());
    content.into()
}

/// Returns content without the SHA-256 at its end; `None` if the SHA-256 differs.
pub(crate) fn unseal(sealed: &[u8]) -> Option<&[u8]> {
    let (content, digest) = sealed.split_last_chunk::<{ Checksum::LEN }>()?;
    (Checksum::of(content).as_bytes() == digest).then_some(content)
}
