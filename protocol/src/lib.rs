//! The wire protocol of the artifact cache, as a pure function of bytes and completions.
#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

pub mod exit;
pub mod frame;
pub mod limits;
mod object;
pub mod ostree;
mod refname;
pub mod session;
mod text;
mod version;
mod wire;

pub use object::{Checksum, NameError, ObjectId, ObjectKind};
pub use refname::RefName;
pub use text::{Text, escape};
pub use version::{Features, Version};
pub use wire::PayloadError;
