//! The OSTree formats both ends read and write: pure functions from bytes to parsed types.
//!
//! Strict: what these parsers accept, libostree accepts, and serializing it again gives the same
//! bytes. It is not a general GVariant library, and it opens no file.

mod attributes;
mod commit;
mod config;
mod dirmeta;
mod dirtree;
mod file;
mod gvariant;
mod summary;
mod vardict;

pub use attributes::{Attributes, Xattrs};
pub use commit::{Commit, check_detached};
pub use config::{ConfigError, LockTimeout, MinFree, RepoConfig, RepoMode};
pub use dirmeta::Dirmeta;
pub use dirtree::Dirtree;
pub use file::FileHeader;
pub use gvariant::check as check_variant;
pub use summary::{Summary, SummaryRef, ed25519_signatures, serialize_signature};
pub use vardict::{Value, Vardict, VardictWriter};

/// The bytes of an object or of a summary break a rule of their format; whoever made them is at
/// fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {part}: {rule}")]
pub struct FormatError {
    part: &'static str,
    rule: &'static str,
}

impl FormatError {
    /// Says that `part` breaks `rule`.
    const fn new(part: &'static str, rule: &'static str) -> Self {
        Self { part, rule }
    }

    /// Returns a function that says so of `part`, for `map_err`.
    fn part(part: &'static str) -> impl Fn(&'static str) -> Self {
        move |rule| Self { part, rule }
    }

    /// Returns the rule that is broken.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
