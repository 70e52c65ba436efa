//! How a control message becomes bytes: the only file that names bincode.
//!
//! Little-endian integers of fixed width, lengths as `u64`, variants as `u32`, nothing after the
//! last field (SPEC "Encoding"). The bytes are defined there; the crate is replaceable.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, standard};
use serde::{Deserialize, Serialize};

use crate::limits::MAX_FRAME_LEN_MAX;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<{ MAX_FRAME_LEN_MAX as usize }>> =
    standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit();

/// Why a payload is not the message its head says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A field cannot be read.
    #[error("a field cannot be read")]
    Field(#[source] bincode::error::DecodeError),
    /// Bytes outside the control messages are not in their layout; the text says which rule.
    #[error("{0}")]
    Raw(&'static str),
    /// The message ends before its payload does.
    #[error("{extra} bytes after the last field")]
    Trailing {
        /// Bytes left over.
        extra: usize,
    },
}

/// Appends the message's bytes.
pub(crate) fn encode(message: &impl Serialize, out: &mut Vec<u8>) {
    let bytes = bincode::serde::encode_to_vec(message, CONFIG)
        .expect("our messages have no field that serde cannot write, and a Vec takes every byte");
    out.extend_from_slice(&bytes);
}

/// Reads a message that fills `payload`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, PayloadError> {
    let (message, used) =
        bincode::serde::borrow_decode_from_slice(payload, CONFIG).map_err(PayloadError::Field)?;
    match payload.len() - used {
        0 => Ok(message),
        extra => Err(PayloadError::Trailing { extra }),
    }
}
