//! File objects of bare repositories, which store content as it is and the header beside it.

use std::io::{self, Read};

use artifact_formats::{Checksum, FileHeader, ObjectId};
use sha2::{Digest, Sha256};

use crate::verify::{Rejection, Verified};

/// Verifies a file object from its header and its content, in bounded memory. A symbolic link has
/// no content.
pub(crate) fn verify_bare(
    id: ObjectId,
    header: FileHeader,
    content: &mut dyn Read,
    object_len_max: u64,
) -> io::Result<Result<Verified, Rejection>> {
    let mut hash = Sha256::new_with_prefix(header.to_hashed());
    let mut buffer = vec![0; READ_LEN];
    let mut len = 0;
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        len += read as u64;
        if len > object_len_max {
            let limit = object_len_max;
            return Ok(Err(Rejection::TooLarge { limit }));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
    let (expected, computed) = (id.checksum, Checksum::new(hash.finalize().into()));
    if computed != expected {
        return Ok(Err(Rejection::ChecksumMismatch { expected, computed }));
    }
    Ok(Ok(Verified {
        id,
        stored_len: len,
        len,
        header: Some(header),
    }))
}

const READ_LEN: usize = 64 * 1024;
