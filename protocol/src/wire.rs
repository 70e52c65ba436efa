//! The encoding of control messages: the only file that names bincode.
//!
//! Little-endian integers of fixed width, lengths as `u64`, variants as `u32`, nothing after the
//! last field (SPEC "Encoding"). SPEC defines the bytes, so bincode is replaceable, and no error
//! shows anything of it or of serde.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, standard};
use bincode::error::DecodeError;
use bincode::serde::{BorrowedSerdeDecoder, borrow_decode_from_slice, encode_to_vec};
use serde::{Deserialize, Serialize};
use serde_path_to_error::{Path, Segment};

use crate::limits::MAX_FRAME_LEN_MAX;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<{ MAX_FRAME_LEN_MAX as usize }>> =
    standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit();

/// The reason why a payload is not the message that its head announces.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A field cannot be read.
    #[error("{field}: {reason}")]
    Field {
        /// Its name in SPEC, with its place in a list, as in `refs[3].name`.
        field: String,
        /// The rule that it breaks.
        reason: String,
    },
    /// Bytes of a raw payload break its layout.
    #[error("{0}")]
    Raw(&'static str),
    /// Bytes follow the message's last field.
    #[error("the payload goes on after the last field, for so many bytes: {extra}")]
    Trailing {
        /// Bytes left over.
        extra: usize,
    },
}

/// The names of a message's fields.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fields {
    /// One value.
    Leaf,
    /// Fields, in order.
    Struct(&'static [(&'static str, Self)]),
    /// Any number of elements of this shape.
    List(&'static Self),
}

/// Appends the message's bytes.
pub(crate) fn encode(message: &impl Serialize, out: &mut Vec<u8>) {
    let bytes = encode_to_vec(message, CONFIG)
        .expect("our messages have no field that serde cannot write, and a Vec takes every byte");
    out.extend_from_slice(&bytes);
}

/// Decodes a message that fills `payload`; `fields` are for the error.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    payload: &'a [u8],
    fields: Fields,
) -> Result<T, PayloadError> {
    let (message, used) = borrow_decode_from_slice(payload, CONFIG)
        .map_err(|error| explain::<T>(payload, fields, &error))?;
    match payload.len() - used {
        // REQ-5.
        0 => Ok(message),
        extra => Err(PayloadError::Trailing { extra }),
    }
}

/// Decodes the payload again to find the bad field: only failures take this time.
fn explain<'a, T: Deserialize<'a>>(
    payload: &'a [u8],
    fields: Fields,
    error: &DecodeError,
) -> PayloadError {
    let mut decoder = BorrowedSerdeDecoder::from_slice(payload, CONFIG, ());
    let again: Result<T, _> = serde_path_to_error::deserialize(decoder.as_deserializer());
    let field = again.err().map(|error| name(error.path(), fields));
    PayloadError::Field {
        field: field.unwrap_or_default(),
        reason: reason(error),
    }
}

/// Formats a path of numbers with the names of the fields.
fn name(path: &Path, mut fields: Fields) -> String {
    let mut text = String::new();
    for segment in path {
        let Segment::Seq { index } = segment else {
            continue;
        };
        match fields {
            Fields::Leaf => break,
            Fields::List(element) => {
                text.push_str(&format!("[{index}]"));
                fields = *element;
            }
            Fields::Struct(named) => {
                let Some((name, within)) = named.get(*index) else {
                    break;
                };
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
                fields = *within;
            }
        }
    }
    if text.is_empty() {
        text.push_str("the payload");
    }
    text
}

/// Describes the error in the words of SPEC.
fn reason(error: &DecodeError) -> String {
    match error {
        DecodeError::UnexpectedEnd { .. } => "the payload ends before it does".to_owned(),
        DecodeError::LimitExceeded | DecodeError::OutsideUsizeRange(_) => {
            "it is longer than any frame".to_owned()
        }
        DecodeError::Utf8 { .. } => "it is not UTF-8".to_owned(),
        DecodeError::InvalidBooleanValue(found) => {
            format!("a bool is 0 or 1, not {found}")
        }
        DecodeError::UnexpectedVariant { found, .. } => {
            format!("an option is 0 or 1, not {found}")
        }
        // Our own rules come as text. So does the only one of serde's that can occur here: the
        // number of an alternative that does not exist.
        DecodeError::OtherString(text) if text.starts_with("invalid value") => {
            "there is no alternative of this number".to_owned()
        }
        DecodeError::OtherString(text) => text.clone(),
        DecodeError::Other(_)
        | DecodeError::Serde(_)
        | DecodeError::InvalidIntegerType { .. }
        | DecodeError::NonZeroTypeIsZero { .. }
        | DecodeError::InvalidCharEncoding(_)
        | DecodeError::ArrayLengthMismatch { .. }
        | DecodeError::EmptyEnum { .. }
        | DecodeError::InvalidDuration { .. }
        | DecodeError::InvalidSystemTime { .. }
        | _ => "it cannot be read".to_owned(),
    }
}
