//! Why something is not accepted that should be signed.

use std::path::PathBuf;

/// Something lacks a signature that is demanded.
#[derive(Debug, thiserror::Error)]
#[error("{what} is not accepted, because {by} demands a signature: {reason}")]
pub struct Unverified {
    /// The signed thing.
    pub what: String,
    /// Who demands it.
    pub by: String,
    /// Why the signatures do not satisfy the demand.
    pub reason: Reason,
}

/// The reason why signatures do not satisfy a demand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is none of the kind.
    #[error("it has no {kind} signature")]
    Unsigned {
        /// `OpenPGP` or `ed25519`.
        kind: &'static str,
    },
    /// There are some, but none is good and by a trusted key.
    #[error("none of its {kind} signatures is good: {details}")]
    NoneGood {
        /// `OpenPGP` or `ed25519`.
        kind: &'static str,
        /// What is wrong with each.
        details: String,
    },
    /// No key is trusted, so that no signature can be good.
    #[error("no {kind} key is trusted: {advice}")]
    NoKeys {
        /// `OpenPGP` or `ed25519`.
        kind: &'static str,
        /// How to trust one.
        advice: &'static str,
    },
    /// The keys cannot be read.
    #[error("cannot read the keys in {}: {why}", path.display())]
    BadKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// OpenPGP signatures are checked by gpgv, which cannot be run.
    #[error("cannot run gpgv, which checks OpenPGP signatures: {0}")]
    Gpgv(String),
    /// The signatures are malformed.
    #[error("its signatures are malformed")]
    Malformed,
    /// The commit did not come, or is too large to be kept until it is checked.
    #[error("it did not come where it can be checked")]
    NotKept,
    /// There is no summary.
    #[error("the cache has none")]
    NoSummary,
    /// The summary says nothing of a ref, so that nothing signed says what it holds.
    #[error("the signed summary does not list it")]
    NotListed,
    /// The refs are not learnt from a summary, so that no signature covers what they hold.
    #[error("the commit is not bound to the collection {collection} and to this ref")]
    Unbound {
        /// The demanded collection.
        collection: String,
    },
}
