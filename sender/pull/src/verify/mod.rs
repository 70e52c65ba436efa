//! Which signatures a pull demands, and whether they are there.
//!
//! The demands are those of a remote in the local repository's configuration, as libostree reads
//! them, and the user's own. What cannot be checked is refused: a demand is never skipped. Checks
//! nothing else; that the signed bytes are those of the commit is the store's work.

mod ed25519;
mod gpg;
mod remote;

use std::path::PathBuf;

use artifact_formats::{Checksum, RefName};

pub use self::ed25519::Ed25519Keys;
pub use self::gpg::GpgKeys;
pub(crate) use self::remote::demands_of_remotes;

use crate::loose::commits::Bindings;

/// The signatures that a cache's commits and summary must have.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// Who demands them, for messages.
    pub by: String,
    /// Every commit is signed by one of these OpenPGP keys.
    pub gpg: Option<GpgKeys>,
    /// Every commit is signed by one of these ed25519 keys.
    pub ed25519: Option<Ed25519Keys>,
    /// The summary is signed by one of these OpenPGP keys.
    pub gpg_summary: Option<GpgKeys>,
    /// The summary is signed by one of these ed25519 keys.
    pub ed25519_summary: Option<Ed25519Keys>,
    /// Commits are bound to this collection, and to the ref that leads to them.
    pub collection: Option<String>,
}

/// Where this machine keeps the keys that it trusts for every remote.
#[derive(Clone, Debug)]
pub struct SystemKeys {
    /// A directory of OpenPGP keyrings (`*.gpg`).
    pub gpg: PathBuf,
    /// Directories with `trusted.ed25519`, `trusted.ed25519.d`, `revoked.ed25519` and
    /// `revoked.ed25519.d`.
    pub ed25519: Vec<PathBuf>,
}

impl Default for SystemKeys {
    /// libostree's places.
    fn default() -> Self {
        Self {
            gpg: "/usr/share/ostree/trusted.gpg.d".into(),
            ed25519: vec!["/etc/ostree".into(), "/usr/share/ostree".into()],
        }
    }
}

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

impl Demands {
    /// Returns whether refs may only be learnt from a signed summary.
    pub(crate) const fn are_of_summary(&self) -> bool {
        self.gpg_summary.is_some() || self.ed25519_summary.is_some()
    }

    /// Checks a commit's signatures.
    pub(crate) async fn check_commit(
        &self,
        commit: Checksum,
        content: &[u8],
        detached: Option<&[u8]>,
    ) -> Result<(), Unverified> {
        let signatures = detached.unwrap_or_default();
        let what = || format!("commit {commit}");
        self.check(what, &self.gpg, &self.ed25519, content, signatures)
            .await
    }

    /// Checks a summary's signatures.
    pub(crate) async fn check_summary(
        &self,
        content: &[u8],
        signatures: Option<&[u8]>,
    ) -> Result<(), Unverified> {
        let signatures = signatures.unwrap_or_default();
        let what = || "the summary".to_owned();
        self.check(
            what,
            &self.gpg_summary,
            &self.ed25519_summary,
            content,
            signatures,
        )
        .await
    }

    async fn check(
        &self,
        what: impl Fn() -> String,
        gpg: &Option<GpgKeys>,
        ed25519: &Option<Ed25519Keys>,
        content: &[u8],
        signatures: &[u8],
    ) -> Result<(), Unverified> {
        let refuse = |reason| self.unverified(what(), reason);
        if let Some(keys) = ed25519 {
            keys.check(content, signatures).map_err(refuse)?;
        }
        if let Some(keys) = gpg {
            let checked = keys.check(content, signatures).await;
            checked.map_err(|reason| self.unverified(what(), reason))?;
        }
        Ok(())
    }

    /// Checks that a commit is bound to the demanded collection, and to refs at all.
    pub(crate) fn check_bindings(
        &self,
        name: &RefName,
        commit: Checksum,
        bindings: &Bindings,
    ) -> Result<(), Unverified> {
        match &self.collection {
            Some(wanted)
                if bindings.collection.as_ref() != Some(wanted) || bindings.refs.is_none() =>
            {
                let collection = wanted.clone();
                let what = format!("commit {commit} of {name}");
                Err(self.unverified(what, Reason::Unbound { collection }))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn unverified(&self, what: String, reason: Reason) -> Unverified {
        Unverified {
            what,
            by: self.by.clone(),
            reason,
        }
    }
}
