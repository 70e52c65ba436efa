//! The OSTree formats both ends read and write: pure functions from bytes to parsed types.
//!
//! Strict: what these parsers accept, libostree accepts, and serializing it again gives the same
//! bytes. It is not a general GVariant library, and it opens no file.
