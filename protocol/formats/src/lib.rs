//! OSTree names and formats, as pure functions from bytes to parsed types.
//!
//! Strict: libostree accepts everything that these parsers accept, and serializing it again gives
//! the same bytes. The crate knows nothing of the wire and opens no file; it is not a general
//! GVariant library. `protocol/SPEC.md` specifies each format.
#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

mod attributes;
mod commit;
mod dirmeta;
mod dirtree;
mod error;
mod file;
mod gvariant;
pub mod limits;
mod object;
mod quantity;
mod ref_name;
mod ref_pattern;
mod repo_config;
mod spelling;
mod summary;
mod vardict;

// The public interface is:
pub use attributes::{Attributes, Xattrs};
pub use commit::{Commit, check_detached, serialize_tombstone};
pub use dirmeta::Dirmeta;
pub use dirtree::Dirtree;
pub use error::{FormatError, with_causes};
pub use file::FileHeader;
pub use object::{Checksum, NameError, ObjectId, ObjectKind};
pub use quantity::{Bytes, Share, Size, counted, grouped};
pub use ref_name::RefName;
pub use ref_pattern::RefPattern;
pub use repo_config::{ConfigError, LockTimeout, MinFree, RepoConfig, RepoMode};
pub use spelling::nearest;
pub use summary::{
    Summary, SummaryRef, ed25519_signatures, gpg_signatures, parse_delta_index, serialize_signature,
};
pub use vardict::{Value, Vardict, VardictWriter};
